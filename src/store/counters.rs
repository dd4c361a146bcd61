//! Counters that only grow: what came, what went, what was kept from the agent and by which gate, and how long the disk
//! took. An operator reads them in `health` and `doctor`.
//!
//! Counting must cost a message nothing: the writer counts in memory and writes the sums along with other work, at most
//! once a second, and at its end without waiting for the disk. So they lag behind a little, and a process that is killed
//! takes its last second along; nothing depends on them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::writer::Tx;
use super::{Pending, Store};

/// How long sums wait for a commit that is made anyway.
const SAVE_ALONG: Duration = Duration::from_secs(1);
/// How long they wait at most while there are looks at the file, and no changes.
const SAVE_AT_LAST: Duration = Duration::from_secs(5);
/// Before the name of a gate.
const GATE: &str = "gate:";
/// The one that is a maximum, not a sum.
const SLOWEST: &str = "commit_us_slowest";

/// What is counted; messages of all gates are under the gate's own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counter {
    /// Messages that were put into the inbox.
    In,
    /// Messages that WhatsApp has acknowledged.
    Out,
    /// Logins after a connection that stood was lost.
    Reconnects,
}

impl Counter {
    fn name(self) -> &'static str {
        match self {
            Self::In => "messages_in",
            Self::Out => "messages_out",
            Self::Reconnects => "reconnects",
        }
    }
}

/// What has been counted since this database was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters(HashMap<String, i64>);

impl Counters {
    /// For people, each under its name.
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        let of = |name: &str| self.0.get(name).copied().unwrap_or_default();
        let milliseconds = |us: i64| format!("{:.1}", us as f64 / 1000.0);
        let mut gates: Vec<(&str, i64)> = self
            .0
            .iter()
            .filter_map(|(name, count)| Some((name.strip_prefix(GATE)?, *count)))
            .collect();
        gates.sort_unstable_by_key(|(name, count)| (-count, *name));
        let gates: Vec<String> = gates
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let mut shown: Vec<(&str, String)> = [Counter::In, Counter::Out, Counter::Reconnects]
            .map(|counter| (counter.name(), of(counter.name()).to_string()))
            .into();
        if !gates.is_empty() {
            shown.push(("dropped_by_gate", gates.join(", ")));
        }
        let commits = of("commits");
        if commits > 0 {
            shown.push(("commits", commits.to_string()));
            shown.push(("commit_ms_mean", milliseconds(of("commit_us") / commits)));
            shown.push(("commit_ms_slowest", milliseconds(of(SLOWEST))));
        }
        shown
    }
}

/// Sums that are not in the file yet.
pub(super) struct Tally {
    sums: HashMap<Cow<'static, str>, i64>,
    saved: Instant,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            sums: HashMap::new(),
            saved: Instant::now(),
        }
    }
}

impl Tally {
    /// Adds what a transaction that is committed has counted.
    pub(super) fn add(&mut self, counted: Vec<(Cow<'static, str>, i64)>) {
        for (name, count) in counted {
            *self.sums.entry(name).or_default() += count;
        }
    }

    /// A commit that changed something took so long.
    pub(super) fn commit(&mut self, took: Duration) {
        let us = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        self.add(vec![("commits".into(), 1), ("commit_us".into(), us)]);
        let slowest = self.sums.entry(SLOWEST.into()).or_default();
        *slowest = us.max(*slowest);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// Whether the sums are to go with a transaction that has changes of its own, or has none.
    pub(super) fn is_due(&self, changes: bool) -> bool {
        let wait = if changes { SAVE_ALONG } else { SAVE_AT_LAST };
        !self.is_empty() && self.saved.elapsed() >= wait
    }

    pub(super) fn save(&self, tx: &Tx<'_>) -> rusqlite::Result<()> {
        let mut add = tx.prepare_cached(
            "INSERT INTO counter (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = CASE name WHEN ?3 THEN max(value, ?2) ELSE value + ?2 END",
        )?;
        for (name, sum) in &self.sums {
            add.execute(rusqlite::params![name, sum, SLOWEST])?;
        }
        Ok(())
    }

    /// What was saved is in the file.
    pub(super) fn saved(&mut self) {
        self.sums.clear();
        self.saved = Instant::now();
    }
}

impl Tx<'_> {
    /// Counts, if this transaction is committed.
    pub(super) fn count(&self, counter: Counter, by: usize) {
        if by > 0 {
            let by = i64::try_from(by).unwrap_or(i64::MAX);
            self.counted().push((counter.name().into(), by));
        }
    }

    /// Counts a message that did not pass the gate of this rule: what stands before the place in a list, or the
    /// explanation, that the rule names.
    pub(super) fn count_gate(&self, rule: &str) {
        let gate = rule.split(['[', ':', '(']).next().unwrap_or_default();
        let gate = gate.trim().replace(' ', "_");
        self.counted().push((format!("{GATE}{gate}").into(), 1));
    }
}

impl Store {
    /// What has been counted, up to some seconds ago.
    pub fn counters(&self) -> Pending<Counters> {
        self.look(|tx| {
            let mut rows = tx.prepare_cached("SELECT name, value FROM counter")?;
            let counters = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            counters.collect::<rusqlite::Result<_>>().map(Counters)
        })
    }
}
