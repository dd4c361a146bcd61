//! What a client can make the server hold: every queue, list and table that a client fills has its bound here.

use std::time::Duration;

/// Bounds of what clients can make the server hold.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes that may wait for one connection before it counts as not reading and is closed.
    pub outbound_bytes: usize,
    /// How long a write to a connection may take.
    pub write_timeout: Duration,
    /// How long a client may take for its handshake.
    pub handshake_timeout: Duration,
    /// How long a logged-in client may be silent.
    pub idle_timeout: Duration,
    /// Stanzas that may wait for one device; beyond it the oldest goes.
    pub queue_stanzas: usize,
    /// Bytes that may wait for one device; beyond it the oldest goes.
    pub queue_bytes: usize,
    /// One-time prekeys that one device may leave.
    pub one_time_keys: usize,
    /// Devices of one account, the phone not counted.
    pub devices: usize,
    /// Accounts.
    pub accounts: usize,
    /// Groups, and members of one group.
    pub groups: usize,
    /// Members of one group.
    pub group_members: usize,
    /// Connections that wait to be paired.
    pub pending_pairings: usize,
    /// Presences that one device may subscribe to.
    pub subscriptions: usize,
    /// App-state patches kept for one collection.
    pub patches: usize,
    /// Stanzas kept in the log.
    pub log: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            outbound_bytes: 64 << 20,
            write_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(180),
            queue_stanzas: 200_000,
            queue_bytes: 128 << 20,
            one_time_keys: 5_000,
            devices: 32,
            accounts: 100_000,
            groups: 10_000,
            group_members: 1_024,
            pending_pairings: 4_096,
            subscriptions: 4_096,
            patches: 10_000,
            log: 8_192,
        }
    }
}
