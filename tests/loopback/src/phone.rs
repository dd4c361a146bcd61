//! What the phone (device 0) says and writes of its own accord.

use std::sync::Arc;

use buffa::{Message, MessageField};
use wacore::appstate::{
    encode_record, expand_app_state_keys,
    hash::{HashState, generate_patch_mac},
    schemas::SETTING_PUSH_NAME,
};
use waproto::whatsapp::{
    self as wa,
    message::{
        AppStateSyncKey, AppStateSyncKeyData, AppStateSyncKeyFingerprint, AppStateSyncKeyId,
        AppStateSyncKeyShare, ProtocolMessage, protocol_message,
    },
    sync_action_value::PushNameSetting,
    syncd_mutation::SyncdOperation,
};

use crate::{
    account::{Account, Device, Family},
    clock,
    core::Core,
    sync::lock,
    writer::Outgoing,
};

/// Shares the key for app-state patches, without which a client waits ten seconds before it counts as ready.
pub fn share_app_state_key(core: &Core, account: &Arc<Account>, device: &Arc<Device>) {
    let (id, data) = account.app_state_key;
    let key = AppStateSyncKey {
        key_id: MessageField::some(AppStateSyncKeyId {
            key_id: Some(id.to_vec()),
        }),
        key_data: MessageField::some(AppStateSyncKeyData {
            key_data: Some(data.to_vec()),
            fingerprint: MessageField::some(AppStateSyncKeyFingerprint {
                raw_id: Some(account.raw_id),
                current_index: Some(0),
                device_indexes: vec![0],
            }),
            timestamp: Some(i64::try_from(clock::unix()).unwrap_or(i64::MAX)),
        }),
    };
    let message = wa::Message {
        protocol_message: MessageField::some(ProtocolMessage {
            r#type: Some(protocol_message::Type::APP_STATE_SYNC_KEY_SHARE),
            app_state_sync_key_share: MessageField::some(AppStateSyncKeyShare { keys: vec![key] }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let outgoing = Outgoing {
        id: core.stanza_id(),
        plain: message.encode_to_vec(),
        family: Family::Pn,
        peer: true,
        dated: clock::unix(),
        resent: None,
    };
    if let Err(error) = core
        .writers
        .send(core, account, account, device, outgoing, None)
    {
        tracing::warn!(%error, "the app-state key could not be shared");
    }
}

/// The collection that a new device reads before anything else.
const CRITICAL: &str = "critical_block";

/// Writes the account's push name into its app state, from which a device learns it: the first patch there is.
/// Encrypted and authenticated with the key that [`share_app_state_key`] hands out.
pub fn write_push_name(core: &Core, account: &Account) {
    let mut state = lock(&account.state);
    // Devices know it from here on.
    state.named = true;
    let name = state.push_name.clone();
    let collection = state.collections.entry(CRITICAL.to_owned()).or_default();
    if collection.version() > 0 {
        return;
    }
    let (id, data) = account.app_state_key;
    let keys = expand_app_state_keys(&data);
    let value = wa::SyncActionValue {
        push_name_setting: MessageField::some(PushNameSetting { name: Some(name) }),
        timestamp: Some(i64::try_from(clock::unix() * 1_000).unwrap_or(i64::MAX)),
        ..Default::default()
    };
    let mut iv = [0; 16];
    fastrand::fill(&mut iv);
    let index = format!("[\"{}\"]", SETTING_PUSH_NAME.name);
    let (mutation, _) = encode_record(
        SyncdOperation::SET,
        index.as_bytes(),
        &value,
        &keys,
        &id,
        &iv,
        SETTING_PUSH_NAME.version.cast_signed(),
    );
    let mutations = vec![mutation];
    let mut hash = HashState {
        version: 1,
        ..HashState::default()
    };
    let (_, hashed) = hash.update_hash(&mutations, |_, _| Ok(None));
    if let Err(error) = hashed {
        tracing::error!(%error, "the push name could not be written");
        return;
    }
    let mut patch = wa::SyncdPatch {
        mutations,
        snapshot_mac: Some(hash.generate_snapshot_mac(CRITICAL, &keys.snapshot_mac)),
        key_id: MessageField::some(wa::KeyId {
            id: Some(id.to_vec()),
        }),
        device_index: Some(0),
        ..Default::default()
    };
    patch.patch_mac = Some(generate_patch_mac(
        &patch,
        CRITICAL,
        &keys.patch_mac,
        hash.version,
    ));
    collection.append(patch, core.limits().patches);
}
