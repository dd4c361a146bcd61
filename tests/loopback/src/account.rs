//! Accounts: a phone number, its LID, the keys of the phone (device 0) and the linked devices.
//!
//! The account's identity key is at once the key that signs its device list and the Signal identity of device 0.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use wacore_binary::{Jid, Server};
use wacore_libsignal::protocol::{CurveError, KeyPair};

use crate::{clock, iq::appstate::Collection, iq::profile::Picture, mailbox::Mailbox, sync::lock};

/// What an account is to be; what is absent is chosen.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountSpec {
    /// Digits of the phone number.
    pub phone: Option<String>,
    /// Digits of the LID.
    pub lid: Option<String>,
    /// The name that others see.
    pub push_name: Option<String>,
    /// Whether its chats are addressed by LID.
    pub lid_migrated: bool,
    /// The name of a business account.
    pub business: Option<String>,
    /// Other forms of the number, in digits, in which it is found when somebody asks for it.
    pub other_forms: Vec<String>,
    /// Whether nobody is told which LID belongs to the number.
    pub secretive: bool,
}

/// An account as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountInfo {
    /// Digits of the phone number.
    pub phone: String,
    /// `<phone>@s.whatsapp.net`
    pub pn_jid: String,
    /// `<digits>@lid`
    pub lid_jid: String,
    /// The name that others see.
    pub push_name: String,
    /// Whether its chats are addressed by LID.
    pub lid_migrated: bool,
    /// The linked devices, the phone not counted.
    pub devices: Vec<DeviceInfo>,
}

/// A linked device as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// Number within the account, from 1.
    pub id: u16,
    /// Whether it is connected and logged in.
    pub connected: bool,
    /// Whether it has received its offline queue on this connection.
    pub live: bool,
    /// How many times it has logged in.
    pub logins: u64,
    /// Stanzas that wait for it to settle them.
    pub queue: usize,
    /// One-time prekeys that are left.
    pub one_time_keys: usize,
    /// The presence it last announced: `available`, `unavailable`, or nothing yet.
    pub presence: Option<String>,
}

/// The two namespaces in which a person is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// `@s.whatsapp.net`
    Pn,
    /// `@lid`
    Lid,
}

impl Family {
    /// The family of a person's JID.
    pub fn of(jid: &Jid) -> Option<Self> {
        match jid.server {
            Server::Pn | Server::Legacy | Server::Hosted => Some(Self::Pn),
            Server::Lid | Server::HostedLid => Some(Self::Lid),
            _ => None,
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Pn => Self::Lid,
            Self::Lid => Self::Pn,
        }
    }
}

/// A signed prekey: its id, public key and signature.
#[derive(Clone)]
pub struct SignedKey {
    /// Its id, 24 bits.
    pub id: u32,
    /// The public key.
    pub public: [u8; 32],
    /// By the device's identity key, over `05 ‖ public`.
    pub signature: [u8; 64],
}

/// A phone number with all that belongs to it.
pub struct Account {
    /// Digits of the phone number.
    pub phone: String,
    /// Digits of the LID.
    pub lid: String,
    /// Signs device identities; Signal identity of device 0.
    pub identity: KeyPair,
    /// Registration id of device 0.
    pub reg_id: u32,
    /// Signed prekey of device 0.
    pub skey: SignedKey,
    /// Private half of it.
    pub skey_pair: KeyPair,
    /// Names this account's device lists.
    pub raw_id: u32,
    /// The key for app-state patches that the phone shares: id and data.
    pub app_state_key: ([u8; 6], [u8; 32]),
    /// Whether device 0 is a writer of the server's own, which acknowledges what it gets.
    pub writer: std::sync::atomic::AtomicBool,
    /// Held while its presence is looked up and told, so that nobody is left with an older one.
    pub telling: Mutex<()>,
    /// What changes.
    pub state: Mutex<AccountState>,
}

