//! Votes, answers to events, and changes of other people's messages: what the store makes of them when they come.

use wacore::event::encrypt_event_response_with_secret;
use wacore::poll::{compute_option_hash, encrypt_poll_vote_with_secret};
use waproto::buffa::MessageField;
use waproto::codec::message_to_vec;
use waproto::whatsapp as wa;
use waproto::whatsapp::message as m;

use super::*;
use crate::inbound::{self, Classified, Info};

const SECRET: [u8; 32] = [7; 32];
const ME: &str = "15550000000@s.whatsapp.net";
const ME_LID: &str = "100000000000009@lid";

fn secret(message: wa::Message) -> wa::Message {
    wa::Message {
        message_context_info: MessageField::some(wa::MessageContextInfo {
            message_secret: Some(SECRET.to_vec()),
            ..Default::default()
        }),
        ..message
    }
}

fn poll_of(options: &[&str]) -> wa::Message {
    let option = |name: &&str| m::poll_creation_message::Option {
        option_name: Some((*name).to_owned()),
        ..Default::default()
    };
    secret(wa::Message {
        poll_creation_message: MessageField::some(m::PollCreationMessage {
            name: Some("Lunch?".to_owned()),
            options: options.iter().map(option).collect(),
            ..Default::default()
        }),
        ..Default::default()
    })
}

fn key(id: &str, author: &str) -> MessageField<wa::MessageKey> {
    MessageField::some(wa::MessageKey {
        id: Some(id.to_owned()),
        participant: Some(author.to_owned()),
        ..Default::default()
    })
}

