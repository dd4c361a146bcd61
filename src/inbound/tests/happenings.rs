use std::sync::Arc;

use chrono::{DateTime, Utc};
use wacore::net::DisconnectReason;
use wacore::stanza::groups::{GroupNotificationAction as Action, GroupParticipantInfo};
use wacore::types::call::*;
use wacore::types::events::*;
use wacore::types::message::{MessageInfo, MessageSource};
use wacore::types::presence::{ChatPresence, ChatPresenceMedia, ReceiptType};
use wacore_binary::Jid;

use super::*;

pub(super) fn jid(text: &str) -> Jid {
    text.parse().unwrap()
}

pub(super) fn at() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).unwrap()
}

pub(super) fn source() -> MessageSource {
    MessageSource {
        chat: jid(ANN),
        sender: jid("15551230001:2@s.whatsapp.net"),
        sender_alt: Some(jid(ANN_LID)),
        ..MessageSource::default()
    }
}

fn member(id: &str, name: Option<&str>) -> GroupParticipantInfo {
    GroupParticipantInfo {
        jid: jid(id),
        phone_number: None,
        display_name: name.map(str::to_owned),
        r#type: None,
        lid: None,
        username: None,
        join_time: None,
        group_history_sent_state: None,
    }
}

fn group(action: Action) -> Event {
    Event::GroupUpdate(
        GroupUpdate::builder()
            .group_jid(jid(GROUP))
            .notification_id("N1".to_owned())
            .participant(jid(ANN_LID))
            .participant_pn(jid(ANN))
            .timestamp(at())
            .is_lid_addressing_mode(true)
            .action(action)
            .build(),
    )
}

pub(super) fn call(action: CallAction) -> Event {
    Event::IncomingCall(
        IncomingCall::builder()
            .from(jid(ANN_LID))
            .stanza_id("S1".to_owned())
            .timestamp(at())
            .offline(false)
            .action(action)
            .build(),
    )
}

pub(super) fn receipt(kind: ReceiptType) -> Event {
    Event::Receipt(
        Receipt::builder()
            .source(source())
            .message_ids(vec!["M1".to_owned(), "M2".to_owned()])
            .timestamp(at())
            .r#type(kind)
            .offline(false)
            .build(),
    )
}

fn picture(of: &str, removed: bool) -> Event {
    let update = PictureUpdate::builder().jid(jid(of)).timestamp(at());
    Event::PictureUpdate(update.removed(removed).build())
}

fn typing(state: ChatPresence, media: ChatPresenceMedia) -> Event {
    let update = ChatPresenceUpdate::builder().source(source());
    Event::ChatPresence(update.state(state).media(media).build())
}

pub(super) fn undecryptable(mode: DecryptFailMode) -> Event {
    Event::UndecryptableMessage(
        UndecryptableMessage::builder()
            .info(Arc::new(MessageInfo {
                source: source(),
                id: "M1".to_owned(),
                timestamp: at(),
                ..MessageInfo::default()
            }))
            .is_unavailable(true)
            .unavailable_type(UnavailableType::ViewOnce)
            .decrypt_fail_mode(mode)
            .build(),
    )
}

