//! `status`: what the agent is doing, shown as typing in the chat.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::account::{Account, Open};
use super::answer::call_deadline;
use super::outgoing;
use super::passing::{self, Asked, Said, Way};
use crate::config::{Config, Typing};
use crate::identity::{Address, ChatKind};
use crate::outbound::{self, Chatstate};
use crate::protocol::jsonrpc::WireError;
use crate::protocol::request::StatusFrame;
use crate::protocol::response::StatusAcceptance;

/// How long a typing indicator may wait for a connection that is being made.
const PATIENCE: Duration = Duration::from_secs(2);

/// Shows a status frame. One that cannot be shown is refused and no error: a typing indicator must not end a turn.
pub(super) async fn status(
    account: &Arc<Account>,
    config: &Config,
    frame: StatusFrame,
) -> Result<StatusAcceptance, WireError> {
    let Some(chatstate) = outbound::chatstate(frame.kind).filter(|_| config.typing != Typing::Off)
    else {
        return Ok(accepted("none"));
    };
    let composing = chatstate == Chatstate::Composing;
    match pass_on(account, config, &frame, composing).await {
        Ok(false) => Ok(accepted("none")),
        Ok(true) => Ok(accepted(match chatstate {
            Chatstate::Composing => "composing",
            Chatstate::Paused => "paused",
        })),
        Err(error) => Ok(refused(&error)),
    }
}

/// Whether it was shown: in a newsletter nobody would see it.
async fn pass_on(
    account: &Arc<Account>,
    config: &Config,
    frame: &StatusFrame,
    composing: bool,
) -> Result<bool, WireError> {
    let conversation = frame.conversation_id.as_deref();
    let conversation = conversation.or(frame.metadata.get("conversation_id").map(String::as_str));
    let target = outgoing::destination(config, conversation)?;
    account.check_linked()?;
    let peer = outgoing::admitted(account, config, &target).await?;
    if !matches!(peer.kind(), ChatKind::Private | ChatKind::Group) {
        return Ok(false);
    }
    let to = peer.route;
    // The host has one request in flight: a typing indicator must not hold up the answer behind it.
    let deadline = match account.process.is_persistent() {
        true => Instant::now() + PATIENCE,
        false => call_deadline(&account.process, config),
    };
    let asked = Asked::Chatstate {
        to: to.clone(),
        composing,
    };
    match passing::way(account, config, deadline, &asked).await? {
        Way::Own(open) => show(&open, &to, composing, deadline).await?,
        Way::Passed(Said::Failed(error)) => return Err(error),
        Way::Passed(_) => {}
    }
    Ok(true)
}

/// Shows it on the connection that this process owns.
pub(super) async fn show(
    open: &Open,
    to: &Address,
    composing: bool,
    deadline: Instant,
) -> Result<(), WireError> {
    open.session.online_now(deadline).await?;
    Ok(open.session.show_frame(to, composing, deadline).await?)
}

fn accepted(activity: &str) -> StatusAcceptance {
    StatusAcceptance {
        accepted: true,
        metadata: [("activity".to_owned(), activity.to_owned())].into(),
    }
}

fn refused(error: &WireError) -> StatusAcceptance {
    let metadata = [
        ("reason_code", error.code.to_string()),
        ("reason", error.message.clone()),
    ];
    StatusAcceptance {
        accepted: false,
        metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(),
    }
}
