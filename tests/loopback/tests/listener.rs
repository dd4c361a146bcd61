//! The front of the server: what it upgrades, what it refuses, where it listens.

mod http;

use anyhow::Result;
use http::raw;
use whatsapp_loopback::{Options, Server};
use whatsapp_rust::transport::{TokioWebSocketTransportFactory, TransportFactory as _};

async fn status(server: &Server, head: &str) -> Result<u16> {
    let wire = format!("{head}Host: x\r\nConnection: close\r\n\r\n")
        .replace('\n', "\r\n")
        .replace("\r\r", "\r");
    Ok(raw(server.addr(), wire.as_bytes()).await?.status)
}

#[tokio::test]
async fn only_loopback_addresses_are_served() {
    let options = Options {
        listen: ([0, 0, 0, 0], 0).into(),
        ..Options::default()
    };
    let error = Server::start(options)
        .await
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(error.contains("not a loopback address"), "{error:?}");
}

#[tokio::test]
async fn what_is_no_websocket_handshake_is_not_upgraded() -> Result<()> {
    let server = Server::start(Options::default()).await?;
    assert_eq!(status(&server, "GET / HTTP/1.1\n").await?, 404);
    assert_eq!(status(&server, "GET /ws/chat HTTP/1.1\n").await?, 426);
    let upgrade = "GET /ws/chat HTTP/1.1\nConnection: keep-alive, Upgrade\nUpgrade: websocket\n";
    assert_eq!(status(&server, upgrade).await?, 426);
    let versioned = format!("{upgrade}Sec-WebSocket-Version: 13\n");
    assert_eq!(status(&server, &versioned).await?, 400);
    let bad_key = format!("{versioned}Sec-WebSocket-Key: c2hvcnQ=\n");
    assert_eq!(status(&server, &bad_key).await?, 400);
    Ok(())
}

#[tokio::test]
async fn the_websocket_is_served_plain_and_over_tls() -> Result<()> {
    let server = Server::start(Options::default()).await?;
    for scheme in ["ws", "wss"] {
        let url = format!("{scheme}://{}/ws/chat?ED=CAIIEggN", server.addr());
        TokioWebSocketTransportFactory::new()
            .with_url(url)
            .create_transport()
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_dropped_server_frees_its_port() -> Result<()> {
    let server = Server::start(Options::default()).await?;
    let addr = server.addr();
    drop(server);
    let again = Options {
        listen: addr,
        ..Options::default()
    };
    let begun = std::time::Instant::now();
    // The port is free once the runtime has dropped the accepting task.
    while Server::start(again.clone()).await.is_err() {
        anyhow::ensure!(begun.elapsed().as_secs() < 10, "the port is still taken");
        tokio::task::yield_now().await;
    }
    Ok(())
}