/// An event of every kind that an opt-in family has.
pub(super) fn all() -> Vec<Event> {
    let id = || "C1".to_owned();
    let by = || jid(ANN_LID);
    let mut all = groups();
    all.extend([
        undecryptable(DecryptFailMode::Show),
        receipt(ReceiptType::Delivered),
        receipt(ReceiptType::Read),
        receipt(ReceiptType::Played),
        picture(ANN, false),
        picture(GROUP, true),
        Event::UserAboutUpdate(
            UserAboutUpdate::builder()
                .jid(jid(ANN))
                .status("Busy".to_owned())
                .timestamp(at())
                .build(),
        ),
        Event::ContactNumberChanged(
            ContactNumberChanged::builder()
                .old_jid(jid(ANN))
                .new_jid(jid(BOB))
                .new_lid(jid(ANN_LID))
                .timestamp(at())
                .build(),
        ),
        Event::ContactUpdate(
            ContactUpdate::builder()
                .jid(jid(ANN))
                .timestamp(at())
                .action(Box::new(fields!(wa::sync_action_value::ContactAction {
                    full_name: s("Ann Example")
                })))
                .from_full_sync(false)
                .build(),
        ),
        Event::PushNameUpdate(
            PushNameUpdate::builder()
                .jid(jid(ANN))
                .message(Box::default())
                .old_push_name("Ann".to_owned())
                .new_push_name("Annie".to_owned())
                .build(),
        ),
        Event::IdentityChange(
            IdentityChange::builder()
                .user(jid(ANN))
                .implicit(false)
                .build(),
        ),
        Event::BusinessStatusUpdate(
            BusinessStatusUpdate::builder()
                .jid(jid(BOB))
                .update_type(BusinessUpdateType::VerifiedNameChanged)
                .timestamp(at())
                .verified_name("Bob's Bakery".to_owned())
                .product_ids(Vec::new())
                .collection_ids(Vec::new())
                .subscriptions(Vec::new())
                .build(),
        ),
        Event::DisappearingModeChanged(
            DisappearingModeChanged::builder()
                .from(jid(ANN))
                .duration(86_400)
                .setting_timestamp(at())
                .build(),
        ),
        call(CallAction::Offer {
            call_id: id(),
            call_creator: by(),
            caller_pn: Some(jid(ANN)),
            caller_country_code: None,
            device_class: None,
            joinable: false,
            is_video: true,
            audio: Vec::new(),
            group_jid: None,
        }),
        call(CallAction::Accept {
            call_id: id(),
            call_creator: by(),
            audio: Vec::new(),
        }),
        call(CallAction::Reject {
            call_id: id(),
            call_creator: by(),
            reason: s("busy"),
        }),
        call(CallAction::Terminate {
            call_id: id(),
            call_creator: by(),
            reason: None,
            duration: Some(12),
            audio_duration: None,
        }),
        Event::MissedCall(MissedCall::new(by(), id(), at(), MissedReason::Remote)),
        Event::CallEndedElsewhere(CallEndedElsewhere::new(
            by(),
            id(),
            at(),
            ElsewhereOutcome::Accepted,
        )),
        typing(ChatPresence::Composing, ChatPresenceMedia::Text),
        typing(ChatPresence::Composing, ChatPresenceMedia::Audio),
        typing(ChatPresence::Paused, ChatPresenceMedia::Text),
        Event::Presence(
            PresenceUpdate::builder()
                .from(jid(ANN))
                .unavailable(true)
                .last_seen(at())
                .build(),
        ),
        Event::Connected(Connected::builder().build()),
        Event::Disconnected(
            Disconnected::builder()
                .reason(DisconnectReason::StreamEnded)
                .build(),
        ),
        Event::LoggedOut(
            LoggedOut::builder()
                .on_connect(true)
                .reason(ConnectFailureReason::LoggedOut)
                .build(),
        ),
        Event::StreamReplaced(StreamReplaced::builder().build()),
        Event::TemporaryBan(
            TemporaryBan::builder()
                .code(TempBanReason::BlockedByUsers)
                .expire(chrono::TimeDelta::hours(1))
                .build(),
        ),
        Event::ClientOutdated(ClientOutdated::builder().build()),
        Event::ConnectFailure(
            ConnectFailure::builder()
                .reason(ConnectFailureReason::Generic)
                .build(),
        ),
        Event::StreamError(StreamError::builder().code("516".to_owned()).build()),
    ]);
    all
}

fn groups() -> Vec<Event> {
    let bob = || vec![member(BOB, None), member(ANN, Some("Ann"))];
    [
        Action::Add {
            participants: bob(),
            reason: None,
        },
        Action::Remove {
            participants: bob(),
            reason: None,
        },
        Action::Remove {
            participants: vec![member(ANN_LID, Some("Ann"))],
            reason: None,
        },
        Action::Promote {
            participants: bob(),
        },
        Action::Demote {
            participants: bob(),
        },
        Action::Subject {
            subject: "Cooks".to_owned(),
            subject_owner: None,
            subject_time: None,
        },
        Action::Description {
            id: "D1".to_owned(),
            description: s("We cook."),
        },
        Action::Announce,
        Action::Ephemeral {
            expiration: 86_400,
            trigger: None,
        },
        Action::RevokedMembershipRequests {
            participants: vec![jid(BOB)],
        },
        Action::Invite {
            code: "abc".to_owned(),
        },
        Action::Unknown {
            tag: "party_mode".to_owned(),
        },
    ]
    .map(group)
    .into()
}
