//! A stored message → the event that the host gets.
//!
//! Invariant: the host's plain prompt shows the agent nothing but `content`, so who speaks in a group and what was
//! said before stand there too.

use std::collections::HashMap;

use chrono::{DateTime, SecondsFormat};
use serde_json::json;

use super::draft::{AttachmentMeta, Draft, TARGET_SENDER};
use crate::identity::{Address, ChatKind};
use crate::media::key::StorageKey;
use crate::media::name::sanitised;
use crate::protocol::PLATFORM;
use crate::protocol::event::{
    Activation, ActivationReason, Actor, Conversation, InboundAttachment, InboundEvent,
    InboundMessage,
};
use crate::store::{Attached, KnownGroup, Linked, Peer, Stored};

/// What stands before group talk that was not meant for the agent.
const CONTEXT_HEADING: &str = "Said in this group since the last message to you:";

/// Whatever may be shown as the end of a line.
const LINE_ENDS: [char; 7] = [
    '\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}',
];

/// Why an event passed, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Passed<'a> {
    /// Why it is for the agent.
    pub reason: ActivationReason,
    /// The sender's permission: `write` or `admin`.
    pub permission: &'a str,
    /// The route that it matched.
    pub route: Option<&'a str>,
    /// Group talk that goes with it, oldest first.
    pub context: &'a [Stored],
    /// The file of the message that it quotes, if the agent was given that message.
    pub quoted: Option<&'a Attached>,
    /// How the files of those may be asked for.
    pub keys: Keys<'a>,
}

/// Storage keys for files that are not the event's own.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    /// The id of the account's store.
    pub store: &'a str,
    /// Of what is to be seen once, too.
    pub view_once: bool,
}

impl Keys<'_> {
    fn of(&self, file: &Attached) -> Option<String> {
        let token = file.token.filter(|_| self.view_once || !file.view_once)?;
        Some(StorageKey::new(self.store, token).to_string())
    }
}

/// The event of a message that passed.
pub fn event(message: &Stored, passed: &Passed<'_>, own: &Linked) -> InboundEvent {
    let draft = &message.draft;
    let account = own.phone.to_string();
    let quoted = draft.reply_to.as_ref();
    let reply_to = quoted.map(|quoted| quoted.stanza_id.clone());
    let author = draft.refers_to();
    InboundEvent {
        event_id: message.event_id.clone(),
        platform: PLATFORM.to_owned(),
        event_type: draft.event_type.clone(),
        received_at: rfc3339(message.timestamp),
        conversation: Conversation {
            id: message.chat.public_id.to_string(),
            kind: message.chat.kind().as_str().to_owned(),
            parent_message_id: reply_to.clone(),
        },
        actor: actor(message, passed.permission),
        message: InboundMessage {
            id: message.stanza_id.clone(),
            content: content(message, passed.context, own),
            content_type: "text/plain".to_owned(),
            reply_to_message_id: reply_to,
            attachments: draft.attachments.iter().map(attachment).collect(),
            metadata: message_metadata(message, passed, own),
        },
        activation: Some(Activation {
            reason: passed.reason,
            agent_account_id: Some(account.clone()),
            referenced_message_author_id: author.map(|author| match is_own(&author, own) {
                true => account.clone(),
                false => id_of(&author, message).to_string(),
            }),
        }),
        account_id: Some(account),
        metadata: event_metadata(message, passed, own),
    }
}

fn rfc3339(seconds: i64) -> String {
    DateTime::from_timestamp(seconds, 0)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn is_own(address: &Address, own: &Linked) -> bool {
    *address == own.phone || Some(address) == own.lid.as_ref()
}

/// Whether it is the group itself that acts: nobody in particular.
fn is_the_group(message: &Stored) -> bool {
    message.chat.kind() == ChatKind::Group && message.sender.key == message.chat.key
}

/// The name of a message's sender, or the number, or whatever there is.
fn name(message: &Stored) -> String {
    if is_the_group(message)
        && let Some(KnownGroup { group, .. }) = &message.group
    {
        return single_line(&group.subject);
    }
    name_of(&message.sender, message.push_name.as_deref())
}

/// A person's name as they send it along, now or before, or the number, or whatever there is.
pub fn name_of(person: &Peer, sent: Option<&str>) -> String {
    let pushed = sent.or(person.push_name.as_deref());
    let name = pushed.map(single_line).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| match person.phone().and_then(Address::phone) {
        Some(phone) => phone.to_string(),
        None => person.public_id.user().to_owned(),
    })
}

