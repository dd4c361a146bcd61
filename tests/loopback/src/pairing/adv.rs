//! Signatures of linked devices (ADV): the account vouches for a device, the device for the account.
//!
//! The prefixes are WhatsApp's: `06 00` before what the account signs, `06 01` before what the device signs, `06 02`
//! before a signed device list.

use buffa::Message;
use hmac::{KeyInit, Mac};
use rand::rngs::StdRng;
use wacore_libsignal::protocol::PublicKey;
use waproto::whatsapp::{
    ADVDeviceIdentity, ADVEncryptionType, ADVKeyIndexList, ADVSignedDeviceIdentity,
    ADVSignedDeviceIdentityHMAC, ADVSignedKeyIndexList,
};

use crate::{
    account::{Account, AccountState},
    clock,
    wire::cert::raw,
};

const BY_ACCOUNT: [u8; 2] = [6, 0];
const BY_DEVICE: [u8; 2] = [6, 1];
const BY_ACCOUNT_LIST: [u8; 2] = [6, 2];

/// What the account has signed for a device.
#[derive(Clone)]
pub struct Vouched {
    /// The encoded `ADVDeviceIdentity`.
    pub details: Vec<u8>,
    /// The encoded `ADVSignedDeviceIdentityHMAC`, which goes to the device.
    pub container: Vec<u8>,
}

/// Vouches for a device that has shown `secret` to the phone.
pub fn vouch(
    account: &Account,
    key_index: u32,
    device_identity: &[u8; 32],
    secret: &[u8],
) -> Option<Vouched> {
    let details = ADVDeviceIdentity {
        raw_id: Some(account.raw_id),
        timestamp: Some(clock::unix()),
        key_index: Some(key_index),
        account_type: Some(ADVEncryptionType::E2EE),
        device_type: Some(ADVEncryptionType::E2EE),
    }
    .encode_to_vec();
    let message = [&BY_ACCOUNT[..], &details, device_identity].concat();
    let signature = account
        .identity
        .calculate_signature(&message, &mut rand::make_rng::<StdRng>())
        .ok()?;
    let signed = ADVSignedDeviceIdentity {
        details: Some(details.clone()),
        account_signature_key: Some(raw(&account.identity).to_vec()),
        account_signature: Some(signature.to_vec()),
        device_signature: None,
    }
    .encode_to_vec();
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret).ok()?;
    mac.update(&signed);
    let container = ADVSignedDeviceIdentityHMAC {
        details: Some(signed),
        hmac: Some(mac.finalize().into_bytes().to_vec()),
        account_type: Some(ADVEncryptionType::E2EE),
    }
    .encode_to_vec();
    Some(Vouched { details, container })
}

/// Whether a device has signed what the account vouched for.
pub fn is_countersigned(
    account: &Account,
    vouched: &Vouched,
    device_identity: &[u8; 32],
    adv: &[u8],
) -> bool {
    let Ok(signed) = ADVSignedDeviceIdentity::decode_from_slice(adv) else {
        return false;
    };
    let own = raw(&account.identity);
    let message = [&BY_DEVICE[..], &vouched.details, device_identity, &own].concat();
    signed.details.as_deref() == Some(&vouched.details)
        && signed.account_signature.is_some_and(|signature| {
            let message = [&BY_ACCOUNT[..], &vouched.details, device_identity].concat();
            account
                .identity
                .public_key
                .verify_signature(&message, &signature)
        })
        && PublicKey::from_djb_public_key_bytes(device_identity).is_ok_and(|key| {
            signed
                .device_signature
                .is_some_and(|signature| key.verify_signature(&message, &signature))
        })
}

/// The account's signed device list.
pub fn device_list(account: &Account, state: &AccountState) -> Option<Vec<u8>> {
    let indexes: Vec<u32> = std::iter::once(0)
        .chain(state.devices.values().map(|device| device.key_index))
        .collect();
    let details = ADVKeyIndexList {
        raw_id: Some(account.raw_id),
        timestamp: Some(state.devices_changed),
        current_index: indexes.iter().max().copied(),
        valid_indexes: indexes,
        account_type: Some(ADVEncryptionType::E2EE),
    }
    .encode_to_vec();
    let message = [&BY_ACCOUNT_LIST[..], &details].concat();
    let signature = account
        .identity
        .calculate_signature(&message, &mut rand::make_rng::<StdRng>())
        .ok()?;
    Some(
        ADVSignedKeyIndexList {
            details: Some(details),
            account_signature: Some(signature.to_vec()),
            account_signature_key: Some(raw(&account.identity).to_vec()),
        }
        .encode_to_vec(),
    )
}
