//! What is encrypted inside a message, and changes of messages, with the real binary and people who make them.

mod common;

use common::room::Room;
use common::{Host, message};
use serde_json::{Value, json};
use wacore::reaction::encrypt_reaction_with_secret;
use waproto::buffa::MessageField;
use waproto::whatsapp as wa;
use waproto::whatsapp::message as m;
use whatsapp_loopback::people::Person;
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
        // Forged with a secret of one's own; for a poll that nobody has.
        let forged = (poll.0.clone(), vec![9; 32]);
        room.vote(&room.anna, &chat, &forged, &["Soup"]).await;
        let event = host.event().await;
        assert_eq!(
            content(&event),
            "Voted in a poll; the vote could not be decrypted"
        );
        assert_eq!(event["message"]["metadata"]["encrypted"], "true");
        let unknown = ("NOSUCHPOLL".to_owned(), vec![9; 32]);
        room.vote(&room.anna, &chat, &unknown, &["Soup"]).await;
        let event = host.event().await;
        assert_eq!(content(&event), "Voted in a poll that is not kept here");
        assert_eq!(event["event_type"], "poll.vote");
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