/// A name is its owner's choice; with a line break in it, it could pass for somebody else's message.
fn single_line(name: &str) -> String {
    let words: String = name
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a person is called, if that is known; on one line.
fn known_name(address: &Address, message: &Stored, own: &Linked) -> Option<String> {
    let name = match is_own(address, own) {
        true => own.push_name.as_deref(),
        false => message.people.get(address)?.name.as_deref(),
    };
    name.map(single_line).filter(|name| !name.is_empty())
}

/// The id of a person whom a message names by some address of theirs.
fn id_of<'a>(address: &'a Address, message: &'a Stored) -> &'a Address {
    let known = message.people.get(address);
    known.map_or(address, |person| &person.id)
}

/// What was said, with the names of the mentioned in the place of every `@user`. The text is gone through once: a name
/// is its owner's choice, and one that reads like a mention stays what it is.
fn text(message: &Stored, own: &Linked) -> String {
    let draft = &message.draft;
    let mentions = draft.mentions.iter();
    let names: HashMap<&str, String> = mentions
        .filter_map(|one| Some((one.user(), known_name(one, message, own)?)))
        .collect();
    if names.is_empty() {
        return draft.content.clone();
    }
    let mut pieces = draft.content.split('@');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.bytes().take_while(u8::is_ascii_digit).count();
        let (user, rest) = piece.split_at(digits);
        out.push('@');
        out.push_str(names.get(user).map_or(user, String::as_str));
        out.push_str(rest);
    }
    out
}

fn content(message: &Stored, context: &[Stored], own: &Linked) -> String {
    let said = |message: &Stored| format!("{}: {}", name(message), text(message, own));
    let content = match message.chat.kind() {
        ChatKind::Group if !is_the_group(message) => said(message),
        _ => text(message, own),
    };
    if context.is_empty() {
        return content;
    }
    // A line of its own is a person's first: what else they said must not pass for somebody else's words.
    let line = |earlier: &Stored| {
        let said = said(earlier).replace("\r\n", "\n");
        let lines = said.trim_end_matches(LINE_ENDS).split(LINE_ENDS);
        lines.collect::<Vec<_>>().join("\n  ")
    };
    let before: Vec<String> = context.iter().map(line).collect();
    format!("{CONTEXT_HEADING}\n{}\n\n{content}", before.join("\n"))
}

type Metadata = std::collections::BTreeMap<String, String>;

fn set(metadata: &mut Metadata, key: &str, value: Option<impl ToString>) {
    if let Some(value) = value {
        metadata.insert(key.to_owned(), value.to_string());
    }
}

fn actor(message: &Stored, permission: &str) -> Actor {
    let sender = &message.sender;
    let mut metadata = Metadata::new();
    set(&mut metadata, "actor_kind", Some("user"));
    set(&mut metadata, "permission", Some(permission));
    set(&mut metadata, "phone_jid", sender.phone());
    set(&mut metadata, "lid", sender.lid());
    set(
        &mut metadata,
        "push_name",
        message.push_name.as_ref().or(sender.push_name.as_ref()),
    );
    Actor {
        id: sender.public_id.to_string(),
        display_name: Some(name(message)),
        username: sender
            .phone()
            .and_then(Address::phone)
            .map(ToString::to_string),
        is_bot: matches!(&sender.public_id, Address::Other(jid) if jid.ends_with("@bot")),
        metadata,
    }
}

