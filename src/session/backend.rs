//! The library's storage, as its clients get it: SQLite as the library keeps it, but for two things that `channel.db`
//! has anyway. What is on its way into the inbox, [`PendingInbound`] holds; and what is sent is in the outbox before it
//! is handed over, so the library need not keep it a second time for devices that ask for it again.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use wacore::appstate::hash::HashState;
use wacore::appstate::processor::AppStateMutationMAC;
use wacore::stats::StorageResourceReport;
use wacore::store::Device;
use wacore::store::error::{Result, StoreError};
use wacore::store::traits::{
    AppStateSyncKey, AppSyncStore, DeviceListRecord, DeviceStore, LidPnMappingEntry,
    MsgSecretEntry, MsgSecretStore, PendingInboundKey, PendingInboundRow, ProtocolStore,
    SignalStore, TcTokenEntry,
};
use whatsapp_rust::bytes::Bytes;
use whatsapp_rust::store::SqliteStore;

use super::address;
use super::fate::Waiters;
use super::pending::PendingInbound;
use crate::store::{MessageName, Store};

/// The storage of a client.
#[derive(Clone)]
pub(super) struct Backend {
    pub(super) sqlite: SqliteStore,
    pub(super) pending: Arc<PendingInbound>,
    sending: Arc<Waiters>,
    store: Store,
}

impl Backend {
    pub(super) fn new(sqlite: SqliteStore, store: Store, sending: Arc<Waiters>) -> Self {
        Self {
            sqlite,
            pending: Arc::new(PendingInbound::new(store.clone())),
            sending,
            store,
        }
    }

    /// Before any state of a session is written: see [`PendingInbound::settle`].
    async fn settle(&self) -> Result<()> {
        self.pending.settle().await.map_err(refused)
    }
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Database(Box::new(error))
}

fn name(chat: &str, sender: &str, id: &str) -> MessageName {
    MessageName {
        chat: chat.to_owned(),
        sender: sender.to_owned(),
        stanza_id: id.to_owned(),
    }
}

/// Implements a trait by handing everything to SQLite, except the methods written out.
macro_rules! sqlite {
    ($trait:ident { $(fn $name:ident($($arg:ident: $type:ty),*) -> $out:ty;)* } except { $($own:item)* }) => {
        #[async_trait]
        impl $trait for Backend {
            $(async fn $name(&self, $($arg: $type),*) -> $out {
                self.sqlite.$name($($arg),*).await
            })*
            $($own)*
        }
    };
}

sqlite! {
    SignalStore {
        fn put_identity(address: &str, key: [u8; 32]) -> Result<()>;
        fn put_identities_batch(identities: &[(Arc<str>, [u8; 32])]) -> Result<()>;
        fn load_identity(address: &str) -> Result<Option<[u8; 32]>>;
        fn delete_identity(address: &str) -> Result<()>;
        fn get_session(address: &str) -> Result<Option<Bytes>>;
        fn delete_session(address: &str) -> Result<()>;
        fn has_session(address: &str) -> Result<bool>;
        fn has_signal_state_for_user(user: &str) -> Result<bool>;
        fn store_prekey(id: u32, record: &[u8], uploaded: bool) -> Result<()>;
        fn store_prekeys_batch(keys: &[(u32, Bytes)], uploaded: bool) -> Result<()>;
        fn load_prekey(id: u32) -> Result<Option<Bytes>>;
        fn load_prekeys_batch(ids: &[u32]) -> Result<Vec<(u32, Bytes)>>;
        fn mark_prekeys_uploaded(ids: &[u32]) -> Result<()>;
        fn get_max_prekey_id() -> Result<u32>;
        fn store_signed_prekey(id: u32, record: &[u8]) -> Result<()>;
        fn load_signed_prekey(id: u32) -> Result<Option<Vec<u8>>>;
        fn load_all_signed_prekeys() -> Result<Vec<(u32, Vec<u8>)>>;
        fn remove_signed_prekey(id: u32) -> Result<()>;
        fn get_sender_key(address: &str) -> Result<Option<Vec<u8>>>;
        fn delete_sender_key(address: &str) -> Result<()>;
    } except {
        async fn put_session(&self, address: &str, session: &[u8]) -> Result<()> {
            self.settle().await?;
            self.sqlite.put_session(address, session).await
        }

        async fn put_sessions_batch(&self, sessions: &[(Arc<str>, Bytes)]) -> Result<()> {
            self.settle().await?;
            self.sqlite.put_sessions_batch(sessions).await
        }

        async fn put_sender_key(&self, address: &str, record: &[u8]) -> Result<()> {
            self.settle().await?;
            self.sqlite.put_sender_key(address, record).await
        }

        async fn put_sender_keys_batch(&self, keys: &[(Arc<str>, Bytes)]) -> Result<()> {
            self.settle().await?;
            self.sqlite.put_sender_keys_batch(keys).await
        }

        // A message that came with it can only be decrypted with it.
        async fn remove_prekey(&self, id: u32) -> Result<()> {
            self.settle().await?;
            self.sqlite.remove_prekey(id).await
        }
    }
}

