//! What the phone (device 0) says of its own accord.

use std::sync::Arc;

use buffa::{Message, MessageField};
use waproto::whatsapp::{
    self as wa,
    message::{
        AppStateSyncKey, AppStateSyncKeyData, AppStateSyncKeyFingerprint, AppStateSyncKeyId,
        AppStateSyncKeyShare, ProtocolMessage, protocol_message,
    },
};

use crate::{
    account::{Account, Device, Family},
    clock,
    core::Core,
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
