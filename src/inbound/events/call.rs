//! Calls that ring and end. Their media is none of ours.

use wacore::types::call::{
    CallAction, CallEndedElsewhere, ElsewhereOutcome, IncomingCall, MissedCall, MissedReason,
};
use wacore_binary::Jid;

use super::{Notice, address, told};
use crate::identity::Address;
use crate::inbound::draft::Draft;

/// A step of a call, if it is one that people notice.
pub(super) fn signal(call: &IncomingCall) -> Option<Notice> {
    let kind = |video: bool| if video { "Video call" } else { "Voice call" };
    let (word, mut draft, group, alt) = match &call.action {
        CallAction::Offer {
            is_video,
            group_jid,
            caller_pn,
            ..
        } => {
            let mut draft = told("call.incoming", kind(*is_video));
            draft.set("call_video", Some(is_video));
            ("incoming", draft, group_jid.as_ref(), caller_pn.as_ref())
        }
        CallAction::OfferNotice {
            is_video, is_group, ..
        } => {
            let mut draft = told("call.incoming", kind(*is_video));
            draft.set("call_video", Some(is_video));
            draft.set("call_group", is_group.then_some("true"));
            ("incoming", draft, None, None)
        }
        CallAction::Accept { .. } => ("accepted", told("call.accepted", "Took a call"), None, None),
        CallAction::Reject { reason, .. } => {
            let mut draft = told("call.declined", "Declined a call");
            draft.set("reason", reason.as_ref());
            ("declined", draft, None, None)
        }
        CallAction::Terminate {
            reason, duration, ..
        } => {
            let mut draft = told("call.ended", "A call ended");
            draft.set("reason", reason.as_ref());
            draft.set("call_duration_seconds", *duration);
            ("ended", draft, None, None)
        }
        // Negotiation of the media, which the person who is called sees nothing of.
        _ => return None,
    };
    let id = call.action.call_id();
    draft.set("call_id", Some(id));
    draft.set("offline", call.offline.then_some("true"));
    Some(Notice {
        id: format!("call:{id}:{word}"),
        chat: address(group.unwrap_or(&call.from)),
        // Who sent it; the creator is what the sender says.
        actor: address(&call.from)
            .filter(Address::is_user)
            .or_else(|| address(call.action.call_creator())),
        actor_alt: alt.and_then(address),
        timestamp: call.timestamp.timestamp(),
        draft,
    })
}

/// A call that nobody took.
pub(super) fn missed(call: &MissedCall) -> Notice {
    let mut draft = told("call.missed", "Missed call");
    let reason = match call.reason {
        MissedReason::Offline => "offline",
        MissedReason::Remote => "not_answered",
        _ => "unknown",
    };
    draft.set("reason", Some(reason));
    ended(
        &call.from,
        &call.call_id,
        "missed",
        call.timestamp.timestamp(),
        draft,
    )
}

/// A call that the owner took or declined on another device.
pub(super) fn elsewhere(call: &CallEndedElsewhere) -> Notice {
    let (word, content) = match call.outcome {
        ElsewhereOutcome::Accepted => ("answered_elsewhere", "Call answered on another device"),
        ElsewhereOutcome::Rejected => ("declined_elsewhere", "Call declined on another device"),
        _ => ("ended_elsewhere", "Call ended on another device"),
    };
    let draft = told(&format!("call.{word}"), content);
    ended(
        &call.from,
        &call.call_id,
        word,
        call.timestamp.timestamp(),
        draft,
    )
}

fn ended(from: &Jid, call: &str, word: &str, timestamp: i64, mut draft: Draft) -> Notice {
    draft.set("call_id", Some(call));
    Notice {
        id: format!("call:{call}:{word}"),
        chat: address(from),
        actor: address(from),
        timestamp,
        draft,
        ..Notice::default()
    }
}
