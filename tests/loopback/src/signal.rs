//! The Signal side of the phones that the server plays: sealing for a linked device.

use async_trait::async_trait;
use futures_util::FutureExt;
use rand::rngs::StdRng;
use wacore_libsignal::protocol::{
    CiphertextMessage, DeviceId, Direction, IdentityChange, IdentityKey, IdentityKeyPair,
    IdentityKeyStore, KeyPair, PreKeyBundle, ProtocolAddress, PublicKey, SessionRecord,
    SessionStore, SignalProtocolError, UsePQRatchet, message_encrypt, process_prekey_bundle,
};

use crate::account::{Account, Device, SignedKey};

type Result<T> = std::result::Result<T, SignalProtocolError>;

/// A session with one device.
#[derive(Default)]
struct Session(Option<SessionRecord>);

#[async_trait]
impl SessionStore for Session {
    async fn load_session(&self, _: &ProtocolAddress) -> Result<Option<SessionRecord>> {
        Ok(self.0.clone())
    }

    async fn has_session(&self, _: &ProtocolAddress) -> Result<bool> {
        Ok(self.0.is_some())
    }

    async fn store_session(&mut self, _: &ProtocolAddress, record: SessionRecord) -> Result<()> {
        self.0 = Some(record);
        Ok(())
    }
}

/// Who seals. Every identity is trusted: the server knows them all.
struct Identity {
    pair: IdentityKeyPair,
    reg_id: u32,
}

#[async_trait]
impl IdentityKeyStore for Identity {
    async fn get_identity_key_pair(&self) -> Result<IdentityKeyPair> {
        Ok(self.pair.clone())
    }

    async fn get_local_registration_id(&self) -> Result<u32> {
        Ok(self.reg_id)
    }

    async fn save_identity(
        &mut self,
        _: &ProtocolAddress,
        _: &IdentityKey,
    ) -> Result<IdentityChange> {
        Ok(IdentityChange::NewOrUnchanged)
    }

    async fn is_trusted_identity(
        &self,
        _: &ProtocolAddress,
        _: &IdentityKey,
        _: Direction,
    ) -> Result<bool> {
        Ok(true)
    }

    async fn get_identity(&self, _: &ProtocolAddress) -> Result<Option<IdentityKey>> {
        Ok(None)
    }
}

/// Seals messages of an account's device 0 for one device.
pub struct Sealer {
    session: Session,
    identity: Identity,
    address: ProtocolAddress,
}

/// A ciphertext as it stands in `enc`.
pub struct Sealed {
    /// `pkmsg` while the session is being set up, then `msg`.
    pub kind: &'static str,
    /// The ciphertext.
    pub bytes: Vec<u8>,
}

fn now<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    // These stores never wait, so neither does what is built on them.
    future
        .now_or_never()
        .unwrap_or(Err(SignalProtocolError::InvalidSessionStructure(
            "a store in memory had to wait",
        )))
}

impl Sealer {
    /// Sets a session up with the keys of a device.
    ///
    /// # Errors
    /// The keys are no good.
    pub fn open(
        account: &Account,
        device: &Device,
        skey: &SignedKey,
        one_time: Option<(u32, [u8; 32])>,
    ) -> Result<Self> {
        let public = |bytes: &[u8]| PublicKey::from_djb_public_key_bytes(bytes);
        let one_time = match one_time {
            Some((id, key)) => Some((id.into(), public(&key)?)),
            None => None,
        };
        let id = DeviceId::new(u32::from(device.id));
        let bundle = PreKeyBundle::new(
            device.reg_id,
            id,
            one_time,
            skey.id.into(),
            public(&skey.public)?,
            skey.signature.to_vec(),
            IdentityKey::new(public(&device.identity)?),
        )?;
        let KeyPair {
            public_key,
            private_key,
            ..
        } = account.identity.clone();
        let mut sealer = Self {
            session: Session::default(),
            identity: Identity {
                pair: IdentityKeyPair::new(IdentityKey::new(public_key), private_key),
                reg_id: account.reg_id,
            },
            address: ProtocolAddress::new("device", id),
        };
        now(process_prekey_bundle(
            &sealer.address,
            &mut sealer.session,
            &mut sealer.identity,
            &bundle,
            &mut rand::make_rng::<StdRng>(),
            UsePQRatchet::No,
        ))?;
        Ok(sealer)
    }

    /// Seals a message, padded as clients expect it.
    ///
    /// # Errors
    /// The session is no good.
    pub fn seal(&mut self, plain: &[u8]) -> Result<Sealed> {
        let pad = fastrand::u8(1..=16);
        let mut padded = Vec::with_capacity(plain.len() + usize::from(pad));
        padded.extend_from_slice(plain);
        padded.resize(plain.len() + usize::from(pad), pad);
        let sealed = now(message_encrypt(
            &padded,
            &self.address,
            &mut self.session,
            &mut self.identity,
        ))?;
        let kind = match sealed {
            CiphertextMessage::PreKeySignalMessage(_) => "pkmsg",
            _ => "msg",
        };
        Ok(Sealed {
            kind,
            bytes: sealed.serialize().to_vec(),
        })
    }

    /// From now on seals as if the device had answered: plain `msg`. The device has to get what was sealed before.
    pub fn establish(&mut self) {
        if let Some(state) = self
            .session
            .0
            .as_mut()
            .and_then(SessionRecord::session_state_mut)
        {
            state.clear_unacknowledged_pre_key_message();
        }
    }
}
