//! Accounts: a phone number, its LID, the keys of the phone (device 0) and the linked devices.

use serde::{Deserialize, Serialize};

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
    /// How many times it has logged in.
    pub logins: u64,
    /// Stanzas that wait for it to settle them.
    pub queue: usize,
    /// One-time prekeys that are left.
    pub one_time_keys: usize,
    /// The presence it last announced: `available`, `unavailable`, or nothing yet.
    pub presence: Option<String>,
}
