//! Messages with files, and what became of them.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use wacore::proto_helpers::MessageExt as _;
use whatsapp_loopback::people::{Person, SeenMessage};

use super::{Host, World, message, open};

/// Everybody is let in, groups and this machine's own files too.
pub fn config() -> Value {
    let mut config = open();
    config["allow_group_messages"] = json!(true);
    config["group_activation"] = json!("all");
    config["allowed_conversation_ids"] = json!(["*"]);
    config["allow_private_urls"] = json!(true);
    config
}

/// A file within the request.
pub fn attached(name: &str, mime_type: &str, bytes: &[u8]) -> Value {
    json!({"name": name, "mime_type": mime_type, "data_base64": BASE64.encode(bytes)})
}

/// A message with files.
pub fn params(to: &str, content: &str, attachments: Vec<Value>, mut metadata: Value) -> Value {
    metadata["conversation_id"] = json!(to);
    let mut message = message(content, metadata);
    message["attachments"] = json!(attachments);
    json!({"config": config(), "message": message})
}

/// The ids of an answer.
pub fn ids(result: &Value) -> Vec<String> {
    let metadata = &result["delivery"]["metadata"];
    let ids = metadata["message_ids"].as_str().expect("ids");
    ids.split(',').map(str::to_owned).collect()
}

/// What of the account's staged files is still there.
pub fn staged(world: &World) -> Vec<PathBuf> {
    let folder = world.account_dir().join("media/staged");
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.map(|entry| entry.expect("entry").path());
    paths.filter(|path| !path.ends_with("lock")).collect()
}

/// How many files the server was given.
pub fn uploads(world: &World) -> u64 {
    world.server.core().media.served().0
}

/// How many files somebody was sent.
pub fn files_of(person: &Person) -> usize {
    person.seen(|seen| {
        let bodies = seen.messages.iter().map(|m| m.message.get_base_message());
        bodies
            .filter(|m| m.document_message.is_set() || m.image_message.is_set())
            .count()
    })
}

/// A process that receives.
pub async fn started(world: &World) -> Host {
    let mut host = world.host();
    host.ask("start_ingress", json!({"config": config()})).await;
    host
}

/// A message as it arrives, which must have come once, with the bytes of its file.
pub async fn arrived(person: &Person, id: &str) -> (SeenMessage, Vec<u8>) {
    let seen = person.wait_id(id).await.expect("arrives");
    let bytes = person.download(&seen).await.expect("download");
    assert_eq!(person.seen(|seen| seen.count_id(id)), 1);
    (seen, bytes)
}

/// Serves one file to whoever asks; its address.
pub async fn serve(mime_type: &'static str, body: Arc<Vec<u8>>) -> String {
    serve_times(usize::MAX, mime_type, body).await
}

/// The same for so many who ask; after them nobody is at that address.
pub async fn serve_times(times: usize, mime_type: &'static str, body: Arc<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        for _ in 0..times {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            let body = body.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
                    line.clear();
                }
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: {mime_type}\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                // Who does not want the rest hangs up.
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(&body).await;
            });
        }
    });
    format!("http://{address}/files/some.bin?x=1")
}
