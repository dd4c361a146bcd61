//! What the phone (device 0) says and writes of its own accord.

use std::sync::Arc;

use buffa::{Message, MessageField};
use wacore::appstate::{
    encode_record, expand_app_state_keys,
    hash::{HashState, generate_patch_mac},
    schemas::SETTING_PUSH_NAME,
};
use wacore_binary::{Node, builder::NodeBuilder};
use waproto::whatsapp::{
    self as wa,
    message::{
        AppStateSyncKey, AppStateSyncKeyData, AppStateSyncKeyFingerprint, AppStateSyncKeyId,
        AppStateSyncKeyShare, HistorySyncNotification, ProtocolMessage, protocol_message,
    },
    sync_action_value::PushNameSetting,
    syncd_mutation::SyncdOperation,
};

use crate::{
    account::{Account, Device, Family},
    clock,
    core::Core,
    mailbox::{Class, Letter},
    media::Missed,
    session::Session,
    sync::lock,
    wire::node::{child, child_bytes, encode, text},
    writer::Outgoing,
};

/// Writes to one of the account's own devices.
fn tell(core: &Core, account: &Arc<Account>, device: &Arc<Device>, what: ProtocolMessage) {
    let message = wa::Message {
        protocol_message: MessageField::some(what),
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
        tracing::warn!(%error, "the phone could not write to a device of its own");
    }
}

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
    let share = ProtocolMessage {
        r#type: Some(protocol_message::Type::APP_STATE_SYNC_KEY_SHARE),
        app_state_sync_key_share: MessageField::some(AppStateSyncKeyShare { keys: vec![key] }),
        ..Default::default()
    };
    tell(core, account, device, share);
}

/// Hands a device the history, which is empty but for the account's own name, once it is live for the first time.
///
/// Clients exist that read no app state before they have it (Baileys 7 waits for twenty seconds).
pub fn share_history(core: &Core, account: &Arc<Account>, device: &Arc<Device>) {
    if !lock(&device.mail)
        .link
        .as_ref()
        .is_some_and(|link| link.live)
    {
        return;
    }
    {
        let mut keys = lock(&device.keys);
        if !keys.shared || std::mem::replace(&mut keys.history, true) {
            return;
        }
    }
    let name = wa::Pushname {
        id: Some(account.jid(Family::Pn).to_string()),
        pushname: Some(account.push_name()),
    };
    let history = wa::HistorySync {
        sync_type: wa::history_sync::HistorySyncType::INITIAL_BOOTSTRAP,
        chunk_order: Some(1),
        progress: Some(100),
        pushnames: vec![name],
        ..Default::default()
    };
    let notification = HistorySyncNotification {
        sync_type: Some(wa::message::HistorySyncType::INITIAL_BOOTSTRAP),
        chunk_order: Some(1),
        progress: Some(100),
        initial_hist_bootstrap_inline_payload: Some(zlib(&history.encode_to_vec())),
        ..Default::default()
    };
    let share = ProtocolMessage {
        r#type: Some(protocol_message::Type::HISTORY_SYNC_NOTIFICATION),
        history_sync_notification: MessageField::some(notification),
        ..Default::default()
    };
    tell(core, account, device, share);
}

/// A zlib stream (RFC 1950) of stored blocks: the history is too short to be worth compressing.
fn zlib(data: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut rest = data;
    loop {
        let length = u16::try_from(rest.len()).unwrap_or(u16::MAX);
        let (block, after) = rest.split_at(usize::from(length));
        rest = after;
        stream.push(u8::from(rest.is_empty()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
        if rest.is_empty() {
            break;
        }
    }
    let (mut a, mut b) = (1, 0);
    for byte in data {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    stream.extend((b << 16 | a).to_be_bytes());
    stream
}

/// A device asks the phone to upload a file again that has expired. The phone does if it has it, and says so if not.
pub fn misses_media(session: &Session, receipt: &Node) {
    let Some(which) = child(receipt, "rmr") else {
        return;
    };
    if !session.core.media.misses() {
        return;
    }
    let id = text(receipt, "id");
    let encrypted = child(receipt, "encrypt");
    let bytes_of = |tag| encrypted.and_then(|sealed| child_bytes(sealed, tag));
    let missed = Missed {
        id: &id,
        chat: &text(which, "jid"),
        participant: &text(which, "participant"),
        from_me: &text(which, "from_me"),
        payload: bytes_of("enc_p").unwrap_or_default(),
        iv: bytes_of("enc_iv").unwrap_or_default(),
    };
    let answer = match session.core.media.upload_again(&missed) {
        Some(answer) => {
            let bytes = |tag, bytes: Vec<u8>| NodeBuilder::new(tag).bytes(bytes).build();
            NodeBuilder::new("encrypt")
                .children([
                    bytes("enc_p", answer.payload),
                    bytes("enc_iv", answer.iv.to_vec()),
                ])
                .build()
        }
        // `MediaRetryNotification.ResultType.NOT_FOUND`
        None => NodeBuilder::new("error").attr("code", "2").build(),
    };
    let notification = NodeBuilder::new("notification")
        .attr("id", id.as_ref())
        .attr("from", session.account.jid(Family::Pn))
        .attr("type", "mediaretry")
        .attr("t", clock::unix())
        .children([answer, which.clone()])
        .build();
    let letter = Letter {
        class: Class::Notification,
        id: id.as_ref().into(),
        from: session.account.phone.as_str().into(),
        stanza: encode(&notification),
        track: None,
    };
    session
        .core
        .deliver(&session.account, &session.device, letter);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_streams_can_be_inflated() {
        for length in [0, 1, 70_000, 200_000] {
            let data: Vec<u8> = (0..=250).cycle().take(length).collect();
            let inflated = wacore_binary::zlib_pool::decompress_zlib_pooled(&zlib(&data), 1 << 20);
            assert_eq!(inflated.unwrap(), data);
        }
    }
}
