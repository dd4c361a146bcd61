//! What is encrypted inside a message, and changes of messages, with the real binary and people who make them.

use crate::common;

use common::room::Room;
use common::{Host, message};
use serde_json::{Value, json};
use wacore::reaction::encrypt_reaction_with_secret;
use wacore::secret_enc_addon::{AddonContext, ModificationType, encrypt_addon};
use wacore_binary::JidExt as _;
use waproto::buffa::MessageField;
use waproto::codec::message_to_vec;
use waproto::whatsapp as wa;
use waproto::whatsapp::message as m;
use waproto::whatsapp::message::secret_encrypted_message::SecretEncType;
use whatsapp_loopback::people::{Person, PersonSpec};
use whatsapp_rust::Jid;
use whatsapp_rust::features::{EventCreationParams, EventResponseType};

fn config() -> Value {
    json!({
        "dm_policy": "open", "allow_group_messages": true, "allowed_conversation_ids": ["*"],
        "group_activation": "all",
        "events": ["message", "message.edited", "message.revoked", "reaction", "poll_vote"],
    })
}

impl Room {
    async fn host(&self, config: &Value) -> Host {
        let mut host = self.world.host();
        host.ask("start_ingress", json!({"config": config})).await;
        host
    }

    /// Anna asks what there shall be for lunch; the poll's id and secret.
    async fn poll(&self, chat: &Jid) -> (String, Vec<u8>) {
        let options = ["Soup".to_owned(), "Salad".to_owned()];
        let client = self.anna.client().await.expect("client");
        let polls = client.polls();
        let created = polls.create(chat.clone(), "Lunch?", &options, 2).await;
        let (sent, secret) = created.expect("poll");
        (sent.message_id, secret)
    }

    async fn vote(&self, who: &Person, chat: &Jid, poll: &(String, Vec<u8>), options: &[&str]) {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let client = who.client().await.expect("client");
        let (id, secret) = poll;
        let author = self.member(&self.anna);
        let polls = client.polls();
        let voted = polls.vote(chat.clone(), id, &author, secret, &options);
        voted.await.expect("vote");
    }
}

fn content(event: &Value) -> &str {
    event["message"]["content"].as_str().expect("content")
}

