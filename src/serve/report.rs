//! `configure` and `health`: what holds, and how things stand.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::account::{Account, CLOSE, NotOpened, Open};
use super::answer::call_deadline;
use super::passing::{self, Asked, Said};
use crate::access::Policy;
use crate::account::{InUse, OwnerLock};
use crate::clock::{now, now_us, rfc3339};
use crate::config::Config;
use crate::protocol::StringMap;
use crate::protocol::jsonrpc::WireError;
use crate::protocol::response::{Configuration, HealthReport, Response, RuntimeSnapshot};
use crate::session::{Connection, SessionError, Silence, Terminal, restricted_until};
use crate::store::{Applicant, Linked, Store, StoreError};

/// How long the owner of the connection may take to say how it stands.
const OWNERS_WORD: Duration = Duration::from_secs(1);
/// How long a connection may take that is made for `health` alone. Shorter than an ingress waits for who has the lock.
const PROBE: Duration = Duration::from_secs(8);

/// Answers with what the configuration means, and applies it to an ingress that this process runs.
pub(super) async fn configure(
    account: &Arc<Account>,
    config: &Arc<Config>,
    unknown_keys: Vec<String>,
    warnings: Vec<String>,
) -> Result<Response, WireError> {
    let mut metadata = config.resolved();
    if !unknown_keys.is_empty() {
        metadata.insert("unknown_keys".to_owned(), unknown_keys.join(", "));
    }
    if !warnings.is_empty() {
        metadata.insert("warnings".to_owned(), warnings.join("; "));
    }
    metadata.insert(
        "store_path".to_owned(),
        account.paths.store().display().to_string(),
    );
    let policy = Policy::new(config);
    let refused = policy.ingress().err();
    if let Some(error) = &refused {
        metadata.insert("ingress".to_owned(), format!("refused: {error}"));
    }
    if let Some(ingress) = &*account.ingress.lock().await {
        // Under settings that nobody decided every message would be denied, and a denied text is erased.
        let applied = refused.is_none();
        if applied {
            let told = ingress.configure(config.clone());
            metadata.insert("changed".to_owned(), told.changed.join(", "));
            if !told.at_next_start.is_empty() {
                let keys = told.at_next_start.join(", ");
                metadata.insert("at_next_start".to_owned(), keys);
            }
        }
        metadata.insert("applied".to_owned(), applied.to_string());
    }
    let runtime = match account.linked() {
        Ok(linked) => Some(snapshot(account, &linked).await),
        Err(_) => None,
    };
    Ok(Response::Configured {
        configuration: Box::new(Configuration {
            metadata,
            policy: Some(policy.as_host_policy()),
            runtime,
        }),
    })
}

async fn snapshot(account: &Arc<Account>, linked: &Linked) -> RuntimeSnapshot {
    let cursor = match account.existing_store().await {
        Ok(Some(store)) => store.last_cursor().await.ok(),
        _ => None,
    };
    RuntimeSnapshot {
        external_account_id: Some(linked.phone.to_string()),
        cursors: cursor
            .map(|cursor| ("emission".to_owned(), cursor))
            .into_iter()
            .collect(),
        metadata: identity(linked),
        ..Default::default()
    }
}

fn identity(linked: &Linked) -> StringMap {
    let mut metadata = StringMap::new();
    if let Some(phone) = linked.phone.phone() {
        metadata.insert("phone".to_owned(), phone.to_string());
    }
    if let Some(lid) = &linked.lid {
        metadata.insert("lid".to_owned(), lid.to_string());
    }
    metadata.insert("device_id".to_owned(), linked.device.to_string());
    metadata
}

/// Says how the account stands. Opens no connection and creates no file, unless it is asked to connect.
pub(super) async fn health(account: &Arc<Account>, config: &Config) -> Result<Response, WireError> {
    let mut report = HealthReport::default();
    let put = |report: &mut HealthReport, key: &str, value: String| {
        report.metadata.insert(key.to_owned(), value);
    };
    put(
        &mut report,
        "platform",
        crate::protocol::PLATFORM.to_owned(),
    );
    put(&mut report, "version", crate::VERSION.to_owned());
    put(
        &mut report,
        "store_path",
        account.paths.store().display().to_string(),
    );
    let (status, what) = match linked_now(account).await {
        Ok(linked) => {
            report.account_id = Some(linked.phone.to_string());
            report.metadata.extend(identity(&linked));
            let standing = standing(account, config, &mut report).await;
            report.display_name = linked.push_name;
            standing
        }
        Err(error) => (error.code.into_owned(), error.message),
    };
    let what = match report.metadata.get("warning") {
        Some(warning) if status == "ok" => warning.clone(),
        _ => what,
    };
    report.ok = matches!(status.as_str(), "ok" | "connecting" | "in_use");
    report.status = status;
    put(&mut report, "what_to_do", what);
    Ok(Response::Health { health: report })
}