sqlite! {
    ProtocolStore {
        fn get_sender_key_devices(group_jid: &str) -> Result<Vec<(String, bool)>>;
        fn set_sender_key_status(group_jid: &str, entries: &[(&str, bool)]) -> Result<()>;
        fn clear_sender_key_devices(group_jid: &str) -> Result<()>;
        fn delete_sender_key_device_rows(device_jids: &[&str]) -> Result<()>;
        fn clear_all_sender_key_devices() -> Result<()>;
        fn get_lid_mapping(lid: &str) -> Result<Option<LidPnMappingEntry>>;
        fn get_pn_mapping(phone: &str) -> Result<Option<LidPnMappingEntry>>;
        fn put_lid_mapping(entry: &LidPnMappingEntry) -> Result<()>;
        fn put_lid_mappings(entries: &[LidPnMappingEntry]) -> Result<()>;
        fn get_all_lid_mappings() -> Result<Vec<LidPnMappingEntry>>;
        fn save_base_key(address: &str, message_id: &str, base_key: &[u8]) -> Result<()>;
        fn has_same_base_key(address: &str, message_id: &str, base_key: &[u8]) -> Result<bool>;
        fn delete_base_key(address: &str, message_id: &str) -> Result<()>;
        fn update_device_list(record: DeviceListRecord) -> Result<()>;
        fn update_device_lists(records: Vec<DeviceListRecord>) -> Result<()>;
        fn get_devices(user: &str) -> Result<Option<DeviceListRecord>>;
        fn delete_devices(user: &str) -> Result<()>;
        fn get_group_metadata(group_jid: &str) -> Result<Option<Vec<u8>>>;
        fn put_group_metadata(group_jid: &str, blob: &[u8]) -> Result<()>;
        fn delete_group_metadata(group_jid: &str) -> Result<()>;
        fn get_tc_token(jid: &str) -> Result<Option<TcTokenEntry>>;
        fn put_tc_token(jid: &str, entry: &TcTokenEntry) -> Result<()>;
        fn delete_tc_token(jid: &str) -> Result<()>;
        fn get_all_tc_token_jids() -> Result<Vec<String>>;
        fn delete_expired_tc_tokens(token_cutoff: i64, sender_cutoff: i64) -> Result<u32>;
        fn touch_tc_token_sender_timestamp(jid: &str, sender_timestamp: i64) -> Result<()>;
        fn store_received_tc_token(jid: &str, token: &[u8], token_timestamp: i64) -> Result<()>;
        fn delete_expired_sent_messages(cutoff_timestamp: i64) -> Result<u32>;
    } except {
        async fn store_sent_message(&self, chat_jid: &str, message_id: &str, payload: &[u8]) -> Result<()> {
            if self.sending.expects_ack(message_id) {
                return Ok(());
            }
            self.sqlite.store_sent_message(chat_jid, message_id, payload).await
        }

        // The outbox's own copy stays: a message may be asked for by several devices.
        async fn take_sent_message(&self, chat_jid: &str, message_id: &str) -> Result<Option<Vec<u8>>> {
            if let Some(chat) = chat_jid.parse().ok().as_ref().and_then(address)
                && let Some(sent) = self.store.sent_payload(chat, message_id.to_owned()).await.map_err(refused)?
            {
                return Ok(Some(sent));
            }
            self.sqlite.take_sent_message(chat_jid, message_id).await
        }

        async fn store_pending_inbound(&self, chat: &str, sender: &str, id: &str, message: &[u8]) -> Result<()> {
            self.pending.hold(name(chat, sender, id), message);
            Ok(())
        }

        async fn store_pending_inbound_batch(&self, rows: &[PendingInboundRow<'_>]) -> Result<()> {
            crate::crash::stall("before_row").await;
            for row in rows {
                self.pending.hold(name(row.chat, row.sender, row.id), row.message);
            }
            Ok(())
        }

        async fn get_pending_inbound(&self, chat: &str, sender: &str, id: &str) -> Result<Option<Vec<u8>>> {
            let own = self.sqlite.load().await?;
            let own: Vec<_> = own.into_iter().flat_map(|own| [own.pn, own.lid]).flatten().collect();
            self.pending.again(name(chat, sender, id), &own).await.map_err(refused)
        }

        async fn delete_pending_inbound(&self, chat: &str, sender: &str, id: &str) -> Result<()> {
            self.pending.taken([name(chat, sender, id)]);
            Ok(())
        }

        async fn delete_pending_inbound_batch(&self, keys: &[PendingInboundKey<'_>]) -> Result<()> {
            self.pending.taken(keys.iter().map(|key| name(key.chat, key.sender, key.id)));
            Ok(())
        }

        async fn delete_expired_pending_inbound(&self, cutoff_timestamp: i64) -> Result<u32> {
            let gone = self.pending.expire(cutoff_timestamp).await.map_err(refused)?;
            Ok(u32::try_from(gone).unwrap_or(u32::MAX))
        }
    }
}

sqlite! {
    AppSyncStore {
        fn get_sync_key(key_id: &[u8]) -> Result<Option<AppStateSyncKey>>;
        fn set_sync_key(key_id: &[u8], key: AppStateSyncKey) -> Result<()>;
        fn get_version(name: &str) -> Result<HashState>;
        fn set_version(name: &str, state: HashState) -> Result<()>;
        fn put_mutation_macs(name: &str, version: u64, mutations: &[AppStateMutationMAC]) -> Result<()>;
        fn get_mutation_mac(name: &str, index_mac: &[u8]) -> Result<Option<Vec<u8>>>;
        fn get_mutation_macs(name: &str, index_macs: &[[u8; 32]]) -> Result<HashMap<[u8; 32], Vec<u8>>>;
        fn delete_mutation_macs(name: &str, index_macs: &[Vec<u8>]) -> Result<()>;
        fn clear_mutation_macs(name: &str) -> Result<()>;
        fn get_latest_sync_key_id() -> Result<Option<Vec<u8>>>;
    } except {}
}

sqlite! {
    MsgSecretStore {
        fn put_msg_secrets(entries: Vec<MsgSecretEntry>) -> Result<usize>;
        fn get_msg_secret(chat: &str, sender: &str, msg_id: &str) -> Result<Option<Vec<u8>>>;
        fn get_msg_secret_with_ts(chat: &str, sender: &str, msg_id: &str) -> Result<Option<(Vec<u8>, i64)>>;
        fn delete_expired_msg_secrets(cutoff_timestamp: i64) -> Result<u32>;
    } except {}
}

sqlite! {
    DeviceStore {
        fn save(device: &Device) -> Result<()>;
        fn load() -> Result<Option<Device>>;
        fn exists() -> Result<bool>;
        fn create() -> Result<i32>;
        fn snapshot_db(name: &str, extra_content: Option<&[u8]>) -> Result<()>;
        fn resource_report() -> StorageResourceReport;
    } except {}
}