async fn votes_in_a_group(by_lid: bool) {
    let room = Room::open(by_lid).await;
    let mut host = room.host(&config()).await;
    let poll = room.poll(&room.group).await;
    let mut told = vec![host.event().await];
    assert_eq!(content(&told[0]), "Anna: Poll: Lunch?\n- Soup\n- Salad");
    let votes: [(&Person, &[&str], &str); 4] = [
        (
            &room.bob,
            &["Soup"],
            "Bob: Voted in the poll \"Lunch?\": Soup\n- Soup: 1 (Bob)\n- Salad: 0",
        ),
        (
            &room.anna,
            &["Salad", "Soup"],
            "Anna: Voted in the poll \"Lunch?\": Soup, Salad\n- Soup: 2 (Bob, Anna)\n- Salad: 1 (Anna)",
        ),
        (
            &room.bob,
            &["Salad"],
            "Bob: Voted in the poll \"Lunch?\": Salad\n- Soup: 1 (Anna)\n- Salad: 2 (Anna, Bob)",
        ),
        (
            &room.bob,
            &[],
            "Bob: Took back the vote in the poll \"Lunch?\"\n- Soup: 1 (Anna)\n- Salad: 1 (Anna)",
        ),
    ];
    for (voter, options, line) in votes {
        room.vote(voter, &room.group, &poll, options).await;
        let event = host.event().await;
        assert_eq!(content(&event), line);
        assert_eq!(event["event_type"], "poll.vote");
        let metadata = &event["message"]["metadata"];
        assert_eq!(metadata["target_message_id"], poll.0);
        assert_eq!(metadata["poll_options"], r#"["Soup","Salad"]"#);
        assert_eq!(metadata["poll_voter"], voter.name());
        assert!(metadata.get("encrypted").is_none());
        told.push(event);
    }
    host.kill().await;
    // Told again, they say the same.
    let mut host = room.host(&config()).await;
    for before in &told {
        let event = host.event().await;
        assert_eq!(event["metadata"]["redelivered"], "true");
        assert_eq!(event["message"], before["message"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn votes_in_a_group_by_number() {
    votes_in_a_group(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn votes_in_a_group_by_lid() {
    votes_in_a_group(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn votes_in_a_direct_chat() {
    for by_lid in [false, true] {
        let room = Room::open(by_lid).await;
        let chat = room.plugin();
        let poll = room.poll(&chat).await;
        room.vote(&room.anna, &chat, &poll, &["Salad"]).await;
        // Both wait at the server, and come in one batch.
        common::eventually("both wait", || room.world.unacknowledged().len() == 2).await;
        let mut host = room.host(&config()).await;
        host.event().await;
        assert_eq!(
            content(&host.event().await),
            "Voted in the poll \"Lunch?\": Salad\n- Soup: 0\n- Salad: 1 (Anna)"
        );
        // Forged with a secret of one's own.
        let forged = (poll.0.clone(), vec![9; 32]);
        room.vote(&room.anna, &chat, &forged, &["Soup"]).await;
        let event = host.event().await;
        assert_eq!(
            content(&event),
            "Voted in a poll; the vote could not be decrypted"
        );
        assert_eq!(event["message"]["metadata"]["encrypted"], "true");
    }
}

/// The owner of the account, on another device.
async fn owner(room: &Room) -> Person {
    let spec = PersonSpec::new("Owner").phone(&room.world.phone);
    let owner = Person::join_as(&room.world.server, spec).await;
    owner.expect("owner")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_owner_asks_and_chooses_on_the_phone_counts() {
    for by_lid in [false, true] {
        let room = Room::open(by_lid).await;
        let owner = owner(&room).await;
        let mut host = room.host(&config()).await;
        let options = ["Soup".to_owned(), "Salad".to_owned()];
        let client = owner.client().await.expect("client");
        let polls = client.polls();
        let author = room.plugin();
        for chat in [room.group.clone(), room.member(&room.anna)] {
            let direct = !chat.is_group();
            let created = polls.create(chat.clone(), "Lunch?", &options, 2).await;
            let (sent, secret) = created.expect("poll");
            let poll = &sent.message_id;
            let choice = &options[1..];
            let own = polls.vote(chat.clone(), poll, &author, &secret, choice);
            let own = own.await.expect("vote").message_id;
            room.anna.wait_id(&own).await.expect("the owner's vote");
            let taken = || room.world.unacknowledged().is_empty();
            common::eventually("the plugin has it too", taken).await;
            let anna = room.anna.client().await.expect("client");
            let to = if direct { author.clone() } else { chat };
            let voted = anna
                .polls()
                .vote(to, poll, &author, &secret, &options)
                .await;
            voted.expect("vote");
            let event = host.event().await;
            let name = room.world.server.core().account(&room.world.phone);
            let name = name.expect("account").push_name;
            let tally = format!(
                "Voted in the poll \"Lunch?\": Soup, Salad\n- Soup: 1 (Anna)\n- Salad: 2 ({name}, Anna)"
            );
            assert!(content(&event).ends_with(&tally), "{event}");
            assert_eq!(event["metadata"]["target_message_id"], *poll);
            let kind = if direct { "private" } else { "group" };
            assert_eq!(event["conversation"]["kind"], kind);
            assert_eq!(event["actor"]["display_name"], "Anna");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vote_before_its_poll_waits_for_it_a_while() {
    let room = Room::open(true).await;
    let mut host = room.host(&config()).await;
    let secret = vec![7; 32];
    let early = ("POLLTHATISLATE".to_owned(), secret.clone());
    room.vote(&room.bob, &room.group, &early, &["Soup"]).await;
    let never = ("NOSUCHPOLL".to_owned(), vec![9; 32]);
    room.vote(&room.bob, &room.group, &never, &["Soup"]).await;
    common::eventually("both are stored", || room.world.unacknowledged().is_empty()).await;
    let option = |name: &str| m::poll_creation_message::Option {
        option_name: Some(name.to_owned()),
        ..Default::default()
    };
    let poll = wa::Message {
        poll_creation_message: MessageField::some(m::PollCreationMessage {
            name: Some("Lunch?".to_owned()),
            options: vec![option("Soup"), option("Salad")],
            ..Default::default()
        }),
        message_context_info: MessageField::some(wa::MessageContextInfo {
            message_secret: Some(secret),
            ..Default::default()
        }),
        ..Default::default()
    };
    let sent = room.anna.send_as(&early.0, room.group.clone(), poll).await;
    sent.expect("poll");
    let expected = [
        "Bob: Voted in the poll \"Lunch?\": Soup\n- Soup: 1 (Bob)\n- Salad: 0",
        "Anna: Poll: Lunch?\n- Soup\n- Salad",
        "Bob: Voted in a poll that is not kept here",
    ];
    for expected in expected {
        assert_eq!(content(&host.event().await), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_is_not_in_the_tally() {
    let room = Room::open(false).await;
    let mut config = config();
    config["allowed_group_sender_ids"] = json!([format!("+{}", room.anna.phone())]);
    // Nobody asks for votes at first.
    config["events"] = json!(["message"]);
    let poll = room.poll(&room.group).await;
    let mut host = room.host(&config).await;
    host.event().await;
    room.vote(&room.bob, &room.group, &poll, &["Soup"]).await;
    room.vote(&room.anna, &room.group, &poll, &["Soup"]).await;
    let id = room
        .anna
        .text(room.group.clone(), "so")
        .await
        .expect("text");
    assert_eq!(host.event().await["message"]["id"], id);
    host.kill().await;
    config["events"] = json!(["message", "poll_vote"]);
    room.vote(&room.bob, &room.group, &poll, &["Soup"]).await;
    room.vote(&room.anna, &room.group, &poll, &["Soup", "Salad"])
        .await;
    let mut host = room.host(&config).await;
    let mut last = host.event().await;
    while last["event_type"] != "poll.vote" {
        last = host.event().await;
    }
    assert_eq!(
        content(&last),
        "Anna: Voted in the poll \"Lunch?\": Soup, Salad\n- Soup: 1 (Anna)\n- Salad: 1 (Anna)"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_about_a_message_of_ours_is_for_us() {
    for by_lid in [false, true] {
        let room = Room::open(by_lid).await;
        let mut config = config();
        config["group_activation"] = json!("mention");
        let mut host = room.host(&config).await;
        let theirs = room
            .anna
            .text(room.group.clone(), "mine")
            .await
            .expect("text");
        let theirs = room.bob.wait_id(&theirs).await.expect("hers");
        room.bob.react(&theirs, "👎").await.expect("react");
        let to = json!({"conversation_id": room.group.to_string()});
        let push = json!({"config": config, "message": message("ours", to)});
        host.ask("push", push).await;
        let ours = room.bob.wait_text("ours").await.expect("ours");
        room.bob.react(&ours, "👍").await.expect("react");
        let event = host.event().await;
        assert_eq!(event["event_type"], "reaction.added");
        assert_eq!(event["message"]["metadata"]["emoji"], "👍");
        assert_eq!(event["activation"]["reason"], "reply_to_agent");
        let account = &event["activation"]["agent_account_id"];
        assert_eq!(
            event["activation"]["referenced_message_author_id"],
            *account
        );
    }
}

/// A change of a message of Anna's, encrypted with its secret.
fn sealed(
    room: &Room,
    by: &Person,
    (id, secret): (&str, &[u8]),
    change: (ModificationType, SecretEncType),
    inner: &wa::Message,
) -> wa::Message {
    let context = AddonContext {
        stanza_id: id,
        parent_msg_original_sender: &room.member(&room.anna).to_string(),
        modification_sender: &room.member(by).to_string(),
        modification_type: change.0,
    };
    let (payload, iv) = encrypt_addon(&message_to_vec(inner), secret, &context).expect("encrypted");
    wa::Message {
        secret_encrypted_message: MessageField::some(m::SecretEncryptedMessage {
            target_message_key: MessageField::some(key(room, id)),
            enc_payload: Some(payload),
            enc_iv: Some(iv.to_vec()),
            secret_enc_type: Some(change.1),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_option_that_is_added_to_a_poll_is_known_by_name() {
    for by_lid in [false, true] {
        let room = Room::open(by_lid).await;
        let mut host = room.host(&config()).await;
        let poll = room.poll(&room.group).await;
        host.event().await;
        let cake = wa::Message {
            poll_add_option_message: MessageField::some(m::PollAddOptionMessage {
                poll_creation_message_key: MessageField::some(key(&room, &poll.0)),
                add_option: MessageField::some(m::poll_creation_message::Option {
                    option_name: Some("Cake".to_owned()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let kind = (
            ModificationType::PollAddOption,
            SecretEncType::POLL_ADD_OPTION,
        );
        let added = sealed(&room, &room.bob, (&poll.0, &poll.1), kind, &cake);
        let sent = room.bob.send(room.group.clone(), added).await;
        sent.expect("send");
        let event = host.event().await;
        assert_eq!(event["event_type"], "message.edited");
        assert_eq!(content(&event), "Bob: Added an option to a poll: Cake");
        let both = ["Soup", "Cake"];
        room.vote(&room.anna, &room.group, &poll, &both).await;
        let event = host.event().await;
        assert_eq!(
            content(&event),
            "Anna: Voted in the poll \"Lunch?\": Soup, Cake\n- Soup: 1 (Anna)\n- Salad: 0\n- Cake: 1 (Anna)"
        );
        let metadata = &event["message"]["metadata"];
        assert_eq!(metadata["poll_options"], r#"["Soup","Salad","Cake"]"#);
        assert_eq!(metadata["poll_choice"], r#"["Soup","Cake"]"#);
        assert!(metadata.get("poll_choice_unknown").is_none());
    }
}

fn key(room: &Room, id: &str) -> wa::MessageKey {
    wa::MessageKey {
        remote_jid: Some(room.group.to_string()),
        id: Some(id.to_owned()),
        from_me: Some(false),
        participant: Some(room.member(&room.anna).to_string()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_else_is_encrypted_is_read() {
    for by_lid in [false, true] {
        let room = Room::open(by_lid).await;
        let mut host = room.host(&config()).await;
        let secret = [5; 32];
        let words = wa::Message {
            conversation: Some("first".to_owned()),
            message_context_info: MessageField::some(wa::MessageContextInfo {
                message_secret: Some(secret.to_vec()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let id = room
            .anna
            .send(room.group.clone(), words)
            .await
            .expect("send");
        host.event().await;
        room.bob.wait_id(&id).await.expect("first");

        let (anna, bob) = (room.member(&room.anna), room.member(&room.bob));
        let (payload, iv) = encrypt_reaction_with_secret(
            "🥕",
            1_700_000_000_000,
            &secret,
            &id,
            &anna.to_string(),
            &bob.to_string(),
        )
        .expect("reaction");
        let reaction = wa::Message {
            enc_reaction_message: MessageField::some(m::EncReactionMessage {
                target_message_key: MessageField::some(key(&room, &id)),
                enc_payload: Some(payload),
                enc_iv: Some(iv.to_vec()),
            }),
            ..Default::default()
        };
        room.bob
            .send(room.group.clone(), reaction)
            .await
            .expect("send");
        let event = host.event().await;
        assert_eq!(event["event_type"], "reaction.added");
        assert_eq!(event["message"]["metadata"]["emoji"], "🥕");
        assert_eq!(event["metadata"]["target_message_id"], id);

        let client = room.bob.client().await.expect("client");
        let comments = client.comments();
        let comment = comments.send_text(room.group.clone(), key(&room, &id), "well said");
        comment.await.expect("comment");
        let event = host.event().await;
        assert_eq!(event["event_type"], "message.commented");
        assert_eq!(content(&event), "Bob: well said");
        assert_eq!(event["metadata"]["target_message_id"], id);

        let client = room.anna.client().await.expect("client");
        let second = wa::Message {
            conversation: Some("second".to_owned()),
            ..Default::default()
        };
        let edit = client.edit_message_encrypted(room.group.clone(), id.clone(), &secret, second);
        edit.await.expect("edit");
        let event = host.event().await;
        assert_eq!(event["event_type"], "message.edited");
        assert_eq!(content(&event), "Anna: second");
        assert_eq!(event["metadata"]["target_message_id"], id);

        let params = EventCreationParams {
            name: "Party".to_owned(),
            ..Default::default()
        };
        let (sent, secret) = client
            .events()
            .create(room.group.clone(), params)
            .await
            .expect("event");
        host.event().await;
        let bigger = wa::Message {
            event_message: MessageField::some(m::EventMessage {
                name: Some("Big party".to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let kind = (ModificationType::EventEdit, SecretEncType::EVENT_EDIT);
        let parent = (sent.message_id.as_str(), secret.as_slice());
        let changed = sealed(&room, &room.anna, parent, kind, &bigger);
        let changed = room.anna.send(room.group.clone(), changed).await;
        changed.expect("send");
        let event = host.event().await;
        assert_eq!(event["event_type"], "message.edited");
        assert_eq!(content(&event), "Anna: Event: Big party");
        let client = room.bob.client().await.expect("client");
        let events = client.events();
        let going = EventResponseType::GOING;
        let id = &sent.message_id;
        let answer = events.respond(room.group.clone(), id, &anna, &secret, going, Some(1));
        answer.await.expect("answer");
        let event = host.event().await;
        assert_eq!(event["event_type"], "message.event_answered");
        assert_eq!(
            content(&event),
            "Bob: Answered the event \"Party\": going, with 1 more"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_wrote_a_message_changes_it() {
    for by_lid in [false, true] {
        let room = Room::open(by_lid).await;
        let mut host = room.host(&config()).await;
        let group = || room.group.clone();
        let hers = room.anna.text(group(), "by Anna").await.expect("text");
        host.event().await;
        let his = room.bob.text(group(), "by Bob").await.expect("text");
        host.event().await;

        room.bob.edit(group(), &hers, "forged").await.expect("edit");
        let event = host.event().await;
        assert_eq!(event["event_type"], "message.received");
        assert!(content(&event).starts_with("Bob: (tried to edit a message of somebody else"));
        assert_eq!(event["message"]["metadata"]["refused_change"], "edit");
        room.bob.revoke(group(), &hers).await.expect("revoke");
        let event = host.event().await;
        assert_eq!(event["event_type"], "message.received");
        assert_eq!(event["message"]["metadata"]["refused_change"], "revocation");

        room.bob.edit(group(), &his, "better").await.expect("edit");
        let event = host.event().await;
        assert_eq!(event["event_type"], "message.edited");
        assert_eq!(content(&event), "Bob: better");
        let his = room.anna.wait_id(&his).await.expect("his");
        room.anna.revoke_as_admin(&his).await.expect("revoke");
        let event = host.event().await;
        assert_eq!(event["event_type"], "message.revoked");
        assert_eq!(event["message"]["metadata"]["revoked_by"], "admin");
        room.anna.revoke(group(), &hers).await.expect("revoke");
        let event = host.event().await;
        assert_eq!(event["event_type"], "message.revoked");
        assert_eq!(event["message"]["metadata"]["revoked_by"], "sender");
    }
}
