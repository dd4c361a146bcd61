//! What people do besides writing to each other, with real clients.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use waproto::whatsapp::message::extended_text_message::FontType;
use whatsapp_loopback::{
    Options, Server,
    people::{Person, PersonSpec},
};
use whatsapp_rust::features::{
    GroupDescription, JoinGroupResult, MediaRetryResult, MediaReuploadRequest,
    MembershipApprovalMode, PreviousDescription, StatusSendOptions,
};

async fn until<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) -> Result<()> {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.with_context(|| what.to_owned())
}

async fn people(lid: bool) -> Result<(Server, Person, Person, Person)> {
    let server = Server::start(Options::default()).await?;
    let spec = |name| {
        let spec = PersonSpec::new(name);
        if lid { spec.lid_migrated() } else { spec }
    };
    let (alice, bob, carol) = tokio::try_join!(
        Person::join_as(&server, spec("Alice")),
        Person::join_as(&server, spec("Bob")),
        Person::join_as(&server, spec("Carol")),
    )?;
    Ok((server, alice, bob, carol))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_posts_reach_their_audience() -> Result<()> {
    for lid in [false, true] {
        let (_server, alice, bob, carol) = people(lid).await?;
        let audience = [bob.pn(), carol.pn()];
        let client = alice.client().await?;
        // Posts go to LIDs, which the client has to know.
        client.contacts().is_on_whatsapp(&audience).await?;
        for text in ["first", "second"] {
            client
                .status()
                .send_text(
                    text,
                    0xFF1E_6E4F,
                    FontType::SYSTEM,
                    &audience,
                    StatusSendOptions::default(),
                )
                .await?;
            for person in [&bob, &carol] {
                let post = person.wait_text(text).await?;
                ensure!(post.chat().to_string() == "status@broadcast");
                ensure!(alice.is(post.sender()));
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_blocked_is_not_heard() -> Result<()> {
    let (_server, alice, bob, _carol) = people(false).await?;
    let id = bob.text(&alice, "hello").await?;
    alice.wait_id(&id).await?;
    let client = alice.client().await?;
    client.blocking().block(&bob.pn()).await?;
    ensure!(client.blocking().is_blocked(&bob.pn()).await?);
    let unheard = bob.text(&alice, "are you there?").await?;
    assert_eq!(
        bob.wait_ack(&unheard).await?,
        None,
        "who is blocked is not told"
    );
    client.blocking().unblock(&bob.pn()).await?;
    bob.text(&alice, "and now?").await?;
    alice.wait_text("and now?").await?;
    assert_eq!(alice.seen(|seen| seen.count_id(&unheard)), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_and_abouts_are_seen_by_others() -> Result<()> {
    let (server, alice, bob, _carol) = people(false).await?;
    let (alices, bobs) = (alice.client().await?, bob.client().await?);
    ensure!(
        bobs.contacts()
            .get_profile_picture(&alice.pn(), false)
            .await?
            .is_none()
    );
    alices.profile().set_profile_picture(vec![0xFF; 99]).await?;
    let picture = bobs
        .contacts()
        .get_profile_picture(&alice.pn(), false)
        .await?;
    let picture = picture.context("a picture")?;
    let path = picture.direct_path.context("a path")?;
    let stored = server.core().media.blob(&path).context("a file")?;
    assert_eq!(stored, vec![0xFF; 99]);
    alices.profile().remove_profile_picture().await?;
    ensure!(
        bobs.contacts()
            .get_profile_picture(&alice.pn(), false)
            .await?
            .is_none()
    );
    alices.profile().set_status_text("at the seaside").await?;
    let infos = bobs.contacts().get_user_info(&[alice.pn()]).await?;
    let info = infos.get(&alice.pn()).context("about Alice")?;
    assert_eq!(info.status.as_deref(), Some("at the seaside"));
    let found = bobs
        .contacts()
        .is_on_whatsapp(&[alice.pn(), wacore_binary::Jid::pn("99900000000")])
        .await?;
    let found: Vec<bool> = found.iter().map(|found| found.is_registered).collect();
    assert_eq!(found, [true, false]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_joined_by_link_and_kept_by_admins() -> Result<()> {
    for lid in [false, true] {
        let (_server, alice, bob, carol) = people(lid).await?;
        let group = alice.create_group("Sailing", &[&bob]).await?;
        let (alices, bobs, carols) = (
            alice.client().await?,
            bob.client().await?,
            carol.client().await?,
        );
        ensure!(bobs.groups().get_invite_link(&group, false).await.is_err());
        ensure!(
            carol.text(group.clone(), "let me in").await.is_err() || {
                !alice.seen(|seen| seen.count_text("let me in") > 0)
            }
        );
        let link = alices.groups().get_invite_link(&group, false).await?;
        let info = carols.groups().get_invite_info(&link).await?;
        assert_eq!(info.subject, "Sailing");
        let joined = carols.groups().join_with_invite_code(&link).await?;
        assert_eq!(*joined.group_jid(), group);
        carol.text(group.clone(), "ahoy").await?;
        alice.wait_text("ahoy").await?;
        bob.wait_text("ahoy").await?;

        let description = GroupDescription::new("Sundays at ten")?;
        bobs.groups()
            .set_description(&group, Some(description), PreviousDescription::Resolve)
            .await?;
        let stale = GroupDescription::new("never")?;
        ensure!(
            alices
                .groups()
                .set_description(&group, Some(stale), PreviousDescription::Absent)
                .await
                .is_err()
        );
        let described = carol.group(&group).await?.description;
        assert_eq!(described.as_deref(), Some("Sundays at ten"));
        alices.groups().set_locked(&group, true).await?;
        ensure!(bob.subject(&group, "Rowing").await.is_err());
        alice.promote(&group, &bob, true).await?;
        bob.subject(&group, "Rowing").await?;
        until("the subject is new", || async {
            carol
                .group(&group)
                .await
                .is_ok_and(|group| group.subject == "Rowing")
        })
        .await?;
        bob.leave(&group).await?;
        ensure!(bob.group(&group).await.is_err());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_reach_the_other_devices() -> Result<()> {
    let (server, alice, bob, _carol) = people(false).await?;
    let second = alice.add_device().await?;
    let id = bob.text(&alice, "hello").await?;
    alice.wait_id(&id).await?;
    second.wait_id(&id).await?;
    let before = server.core().stanzas().len();
    until("the chat is pinned", || async {
        let Ok(client) = alice.client().await else {
            return false;
        };
        client.chat_actions().pin_chat(&bob.pn()).await.is_ok()
    })
    .await?;
    until("the other device is told and reads it", || async {
        let stanzas = server.core().stanzas();
        let told = stanzas.iter().skip(before).any(|stanza| {
            stanza.sent && stanza.device == 2 && stanza.attr("type") == Some("server_sync")
        });
        let reads = stanzas.iter().skip(before).any(|stanza| {
            !stanza.sent && stanza.device == 2 && stanza.attr("xmlns") == Some("w:sync:app:state")
        });
        told && reads
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_phone_says_that_it_has_an_expired_file_no_more() -> Result<()> {
    let (_server, alice, bob, _carol) = people(false).await?;
    let id = alice.image(&bob, b"a picture that goes", None).await?;
    let message = bob.wait_id(&id).await?;
    let key = message.message.image_message.media_key.clone();
    let client = bob.client().await?;
    let asked = MediaReuploadRequest {
        msg_id: &id,
        chat_jid: &alice.pn(),
        media_key: &key.context("a media key")?,
        is_from_me: false,
        participant: None,
    };
    let answer = client.media_reupload().request(&asked).await?;
    ensure!(matches!(answer, MediaRetryResult::NotFound), "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_by_link_waits_for_an_admin() -> Result<()> {
    for lid in [false, true] {
        let (_server, alice, bob, carol) = people(lid).await?;
        let group = alice.create_group("Club", &[]).await?;
        let client = alice.client().await?;
        let groups = client.groups();
        groups
            .set_membership_approval(&group, MembershipApprovalMode::On)
            .await?;
        let link = groups.get_invite_link(&group, false).await?;
        for person in [&bob, &carol] {
            let joined = person.client().await?;
            let joined = joined.groups().join_with_invite_code(&link).await?;
            ensure!(matches!(joined, JoinGroupResult::PendingApproval(jid) if jid == group));
            ensure!(person.group(&group).await.is_err());
        }
        let waiting = groups.get_membership_requests(&group).await?;
        let of = |person: &Person| {
            let request = waiting.iter().find(|request| person.is(&request.jid));
            Ok::<_, anyhow::Error>([request.context("who waits")?.jid.clone()])
        };
        groups
            .reject_membership_requests(&group, &of(&carol)?)
            .await?;
        groups
            .approve_membership_requests(&group, &of(&bob)?)
            .await?;
        ensure!(groups.get_membership_requests(&group).await?.is_empty());
        alice.text(group.clone(), "welcome").await?;
        bob.wait_text("welcome").await?;
        bob.text(group.clone(), "thanks").await?;
        alice.wait_text("thanks").await?;
        ensure!(carol.group(&group).await.is_err());
    }
    Ok(())
}
