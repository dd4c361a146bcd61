//! What an agent does besides writing, as the person at the other end sees it: in direct chats and groups, addressed by
//! phone number and by LID.

use crate::common;

use common::{Host, World, message, open};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use wacore::download::MediaType;
use wacore::proto_helpers::MessageExt as _;
use wacore::types::presence::ReceiptType;
use wacore_binary::JidExt as _;
use waproto::whatsapp as wa;
use waproto::whatsapp::message::protocol_message::Type;
use whatsapp_loopback::people::{Person, PersonSpec};
use whatsapp_rust::media::{ImageOptions, image_message};

/// A chat with Anna, who has written its first message.
struct Chat {
    world: World,
    anna: Person,
    /// Where she writes.
    to: whatsapp_rust::Jid,
    /// The conversation's id, and her message's.
    conversation: Value,
    asked: String,
    /// A host that stays, whose calls need not wait for each device as one-shot ones do.
    host: Option<Mutex<Host>>,
}

impl Chat {
    async fn direct() -> Self {
        let world = World::linked().await;
        let anna = world.person("Anna").await;
        let to = world.jid();
        Self::begun(world, anna, to).await
    }

    async fn direct_by_lid() -> Self {
        let world = World::linked_lid().await;
        let spec = PersonSpec::new("Anna").lid_migrated();
        let anna = Person::join_as(&world.server, spec).await.expect("Anna");
        let to = world.lid();
        Self::begun(world, anna, to).await
    }

    async fn group(world: World, spec: PersonSpec) -> Self {
        let anna = Person::join_as(&world.server, spec).await.expect("Anna");
        let to = world.group(&anna, "Lunch").await;
        Self::begun(world, anna, to).await
    }

    async fn begun(world: World, anna: Person, to: whatsapp_rust::Jid) -> Self {
        let asked = anna
            .text(to.clone(), "what shall we do?")
            .await
            .expect("text");
        assert_eq!(anna.wait_ack(&asked).await.expect("ack"), None);
        let events = world.poll(config()).await;
        let event = events
            .iter()
            .find(|event| event["message"]["id"] == asked.as_str());
        let conversation = event.expect("her message")["conversation"]["id"].clone();
        Self {
            world,
            anna,
            to,
            conversation,
            asked,
            host: None,
        }
    }

    fn params(&self, content: &str, mut metadata: Value) -> Value {
        metadata["conversation_id"] = self.conversation.clone();
        json!({"config": config(), "message": message(content, metadata)})
    }

    async fn pushed(&self, params: Value) -> Value {
        match &self.host {
            Some(host) => host.lock().await.ask("push", params).await,
            None => self.world.ok("push", params).await,
        }
    }

    /// Pushes, and gives back the ids of the messages that it became.
    async fn push(&self, content: &str, metadata: Value) -> Vec<String> {
        let result = self.pushed(self.params(content, metadata)).await;
        let metadata = &result["delivery"]["metadata"];
        // One that joins an earlier call may be further.
        let state = metadata["delivery_state"].as_str().expect("state");
        assert!(["sent", "delivered"].contains(&state), "{result}");
        let ids = metadata["message_ids"].as_str().expect("ids").split(',');
        ids.map(str::to_owned).collect()
    }

    /// Pushes one message, and gives it back as Anna has it.
    async fn seen(&self, content: &str, metadata: Value) -> (String, wa::Message) {
        let ids = self.push(content, metadata).await;
        assert_eq!(ids.len(), 1);
        let seen = self.anna.wait_id(&ids[0]).await.expect("arrives");
        (ids[0].clone(), seen.message.get_base_message().clone())
    }

