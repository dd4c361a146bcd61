//! The media store over its HTTP: what the CDN does, and what it does when told to misbehave.

mod http;

use std::time::{Duration, Instant};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Answer, raw, request};
use sha2::{Digest as _, Sha256};
use wacore::net::{HttpClient as _, HttpRequest};
use whatsapp_loopback::media::{MediaLimits, MediaOp};
use whatsapp_loopback::{Options, Server};
use whatsapp_rust_ureq_http_client::UreqHttpClient;

async fn server() -> Result<Server> {
    Ok(Server::start(Options::default()).await?)
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

fn target(server: &Server, data: &[u8], more: &str) -> String {
    let token = URL_SAFE_NO_PAD.encode(Sha256::digest(data));
    format!(
        "/mms/image/{token}?auth={}&token={token}{more}",
        server.core().media.auth()
    )
}

async fn upload(server: &Server, data: &[u8]) -> Result<Answer> {
    request(
        server.addr(),
        &format!("POST {}", target(server, data, "")),
        &[],
        data,
    )
    .await
}

async fn uploaded(server: &Server, data: &[u8]) -> Result<String> {
    let answer = upload(server, data).await?;
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    Ok(answer.json()?["direct_path"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

async fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    request(server.addr(), &format!("GET {path}"), headers, &[]).await
}

#[tokio::test]
async fn what_is_uploaded_can_be_downloaded() -> Result<()> {
    let server = server().await?;
    let data = bytes(300_000);
    let path = uploaded(&server, &data).await?;
    let answer = get(&server, &format!("{path}?auth=whatever&token=1"), &[]).await?;
    assert_eq!((answer.status, answer.body == data), (200, true));
    assert_eq!(answer.header("content-length"), Some("300000"));
    assert_eq!(server.core().media.blob(&path).as_deref(), Some(&data[..]));
    assert_eq!(server.core().media.served(), (1, 1));
    Ok(())
}

#[tokio::test]
async fn the_same_over_tls_on_the_same_port() -> Result<()> {
    let server = server().await?;
    let data = bytes(50_000);
    let client = UreqHttpClient::new();
    let url = format!("https://{}{}", server.addr(), target(&server, &data, ""));
    let answer = client
        .execute(HttpRequest::post(url).with_body(data.clone()))
        .await?;
    assert_eq!(answer.status_code, 200);
    let answer: serde_json::Value = serde_json::from_slice(&answer.body)?;
    let url = answer["url"].as_str().unwrap_or_default();
    assert!(
        url.starts_with(&format!("https://{}/v/", server.addr())),
        "{url}"
    );
    let answer = client.execute(HttpRequest::get(url)).await?;
    assert_eq!((answer.status_code, answer.body == data), (200, true));
    Ok(())
}

#[tokio::test]
async fn a_chunked_upload_is_an_upload() -> Result<()> {
    let server = server().await?;
    let data = bytes(10_000);
    let mut wire = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
        target(&server, &data, "")
    )
    .into_bytes();
    for chunk in data.chunks(4096) {
        wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    let answer = raw(server.addr(), &wire).await?;
    assert_eq!(answer.status, 200);
    let path = answer.json()?["direct_path"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(get(&server, &path, &[]).await?.body == data);
    Ok(())
}

#[tokio::test]
async fn one_connection_serves_several_requests() -> Result<()> {
    let server = server().await?;
    let data = bytes(10);
    let path = uploaded(&server, &data).await?;
    let kept = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let last = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = raw(server.addr(), format!("{kept}{last}").as_bytes()).await?;
    let whole = answer.body;
    assert_eq!(
        whole.windows(10).filter(|window| *window == data).count(),
        2
    );
    Ok(())
}

#[tokio::test]
async fn an_upload_has_to_be_what_it_says() -> Result<()> {
    let server = server().await?;
    let (data, other) = (bytes(1000), bytes(1001));
    let line = format!("POST {}", target(&server, &data, ""));
    assert_eq!(
        request(server.addr(), &line, &[], &other).await?.status,
        400
    );
    assert_eq!(
        request(server.addr(), "POST /mms/image/short?auth=x", &[], &data)
            .await?
            .status,
        400
    );
    assert_eq!(
        request(server.addr(), "PUT /mms/image/short", &[], &data)
            .await?
            .status,
        405
    );
    assert!(server.core().media.paths().is_empty());
    assert_eq!(
        get(&server, "/v/t62.7118-24/none.enc", &[]).await?.status,
        404
    );
    Ok(())
}

#[tokio::test]
async fn an_old_auth_token_is_refused() -> Result<()> {
    let server = server().await?;
    let data = bytes(1000);
    let line = format!("POST {}", target(&server, &data, ""));
    server.core().media.rotate_auth();
    assert_eq!(request(server.addr(), &line, &[], &data).await?.status, 401);
    assert_eq!(upload(&server, &data).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn ranges_and_heads() -> Result<()> {
    let server = server().await?;
    let data = bytes(1000);
    let path = uploaded(&server, &data).await?;
    for (range, from, to) in [
        ("bytes=0-99", 0, 100),
        ("bytes=900-", 900, 1000),
        ("bytes=-10", 990, 1000),
    ] {
        let answer = get(&server, &path, &[("Range", range)]).await?;
        assert_eq!(
            (answer.status, &answer.body[..]),
            (206, &data[from..to]),
            "{range}"
        );
        let expected = format!("bytes {from}-{}/1000", to - 1);
        assert_eq!(answer.header("content-range"), Some(&*expected), "{range}");
    }
    let answer = get(&server, &path, &[("Range", "bytes=1000-")]).await?;
    assert_eq!(
        (answer.status, answer.header("content-range")),
        (416, Some("bytes */1000"))
    );
    let answer = request(server.addr(), &format!("HEAD {path}"), &[], &[]).await?;
    assert_eq!(
        (
            answer.status,
            answer.header("content-length"),
            answer.body.len()
        ),
        (200, Some("1000"), 0)
    );
    Ok(())
}

#[tokio::test]
async fn an_upload_that_broke_off_goes_on_where_it_was() -> Result<()> {
    let server = server().await?;
    let media = &server.core().media;
    let data = bytes(200_000);
    let probe = format!("POST {}", target(&server, &data, "&resume=1"));
    assert_eq!(
        request(server.addr(), &probe, &[], &[]).await?.json()?["resume"],
        "0"
    );
    media.cut(MediaOp::Upload, 70_000, 1);
    assert!(
        upload(&server, &data).await.is_err(),
        "the connection was to be cut"
    );
    assert_eq!(
        request(server.addr(), &probe, &[], &[]).await?.json()?["resume"],
        "70000"
    );
    let beyond = format!("POST {}", target(&server, &data, "&file_offset=70001"));
    assert_eq!(
        request(server.addr(), &beyond, &[], &data[70_001..])
            .await?
            .status,
        416
    );
    let rest = format!("POST {}", target(&server, &data, "&file_offset=70000"));
    let answer = request(server.addr(), &rest, &[], &data[70_000..]).await?;
    assert_eq!(answer.status, 200);
    let path = answer.json()?["direct_path"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(get(&server, &path, &[]).await?.body == data);
    let again = request(server.addr(), &probe, &[], &[]).await?.json()?;
    assert_eq!(
        (again["resume"].as_str(), again["direct_path"].as_str()),
        (Some("complete"), Some(&*path))
    );
    Ok(())
}

#[tokio::test]
async fn the_store_has_an_end() -> Result<()> {
    let server = server().await?;
    let limits = MediaLimits {
        blob: 1000,
        total: 2000,
    };
    server.core().media.set_limits(limits);
    // The same file twice takes its room once; what is refused takes none.
    for (length, status) in [
        (1001, 413),
        (1000, 200),
        (1000, 200),
        (999, 200),
        (2, 507),
        (1, 200),
    ] {
        assert_eq!(
            upload(&server, &bytes(length)).await?.status,
            status,
            "{length} bytes"
        );
    }
    Ok(())
}

#[tokio::test]
async fn files_expire_until_they_are_uploaded_again() -> Result<()> {
    let server = server().await?;
    let media = &server.core().media;
    let data = bytes(1000);
    let path = uploaded(&server, &data).await?;
    for status in [404, 410] {
        assert!(media.expire(&path, status));
        assert_eq!(get(&server, &path, &[]).await?.status, status);
    }
    let probe = format!("POST {}", target(&server, &data, "&resume=1"));
    assert_eq!(
        request(server.addr(), &probe, &[], &[]).await?.json()?["resume"],
        "0"
    );
    assert_eq!(uploaded(&server, &data).await?, path);
    assert_eq!(get(&server, &path, &[]).await?.status, 200);
    assert!(!media.expire("/v/none", 404));
    Ok(())
}

#[tokio::test]
async fn faults_hit_as_many_requests_as_they_are_told() -> Result<()> {
    let server = server().await?;
    let media = &server.core().media;
    let data = bytes(100_000);
    let path = uploaded(&server, &data).await?;
    media.refuse_only(MediaOp::Download, 503, 2);
    assert_eq!(upload(&server, &data).await?.status, 200);
    assert_eq!(get(&server, &path, &[]).await?.status, 503);
    assert_eq!(get(&server, &path, &[]).await?.status, 503);
    media.refuse(403, 1);
    assert_eq!(upload(&server, &data).await?.status, 403);
    media.cut(MediaOp::Download, 30_000, 1);
    let answer = get(&server, &path, &[]).await?;
    assert_eq!((answer.status, &answer.body[..]), (200, &data[..30_000]));
    assert!(get(&server, &path, &[]).await?.body == data);
    media.refuse(500, 9);
    media.clear_faults();
    assert_eq!(get(&server, &path, &[]).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn downloads_can_be_slow() -> Result<()> {
    let server = server().await?;
    let data = bytes(20_000);
    let path = uploaded(&server, &data).await?;
    server.core().media.slow_down(Some(40_000));
    let begun = Instant::now();
    assert!(get(&server, &path, &[]).await?.body == data);
    assert!(
        begun.elapsed() >= Duration::from_millis(300),
        "{:?}",
        begun.elapsed()
    );
    Ok(())
}