/// What changes about an account.
pub struct AccountState {
    /// The name that others see.
    pub push_name: String,
    /// Whether somebody chose that name; else it is made up.
    pub named: bool,
    /// Whether its chats are addressed by LID.
    pub lid_migrated: bool,
    /// The name of a business account.
    pub business: Option<String>,
    /// Whether nobody is told which LID belongs to the number.
    pub secretive: bool,
    /// The linked devices.
    pub devices: BTreeMap<u16, Arc<Device>>,
    /// The number that the next device gets. Numbers are not used twice.
    pub next_device: u16,
    /// When the device list last changed.
    pub devices_changed: u64,
    /// The about text and when it was set.
    pub about: Option<(String, u64)>,
    /// The profile picture.
    pub picture: Option<Picture>,
    /// Settings of privacy.
    pub privacy: BTreeMap<String, String>,
    /// JIDs of the blocked.
    pub blocked: BTreeSet<String>,
    /// App state by the collection's name.
    pub collections: HashMap<String, Collection>,
    /// Seconds after which messages of new chats disappear, and since when.
    pub disappearing: Option<(u32, u64)>,
    /// Phone numbers of who has asked for the device list.
    pub watchers: BTreeSet<String>,
    /// Phone numbers of who is told about presence, and the namespace in which they asked.
    pub subscribers: BTreeMap<String, Family>,
    /// Phone numbers of who gets status posts.
    pub audience: BTreeSet<String>,
    /// When it was last available.
    pub last_seen: Option<u64>,
    /// Until when it may write to nobody first, in seconds since the epoch.
    pub restricted: u64,
    /// Phone numbers of the accounts that have written to it.
    pub written_by: BTreeSet<String>,
}

/// One-time prekeys that a device has left.
pub struct DeviceKeys {
    /// The signed prekey.
    pub skey: SignedKey,
    /// Ids and public keys, in the order of upload.
    pub one_time: VecDeque<(u32, [u8; 32])>,
    /// Whether keys were ever uploaded.
    pub uploaded: bool,
    /// Whether the phone has shared its app-state key.
    pub shared: bool,
    /// Whether the phone has handed over the history.
    pub history: bool,
    /// Whether the device was told that its keys run out, and has not brought new ones since.
    pub told_low: bool,
}

/// A linked device.
pub struct Device {
    /// Number within the account, from 1.
    pub id: u16,
    /// Index in the signed device list.
    pub key_index: u32,
    /// Its static Noise key, by which a login is known.
    pub noise: [u8; 32],
    /// Its Signal identity.
    pub identity: [u8; 32],
    /// Its registration id.
    pub reg_id: u32,
    /// The `ADVSignedDeviceIdentity` that peers verify.
    pub adv: Vec<u8>,
    /// Its prekeys.
    pub keys: Mutex<DeviceKeys>,
    /// What waits for it.
    pub mail: Mutex<Mailbox>,
}

fn digits(n: u64, width: usize) -> String {
    format!("{n:0width$}")
}

/// Whether a text can be a phone number: its digits, with the country code.
pub fn is_phone(text: &str) -> bool {
    (5..=15).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_digit())
        && !text.starts_with('0')
}

/// A phone number of a range that nobody has (country code 999).
pub fn made_up_phone() -> String {
    format!("999{}", digits(fastrand::u64(0..10_000_000_000), 10))
}

/// The name of a phone number's owner, until somebody chooses one: an account always has a name.
fn made_up_name(phone: &str) -> String {
    const NAMES: [&str; 8] = ["Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gil", "Hana"];
    let end = phone.get(phone.len().saturating_sub(4)..).unwrap_or(phone);
    let picked = end.bytes().map(usize::from).sum::<usize>() % NAMES.len();
    format!("{} {end}", NAMES[picked])
}

impl AccountState {
    /// Takes a chosen name in place of a made-up one.
    pub fn name_if_unnamed(&mut self, name: &str) {
        if !std::mem::replace(&mut self.named, true) {
            name.clone_into(&mut self.push_name);
        }
    }
}

