//! The verdict on a message, and what those are told who do not get through.
//!
//! Invariants: the full identity of the sender is judged, as far as it is known; what a refused message said is erased
//! in the transaction that keeps the verdict. A stranger gets one code and a reader one answer an hour, noted in the
//! transaction that enters it into the outbox, and only by a process that runs ingress. Where a phone number may decide
//! and only a LID is known, or the other way round, there is no verdict before WhatsApp has answered who that is: nothing
//! is erased, and nobody may do more, because it could not be asked.

use std::collections::HashSet;

use tokio::time::Instant;

use super::attached::Attending;
use super::emit::{Court, Decided};
use super::outgoing::mint;
use crate::access::{Judgement, Policy, Subject, Verdict};
use crate::clock::now;
use crate::config::{Config, TextFormat};
use crate::identity::{Address, ChatKind};
use crate::inbound::Keys;
use crate::outbound::{self, Known};
use crate::protocol::request::OutboundMessage;
use crate::session::{Asked, Following};
use crate::store::{
    Attached, CODE_LIFETIME, Gate, NewPart, OutboundRequest, PAIRING_CODE, Peer, RowId, Ruling,
    StoreError, Stored, Trace,
};

/// Messages that a poller judges at a time.
const PAGE: u32 = 64;
/// Why a message is set aside that has no verdict.
const UNSAID: &str = "WhatsApp did not say who the sender is";
/// How often one reader gets the fixed answer, seconds.
const ANSWER_EVERY: i64 = 3600;
/// What `kind` says of that answer.
const READ_ONLY_REPLY: &str = "read_only_reply";
/// Letters and digits that nobody mistakes for each other.
const ALPHABET: &[u8; 30] = b"23456789ABCDEFGHJKMNPQRSTVWXYZ";
/// How many of them a code has: so many codes that nobody guesses one of three within their hour.
const CODE: usize = 8;
/// Only what somebody says is answered, not what they do to messages.
const SAID: &str = "message.received";

/// What is to be said of a message.
pub(super) enum Judged {
    /// The verdict, and how it came about.
    Verdict(Verdict, Ruling),
    /// None before WhatsApp has said who the sender is, or where it was said, which it is asked.
    NotYet,
    /// None, since WhatsApp does not say.
    InVain(Ruling),
}

