//! What is kept for how long, and how much of what was said.
//!
//! Invariants: what fell out is gone from the file, text and all (`secure_delete` overwrites it); an event that falls
//! out before anything proved it handled is counted, and the count never goes back. The work is done in small steps,
//! so that nobody who has something to store waits for it.

use rusqlite::params;

use super::{Pending, Store, Tx, messages, meta, trace, uploads};

/// Events, and what was sent, are kept this long, seconds.
const KEPT_FOR: i64 = 30 * 24 * 3600;
/// At most so many events are kept.
const KEPT: i64 = 100_000;
/// Rows looked at in one step: some milliseconds.
const STEP: i64 = 500;

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Events that fell out without proof that they were handled.
    pub dropped: i64,
    /// There may be more to do.
    pub more: bool,
}

impl Store {
    /// One step of letting go what is older than 30 days, or before the last 100,000 events.
    pub fn sweep(&self, now: i64) -> Pending<Swept> {
        self.sweep_beyond(KEPT, now)
    }

    pub(super) fn sweep_beyond(&self, kept: i64, now: i64) -> Pending<Swept> {
        self.submit(move |tx| {
            let before = now.saturating_sub(KEPT_FOR);
            let (events, dropped) = events(tx, kept, before)?;
            let requests = requests(tx, before)?;
            // One `poll_ingress` is a row too. The one with the latest proof is where a new session's cursor comes from.
            let sessions = tx
                .prepare_cached(
                    "DELETE FROM ingress WHERE id IN
                        (SELECT i.id FROM ingress i WHERE i.began < ?1 AND i.proven < (SELECT max(proven) FROM ingress)
                         AND NOT EXISTS (SELECT 1 FROM emission e WHERE e.session = i.id) ORDER BY i.id LIMIT ?2)",
                )?
                .execute([before, STEP])?;
            trace::sweep(tx, now)?;
            let step = usize::try_from(STEP).unwrap_or(usize::MAX);
            uploads::forget(tx, now)?;
            let said = messages::forget(tx, messages::KEPT_BYTES, STEP)?;
            let more = [events, requests, sessions, said].contains(&step);
            Ok(Swept { dropped, more })
        })
    }
}

/// Rows are in order of arrival, so what falls out is at the beginning. How many did, and how many of them unproven.
fn events(tx: &Tx<'_>, kept: i64, before: i64) -> rusqlite::Result<(usize, i64)> {
    let fallen: Vec<(i64, bool)> = tx
        .prepare_cached(
            "SELECT id, state IN (0, 1, 4, 5) FROM (SELECT id, state, coalesce(stored, timestamp) AS at FROM inbox ORDER BY id LIMIT ?1)
             WHERE at < ?2 OR id <= (SELECT max(id) FROM inbox) - ?3",
        )?
        .query_map([STEP, before, kept], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (id, _) in &fallen {
        tx.prepare_cached("DELETE FROM emission WHERE event = ?1")?
            .execute([id])?;
        tx.prepare_cached("DELETE FROM inbox WHERE id = ?1")?
            .execute([id])?;
    }
    let dropped = fallen
        .iter()
        .map(|(_, unproven)| i64::from(*unproven))
        .sum();
    if dropped > 0 {
        count(tx, dropped)?;
    }
    Ok((fallen.len(), dropped))
}

/// Counts events that are gone and nobody is known to have handled.
pub(super) fn count(tx: &Tx<'_>, dropped: i64) -> rusqlite::Result<()> {
    let so_far: i64 = meta::get(tx, meta::DROPPED)?.unwrap_or_default();
    meta::set(tx, meta::DROPPED, Some(&(so_far + dropped)))
}

/// Requests of which nothing is under way any more.
fn requests(tx: &Tx<'_>, before: i64) -> rusqlite::Result<usize> {
    let old: Vec<i64> = tx
        .prepare_cached(
            "SELECT r.id FROM request r WHERE r.created < ?1
             AND NOT EXISTS (SELECT 1 FROM part p WHERE p.request = r.id AND p.open = 1) ORDER BY r.id LIMIT ?2",
        )?
        .query_map([before, STEP], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for id in &old {
        tx.prepare_cached("DELETE FROM part WHERE request = ?1")?
            .execute(params![id])?;
        tx.prepare_cached("DELETE FROM request WHERE id = ?1")?
            .execute(params![id])?;
    }
    Ok(old.len())
}
