//! Linking: a client that is not registered shows a QR or a code; a simulated phone answers it.
//!
//! The phone is played here: it has the account's identity key, so what it signs is what a real phone signs.

pub mod adv;
mod announce;
mod code;
mod error;
mod qr;

pub use self::{announce::notify_devices, error::PairError};

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use buffa::Message;
use wacore_binary::{Node, builder::NodeBuilder};
use wacore_libsignal::protocol::PublicKey;
use waproto::whatsapp::{ClientPairingProps, client_payload::DevicePairingRegistrationData};

use self::adv::Vouched;
use crate::{
    account::{Account, AccountSpec, Device, DeviceKeys, Family, SignedKey},
    clock,
    connection::stream_error,
    core::Core,
    mailbox::Mailbox,
    outbox::Outbox,
    phone,
    sync::lock,
    wire::node::{self, attr, bytes, child},
};

/// How many QRs a client gets to show, as WhatsApp gives out.
const REFS: u32 = 6;
/// Clients mark the coming disconnect as expected only after they have sent their signature.
const BEFORE_RESTART: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Tables {
    by_ref: HashMap<String, (Arc<Pairing>, u32)>,
    by_phone: HashMap<String, Arc<Pairing>>,
    by_conn: HashMap<u64, Arc<Pairing>>,
}

/// The clients that wait to be linked.
#[derive(Default)]
pub struct Pairings(Mutex<Tables>);

/// A client that waits to be linked.
pub struct Pairing {
    conn: u64,
    outbox: Arc<Outbox>,
    noise: [u8; 32],
    identity: [u8; 32],
    reg_id: u32,
    skey: SignedKey,
    push_name: Option<String>,
    opened: Instant,
    stage: Mutex<Stage>,
}

#[derive(Default)]
struct Stage {
    offer: Option<Offer>,
    code: Option<code::Code>,
    linked: bool,
}

struct Offer {
    iq: String,
    account: Arc<Account>,
    device: u16,
    vouched: Vouched,
}

impl Pairings {
    /// A connection has ended.
    pub fn leave(&self, conn: u64) {
        let mut tables = lock(&self.0);
        if tables.by_conn.remove(&conn).is_some() {
            tables.by_ref.retain(|_, (pairing, _)| pairing.conn != conn);
            tables.by_phone.retain(|_, pairing| pairing.conn != conn);
        }
    }
}

fn registration(data: &DevicePairingRegistrationData) -> Option<(u32, [u8; 32], SignedKey)> {
    let identity: [u8; 32] = data.e_ident.as_deref()?.try_into().ok()?;
    let skey = SignedKey {
        id: node::be(data.e_skey_id.as_deref()?)?,
        public: data.e_skey_val.as_deref()?.try_into().ok()?,
        signature: data.e_skey_sig.as_deref()?.try_into().ok()?,
    };
    is_signed(&identity, &skey).then_some(())?;
    Some((node::be(data.e_regid.as_deref()?)?, identity, skey))
}

/// Whether a signed prekey is signed by an identity.
pub fn is_signed(identity: &[u8; 32], skey: &SignedKey) -> bool {
    let keys = (
        PublicKey::from_djb_public_key_bytes(identity),
        PublicKey::from_djb_public_key_bytes(&skey.public),
    );
    matches!(keys, (Ok(identity), Ok(key)) if identity.verify_signature(&key.serialize(), &skey.signature))
}

impl Pairing {
    /// Takes a client's registration and sends it QRs to show. `None` when it is malformed or there is no room.
    pub fn open(
        core: &Arc<Core>,
        conn: u64,
        outbox: &Arc<Outbox>,
        noise: [u8; 32],
        data: &DevicePairingRegistrationData,
        push_name: Option<String>,
    ) -> Option<Arc<Self>> {
        let (reg_id, identity, skey) = registration(data)?;
        let pairing = Arc::new(Self {
            conn,
            outbox: outbox.clone(),
            noise,
            identity,
            reg_id,
            skey,
            push_name: push_name.filter(|name| !name.is_empty()),
            opened: Instant::now(),
            stage: Mutex::default(),
        });
        let refs: Vec<String> = (0..REFS).map(|_| reference()).collect();
        {
            let mut tables = lock(&core.pairings.0);
            if tables.by_conn.len() >= core.limits().pending_pairings {
                return None;
            }
            tables.by_conn.insert(conn, pairing.clone());
            for (index, reference) in (0..).zip(&refs) {
                tables
                    .by_ref
                    .insert(reference.clone(), (pairing.clone(), index));
            }
        }
        let refs = refs
            .iter()
            .map(|r| NodeBuilder::new("ref").bytes(r.as_bytes()).build());
        pairing.request(
            &core.stanza_id(),
            NodeBuilder::new("pair-device").children(refs).build(),
        );
        let options = &core.options;
        let all_shown = options.qr_first_ttl + options.qr_ttl * (REFS - 1) + options.qr_grace * 2;
        let waiting = Arc::downgrade(&pairing);
        tokio::spawn(async move {
            tokio::time::sleep(all_shown).await;
            if let Some(pairing) = waiting.upgrade() {
                pairing.outbox.finish();
            }
        });
        Some(pairing)
    }

    fn request(&self, id: &str, content: Node) {
        let iq = NodeBuilder::new("iq")
            .attr("from", node::server())
            .attr("type", "set")
            .attr("id", id)
            .attr("xmlns", "md")
            .attr("t", clock::unix())
            .children([content])
            .build();
        self.outbox.push(node::encode(&iq));
    }