    async fn everything(mut self) {
        let mut host = self.world.host();
        host.ask("start_ingress", json!({"config": config()})).await;
        self.host = Some(Mutex::new(host));
        let group = self.to.is_group();
        // A reaction, and its end.
        for emoji in ["👍", ""] {
            let metadata =
                json!({"action": "react", "target_message_id": self.asked, "emoji": emoji});
            let (_, seen) = self.seen("", metadata).await;
            let reaction = seen.reaction_message.as_option().expect("reaction");
            assert_eq!(reaction.text.as_deref(), Some(emoji));
            assert_eq!(reaction.key.id.as_deref(), Some(self.asked.as_str()));
            assert_eq!(reaction.key.from_me, Some(false));
            let participant = reaction.key.participant.as_deref();
            assert_eq!(participant.is_some(), group);
            if let Some(author) = participant {
                assert!(self.anna.is(&author.parse().expect("JID")), "{author}");
            }
        }
        // A text that is changed, then deleted.
        let (id, _) = self.seen("let us eat pizza", json!({})).await;
        let about = |action: &str| json!({"action": action, "target_message_id": id});
        let (edit, seen) = self.seen("let us eat *pasta*", about("edit")).await;
        assert_ne!(edit, id);
        let protocol = seen.protocol_message.as_option().expect("edit");
        assert_eq!(protocol.key.id.as_deref(), Some(id.as_str()));
        let edited = protocol.edited_message.text_content();
        assert_eq!(edited, Some("let us eat *pasta*"));
        let (_, seen) = self.seen("", about("revoke")).await;
        let protocol = seen.protocol_message.as_option().expect("revoke");
        assert_eq!(
            protocol.r#type,
            Some(wa::message::protocol_message::Type::REVOKE)
        );
        assert_eq!(protocol.key.id.as_deref(), Some(id.as_str()));
        // New messages of other kinds.
        let options = r#"["Pizza","Pasta"]"#;
        let (_, seen) = self
            .seen("Which?", json!({"action": "poll", "options": options}))
            .await;
        let poll = seen.poll_creation_message_v3.as_option().expect("poll");
        assert_eq!(poll.name.as_deref(), Some("Which?"));
        assert_eq!(poll.options.len(), 2);
        let place =
            json!({"action": "location", "latitude": "52.5", "longitude": "13.4", "name": "Here"});
        let ids = self.push("meet me here", place).await;
        assert_eq!(ids.len(), 2);
        let text = self.anna.wait_id(&ids[0]).await.expect("arrives");
        assert_eq!(text.text(), Some("meet me here"));
        let seen = self.anna.wait_id(&ids[1]).await.expect("arrives");
        let place = seen
            .message
            .get_base_message()
            .location_message
            .as_option()
            .expect("place")
            .clone();
        assert_eq!(place.degrees_latitude, Some(52.5));
        let card = json!({"action": "contact", "name": "Bert", "phone": "+1 555 123 0002"});
        let (_, seen) = self.seen("", card).await;
        let card = seen.contact_message.as_option().expect("card");
        assert_eq!(card.display_name.as_deref(), Some("Bert"));
        // Her own words, back to her.
        let forward = json!({"action": "forward", "target_message_id": self.asked});
        let (_, seen) = self.seen("", forward).await;
        let text = seen.extended_text_message.as_option().expect("text");
        assert_eq!(text.text.as_deref(), Some("what shall we do?"));
        assert_eq!(text.context_info.is_forwarded, Some(true));
        // Her words, changed: whatever is about the change is about them.
        let edited = self.anna.edit(self.to.clone(), &self.asked, "what now?");
        edited.await.expect("edit");
        let host = self.host.as_ref().expect("host");
        let event = host.lock().await.event().await;
        let about = &event["message"]["metadata"]["target_message_id"];
        assert_eq!(*about, self.asked.as_str(), "{event}");
        let edit = event["message"]["id"].clone();
        assert_ne!(edit, self.asked.as_str());
        let answer = json!({"reply_to_message_id": self.asked, "quote": "true"});
        let (_, seen) = self.seen("we eat", answer).await;
        let quoted = &seen.extended_text_message.context_info;
        assert_eq!(quoted.stanza_id.as_deref(), Some(self.asked.as_str()));
        assert_eq!(quoted.quoted_message.text_content(), Some("what now?"));
        let author = quoted.participant.as_deref().expect("author");
        assert!(self.anna.is(&author.parse().expect("JID")), "{author}");
        let place = self.conversation.as_str().expect("id");
        let forward = json!({
            "action": "forward", "target_message_id": self.asked,
            "target_conversation_id": format!("whatsapp:default:{place}"),
        });
        let (_, seen) = self.seen("", forward).await;
        assert_eq!(seen.text_content(), Some("what now?"));
        let react = json!({"action": "react", "target_message_id": edit, "emoji": "🅰️"});
        let (_, seen) = self.seen("", react).await;
        let key = &seen.reaction_message.key;
        assert_eq!(key.id.as_deref(), Some(self.asked.as_str()));
        // The blue ticks.
        let read = json!({"action": "read", "target_message_id": self.asked});
        let result = self.pushed(self.params("", read)).await;
        assert_eq!(result["delivery"]["metadata"]["kind"], "read", "{result}");
        assert_eq!(result["delivery"]["metadata"]["delivery_state"], "sent");
        self.anna
            .wait_receipt(&self.asked, ReceiptType::Read)
            .await
            .expect("blue ticks");
    }
}

