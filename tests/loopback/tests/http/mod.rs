//! HTTP/1.1 by hand: the tests look at statuses, headers and broken bodies that client libraries smooth over.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What came back; the body as far as it came.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| String::from_utf8_lossy(&self.body).into_owned())
    }
}

/// Sends a request with a Content-Length and reads until the server closes.
pub async fn request(
    addr: SocketAddr,
    first_line: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    let mut head = format!("{first_line} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    raw(addr, &bytes).await
}

/// Sends bytes as they are and reads until the server closes or breaks the connection.
pub async fn raw(addr: SocketAddr, bytes: &[u8]) -> Result<Answer> {
    let stream = TcpStream::connect(addr).await?;
    let (mut read, mut write) = stream.into_split();
    let bytes = bytes.to_vec();
    // The server may answer, or hang up, before it has read everything; the half is kept, since dropping it would
    // tell the server that nobody listens any more.
    let writing = tokio::spawn(async move {
        let _ = write.write_all(&bytes).await;
        std::future::pending::<()>().await;
    });
    let mut got = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = read.read(&mut buffer).await {
        got.extend_from_slice(&buffer[..n]);
    }
    writing.abort();
    let end = got
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("the server closed without an answer")?;
    let body = got.split_off(end + 4);
    let head = String::from_utf8(got)?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok(Answer { status, head, body })
}
