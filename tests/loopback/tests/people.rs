//! People write to each other through the server, with real clients on either end.

use anyhow::Result;
use wacore::stanza::groups::GroupNotificationAction;
use wacore::types::presence::{ChatPresence, ChatPresenceMedia, ReceiptType};
use wacore_binary::Jid;
use waproto::whatsapp::message::protocol_message;
use whatsapp_loopback::people::{Person, PersonSpec, Voice};
use whatsapp_loopback::{Options, Server};

async fn server() -> Result<Server> {
    Ok(Server::start(Options::default()).await?)
}

async fn two(server: &Server) -> Result<(Person, Person)> {
    tokio::try_join!(Person::join(server, "Alice"), Person::join(server, "Bob"))
}

async fn two_migrated(server: &Server) -> Result<(Person, Person)> {
    tokio::try_join!(
        Person::join_as(server, PersonSpec::new("Alice").lid_migrated()),
        Person::join_as(server, PersonSpec::new("Bob").lid_migrated()),
    )
}

/// A text each way, the second as a reply to the first, then receipts; in the chats that `address` names.
async fn converse(alice: &Person, bob: &Person, address: fn(&Person) -> Jid) -> Result<()> {
    let id = alice.text(address(bob), "hello").await?;
    assert_eq!(alice.wait_ack(&id).await?, None);
    let hello = bob.wait_text("hello").await?;
    assert_eq!(
        (hello.id(), hello.info.push_name.as_str()),
        (id.as_str(), "Alice")
    );
    assert!(alice.is(hello.sender()), "{}", hello.sender());
    alice.wait_receipt(&id, ReceiptType::Delivered).await?;
    bob.read(&hello).await?;
    alice.wait_receipt(&id, ReceiptType::Read).await?;

    bob.reply(&hello, "hello yourself").await?;
    let answer = alice.wait_text("hello yourself").await?;
    let quoted = answer
        .message
        .extended_text_message
        .as_option()
        .and_then(|text| text.context_info.as_option());
    assert_eq!(
        quoted.and_then(|context| context.stanza_id.as_deref()),
        Some(id.as_str())
    );
    assert_eq!(bob.seen(|seen| seen.count_id(&id)), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_messages_by_phone_number() -> Result<()> {
    let server = server().await?;
    let (alice, bob) = two(&server).await?;
    converse(&alice, &bob, Person::pn).await?;
    let hello = bob.wait_text("hello").await?;
    assert_eq!(*hello.chat(), alice.pn());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_messages_by_lid() -> Result<()> {
    let server = server().await?;
    let (alice, bob) = two_migrated(&server).await?;
    converse(&alice, &bob, Person::lid).await?;
    let hello = bob.wait_text("hello").await?;
    assert_eq!(*hello.chat(), alice.lid());
    assert_eq!(
        hello.info.source.sender_alt.as_ref().map(Jid::to_non_ad),
        Some(alice.pn())
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migrated_account_and_one_that_is_not() -> Result<()> {
    let server = server().await?;
    let alice = Person::join_as(&server, PersonSpec::new("Alice").lid_migrated()).await?;
    let bob = Person::join(&server, "Bob").await?;
    converse(&alice, &bob, Person::pn).await?;
    bob.text(&alice, "and once more").await?;
    alice.wait_text("and once more").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_devices_of_both_sides_have_a_message() -> Result<()> {
    let server = server().await?;
    let (alice, bob) = two(&server).await?;
    let (alices_tablet, bobs_tablet) = tokio::try_join!(alice.add_device(), bob.add_device())?;
    assert_eq!(alices_tablet.phone(), alice.phone());
    assert_ne!(alices_tablet.device().await?, alice.device().await?);
    let id = alice.text(&bob, "to everybody").await?;
    for person in [&bob, &bobs_tablet, &alices_tablet] {
        assert_eq!(person.wait_text("to everybody").await?.id(), id);
    }
    let own = alices_tablet.wait_text("to everybody").await?;
    assert!(own.info.source.is_from_me);
    assert_eq!(*own.chat(), bob.pn());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reactions_edits_and_revokes() -> Result<()> {
    let server = server().await?;
    let (alice, bob) = two(&server).await?;
    let id = alice.text(&bob, "first").await?;
    let first = bob.wait_text("first").await?;

    bob.react(&first, "👍").await?;
    let reaction = alice
        .wait_for("a reaction", |seen| {
            seen.messages
                .iter()
                .find_map(|message| message.message.reaction_message.as_option().cloned())
        })
        .await?;
    assert_eq!(reaction.text.as_deref(), Some("👍"));
    assert_eq!(
        reaction.key.as_option().and_then(|key| key.id.as_deref()),
        Some(id.as_str())
    );

    alice.edit(&bob, &id, "second").await?;
    alice.revoke(&bob, &id).await?;
    for kind in [
        protocol_message::Type::MESSAGE_EDIT,
        protocol_message::Type::REVOKE,
    ] {
        let key = bob
            .wait_for("a protocol message", |seen| {
                seen.messages.iter().find_map(|message| {
                    let protocol = message.message.protocol_message.as_option()?;
                    (protocol.r#type == Some(kind)).then(|| protocol.key.as_option().cloned())?
                })
            })
            .await?;
        assert_eq!(key.id.as_deref(), Some(id.as_str()));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_and_recording_are_seen() -> Result<()> {
    let server = server().await?;
    let (alice, bob) = two(&server).await?;
    alice.composing(&bob).await?;
    bob.wait_chatstate(&alice, ChatPresence::Composing).await?;
    alice.paused(&bob).await?;
    bob.wait_chatstate(&alice, ChatPresence::Paused).await?;
    alice.recording(&bob).await?;
    bob.wait_for("recording", |seen| {
        seen.chatstates
            .iter()
            .find(|s| s.media == ChatPresenceMedia::Audio)
            .map(drop)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_is_told_to_those_who_watch() -> Result<()> {
    let server = server().await?;
    let (alice, bob) = two(&server).await?;
    bob.watch(&alice).await?;
    for available in [false, true] {
        let before = bob.seen(|seen| seen.presences.len());
        alice.available(available).await?;
        // Any of them: a client also says by itself that it is available, a little after it is ready.
        bob.wait_for("the presence", |seen| {
            let mut told = seen.presences[before..].iter();
            let told = told.find(|told| alice.is(&told.from) && told.unavailable != available)?;
            Some(told.clone())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_arrive_byte_for_byte() -> Result<()> {
    let server = server().await?;
    let (alice, bob) = two(&server).await?;
    let small: Vec<u8> = (0..50_000).map(|i| (i % 253) as u8).collect();
    // Large enough that the client asks first whether the upload can be resumed.
    let large: Vec<u8> = (0..6 << 20).map(|i| (i % 251) as u8).collect();
    let voice = Voice {
        seconds: 3,
        waveform: Some(vec![50; 64]),
    };
    let sent = [
        (alice.image(&bob, &small, Some("a picture")).await?, &small),
        (alice.video(&bob, &small, None).await?, &small),
        (alice.audio(&bob, &small, "audio/mp4").await?, &small),
        (alice.voice(&bob, &small, voice).await?, &small),
        (alice.sticker(&bob, &small).await?, &small),
        (
            alice
                .document(&bob, &large, "large.bin", "application/octet-stream")
                .await?,
            &large,
        ),
    ];
    for (id, data) in &sent {
        let message = bob.wait_id(id).await?;
        assert!(
            bob.download(&message).await? == **data,
            "{id} came out different"
        );
    }
    assert_eq!(bob.wait_text("a picture").await?.id(), sent[0].0);
    let note = bob.wait_id(&sent[3].0).await?;
    bob.played(&note).await?;
    alice.wait_receipt(note.id(), ReceiptType::Played).await?;
    assert_eq!(server.core().media.served(), (6, 6));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_file_is_missed() -> Result<()> {
    let server = server().await?;
    let (alice, bob) = two(&server).await?;
    let id = alice.image(&bob, b"a picture that goes", None).await?;
    let message = bob.wait_id(&id).await?;
    for path in server.core().media.paths() {
        server.core().media.expire(&path, 410);
    }
    let error = bob
        .download(&message)
        .await
        .err()
        .map(|error| format!("{error:#}"))
        .unwrap_or_default();
    assert!(error.contains("410"), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_gets_everything_once() -> Result<()> {
    let server = server().await?;
    let (alice, bob) = two(&server).await?;
    alice.text(&bob, "before").await?;
    bob.wait_text("before").await?;
    bob.disconnect().await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(alice.text(&bob, &format!("away {n}")).await?);
    }
    alice.wait_ack(&ids[19]).await?;
    bob.reconnect().await?;
    for id in &ids {
        bob.wait_id(id).await?;
        alice.wait_receipt(id, ReceiptType::Delivered).await?;
    }
    alice.text(&bob, "after").await?;
    bob.wait_text("after").await?;
    bob.reconnect().await?;
    bob.seen(|seen| {
        for id in &ids {
            assert_eq!(seen.count_id(id), 1);
        }
        let order: Vec<_> = seen
            .messages
            .iter()
            .filter_map(|message| message.text())
            .collect();
        let expected: Vec<_> = (0..20).map(|n| format!("away {n}")).collect();
        assert_eq!(order[1..21], expected[..]);
    });
    Ok(())
}

/// A group's life, in whichever address mode its members bring about.
async fn group_life(alice: Person, bob: Person, carol: Person) -> Result<()> {
    let group = alice.create_group("Lunch", &[&bob]).await?;
    let id = alice.text(group.clone(), "who is hungry?").await?;
    let question = bob.wait_text("who is hungry?").await?;
    assert_eq!((question.chat(), question.id()), (&group, id.as_str()));
    assert!(alice.is(question.sender()));
    bob.read(&question).await?;
    let read = alice.wait_receipt(&id, ReceiptType::Read).await?;
    assert!(bob.is(&read.source.sender), "{:?}", read.source);
    bob.react(&question, "🍕").await?;
    bob.composing(group.clone()).await?;
    alice.wait_chatstate(&bob, ChatPresence::Composing).await?;

    alice.add(&group, &carol).await?;
    bob.wait_group(&group, "Carol to be added", |action| {
        matches!(action, GroupNotificationAction::Add { .. })
    })
    .await?;
    bob.reply(&question, "me").await?;
    for person in [&alice, &carol] {
        assert!(bob.is(person.wait_text("me").await?.sender()));
    }

    alice.remove(&group, &carol).await?;
    let after = alice.text(group.clone(), "just us").await?;
    bob.wait_text("just us").await?;
    alice.wait_ack(&after).await?;
    assert_eq!(carol.seen(|seen| seen.count_text("just us")), 0);

    alice.subject(&group, "Dinner").await?;
    alice.announce(&group, true).await?;
    alice.promote(&group, &bob, true).await?;
    let known = bob.group(&group).await?;
    assert_eq!(
        (known.subject.as_str(), known.is_announcement),
        ("Dinner", true)
    );
    assert!(
        known
            .participants
            .iter()
            .any(|member| bob.is(&member.jid) && member.is_admin())
    );
    bob.revoke_as_admin(&bob.wait_text("just us").await?)
        .await?;
    alice
        .wait_for("the admin's revoke", |seen| {
            seen.messages.iter().find_map(|message| {
                let protocol = message.message.protocol_message.as_option()?;
                (protocol.r#type == Some(protocol_message::Type::REVOKE)).then_some(())
            })
        })
        .await?;
    bob.leave(&group).await?;
    assert!(
        !alice
            .group(&group)
            .await?
            .participants
            .iter()
            .any(|member| bob.is(&member.jid))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_accounts_by_phone_number() -> Result<()> {
    let server = server().await?;
    let ((alice, bob), carol) = tokio::try_join!(two(&server), Person::join(&server, "Carol"))?;
    group_life(alice, bob, carol).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_accounts_by_lid() -> Result<()> {
    let server = server().await?;
    let carol = Person::join_as(&server, PersonSpec::new("Carol").lid_migrated());
    let ((alice, bob), carol) = tokio::try_join!(two_migrated(&server), carol)?;
    group_life(alice, bob, carol).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vain_wait_says_what_came_instead() -> Result<()> {
    let server = server().await?;
    let (alice, bob) = two(&server).await?;
    alice.text(&bob, "something else").await?;
    bob.wait_text("something else").await?;
    let within = std::time::Duration::from_millis(10);
    let error = bob
        .wait_within(within, "a miracle", |_| None::<()>)
        .await
        .err()
        .map(|error| error.to_string());
    let error = error.unwrap_or_default();
    assert!(
        error.contains("Bob") && error.contains("a miracle") && error.contains("something else"),
        "{error}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_people_fit_on_one_runtime() -> Result<()> {
    let server = server().await?;
    let names: Vec<_> = (0..30).map(|n| format!("Person {n}")).collect();
    let people =
        futures_util::future::try_join_all(names.iter().map(|name| Person::join(&server, name)))
            .await?;
    for pair in people.windows(2) {
        pair[0].text(&pair[1], "pass it on").await?;
    }
    for person in &people[1..] {
        person.wait_text("pass it on").await?;
    }
    Ok(())
}