/// The account that is linked. The file, which is checked whenever it is opened, is not asked while a session of ours
/// knows.
async fn linked_now(account: &Arc<Account>) -> Result<Linked, WireError> {
    match account.opened().await {
        Some(open) => Ok(Linked {
            push_name: open.session.push_name().or(open.linked.push_name),
            ..open.linked
        }),
        None => account.linked(),
    }
}

/// The word and the sentence for how a linked account stands.
async fn standing(
    account: &Arc<Account>,
    config: &Config,
    report: &mut HealthReport,
) -> (String, String) {
    match stand(account, config, report).await {
        Ok(standing) => standing,
        Err(error) => (error.code.into_owned(), error.message),
    }
}

async fn stand(
    account: &Arc<Account>,
    config: &Config,
    report: &mut HealthReport,
) -> Result<(String, String), WireError> {
    if let Some(store) = account.existing_store().await? {
        numbers(&store, report).await?;
        if account.opened().await.is_none()
            && let Some(terminal) = account.holding_terminal(config.health_probe).await?
        {
            put_end(report, &terminal);
            return Err(SessionError::Ended(terminal).into());
        }
    }
    if let Some(open) = account.opened().await {
        put_transfers(report, &open.session.transfers());
        if let Connection::Banned(ban) = &*open.session.connection().borrow() {
            put_end(report, ban);
        }
        return connected(&open);
    }
    if config.health_probe {
        return probed(account, config, report).await;
    }
    match OwnerLock::owner(&account.paths) {
        Ok(()) => Ok((
            "ok".to_owned(),
            "linked, nobody is connected at the moment; nothing to do".to_owned(),
        )),
        Err(error @ InUse::Owned { .. }) => owned(error, report).await,
        Err(error) => Err(error.into()),
    }
}

/// What WhatsApp says to a connection that is made for this question alone, or the owner if there is one. What arrives
/// meanwhile is received as always, and what waits in the outbox goes; whoever comes to use the connection keeps it.
async fn probed(
    account: &Arc<Account>,
    config: &Config,
    report: &mut HealthReport,
) -> Result<(String, String), WireError> {
    let deadline = call_deadline(&account.process, config).min(Instant::now() + PROBE);
    let open = match account.open_to_probe(config, deadline + CLOSE).await {
        Err(NotOpened::InUse(error @ InUse::Owned { .. })) => return owned(error, report).await,
        open => open?,
    };
    let heard = open.session.heard();
    let reached = open.session.online_now(deadline).await;
    account.end_probe().await;
    numbers(&open.store, report).await?;
    let (status, what_to_do) = match reached {
        Ok(()) => ("ok", "WhatsApp was reached; nothing to do".to_owned()),
        Err(SessionError::Unreachable { .. }) if heard.has_changed().unwrap_or(false) => (
            "connecting",
            "WhatsApp was reached and has much to hand over; nothing to do".to_owned(),
        ),
        Err(error @ SessionError::Unreachable { .. }) => ("reconnecting", error.to_string()),
        Err(error) => return Err(error.into()),
    };
    Ok((status.to_owned(), what_to_do))
}

/// What the owner says of itself, or who it is if it says nothing.
async fn owned(in_use: InUse, report: &mut HealthReport) -> Result<(String, String), WireError> {
    if let InUse::Owned { pid: Some(pid), .. } = in_use {
        let pid = pid.to_string();
        report.metadata.insert("owner_pid".to_owned(), pid);
    }
    let word = owners_word(in_use).await?;
    put_transfers(report, &word.transfers);
    Ok((word.status, word.what_to_do))
}

/// How a connection stands, as the process says that owns it.
pub struct OwnersWord {
    /// As in `health`.
    pub status: String,
    /// What an operator should do.
    pub what_to_do: String,
    /// Attachments that are on their way, one sentence each.
    pub transfers: Vec<String>,
}

