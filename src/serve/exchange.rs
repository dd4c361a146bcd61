//! `status`: what the agent is doing, shown as typing in the chat.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::account::Account;
use super::answer::call_deadline;
use super::outgoing;
use crate::account::Role;
use crate::config::{Config, Typing};
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
    match show(account, config, &frame, chatstate).await {
        Ok(()) => Ok(accepted(match chatstate {
            Chatstate::Composing => "composing",
            Chatstate::Paused => "paused",
        })),
        Err(error) => Ok(refused(&error)),
    }
}

async fn show(
    account: &Arc<Account>,
    config: &Config,
    frame: &StatusFrame,
    chatstate: Chatstate,
) -> Result<(), WireError> {
    let conversation = frame.conversation_id.as_deref();
    let conversation = conversation.or(frame.metadata.get("conversation_id").map(String::as_str));
    let target = outgoing::destination(config, conversation)?;
    account.linked()?;
    let peer = outgoing::admitted(account, config, &target).await?;
    let open = account.open(config, Role::OneShot).await?;
    // The host has one request in flight: a typing indicator must not hold up the answer behind it.
    let patience = match account.process.is_persistent() {
        true => Instant::now() + PATIENCE,
        false => call_deadline(&account.process, config),
    };
    let shown = async {
        open.session.online_now(patience).await?;
        open.session
            .chatstate(&peer.route, chatstate == Chatstate::Composing)
            .await
    };
    shown.await.map_err(WireError::from)
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