/// A vote that this voter made at `at` seconds, with a secret of the voter's choice.
fn vote_with(secret: &[u8], author: &str, voter: &str, options: &[&str], at: i64) -> wa::Message {
    let hashes: Vec<Vec<u8>> = options
        .iter()
        .map(|option| compute_option_hash(option).to_vec())
        .collect();
    let (payload, iv) =
        encrypt_poll_vote_with_secret(&hashes, secret, "POLL", author, voter).unwrap();
    wa::Message {
        poll_update_message: MessageField::some(m::PollUpdateMessage {
            poll_creation_message_key: key("POLL", author),
            vote: MessageField::some(m::PollEncValue {
                enc_payload: Some(payload),
                enc_iv: Some(iv.to_vec()),
            }),
            sender_timestamp_ms: Some(at * 1000),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn vote(author: &str, voter: &str, options: &[&str], at: i64) -> wa::Message {
    vote_with(&SECRET, author, voter, options, at)
}

/// A message as the session hands it over.
fn came(chat: &[&str], sender: &[&str], id: &str, message: &wa::Message) -> NewInbound {
    let info = Info {
        chat: jid(chat[0]),
        sender: jid(sender[0]),
        sender_alt: None,
        is_from_me: [ME, ME_LID].contains(&sender[0]),
        is_group: chat[0] == GROUP,
        stanza_id: id.to_owned(),
        timestamp: NOW,
        push_name: None,
        is_peer: false,
    };
    let (Classified::Draft(draft) | Classified::Own(draft)) = inbound::classify(message, &info)
    else {
        panic!("{id} is ignored");
    };
    NewInbound {
        own: info.is_from_me,
        draft,
        raw: message_to_vec(message),
        push_name: None,
        ..super::message(chat, sender, id)
    }
}

fn in_group(sender: &[&str], id: &str, message: &wa::Message) -> NewInbound {
    came(&[GROUP], sender, id, message)
}

fn find(store: &TestStore, id: &str) -> Stored {
    let mut rows = store.waiting().into_iter();
    rows.find(|row| row.stanza_id == id).unwrap()
}

/// Each voter's public id and choice, as the poll stood with this vote.
fn stands(store: &TestStore, id: &str) -> Option<Vec<(String, Vec<String>)>> {
    let standing = store.standing(find(store, id).id).wait().unwrap()?;
    let ballots = standing.cast.into_iter();
    Some(
        ballots
            .map(|cast| (cast.voter.public_id.to_string(), cast.choice.options))
            .collect(),
    )
}

fn ballot(voter: &str, options: &[&str]) -> (String, Vec<String>) {
    let options = options.iter().map(|&option| option.to_owned());
    (voter.to_owned(), options.collect())
}

#[test]
fn votes_count_once_a_person_and_the_last_one_counts() {
    let store = TestStore::new();
    // Poll and votes may come in one batch.
    let batch = vec![
        in_group(&[ANN, ANN_LID], "POLL", &poll_of(&["Soup", "Salad"])),
        in_group(&[BOB], "V1", &vote(ANN, BOB, &["Soup"], NOW - 9)),
        in_group(
            &[ANN_LID],
            "V2",
            &vote(ANN_LID, ANN_LID, &["Soup", "Salad"], NOW - 8),
        ),
        in_group(&[BOB], "V1", &vote(ANN, BOB, &["Soup"], NOW - 9)),
        // From here on Bob is known by both of his addresses.
        in_group(
            &[BOB_LID, BOB],
            "V3",
            &vote(ANN_LID, BOB_LID, &["Salad"], NOW - 5),
        ),
        // One that had to be sent again comes late.
        in_group(&[BOB_LID], "V4", &vote(ANN, BOB_LID, &["Soup"], NOW - 7)),
        in_group(&[ANN], "V5", &vote(ANN, ANN, &[], NOW - 4)),
    ];
    let outcome = store.insert(batch).wait().unwrap();
    assert_eq!(outcome[3], Inserted::Duplicate);
    let check = |store: &TestStore| {
        let v1 = stands(store, "V1").unwrap();
        assert_eq!(v1, [ballot(BOB, &["Soup"])]);
        let v2 = stands(store, "V2").unwrap();
        assert_eq!(
            v2,
            [ballot(BOB, &["Soup"]), ballot(ANN, &["Soup", "Salad"])]
        );
        for late in ["V3", "V4"] {
            let v = stands(store, late).unwrap();
            assert_eq!(
                v,
                [ballot(ANN, &["Soup", "Salad"]), ballot(BOB, &["Salad"])]
            );
        }
        let v5 = stands(store, "V5").unwrap();
        assert_eq!(v5, [ballot(BOB, &["Salad"]), ballot(ANN, &[])]);
    };
    check(&store);
    let content = |id| find(&store, id).draft.content;
    assert_eq!(content("V2"), "Voted in the poll \"Lunch?\": Soup, Salad");
    assert_eq!(content("V5"), "Took back the vote in the poll \"Lunch?\"");
    check(&store.reopen());
}

#[test]
fn a_poll_that_we_sent_is_voted_in_as_well() {
    for own in [ME, ME_LID] {
        let store = TestStore::new();
        let linked = Linked {
            phone: jid(ME),
            lid: Some(jid(ME_LID)),
            device: 1,
            push_name: None,
        };
        store.set_linked(Some(linked)).wait().unwrap();
        let poll = NewPart {
            message_id: "POLL".to_owned(),
            payload: message_to_vec(&poll_of(&["Soup", "Salad"])),
            kind: "poll".to_owned(),
            file: None,
        };
        let request = OutboundRequest {
            idempotency_key: None,
            content_hash: "poll".to_owned(),
            reply_to: None,
            marks_read: false,
            chat: addresses(&[ANN]),
            parts: vec![poll],
            expires_at: NOW + 3600,
        };
        let _ = store.enqueue(request, NOW).wait().unwrap();
        store.put(came(&[ANN], &[ANN], "V1", &vote(own, ANN, &["Soup"], NOW)));
        assert_eq!(stands(&store, "V1"), Some(vec![ballot(ANN, &["Soup"])]));
    }
}

#[test]
fn a_vote_that_does_not_open_is_told_closed_and_counts_for_nothing() {
    let store = TestStore::new();
    store.put(in_group(&[ANN], "POLL", &poll_of(&["Soup"])));
    // With another secret; in somebody else's name; for an option that is none.
    let forged = vote_with(&[8; 32], ANN, BOB, &["Soup"], NOW);
    store.put(in_group(&[BOB], "FORGED", &forged));
    store.put(in_group(&[BOB], "STOLEN", &vote(ANN, ANN, &["Soup"], NOW)));
    store.put(in_group(&[BOB], "OTHER", &vote(ANN, BOB, &["Cake"], NOW)));
    for closed in ["FORGED", "STOLEN"] {
        let draft = find(&store, closed).draft;
        assert_eq!(
            draft.content,
            "Voted in a poll; the vote could not be decrypted"
        );
        assert_eq!(draft.metadata["encrypted"], "true");
        assert_eq!(stands(&store, closed), None);
    }
    assert_eq!(
        find(&store, "OTHER").draft.metadata["poll_choice_unknown"],
        "1"
    );
    assert_eq!(stands(&store, "OTHER"), Some(vec![ballot(BOB, &[])]));
}

#[test]
fn another_poll_under_the_same_id_does_not_hide_the_one_that_is_meant() {
    let store = TestStore::new();
    for n in 0..20 {
        let member = format!("1555123010{n:02}@s.whatsapp.net");
        store.put(in_group(&[&member], "POLL", &poll_of(&["Trap"])));
    }
    store.put(in_group(&[ANN], "POLL", &poll_of(&["Soup"])));
    store.put(in_group(&[BOB], "V1", &vote(ANN, BOB, &["Soup"], NOW)));
    assert_eq!(stands(&store, "V1"), Some(vec![ballot(BOB, &["Soup"])]));
}

#[test]
fn votes_of_ten_thousand_options_stay_cheap() {
    let names: Vec<String> = (0..10_000).map(|n| format!("option {n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let store = TestStore::new();
    store.put(in_group(&[ANN], "POLL", &poll_of(&names)));
    store.put(in_group(&[BOB], "V1", &vote(ANN, BOB, &names, NOW)));
    assert_eq!(stands(&store, "V1"), Some(vec![ballot(BOB, &names)]));
    // Somebody who cannot decide does not fill the file.
    for n in 0..50 {
        let id = format!("AGAIN{n}");
        store.put(in_group(&[BOB], &id, &vote(ANN, BOB, &names[n..=n], NOW)));
    }
    assert_eq!(
        stands(&store, "AGAIN49"),
        Some(vec![ballot(BOB, &names[49..50])])
    );
    assert_eq!(stands(&store, "AGAIN0"), None);
}

#[test]
fn who_is_refused_is_not_counted_and_who_is_not_wanted_is() {
    let store = TestStore::new();
    store.put(in_group(&[ANN], "POLL", &poll_of(&["Soup", "Salad"])));
    store.put(in_group(&[BOB], "V1", &vote(ANN, BOB, &["Soup"], NOW)));
    store.put(in_group(&[ANN], "V2", &vote(ANN, ANN, &["Salad"], NOW)));
    store.put(in_group(&[ANN], "V3", &vote(ANN, ANN, &["Soup"], NOW)));
    let rule = "events".to_owned();
    store
        .drop_unwanted(find(&store, "V2").id, rule)
        .wait()
        .unwrap();
    let all = [ballot(BOB, &["Soup"]), ballot(ANN, &["Soup"])];
    assert_eq!(stands(&store, "V3").unwrap(), all);
    // Nor is who has no verdict.
    store.put(in_group(
        &["15551239999@s.whatsapp.net"],
        "V0",
        &vote(ANN, "15551239999@s.whatsapp.net", &["Salad"], NOW),
    ));
    store.put(in_group(&[ANN], "V4", &vote(ANN, ANN, &["Soup"], NOW)));
    assert_eq!(stands(&store, "V4").unwrap().len(), 3);
    let unsaid = find(&store, "V0").id;
    store.set_aside(unsaid, "unsaid".to_owned()).wait().unwrap();
    assert_eq!(stands(&store, "V4").unwrap(), all);
    let rule = "dm_policy".to_owned();
    store
        .drop_denied(find(&store, "V1").id, rule.clone())
        .wait()
        .unwrap();
    assert_eq!(stands(&store, "V3").unwrap(), all[1..]);
    // With a refused poll its votes are gone.
    store
        .drop_denied(find(&store, "POLL").id, rule)
        .wait()
        .unwrap();
    assert_eq!(stands(&store, "V3"), None);
    let conn = rusqlite::Connection::open(store.path()).unwrap();
    let left: i64 = conn
        .query_row("SELECT count(*) FROM vote", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn votes_go_with_their_poll() {
    let store = TestStore::new();
    store.put(in_group(&[ANN], "POLL", &poll_of(&["Soup"])));
    store.put(in_group(&[BOB], "V1", &vote(ANN, BOB, &["Soup"], NOW)));
    store.sweep_beyond(1, NOW).wait().unwrap();
    assert_eq!(stands(&store, "V1"), None);
}

#[test]
fn an_answer_to_an_event_is_opened() {
    use m::event_response_message::EventResponseType;
    let going = m::EventResponseMessage {
        response: Some(EventResponseType::GOING),
        ..Default::default()
    };
    let (payload, iv) =
        encrypt_event_response_with_secret(&going, &SECRET, "EVENT", ANN, BOB).unwrap();
    let answer = wa::Message {
        enc_event_response_message: MessageField::some(m::EncEventResponseMessage {
            event_creation_message_key: key("EVENT", ANN),
            enc_payload: Some(payload),
            enc_iv: Some(iv.to_vec()),
        }),
        ..Default::default()
    };
    let event = secret(wa::Message {
        event_message: MessageField::some(m::EventMessage {
            name: Some("Party".to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    });
    let store = TestStore::new();
    store.put(in_group(&[BOB], "EARLY", &answer));
    assert!(store.waiting().is_empty());
    store.put(in_group(&[ANN], "EVENT", &event));
    store.put(in_group(&[BOB], "ANSWER", &answer));
    let content = |id| find(&store, id).draft.content;
    assert_eq!(content("ANSWER"), "Answered the event \"Party\": going");
    assert_eq!(content("EARLY"), "Answered the event \"Party\": going");
}

fn waits(store: &TestStore, id: &str) -> bool {
    let mut waiting = store.waiting().into_iter();
    !waiting.any(|row| row.stanza_id == id)
}

#[test]
fn a_vote_before_its_poll_waits_for_it() {
    let store = TestStore::new();
    store.put(in_group(&[BOB], "EARLY", &vote(ANN, BOB, &["Soup"], NOW)));
    // Another poll of that id, and one in another chat, are not the one.
    store.put(in_group(&[BOB], "POLL", &poll_of(&["Trap"])));
    store.put(came(&[ANN], &[ANN], "POLL", &poll_of(&["Soup"])));
    store.release_sealed(crate::clock::now()).wait().unwrap();
    assert!(waits(&store, "EARLY"));
    let store = store.reopen();
    store.put(in_group(&[ANN], "POLL", &poll_of(&["Soup"])));
    let early = find(&store, "EARLY").draft;
    assert_eq!(early.content, "Voted in the poll \"Lunch?\": Soup");
    assert_eq!(stands(&store, "EARLY"), Some(vec![ballot(BOB, &["Soup"])]));
}

#[test]
fn a_vote_waits_for_its_poll_no_longer_than_a_while() {
    let store = TestStore::new();
    store.put(in_group(&[BOB], "EARLY", &vote(ANN, BOB, &["Soup"], NOW)));
    store
        .release_sealed(crate::clock::now() + 10)
        .wait()
        .unwrap();
    let early = find(&store, "EARLY");
    assert_eq!(early.draft.content, "Voted in a poll that is not kept here");
    assert_eq!(early.draft.event_type, "poll.vote");
    let session = store.begin(Mode::Websocket, None).session;
    let rule = "dm_policy".to_owned();
    let number = store
        .assign_emission(early.id, session, rule, Vec::new(), NOW)
        .wait();
    assert!(number.unwrap().is_some());
    // It was told; the poll that comes now counts it all the same.
    store.put(in_group(&[ANN], "POLL", &poll_of(&["Soup"])));
    store.put(in_group(&[ANN], "V1", &vote(ANN, ANN, &["Soup"], NOW)));
    let both = [ballot(BOB, &["Soup"]), ballot(ANN, &["Soup"])];
    assert_eq!(stands(&store, "V1").unwrap(), both);
    assert!(waits(&store, "EARLY"));
}

#[test]
fn no_more_than_a_thousand_votes_wait() {
    let store = TestStore::new();
    let closed = vote(ANN, BOB, &["Soup"], NOW);
    let votes = (0..1002).map(|n| in_group(&[BOB], &format!("V{n}"), &closed));
    store.insert(votes.collect()).wait().unwrap();
    let told: Vec<String> = store.waiting().into_iter().map(|v| v.stanza_id).collect();
    assert_eq!(told, ["V0", "V1"]);
}

#[test]
fn what_the_owner_shares_on_the_phone_is_not_told_and_counts() {
    for own in [ME, ME_LID] {
        let store = TestStore::new();
        store.put(in_group(&[own], "POLL", &poll_of(&["Soup", "Salad"])));
        store.put(in_group(
            &[own],
            "OWN",
            &vote(own, own, &["Salad"], NOW - 2),
        ));
        assert!(store.waiting().is_empty());
        store.put(in_group(&[BOB], "V1", &vote(own, BOB, &["Soup"], NOW - 1)));
        let both = [ballot(own, &["Salad"]), ballot(BOB, &["Soup"])];
        assert_eq!(stands(&store, "V1").unwrap(), both);
        // The agent never saw it, and nobody else made it.
        let found = store.kept(jid(GROUP), "POLL".to_owned()).wait().unwrap();
        assert_eq!(found, None);
        store.put(in_group(&[BOB], "E1", &edit("POLL")));
        assert_eq!(find(&store, "E1").draft.event_type, "message.received");
    }
}

/// Somebody adds an option to the poll.
fn option(name: &str) -> wa::Message {
    wa::Message {
        poll_add_option_message: MessageField::some(m::PollAddOptionMessage {
            poll_creation_message_key: key("POLL", ANN),
            add_option: MessageField::some(m::poll_creation_message::Option {
                option_name: Some(name.to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn added(store: &TestStore, id: &str) -> Vec<String> {
    let standing = store.standing(find(store, id).id).wait().unwrap();
    standing.unwrap().added
}

#[test]
fn options_that_are_added_are_known_by_name() {
    let store = TestStore::new();
    store.put(in_group(&[ANN], "POLL", &poll_of(&["Soup"])));
    store.put(in_group(&[BOB], "O1", &option("Cake")));
    store.put(in_group(&[BOB], "O2", &option("Cake")));
    store.put(in_group(&[ANN], "O3", &option("Pie")));
    store.put(came(&[BOB], &[BOB], "O4", &option("Elsewhere")));
    store.put(in_group(
        &[BOB],
        "V1",
        &vote(ANN, BOB, &["Soup", "Cake"], NOW),
    ));
    store.put(in_group(&[ANN], "O5", &option("Too late")));
    assert_eq!(added(&store, "V1"), ["Cake", "Pie"]);
    let standing = store.standing(find(&store, "V1").id).wait().unwrap();
    let choice = standing.unwrap().choice;
    assert_eq!((choice.options.len(), choice.later.len()), (1, 1));
    // Who may not speak says nothing this way either; what nobody asked for is an option all the same.
    let refuse = |id| {
        let rule = "dm_policy".to_owned();
        store.drop_denied(find(&store, id).id, rule).wait().unwrap();
    };
    refuse("O1");
    assert_eq!(added(&store, "V1"), ["Cake", "Pie"]);
    refuse("O2");
    assert_eq!(added(&store, "V1"), ["Pie"]);
    let pie = find(&store, "O3").id;
    store
        .drop_unwanted(pie, "events".to_owned())
        .wait()
        .unwrap();
    assert_eq!(added(&store, "V1"), ["Pie"]);
    store.put(in_group(&[ANN], "O6", &option("Fruit")));
    store.put(in_group(&[BOB], "V2", &vote(ANN, BOB, &["Soup"], NOW)));
    let unsaid = find(&store, "O6").id;
    assert!(added(&store, "V2").contains(&"Fruit".to_owned()));
    store.set_aside(unsaid, "unsaid".to_owned()).wait().unwrap();
    assert_eq!(added(&store, "V2"), ["Pie", "Too late"]);
}

fn edit(id: &str) -> wa::Message {
    use m::protocol_message::Type;
    wa::Message {
        protocol_message: MessageField::some(m::ProtocolMessage {
            key: MessageField::some(wa::MessageKey {
                id: Some(id.to_owned()),
                from_me: Some(true),
                ..Default::default()
            }),
            r#type: Some(Type::MESSAGE_EDIT),
            edited_message: MessageField::some(wa::Message {
                conversation: Some("other words".to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn revocation(id: &str) -> wa::Message {
    let mut message = edit(id);
    if let Some(protocol) = message.protocol_message.as_option_mut() {
        protocol.r#type = Some(m::protocol_message::Type::REVOKE);
        protocol.edited_message = MessageField::none();
    }
    message
}

#[test]
fn nobody_changes_what_somebody_else_wrote() {
    let store = TestStore::new();
    store.put(message(&[GROUP], &[ANN, ANN_LID], "M1"));
    store.put(in_group(&[BOB], "E1", &edit("M1")));
    store.put(in_group(&[BOB], "R1", &revocation("M1")));
    store.put(in_group(&[ANN_LID], "E2", &edit("M1")));
    store.put(in_group(&[ANN], "R2", &revocation("M1")));
    // Of a message that is not here nobody knows who wrote it.
    store.put(in_group(&[BOB], "E3", &edit("UNKNOWN")));
    // As an admin, for which the server vouches.
    let mut by_admin = in_group(&[BOB], "R3", &revocation("M1"));
    inbound::reveal::revocation(&mut by_admin.draft, true);
    store.put(by_admin);
    let kind = |id| find(&store, id).draft.event_type;
    assert_eq!(kind("E1"), "message.received");
    assert_eq!(kind("R1"), "message.received");
    assert_eq!(kind("E2"), "message.edited");
    assert_eq!(kind("R2"), "message.revoked");
    assert_eq!(kind("E3"), "message.edited");
    assert_eq!(kind("R3"), "message.revoked");
    let forged = find(&store, "E1").draft;
    assert!(
        forged
            .content
            .starts_with("(tried to edit a message of somebody else")
    );
    assert!(forged.content.ends_with("other words"));
    let forged = find(&store, "R1").draft;
    assert_eq!(forged.metadata["refused_change"], "revocation");
}

#[test]
fn nobody_changes_what_we_wrote() {
    let store = TestStore::new();
    let part = NewPart {
        message_id: "OURS".to_owned(),
        payload: Vec::new(),
        kind: "text".to_owned(),
        file: None,
    };
    let request = OutboundRequest {
        idempotency_key: None,
        content_hash: "x".to_owned(),
        reply_to: None,
        marks_read: false,
        chat: addresses(&[ANN]),
        parts: vec![part],
        expires_at: NOW + 3600,
    };
    let _ = store.enqueue(request, NOW).wait().unwrap();
    store.put(came(&[ANN], &[ANN], "E1", &edit("OURS")));
    assert_eq!(find(&store, "E1").draft.metadata["refused_change"], "edit");
}

#[test]
fn a_poll_that_came_twice_from_one_person_has_all_its_votes() {
    let store = TestStore::new();
    let poll = poll_of(&["a", "b"]);
    let carol = "15551230003@s.whatsapp.net";
    let batch = vec![
        in_group(&[ANN], "POLL", &poll),
        in_group(&[ANN_LID], "POLL", &poll),
        in_group(&[BOB], "V1", &vote(ANN, BOB, &["a"], NOW)),
        in_group(&[carol], "V2", &vote(ANN_LID, carol, &["b"], NOW + 1)),
    ];
    store.insert(batch).wait().unwrap();
    assert_eq!(stands(&store, "V2").unwrap().len(), 1);
    store.resolve(addresses(&[ANN, ANN_LID])).wait().unwrap();
    let expected =
        [(BOB, "a"), (carol, "b")].map(|(who, option)| (who.to_owned(), vec![option.to_owned()]));
    assert_eq!(stands(&store, "V2").unwrap(), expected);
}