fn config() -> Value {
    let mut config = open();
    config["allow_group_messages"] = json!(true);
    config["allowed_conversation_ids"] = json!(["*"]);
    config["group_activation"] = json!("all");
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_chat_by_phone_number() {
    Chat::direct().await.everything().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_chat_by_lid() {
    Chat::direct_by_lid().await.everything().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_group_by_phone_number() {
    let world = World::linked().await;
    Chat::group(world, PersonSpec::new("Anna"))
        .await
        .everything()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_group_by_lid() {
    let world = World::linked_lid().await;
    let spec = PersonSpec::new("Anna").lid_migrated();
    Chat::group(world, spec).await.everything().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_admin_the_messages_of_others_can_be_deleted() {
    let world = World::linked().await;
    let chat = Chat::group(world, PersonSpec::new("Anna")).await;
    let revoke = json!({"action": "revoke", "target_message_id": chat.asked});
    let refused = chat
        .world
        .refused("push", chat.params("", revoke.clone()))
        .await;
    assert_eq!(refused, "not_group_admin");
    let client = chat.anna.client().await.expect("client");
    let plugin = [chat.world.jid()];
    let promoted = client
        .groups()
        .promote_participants(&chat.to, &plugin)
        .await;
    promoted.expect("promoted");
    let revoked = |seen: &whatsapp_loopback::people::Seen| {
        let messages = seen.messages.iter().map(|m| m.message.get_base_message());
        messages
            .filter(|m| m.protocol_message.r#type == Some(Type::REVOKE))
            .count()
    };
    assert_eq!(chat.anna.seen(revoked), 0);
    let (_, seen) = chat.seen("", revoke).await;
    let protocol = seen.protocol_message.as_option().expect("revoke");
    assert_eq!(protocol.key.id.as_deref(), Some(chat.asked.as_str()));
    assert_eq!(protocol.key.from_me, Some(false));
    let author = protocol.key.participant.as_deref().expect("author");
    assert!(chat.anna.is(&author.parse().expect("JID")), "{author}");
}

/// Media go on as they lie on WhatsApp's servers; what is to be seen once goes nowhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_are_forwarded_and_what_is_seen_once_is_not() {
    let chat = Chat::direct().await;
    let picture = b"\xff\xd8\xff picture \xff\xd9";
    let sent = chat.anna.image(chat.to.clone(), picture, Some("look"));
    let sent = sent.await.expect("sent");
    assert_eq!(chat.anna.wait_ack(&sent).await.expect("ack"), None);
    let upload = chat.anna.upload(picture, MediaType::Image).await;
    let mut image = image_message(upload.expect("upload"), ImageOptions::default());
    if let Some(image) = image.image_message.as_option_mut() {
        image.view_once = Some(true);
    }
    let once = chat.anna.send(chat.to.clone(), image).await.expect("sent");
    assert_eq!(chat.anna.wait_ack(&once).await.expect("ack"), None);
    let events = chat.world.poll(config()).await;
    let arrived = |id: &str| events.iter().any(|event| event["message"]["id"] == id);
    assert!(arrived(&sent) && arrived(&once), "{events:?}");

    let forward = |id: &str| json!({"action": "forward", "target_message_id": id});
    let (id, seen) = chat.seen("", forward(&sent)).await;
    let image = seen.image_message.as_option().expect("image");
    assert_eq!(image.caption.as_deref(), Some("look"));
    assert_eq!(image.context_info.is_forwarded, Some(true));
    let got = chat.anna.wait_id(&id).await.expect("arrives");
    let bytes = chat.anna.download(&got).await.expect("download");
    assert_eq!(bytes, picture);
    let params = chat.params("", forward(&once));
    let refused = chat.world.call("push", params.clone()).await;
    assert_eq!(common::code(&refused), "not_forwardable");
    assert!(refused.to_string().contains("seen once"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_said_and_does_not_end_the_host() {
    let chat = Chat::direct().await;
    for (metadata, code) in [
        (
            json!({"action": "edit", "target_message_id": "NONE"}),
            "unknown_target_message",
        ),
        (
            json!({"action": "edit", "target_message_id": chat.asked}),
            "not_own_message",
        ),
        (
            json!({"action": "revoke", "target_message_id": chat.asked}),
            "not_own_message",
        ),
        (
            json!({"action": "read", "target_message_id": "NONE"}),
            "unknown_target_message",
        ),
        (
            json!({"action": "poll", "options": "Pizza"}),
            "invalid_action",
        ),
        (
            json!({"action": "forward", "target_message_id": chat.asked, "target_conversation_id": "Anna"}),
            "invalid_action",
        ),
    ] {
        let refused = chat
            .world
            .refused("push", chat.params("new", metadata.clone()))
            .await;
        assert_eq!(refused, code, "{metadata}");
        let mut reply = metadata;
        reply["reply_to_message_id"] = json!(chat.asked);
        let result = chat.world.ok("deliver", chat.params("new", reply)).await;
        let metadata = &result["delivery"]["metadata"];
        assert_eq!(metadata["delivery_state"], "rejected", "{result}");
        assert_eq!(metadata["error_code"], code);
    }
    chat.push("the end", json!({})).await;
    chat.anna.wait_text("the end").await.expect("arrives");
    assert_eq!(chat.anna.seen(|seen| seen.count_text("new")), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_before_sending_does_not_double_an_action() {
    let chat = Chat::direct().await;
    for point in ["after_outbox_commit", "after_send"] {
        let key = format!("key {point}");
        let react = json!({
            "action": "react", "target_message_id": chat.asked, "emoji": "👍", "idempotency_key": key,
        });
        let mut command = chat.world.command();
        command.env("CHANNEL_WHATSAPP_CRASH", point);
        let mut host = common::Host::new(command);
        host.send(&common::request("push", chat.params("", react.clone())))
            .await;
        host.end();
        assert!(!host.exit().await.success(), "{point}");
        let ids = chat.push("", react).await;
        chat.anna.wait_id(&ids[0]).await.expect("arrives");
        let reactions = |seen: &whatsapp_loopback::people::Seen| {
            let messages = seen.messages.iter();
            messages
                .filter(|m| m.message.get_base_message().reaction_message.is_set())
                .count()
        };
        let expected = if point == "after_send" { 2 } else { 1 };
        assert_eq!(chat.anna.seen(reactions), expected, "{point}");
    }
}

/// The timer of a direct chat is learnt from what comes, and honoured until it is taken back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_a_chat_disappear_as_it_says() {
    let chat = Chat::direct().await;
    let disappearing = wa::Message {
        extended_text_message: wa::message::ExtendedTextMessage {
            text: Some("this will be gone tomorrow".to_owned()),
            context_info: wa::ContextInfo {
                expiration: Some(86_400),
                ..wa::ContextInfo::default()
            }
            .into(),
            ..wa::message::ExtendedTextMessage::default()
        }
        .into(),
        ..wa::Message::default()
    };
    let for_ever = wa::Message {
        protocol_message: wa::message::ProtocolMessage {
            r#type: Some(wa::message::protocol_message::Type::EPHEMERAL_SETTING),
            ephemeral_expiration: Some(0),
            ..wa::message::ProtocolMessage::default()
        }
        .into(),
        ..wa::Message::default()
    };
    for (said, answer, expected) in [
        (disappearing, "so will this", Some(86_400)),
        (for_ever, "this stays", None),
    ] {
        let id = chat.anna.send(chat.to.clone(), said).await.expect("sent");
        assert_eq!(chat.anna.wait_ack(&id).await.expect("ack"), None);
        chat.world.poll(config()).await;
        chat.world.ok("push", chat.params(answer, json!({}))).await;
        let seen = chat.anna.wait_text(answer).await.expect("answer");
        assert_eq!(
            seen.message.get_ephemeral_expiration(),
            expected,
            "{answer}"
        );
    }
}