    fn account(&self, core: &Core, phone: Option<&str>) -> Result<Arc<Account>, PairError> {
        let named = || core.by_name(self.push_name.as_deref()?);
        let account = match phone {
            None => named(),
            Some(phone) => core.by_phone(phone),
        };
        let account = match account {
            Some(account) => account,
            None => core.open_account(AccountSpec {
                phone: phone.map(str::to_owned),
                push_name: self.push_name.clone(),
                lid_migrated: core.options.lid_migrated,
                ..AccountSpec::default()
            })?,
        };
        if let Some(name) = &self.push_name {
            lock(&account.state).name_if_unnamed(name);
        }
        Ok(account)
    }

    /// Vouches for the client and tells it so. A later offer takes the place of an earlier one.
    fn offer(&self, core: &Core, account: &Arc<Account>, secret: &[u8]) -> Result<(), PairError> {
        let (device, migrated, business) = {
            let mut state = lock(&account.state);
            if state.devices.len() >= core.limits().devices {
                return Err(PairError::Full);
            }
            let device = state.next_device;
            state.next_device = device.checked_add(1).ok_or(PairError::Full)?;
            (device, state.lid_migrated, state.business.clone())
        };
        let vouched = adv::vouch(account, u32::from(device), &self.identity, secret)
            .ok_or(PairError::NotAQr)?;
        let jid = NodeBuilder::new("device")
            .attr("jid", account.device_jid(Family::Pn, device))
            .attr("lid", account.device_jid(Family::Lid, device))
            .build();
        let mut parts = vec![
            NodeBuilder::new("device-identity")
                .bytes(vouched.container.clone())
                .build(),
            NodeBuilder::new("platform").attr("name", "android").build(),
            jid,
        ];
        if migrated {
            let props = ClientPairingProps {
                is_chat_db_lid_migrated: Some(true),
                ..ClientPairingProps::default()
            };
            let props = NodeBuilder::new("client-props").bytes(props.encode_to_vec());
            parts.push(props.build());
        }
        if let Some(name) = business {
            parts.push(NodeBuilder::new("biz").attr("name", name).build());
        }
        let iq = core.stanza_id();
        {
            let mut stage = lock(&self.stage);
            if stage.linked {
                return Err(PairError::UnknownQr);
            }
            stage.offer = Some(Offer {
                iq: iq.clone(),
                account: account.clone(),
                device,
                vouched,
            });
        }
        self.request(
            &iq,
            NodeBuilder::new("pair-success").children(parts).build(),
        );
        Ok(())
    }

    /// Handles a stanza of the client.
    pub fn handle(self: &Arc<Self>, core: &Arc<Core>, stanza: &Node) {
        match stanza.tag.as_ref() {
            "iq" => match node::text(stanza, "type").as_ref() {
                "result" => self.answered(core, stanza),
                "error" => self.declined(stanza),
                _ => {
                    let reply = match child(stanza, "link_code_companion_reg") {
                        Some(reg) => self.code(core, stanza, reg),
                        None => node::result(stanza).build(),
                    };
                    self.outbox.push(node::encode(&reply));
                }
            },
            "xmlstreamend" => self.outbox.finish(),
            _ => {}
        }
    }

    fn declined(&self, stanza: &Node) {
        let mut stage = lock(&self.stage);
        let id = node::text(stanza, "id");
        if stage.offer.as_ref().is_some_and(|offer| offer.iq == id) {
            tracing::debug!("a client declined to be linked");
            stage.offer = None;
        }
    }

    /// The client's answer to `pair-success`: links the device if the client signed for it.
    fn answered(&self, core: &Arc<Core>, stanza: &Node) {
        let offer = {
            let mut stage = lock(&self.stage);
            let id = node::text(stanza, "id");
            let Some(offer) = stage.offer.take_if(|offer| offer.iq == id) else {
                return;
            };
            stage.linked = true;
            offer
        };
        let adv = child(stanza, "pair-device-sign")
            .and_then(|sign| child(sign, "device-identity"))
            .map(bytes)
            .unwrap_or_default();
        let account = &offer.account;
        if !adv::is_countersigned(account, &offer.vouched, &self.identity, adv) {
            tracing::debug!("a client did not sign for its device");
            self.outbox.push(node::encode(&stream_error(401)));
            self.outbox.finish();
            return;
        }
        let device = Arc::new(Device {
            id: offer.device,
            key_index: u32::from(offer.device),
            noise: self.noise,
            identity: self.identity,
            reg_id: self.reg_id,
            adv: adv.to_vec(),
            keys: Mutex::new(DeviceKeys {
                skey: self.skey.clone(),
                one_time: std::collections::VecDeque::new(),
                uploaded: false,
                shared: false,
                history: false,
                told_low: false,
            }),
            mail: Mutex::new(Mailbox::default()),
        });
        {
            let mut state = lock(&account.state);
            state.devices.insert(offer.device, device.clone());
            state.devices_changed = clock::unix().max(state.devices_changed + 1);
        }
        phone::write_push_name(core, account);
        core.pairings.leave(self.conn);
        core.counting()
            .pairings
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        notify_devices(core, account, &device, "add");
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            tokio::time::sleep(BEFORE_RESTART).await;
            outbox.push(node::encode(&stream_error(515)));
            outbox.finish();
        });
    }
}

fn reference() -> String {
    let mut random = [0; 24];
    fastrand::fill(&mut random);
    format!("2@{}", URL_SAFE_NO_PAD.encode(random))
}

/// What an attribute says about a person, as the account's phone number.
pub(crate) fn phone_of(stanza: &Node, key: &str) -> Option<String> {
    let value = attr(stanza, key)?;
    let user = value.split(['@', ':']).next()?;
    crate::account::is_phone(user).then(|| user.to_owned())
}
