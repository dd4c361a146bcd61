//! How the people that a message mentions are addressed where it goes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::account::Account;
use crate::account::Role;
use crate::config::Config;
use crate::identity::ChatKind;
use crate::outbound;
use crate::protocol::jsonrpc::WireError;
use crate::store::Peer;

/// What a mention is worth waiting for: without an answer it goes by phone number.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes the group of a message that mentions people known. If nobody knows it yet, WhatsApp is asked, as long as this
/// process has the connection or can have it, which it needs for the message anyway.
pub(super) async fn know_group(
    account: &Arc<Account>,
    config: &Config,
    to: &Peer,
    text: &str,
    deadline: Instant,
) -> Result<(), WireError> {
    if to.kind() != ChatKind::Group || outbound::candidates(text).is_empty() {
        return Ok(());
    }
    let group = to.public_id.clone();
    let known = account.store().await?.group(group.clone()).await?;
    let until = account.process.leave_by();
    if known.is_none()
        && let Ok(open) = account.open(config, Role::OneShot, until).await
    {
        let until = deadline.min(Instant::now() + PATIENCE);
        if open.session.online_now(until).await.is_ok() {
            open.session.know_group(&group, until).await;
        }
    }
    Ok(())
}