impl Court<'_> {
    /// The verdict on a message, and what is kept of how it came about.
    pub(super) async fn judge(
        &self,
        policy: &Policy<'_>,
        own: &[Address],
        message: &Stored,
    ) -> Result<Judged, StoreError> {
        if self.awaits_group(policy, message).await? {
            return Ok(Judged::NotYet);
        }
        let forms = self.identity(message).await?;
        let subject = subject(own, message, &forms);
        let asked = self.asked(policy, subject.chat, &forms).await?;
        if asked == Asked::NotYet {
            return Ok(Judged::NotYet);
        }
        let Judgement { verdict, gates } = policy.judge(&subject);
        let rule = verdict.rule().to_owned();
        let age = Gate::new("max_event_age_secs", "young enough");
        let mut ruling = Ruling {
            rule,
            trace: Trace {
                at: now(),
                forms,
                gates: std::iter::once(age).chain(gates).collect(),
            },
        };
        if asked == Asked::InVain {
            ruling.rule = UNSAID.to_owned();
            // What the rules say of a stranger is not said of them.
            ruling.trace.gates.truncate(1);
            ruling.trace.gates.push(Gate::new("identity", "not told"));
            return Ok(Judged::InVain(ruling));
        }
        Ok(Judged::Verdict(verdict, ruling))
    }

    /// Whether it is about to be known what the group is called and who is in it, if it may speak.
    async fn awaits_group(
        &self,
        policy: &Policy<'_>,
        message: &Stored,
    ) -> Result<bool, StoreError> {
        let chat = &message.chat;
        if chat.kind() != ChatKind::Group || !policy.hears_group(&chat.aliases) {
            return Ok(false);
        }
        let known = message.group.as_ref();
        self.whatsapp.awaits_group(&chat.public_id, known).await
    }

    /// Whether WhatsApp has said who somebody is who is known by their LID or their number alone, if the other may decide
    /// here. Of whom it has told nothing is a stranger.
    pub(super) async fn asked(
        &self,
        policy: &Policy<'_>,
        chat: &[Address],
        forms: &[Address],
    ) -> Result<Asked, StoreError> {
        let lid = forms.iter().find(|form| matches!(form, Address::Lid(_)));
        let phone = forms.iter().find(|form| form.phone().is_some());
        let in_group = chat.first().map(Address::kind) == Some(ChatKind::Group);
        let (known, decides) = match (lid, phone) {
            (Some(lid), None) => {
                let named = policy.names_numbers();
                let decides = named || !in_group && self.store.approved_by_number().await?;
                (lid, decides)
            }
            (None, Some(phone)) => {
                let named = policy.names_lids();
                let decides = named || !in_group && self.store.approved_by_lid().await?;
                (phone, decides)
            }
            _ => return Ok(Asked::Answered),
        };
        if !decides || in_group && !policy.hears_group(chat) {
            return Ok(Asked::Answered);
        }
        let asked = self.whatsapp.asked(known).await?;
        // The answer may have come since these forms were read: with the next look they are others.
        let told = asked == Asked::Answered && {
            let forms = self.store.credentials(forms.to_vec()).await?;
            let numbers = forms.iter().filter(|form| form.phone().is_some());
            (1..forms.len()).contains(&numbers.count())
        };
        Ok(if told { Asked::NotYet } else { asked })
    }

    /// Every address that the sender is known by.
    async fn identity(&self, message: &Stored) -> Result<Vec<Address>, StoreError> {
        self.known_by(&message.chat, &message.sender).await
    }

    /// Every address that somebody in this chat is known by. A group knows of its members what they may not have told us.
    pub(super) async fn known_by(
        &self,
        chat: &Peer,
        person: &Peer,
    ) -> Result<Vec<Address>, StoreError> {
        let mut forms = person.credentials();
        let half = !forms.iter().any(|form| form.phone().is_some())
            || !forms.iter().any(|form| matches!(form, Address::Lid(_)));
        if half
            && chat.kind() == ChatKind::Group
            && let Some(member) = self
                .store
                .member(chat.public_id.clone(), forms.clone())
                .await?
        {
            forms.push(member.address);
            forms.extend(member.other);
            forms = self.store.credentials(forms).await?;
        }
        Ok(forms)
    }

    /// What was said in this group since the last event, by those who could have addressed us; the rest is erased. The
    /// rules may have changed since it was kept: nothing before WhatsApp has said who somebody is, if that decides now.
    pub(super) async fn context(
        &self,
        policy: &Policy<'_>,
        own: &[Address],
        message: &Stored,
    ) -> Result<Option<Vec<Stored>>, StoreError> {
        let limit = self.context_limit();
        let mut context = Vec::new();
        for said in self.store.context(message.id, limit).await? {
            match self.judge(policy, own, &said).await? {
                Judged::NotYet => return Ok(None),
                Judged::InVain(ruling) => self.store.set_aside(said.id, ruling).await?,
                Judged::Verdict(verdict, ruling) if verdict.refuses() => {
                    self.store.drop_denied(said.id, ruling).await?;
                }
                Judged::Verdict(..) => context.push(said),
            }
        }
        Ok(Some(context))
    }

    /// The file of the message that this one quotes, if the agent was given that message, or is with the batch: `beside`.
    /// The rules may have changed since: of somebody whom they refuse by now there is none.
    pub(super) async fn quoted<'s>(
        &self,
        policy: &Policy<'_>,
        message: &Stored,
        mut beside: impl Iterator<Item = &'s Stored>,
    ) -> Result<Option<Attached>, StoreError> {
        let quoted = message.draft.reply_to.as_ref();
        let Some((id, Some(author))) = quoted.map(|quoted| (&quoted.stanza_id, &quoted.sender))
        else {
            return Ok(None);
        };
        let chat = &message.chat;
        if let Some(given) = beside.find(|given| {
            given.chat.key == chat.key
                && given.stanza_id == *id
                && given.sender.aliases.contains(author)
        }) {
            return Ok(given.media_at(0).cloned());
        }
        let given = self
            .store
            .given_file(chat.key, id.clone(), author.clone())
            .await?;
        Ok(match given {
            Some((file, author)) if !self.is_refused(policy, chat, &author).await? => Some(file),
            _ => None,
        })
    }

    /// Whether somebody in this chat is refused, whatever they say.
    pub(super) async fn is_refused(
        &self,
        policy: &Policy<'_>,
        chat: &Peer,
        person: &Peer,
    ) -> Result<bool, StoreError> {
        Ok(policy.refuses(&Subject {
            sender: &self.known_by(chat, person).await?,
            approved: person.approved,
            chat: &chat.credentials(),
            kind: chat.kind(),
            mentions_self: false,
            replies_to_self: false,
            forwarded: false,
            text: "",
        }))
    }

    /// How files are asked for that are not an event's own.
    pub(super) fn keys(&self) -> Keys<'_> {
        Keys {
            store: self.store.id(),
            view_once: self.config.media.view_once,
        }
    }

    fn context_limit(&self) -> u32 {
        u32::try_from(self.config.group_context_messages).unwrap_or(u32::MAX)
    }

    /// The context that goes along with a message: of a group, as [`Self::context`]; elsewhere none.
    pub(super) async fn given(
        &self,
        policy: &Policy<'_>,
        own: &[Address],
        message: &Stored,
    ) -> Result<Option<Vec<Stored>>, StoreError> {
        match message.chat.kind() {
            ChatKind::Group => self.context(policy, own, message).await,
            _ => Ok(Some(Vec::new())),
        }
    }

    /// Keeps a message from the agent. Its sender may be told something, in a message with the id `answer`.
    pub(super) fn refuse(
        &self,
        message: &Stored,
        verdict: &Verdict,
        ruling: Ruling,
        answer: &str,
    ) -> Decided {
        let (store, config, id) = (self.store, self.config, message.id);
        let said = message.draft.event_type == SAID;
        match verdict {
            Verdict::Context { .. } => {
                Decided::Keep(store.keep_as_context(id, ruling, self.context_limit()))
            }
            Verdict::Pairing { .. } => {
                let code = said.then(new_code).flatten();
                let greeting = code.as_ref().and_then(|code| {
                    let text = format!(
                        "This number is answered by an assistant that does not know you yet. To be let in, give its \
                         owner this code: {code}. It is valid for one hour."
                    );
                    own_words(config, &message.chat, text, PAIRING_CODE, answer)
                });
                let code = code.unwrap_or_default();
                Decided::Greet(store.hold_for_approval(id, ruling, code, greeting, now()))
            }
            Verdict::ReadOnly { .. } if said && let Some(text) = &config.read_only_reply => {
                match own_words(config, &message.chat, text.clone(), READ_ONLY_REPLY, answer) {
                    Some(reply) => Decided::Greet(store.drop_and_answer(
                        id,
                        ruling,
                        reply,
                        ANSWER_EVERY,
                        now(),
                    )),
                    None => Decided::Keep(store.drop_denied(id, ruling)),
                }
            }
            _ => {
                let chat = message.chat.public_id.redacted();
                tracing::info!(chat, rule = ruling.rule, "message not emitted");
                Decided::Keep(store.drop_denied(id, ruling))
            }
        }
    }

    /// Does what takes a connection, which a poller gives up before it takes its batch: learns who speaks, and where, and
    /// refuses whom it has to, as far as the batch can reach, so that who gets an answer gets it now. What cannot be had
    /// or sent until `deadline` waits.
    pub(super) async fn greet(&self, deadline: Instant) -> Result<(), StoreError> {
        let mut answers = self.whatsapp.answers();
        let mut sent = Vec::new();
        loop {
            answers.borrow_and_update();
            if self.greet_waiting(&mut sent, deadline).await? {
                break;
            }
            let answered = tokio::time::timeout_at(deadline, answers.changed());
            if answered.await.is_err() {
                break;
            }
        }
        let arrived = async {
            for following in &mut sent {
                following.settled().await;
            }
        };
        // Whatever it is, it is in the outbox.
        let _ = tokio::time::timeout_at(deadline, arrived).await;
        Ok(())
    }

    /// Goes through what waits, until the batch is full; whether nothing waits for an answer.
    async fn greet_waiting(
        &self,
        sent: &mut Vec<Following>,
        deadline: Instant,
    ) -> Result<bool, StoreError> {
        let own = self.own();
        let policy = Policy::new(self.config).with_own(&own);
        let age = self.config.max_event_age_secs.into();
        let mut attending = Attending::hurried();
        let mut last = RowId::default();
        // Chats of whose context it is known who said it.
        let mut known = HashSet::new();
        let mut emitted = 0;
        while Instant::now() < deadline {
            let page = || {
                let held = attending.held();
                self.store.next_to_emit_after(last, held, PAGE, age, now())
            };
            let waiting = page().await?;
            let Some(latest) = waiting.last() else {
                return Ok(attending.held().is_empty());
            };
            last = latest.id;
            let mut refused = Vec::new();
            for message in waiting {
                if attending.has(message.chat.key) {
                    continue;
                }
                match self.judge(&policy, &own, &message).await? {
                    Judged::NotYet => attending.hold(message.chat.key),
                    Judged::InVain(_) => {}
                    Judged::Verdict(verdict, ruling) => match verdict {
                        Verdict::Deny { .. } | Verdict::ReadOnly { .. } => {
                            refused.push(self.greet_one(&message, &verdict, ruling));
                        }
                        // What nobody wants to be told of goes with the batch.
                        _ if !self.config.emits(&message.draft.event_type) => {}
                        // What is kept from now on is kept by these rules.
                        Verdict::Emit { .. } if known.contains(&message.chat.key) => emitted += 1,
                        Verdict::Emit { .. } => match self.given(&policy, &own, &message).await? {
                            Some(_) => {
                                known.insert(message.chat.key);
                                emitted += 1;
                            }
                            None => attending.hold(message.chat.key),
                        },
                        Verdict::Pairing { .. } => {
                            refused.push(self.greet_one(&message, &verdict, ruling));
                        }
                        // In its turn: it is no context of what was said before it.
                        Verdict::Context { .. } => {}
                    },
                }
                if emitted >= self.config.poll_max_events {
                    break;
                }
            }
            for (decided, following) in refused {
                if decided.greeted().await? {
                    sent.push(following);
                }
            }
            if emitted >= self.config.poll_max_events {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn greet_one(
        &self,
        message: &Stored,
        verdict: &Verdict,
        ruling: Ruling,
    ) -> (Decided, Following) {
        let answer = mint();
        let following = self.whatsapp.follow(std::slice::from_ref(&answer));
        (self.refuse(message, verdict, ruling, &answer), following)
    }
}

fn subject<'a>(own: &[Address], message: &'a Stored, forms: &'a [Address]) -> Subject<'a> {
    let draft = &message.draft;
    Subject {
        sender: forms,
        approved: message.sender.approved,
        chat: match message.sender.key == message.chat.key {
            true => forms,
            false => &message.chat.aliases,
        },
        kind: message.chat.kind(),
        mentions_self: draft
            .mentions
            .iter()
            .any(|mentioned| own.contains(mentioned)),
        replies_to_self: draft
            .refers_to()
            .is_some_and(|author| own.contains(&author)),
        forwarded: draft.is_forwarded(),
        text: &draft.content,
    }
}

/// A code of [`CODE`] random characters; none if the system gives no random numbers.
fn new_code() -> Option<String> {
    let mut code = String::with_capacity(CODE);
    while code.len() < CODE {
        let mut bytes = [0; 2 * CODE];
        getrandom::fill(&mut bytes).ok()?;
        // The largest multiple of 30: beyond it some characters would be likelier than others.
        let fair = bytes.iter().filter(|byte| **byte < 240);
        let drawn = fair.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
        code.extend(drawn.take(CODE - code.len()));
    }
    Some(code)
}

/// A text that we say by ourselves, under this id.
fn own_words(
    config: &Config,
    chat: &Peer,
    content: String,
    kind: &str,
    id: &str,
) -> Option<OutboundRequest> {
    let message = OutboundMessage {
        content,
        ..OutboundMessage::default()
    };
    // One message, whatever the limit for parts is.
    let config = Config {
        text_chunk_chars: usize::MAX,
        text_format: if kind == PAIRING_CODE {
            TextFormat::Plain
        } else {
            config.text_format
        },
        ..config.clone()
    };
    let built = outbound::build(&message, &[], &config, chat, None, &Known::default(), true);
    let built = built
        .inspect_err(|error| tracing::error!(%error, "an answer of our own cannot be built"))
        .ok()?;
    let parts = built.parts.into_iter().take(1).map(|part| NewPart {
        message_id: id.to_owned(),
        payload: part.payload,
        kind: kind.to_owned(),
        file: None,
    });
    Some(OutboundRequest {
        idempotency_key: None,
        content_hash: outbound::content_hash(&message, &[], chat),
        reply_to: None,
        marks_read: false,
        chat: vec![chat.public_id.clone()],
        parts: parts.collect(),
        expires_at: now() + CODE_LIFETIME,
    })
}
