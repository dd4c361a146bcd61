//! The admin API over real HTTP.

mod http;

use anyhow::Result;
use http::{Answer, request};
use serde_json::json;
use wacore::net::{HttpClient as _, HttpRequest};
use whatsapp_loopback::people::{Person, PersonSpec};
use whatsapp_loopback::{Options, Server};
use whatsapp_rust::pair_code::PairCodeOptions;
use whatsapp_rust_ureq_http_client::UreqHttpClient;

async fn server() -> Result<Server> {
    Ok(Server::start(Options::default()).await?)
}

async fn post(server: &Server, path: &str, body: impl AsRef<[u8]>) -> Result<Answer> {
    request(server.addr(), &format!("POST {path}"), &[], body.as_ref()).await
}

async fn get(server: &Server, path: &str) -> Result<Answer> {
    request(server.addr(), &format!("GET {path}"), &[], &[]).await
}

async fn shown_qr(person: &Person) -> Result<String> {
    person
        .wait_for("a QR", |seen| seen.qrs.last().cloned())
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qr_is_scanned_over_http() -> Result<()> {
    let server = server().await?;
    let alice = Person::unlinked(&server, PersonSpec::new("Alice").phone("15550100")).await?;
    let qr = shown_qr(&alice).await?;
    let answer = post(
        &server,
        "/admin/mock-phone/scan-qr?phone=%2B15550100",
        format!("{qr}\n"),
    )
    .await?;
    assert_eq!(
        (answer.status, answer.json()?["phone"].as_str()),
        (200, Some("15550100"))
    );
    alice.wait_ready().await?;
    let state = get(&server, "/admin/state").await?.json()?;
    let device = &state["accounts"][0]["devices"][0];
    assert_eq!(
        (
            device["connected"].as_bool(),
            state["connections"].as_array().map(Vec::len)
        ),
        (Some(true), Some(1))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_number_the_push_name_tells_whose_phone_it_is() -> Result<()> {
    let server = server().await?;
    let alice = Person::unlinked(&server, PersonSpec::new("Alice")).await?;
    let answer = post(
        &server,
        "/admin/mock-phone/scan-qr",
        shown_qr(&alice).await?,
    )
    .await?;
    assert_eq!(answer.json()?["phone"].as_str(), Some(alice.phone()));
    alice.wait_ready().await?;
    assert_eq!(server.core().accounts().len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_code_is_entered_over_https() -> Result<()> {
    let server = server().await?;
    let alice = Person::unlinked(&server, PersonSpec::new("Alice").phone("15550100")).await?;
    shown_qr(&alice).await?;
    let options = PairCodeOptions {
        phone_number: "15550100".to_owned(),
        ..PairCodeOptions::default()
    };
    let code = alice.client().await?.pair_with_code(options).await?;
    let client = UreqHttpClient::new();
    let url = format!(
        "https://{}/admin/mock-phone/enter-code?phone=15550100&code=",
        server.addr()
    );
    let wrong = client
        .execute(HttpRequest::post(format!("{url}AAAA1111")))
        .await?;
    assert_eq!(
        wrong.status_code,
        403,
        "{}",
        String::from_utf8_lossy(&wrong.body)
    );
    let right = client
        .execute(HttpRequest::post(format!("{url}{code}")))
        .await?;
    assert_eq!(
        right.status_code,
        200,
        "{}",
        String::from_utf8_lossy(&right.body)
    );
    alice.wait_ready().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_logged_out_over_http() -> Result<()> {
    let server = server().await?;
    let alice = Person::join(&server, "Alice").await?;
    let query = format!("phone={}&device={}", alice.phone(), alice.device().await?);
    assert_eq!(
        post(&server, &format!("/admin/devices/logout?{query}"), "")
            .await?
            .status,
        200
    );
    alice
        .wait_for("to be logged out", |seen| seen.logged_out.then_some(()))
        .await?;
    assert_eq!(
        post(&server, &format!("/admin/devices/logout?{query}"), "")
            .await?
            .status,
        404
    );
    assert_eq!(
        post(&server, &format!("/admin/devices/revoke?{query}"), "")
            .await?
            .status,
        404
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_armed_listed_and_cleared() -> Result<()> {
    let server = server().await?;
    let alice = Person::join(&server, "Alice").await?;
    let bob = Person::join(&server, "Bob").await?;
    let fault = json!({ "kind": "nack", "code": 463, "target": { "phone": alice.phone() } });
    let answer = post(&server, "/admin/faults", fault.to_string()).await?;
    assert_eq!(
        (answer.status, answer.json()?["armed"].as_bool()),
        (200, Some(true))
    );
    let listed = get(&server, "/admin/faults").await?.json()?;
    assert_eq!(
        (
            listed[0]["code"].as_u64(),
            listed[0]["target"]["phone"].as_str()
        ),
        (Some(463), Some(alice.phone()))
    );
    let refused = alice.text(&bob, "one").await?;
    assert_eq!(alice.wait_ack(&refused).await?.as_deref(), Some("463"));
    let taken = alice.text(&bob, "two").await?;
    assert_eq!(alice.wait_ack(&taken).await?, None);
    bob.wait_text("two").await?;
    assert_eq!(bob.seen(|seen| seen.count_text("one")), 0);
    post(&server, "/admin/faults", r#"{"kind":"withhold_acks"}"#).await?;
    let cleared = request(server.addr(), "DELETE /admin/faults", &[], &[]).await?;
    assert_eq!(cleared.status, 200);
    assert_eq!(get(&server, "/admin/faults").await?.json()?, json!([]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_is_filled_over_http() -> Result<()> {
    let server = server().await?;
    let alice = Person::join(&server, "Alice").await?;
    alice.disconnect().await;
    let fault = json!({
        "kind": "fill_queue", "n": 30, "senders": 3, "text": "waiting {n}", "target": { "phone": alice.phone() },
    });
    let answer = post(&server, "/admin/faults", fault.to_string()).await?;
    let mut queued: Vec<String> = serde_json::from_value(answer.json()?["queued"].clone())?;
    alice.reconnect().await?;
    for n in 0..30 {
        alice.wait_text(&format!("waiting {n}")).await?;
    }
    // Each once; in which order the chats are drained is the client's affair.
    let mut seen: Vec<_> = alice.seen(|seen| {
        let texts = seen
            .messages
            .iter()
            .filter(|message| message.text().is_some());
        texts.map(|message| message.id().to_owned()).collect()
    });
    queued.sort_unstable();
    seen.sort_unstable();
    assert_eq!((queued.len(), seen), (30, queued));
    Ok(())
}

#[tokio::test]
async fn media_expire_over_http() -> Result<()> {
    let server = server().await?;
    let path = server
        .core()
        .media
        .publish(&b"picture"[..])
        .unwrap_or_default();
    assert_eq!(get(&server, &path).await?.status, 200);
    assert_eq!(
        post(
            &server,
            &format!("/admin/media/expire?path={path}&status=404"),
            ""
        )
        .await?
        .status,
        200
    );
    assert_eq!(get(&server, &path).await?.status, 404);
    assert_eq!(
        post(&server, "/admin/media/expire?path=/v/none", "")
            .await?
            .status,
        404
    );
    Ok(())
}

#[tokio::test]
async fn the_root_key_is_in_hex() -> Result<()> {
    let server = server().await?;
    let answer = get(&server, "/admin/root-key").await?;
    let expected: String = server
        .core()
        .root_key()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        (answer.status, String::from_utf8(answer.body)?),
        (200, expected)
    );
    Ok(())
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_words() -> Result<()> {
    let server = server().await?;
    let phone = "/admin/mock-phone";
    let asks = [
        ("GET /admin", "", 404, "no_such_path"),
        ("GET /admin/nonsense", "", 404, "no_such_path"),
        ("PATCH /admin/faults", "", 405, "wrong_method"),
        ("POST /admin/faults", "{", 400, "bad_json"),
        ("POST /admin/faults", "[1]", 400, "bad_json"),
        (
            "POST /admin/faults",
            r#"{"kind":"nonsense"}"#,
            400,
            "bad_json",
        ),
        (
            "POST /admin/faults",
            r#"{"kind":"drop_now","target":{"fone":"1"}}"#,
            400,
            "bad_json",
        ),
        (
            "POST /admin/accounts",
            r#"{"phone":"abc"}"#,
            400,
            "bad_phone",
        ),
        (&format!("POST {phone}/scan-qr"), "no QR", 400, "not_a_qr"),
        (
            &format!("POST {phone}/scan-qr"),
            "\u{1F600}",
            400,
            "not_a_qr",
        ),
        (
            &format!("POST {phone}/enter-code?phone=15550100"),
            "",
            400,
            "bad_parameter",
        ),
        (
            &format!("POST {phone}/enter-code?phone=15550100&code=ABCD1234"),
            "",
            404,
            "no_code_wanted",
        ),
        (
            "POST /admin/devices/logout?phone=15550100",
            "",
            400,
            "bad_parameter",
        ),
        (
            "POST /admin/devices/logout?phone=15550100&device=1",
            "",
            404,
            "no_such_device",
        ),
    ];
    for (line, body, status, code) in asks {
        let answer = request(server.addr(), line, &[], body.as_bytes()).await?;
        let error = answer.json()?["error"].clone();
        assert_eq!(
            (answer.status, error["code"].as_str()),
            (status, Some(code)),
            "{line} {body}: {error}"
        );
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|message| !message.is_empty()),
            "{line}"
        );
    }
    let large = vec![b' '; 2 * 1024 * 1024];
    assert_eq!(post(&server, "/admin/faults", &large).await?.status, 413);
    Ok(())
}

#[tokio::test]
async fn accounts_are_made_over_http() -> Result<()> {
    let server = server().await?;
    let spec = json!({ "phone": "15550100", "push_name": "Alice", "lid_migrated": true });
    let made = post(&server, "/admin/accounts", spec.to_string())
        .await?
        .json()?;
    assert_eq!(made["pn_jid"].as_str(), Some("15550100@s.whatsapp.net"));
    assert!(
        server
            .core()
            .account("15550100")
            .is_some_and(|account| account.lid_migrated)
    );
    Ok(())
}
