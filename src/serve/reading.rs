//! `metadata.action` = `read`: messages marked as read, by whoever owns the connection.

use std::sync::Arc;

use tokio::time::Instant;

use super::account::{Account, Open};
use super::passing::{self, Asked, Said, Way};
use crate::config::Config;
use crate::outbound::OutboundError;
use crate::protocol::jsonrpc::WireError;
use crate::store::{Peer, Store};

/// Marks a message of this chat, and what came before it, as read.
///
/// # Errors
/// `unknown_target_message`; or why there is no connection.
pub(super) async fn read(
    account: &Arc<Account>,
    config: &Config,
    store: &Store,
    chat: &Peer,
    target: &str,
    deadline: Instant,
) -> Result<(), WireError> {
    let found = store.unread(chat.public_id.clone(), target.to_owned());
    let unread = found
        .await?
        .ok_or_else(|| OutboundError::UnknownTarget(target.to_owned()))?;
    if unread.ids.is_empty() {
        return Ok(());
    }
    let upto = unread.upto;
    let asked = Asked::Read(unread);
    let way = passing::way(account, config, deadline, &asked).await?;
    match (way, asked) {
        (Way::Own(open), Asked::Read(unread)) => mark(&open, &unread, deadline).await?,
        (Way::Passed(Said::Failed(error)), _) => return Err(error),
        _ => {}
    }
    Ok(store.mark_read(upto).await?)
}

/// Marks them over the connection that this process owns.
pub(super) async fn mark(
    open: &Open,
    unread: &crate::store::Unread,
    deadline: Instant,
) -> Result<(), WireError> {
    open.session.online(deadline).await?;
    Ok(open.session.mark_read(unread).await?)
}