/// Asks the owner of the connection; one that does not answer is `in_use`, no more.
///
/// # Errors
/// What keeps the owner from being connected.
pub async fn owners_word(in_use: InUse) -> Result<OwnersWord, WireError> {
    let InUse::Owned { ref socket, .. } = in_use else {
        return Err(in_use.into());
    };
    let silent = |what_to_do: String| OwnersWord {
        status: "in_use".to_owned(),
        what_to_do,
        transfers: Vec::new(),
    };
    let said = match socket {
        Some(name) => {
            let deadline = Instant::now() + OWNERS_WORD;
            passing::ask(name, &Asked::Health, deadline).await
        }
        None => Ok(None),
    };
    match said {
        Ok(Some(Said::Standing {
            status,
            what_to_do,
            transfers,
        })) => Ok(OwnersWord {
            status,
            what_to_do,
            transfers,
        }),
        Ok(Some(Said::Failed(error))) => Err(error),
        Ok(_) => Ok(silent(in_use.to_string())),
        Err(error) => Ok(silent(error.message)),
    }
}

/// When it goes on by itself.
fn put_end(report: &mut HealthReport, terminal: &Terminal) {
    if let Some(until) = terminal.until {
        let key = format!("{}_until", terminal.kind.code());
        report.metadata.insert(key, rfc3339(until));
    }
}

fn put_transfers(report: &mut HealthReport, transfers: &[String]) {
    if !transfers.is_empty() {
        let told = transfers.join("; ");
        report.metadata.insert("transfers".to_owned(), told);
    }
}

/// The word and the sentence for a connection that this process owns.
pub(super) fn connected(open: &Open) -> Result<(String, String), WireError> {
    let (status, what_to_do) = match &*open.session.connection().borrow() {
        Connection::Online => ("ok", "connected; nothing to do".to_owned()),
        Connection::Connecting => ("connecting", "connecting; wait a moment".to_owned()),
        Connection::Reconnecting { reason } => {
            let error = SessionError::Unreachable {
                reason: reason.clone(),
            };
            ("reconnecting", error.to_string())
        }
        Connection::Banned(terminal) | Connection::Ended(terminal) => {
            return Err(SessionError::Ended(terminal.clone()).into());
        }
        Connection::Storage(error) => return Err(error.clone().into()),
        Connection::Closed => (
            "ok",
            "not connected at the moment; nothing to do".to_owned(),
        ),
    };
    Ok((status.to_owned(), what_to_do))
}

async fn numbers(store: &Store, report: &mut HealthReport) -> Result<(), StoreError> {
    let connections = store.connections().await?;
    let counts = store.counts().await?;
    let mut warnings = Vec::new();
    let mut put = |key: &str, value: String| report.metadata.insert(key.to_owned(), value);
    let applicants = store.applicants(now()).await?;
    for (key, at) in [
        ("oldest_waiting", counts.oldest_waiting),
        ("oldest_applicant", applicants.first().map(Applicant::since)),
        ("last_connect", connections.connected),
        ("last_disconnect", connections.disconnected),
    ] {
        if let Some(at) = at {
            put(key, rfc3339(at));
        }
    }
    if let Some(reason) = connections.reason {
        put("last_disconnect_reason", reason);
    }
    if let Some(silence) = store.phone_seen().await?.map(|at| Silence::new(at, now())) {
        put("phone_silent_days", silence.days.to_string());
        put("unlink_in_days", silence.left.to_string());
        warnings.extend(silence.warning());
    }
    for (key, count) in store.counters().await?.shown() {
        put(key, count);
    }
    for (key, count) in [
        ("inbox_waiting", counts.waiting),
        ("inbox_unproven", counts.unproven),
        ("unconfirmed", counts.unconfirmed),
        ("poisoned", counts.poisoned),
        ("outbox_queued", counts.queued),
        ("outbox_unknown", counts.unknown),
        ("suspect", counts.suspect),
        ("rejected", counts.rejected),
        ("expired", counts.expired),
        ("dropped_unproven", counts.dropped),
        ("applicants", applicants.len() as i64),
    ] {
        put(key, count.to_string());
    }
    let paced = store.paced(now_us()).await?;
    put("outbox_paced", paced.waiting.to_string());
    put("strangers_left", paced.strangers_left.to_string());
    if let Some(restricted) = paced.restricted {
        put("new_chats_restricted_until", rfc3339(restricted.until));
        warnings.push(restricted_until(&restricted));
    }
    warnings.extend(Applicant::told(&applicants));
    if !warnings.is_empty() {
        put("warning", warnings.join("; "));
    }
    let lost = store.lost_numbers().await?;
    if !lost.is_empty() {
        let lost = lost.iter();
        let lost = lost.map(|(phone, holder)| format!("{phone} now {holder}"));
        put("suspended_numbers", lost.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}