fn message_metadata(message: &Stored, passed: &Passed<'_>, own: &Linked) -> Metadata {
    let draft = &message.draft;
    let mut metadata = draft.metadata.clone();
    set(
        &mut metadata,
        "whatsapp_content_origin",
        Some(&draft.content_origin),
    );
    set(
        &mut metadata,
        "target_message_id",
        draft.target_message_id.as_ref(),
    );
    let author = metadata.get(TARGET_SENDER).and_then(|jid| jid.parse().ok());
    set(
        &mut metadata,
        TARGET_SENDER,
        author.map(|author| id_of(&author, message).to_string()),
    );
    if !draft.attachments.is_empty() {
        set(
            &mut metadata,
            "attachment_count",
            Some(draft.attachments.len()),
        );
    }
    if let Some(quoted) = &draft.reply_to {
        set(&mut metadata, "quoted_text", quoted.text.as_ref());
        let file = passed.quoted.and_then(|file| passed.keys.of(file));
        set(&mut metadata, "quoted_storage_key", file);
        let author = quoted.sender.as_ref();
        set(
            &mut metadata,
            "quoted_sender",
            author.map(|author| id_of(author, message)),
        );
        set(
            &mut metadata,
            "quoted_sender_name",
            author.and_then(|author| known_name(author, message, own)),
        );
        set(
            &mut metadata,
            "quoted_is_self",
            author.map(|author| is_own(author, own)),
        );
    }
    if let Some(people) = draft.metadata.get("participants") {
        set(
            &mut metadata,
            "concerns_self",
            names_us(people, own).then_some(true),
        );
    }
    if !draft.mentions.is_empty() {
        set(
            &mut metadata,
            "mentions",
            Some(mentions(draft, message, own)),
        );
    }
    metadata
}

/// Whether we are among the people of a group's change.
fn names_us(people: &str, own: &Linked) -> bool {
    let people: serde_json::Value = serde_json::from_str(people).unwrap_or_default();
    let people = people.as_array().into_iter().flatten();
    let mut addresses = people.flat_map(|one| ["id", "phone_jid", "lid"].map(|key| &one[key]));
    addresses.any(|address| {
        let address = address.as_str().and_then(|jid| jid.parse().ok());
        address.is_some_and(|address| is_own(&address, own))
    })
}

fn mentions(draft: &Draft, message: &Stored, own: &Linked) -> serde_json::Value {
    let mention = |address: &Address| {
        json!({
            "id": id_of(address, message),
            "name": known_name(address, message, own),
            "is_self": is_own(address, own),
        })
    };
    draft.mentions.iter().map(mention).collect()
}

fn event_metadata(message: &Stored, passed: &Passed<'_>, own: &Linked) -> Metadata {
    let mut metadata = Metadata::new();
    set(&mut metadata, "platform", Some(PLATFORM));
    set(&mut metadata, "durable", Some(message.durable));
    if let Some(KnownGroup { group, .. }) = &message.group {
        let subject = Some(single_line(&group.subject)).filter(|subject| !subject.is_empty());
        set(&mut metadata, "conversation_title", subject);
        set(&mut metadata, "community_id", group.parent.as_ref());
        if group.announcement {
            set(&mut metadata, "only_admins_may_send", Some(true));
        }
        if group.community_announcements {
            set(&mut metadata, "community_announcements", Some(true));
        }
    }
    set(&mut metadata, "chat_route", Some(&message.route));
    set(&mut metadata, "route", passed.route);
    set(
        &mut metadata,
        "target_message_id",
        message.draft.target_message_id.as_ref(),
    );
    if message.redelivered {
        set(&mut metadata, "redelivered", Some(true));
        set(&mut metadata, "attempt", Some(message.attempt));
    }
    if !passed.context.is_empty() {
        let said: Vec<_> = passed
            .context
            .iter()
            .map(|earlier| {
                let mut said = json!({
                    "message_id": earlier.stanza_id,
                    "sender": earlier.sender.public_id,
                    "name": name(earlier),
                    "content": text(earlier, own),
                    "received_at": rfc3339(earlier.timestamp),
                });
                if !earlier.draft.attachments.is_empty() {
                    said["attachments"] = json!(files(earlier, passed.keys));
                }
                said
            })
            .collect();
        set(
            &mut metadata,
            "group_context",
            Some(serde_json::Value::from(said)),
        );
    }
    metadata
}

/// The files of what goes with an event. Nobody has fetched them for it; their keys do.
fn files(earlier: &Stored, keys: Keys<'_>) -> Vec<InboundAttachment> {
    let files = earlier.draft.attachments.iter().enumerate();
    let files = files.map(|(nth, meta)| InboundAttachment {
        storage_key: earlier.media_at(nth).and_then(|file| keys.of(file)),
        ..attachment(meta)
    });
    files.collect()
}

fn attachment(meta: &AttachmentMeta) -> InboundAttachment {
    InboundAttachment {
        kind: meta.kind.clone(),
        mime_type: meta.mime_type.clone(),
        size_bytes: meta.size_bytes,
        // A host may save the file under it.
        name: meta.name.as_deref().and_then(sanitised),
        extras: meta.extras.clone(),
        ..InboundAttachment::default()
    }
}