impl Account {
    /// A new account.
    ///
    /// # Errors
    /// A signature could not be made.
    pub fn new(phone: String, spec: AccountSpec) -> Result<Self, CurveError> {
        let mut rng = rand::make_rng::<StdRng>();
        let identity = KeyPair::generate(&mut rng);
        let skey_pair = KeyPair::generate(&mut rng);
        let signature =
            identity.calculate_signature(&skey_pair.public_key.serialize(), &mut rng)?;
        let lid = spec
            .lid
            .unwrap_or_else(|| format!("1{}", digits(fastrand::u64(0..100_000_000_000_000), 14)));
        let skey = SignedKey {
            id: 1,
            public: crate::wire::cert::raw(&skey_pair),
            signature,
        };
        let mut key_id = [0; 6];
        fastrand::fill(&mut key_id);
        // The first two bytes name the device that made the key, the rest counts its keys.
        key_id[..2].fill(0);
        let mut key_data = [0; 32];
        rand::RngExt::fill(&mut rng, &mut key_data);
        let chosen = spec.push_name.filter(|name| !name.is_empty());
        let made_up = made_up_name(&phone);
        Ok(Self {
            phone,
            lid,
            identity,
            reg_id: fastrand::u32(1..16_380),
            skey,
            skey_pair,
            raw_id: fastrand::u32(1..),
            app_state_key: (key_id, key_data),
            writer: false.into(),
            telling: Mutex::default(),
            state: Mutex::new(AccountState {
                named: chosen.is_some(),
                push_name: chosen.unwrap_or(made_up),
                lid_migrated: spec.lid_migrated,
                business: spec.business,
                secretive: spec.secretive,
                devices: BTreeMap::new(),
                next_device: 1,
                devices_changed: clock::unix(),
                about: None,
                picture: None,
                privacy: BTreeMap::new(),
                blocked: BTreeSet::new(),
                collections: HashMap::new(),
                disappearing: None,
                watchers: BTreeSet::new(),
                subscribers: BTreeMap::new(),
                audience: BTreeSet::new(),
                last_seen: None,
                restricted: 0,
                written_by: BTreeSet::new(),
            }),
        })
    }

    /// Until when the account may write to nobody first, if it may not now.
    pub fn restricted_until(&self) -> Option<u64> {
        let until = lock(&self.state).restricted;
        (until > clock::unix()).then_some(until)
    }

    /// The account's JID in a namespace.
    pub fn jid(&self, family: Family) -> Jid {
        self.device_jid(family, 0)
    }

    /// The JID of a device in a namespace.
    pub fn device_jid(&self, family: Family, device: u16) -> Jid {
        match family {
            Family::Pn => Jid::pn_device(self.phone.as_str(), device),
            Family::Lid => Jid::lid_device(self.lid.as_str(), device),
        }
    }

    /// The linked devices.
    pub fn devices(&self) -> Vec<Arc<Device>> {
        lock(&self.state).devices.values().cloned().collect()
    }

    /// A linked device.
    pub fn device(&self, id: u16) -> Option<Arc<Device>> {
        lock(&self.state).devices.get(&id).cloned()
    }

    /// The name that others see.
    pub fn push_name(&self) -> String {
        lock(&self.state).push_name.clone()
    }

    /// The account as it stands.
    pub fn info(&self) -> AccountInfo {
        let state = lock(&self.state);
        AccountInfo {
            phone: self.phone.clone(),
            pn_jid: self.jid(Family::Pn).to_string(),
            lid_jid: self.jid(Family::Lid).to_string(),
            push_name: state.push_name.clone(),
            lid_migrated: state.lid_migrated,
            devices: state.devices.values().map(|device| device.info()).collect(),
        }
    }
}

impl Device {
    /// The device as it stands.
    pub fn info(&self) -> DeviceInfo {
        let one_time_keys = lock(&self.keys).one_time.len();
        let mail = lock(&self.mail);
        DeviceInfo {
            id: self.id,
            connected: mail.link.is_some(),
            live: mail.link.as_ref().is_some_and(|link| link.live),
            logins: mail.logins,
            queue: mail.len(),
            one_time_keys,
            presence: mail.presence.clone(),
        }
    }
}
