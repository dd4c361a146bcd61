//! A real server of S3 on the loopback interface, which can go down, refuse and take its time; and what the tests of
//! object stores share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s::{S3Result, s3_error};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use whatsapp_loopback::people::Person;

use super::media::attachment;
use super::{Host, PATIENCE, World, open, timeout};

/// The bucket that is always there.
pub const BUCKET: &str = "media";
/// Another one.
pub const OTHER: &str = "second";
/// What nobody may read in a log.
pub const SECRET: &str = "hush hush hush";
/// So large is what goes in two parts.
pub const PARTS: usize = (5 << 20) + 1000;

/// The server. What it has is in a folder: a directory a bucket.
pub struct S3 {
    folder: TempDir,
    address: SocketAddr,
    running: Option<AbortHandle>,
    pub manner: Arc<Manner>,
}

/// How it treats what is asked of it, by the names of S3's operations.
pub struct Manner {
    folder: PathBuf,
    /// These it refuses.
    pub refuses: Mutex<Vec<&'static str>>,
    /// Each of this kind waits until there is another one here.
    pub holds: watch::Sender<Option<&'static str>>,
    /// What it was asked.
    asked: Mutex<Vec<String>>,
}

impl Manner {
    /// How many of this kind have come.
    pub fn asked(&self, operation: &str) -> usize {
        let asked = self.asked.lock().expect("lock");
        asked.iter().filter(|asked| *asked == operation).count()
    }

    pub fn refuse(&self, operations: &[&'static str]) {
        *self.refuses.lock().expect("lock") = operations.to_owned();
    }
}

/// The server as its access control sees it.
struct Gate(Arc<Manner>);

#[async_trait]
impl S3Access for Gate {
    async fn check(&self, asked: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = asked.s3_op().name();
        let manner = &self.0;
        manner
            .asked
            .lock()
            .expect("lock")
            .push(operation.to_owned());
        // Another bucket would be made by its first object; no store does that.
        match (asked.credentials(), asked.s3_path().get_bucket_name()) {
            (Some(_), Some(BUCKET | OTHER)) => {}
            (Some(_), _) => return Err(s3_error!(NoSuchBucket)),
            (None, _) => return Err(s3_error!(AccessDenied)),
        }
        if manner.refuses.lock().expect("lock").contains(&operation) {
            return Err(s3_error!(AccessDenied));
        }
        let mut held = manner.holds.subscribe();
        let _ = held.wait_for(|held| *held != Some(operation)).await;
        // https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html: NoSuchUpload, 404. The server behind
        // this one says AccessDenied.
        let query = asked.uri().query().unwrap_or_default();
        if let (true, Some((_, upload))) = (
            operation == "AbortMultipartUpload",
            query.split_once("uploadId="),
        ) {
            let upload = upload.split('&').next().unwrap_or_default();
            if !manner
                .folder
                .join(format!(".upload-{upload}.json"))
                .is_file()
            {
                return Err(s3_error!(NoSuchUpload));
            }
        }
        Ok(())
    }
}

impl S3 {
    /// One that does not answer yet.
    pub async fn down() -> Self {
        let folder = tempfile::tempdir().expect("directory");
        for bucket in [BUCKET, OTHER] {
            std::fs::create_dir(folder.path().join(bucket)).expect("bucket");
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        Self {
            address: listener.local_addr().expect("address"),
            running: None,
            manner: Arc::new(Manner {
                folder: folder.path().to_owned(),
                refuses: Mutex::default(),
                holds: watch::Sender::new(None),
                asked: Mutex::default(),
            }),
            folder,
        }
    }

    pub async fn up() -> Self {
        let mut server = Self::down().await;
        server.start().await;
        server
    }

    pub async fn start(&mut self) {
        let files = s3s_fs::FileSystem::new(self.folder.path()).expect("file system");
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single("somebody", SECRET));
        service.set_access(Gate(self.manner.clone()));
        let service = service.build();
        let listener = TcpListener::bind(self.address).await.expect("bind");
        let serving = tokio::spawn(async move {
            // They end with this.
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("accept");
                let service = service.clone();
                connections.spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    let _ = builder
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        self.running = Some(serving.abort_handle());
    }

    pub fn stop(&mut self) {
        self.running.take().expect("running").abort();
    }

    /// What the server's user has in the environment, and this in its place.
    pub fn command(&self, world: &World, more: &[(&str, &str)]) -> Command {
        let mut command = world.command();
        command
            .env("AWS_ENDPOINT_URL", format!("http://{}", self.address))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_ACCESS_KEY_ID", "somebody")
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("NO_PROXY", "127.0.0.1")
            .envs(more.iter().copied());
        command
    }

    pub async fn host(&self, world: &World, more: &[(&str, &str)], config: Value) -> Host {
        let mut host = Host::new(self.command(world, more));
        host.ask("start_ingress", json!({"config": config})).await;
        host
    }

    /// All its files but its own notes, by their paths; what is left of uploads is among them.
    pub fn objects(&self) -> HashMap<String, PathBuf> {
        let mut found = HashMap::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("folder") {
                let path = entry.expect("entry").path();
                let name = path.strip_prefix(self.folder.path()).expect("inside");
                let name = name.to_str().expect("name").to_owned();
                if path.is_dir() {
                    folders.push(path);
                } else if !name.ends_with(".json") {
                    found.insert(name, path);
                }
            }
        }
        found
    }

    /// The bytes behind an event's URL.
    pub fn at(&self, event: &Value) -> Vec<u8> {
        let url = attachment(event)["url"].as_str().expect("url");
        let name = url
            .strip_prefix("s3://")
            .expect("an object")
            .replace("%20", " ");
        std::fs::read(self.folder.path().join(name)).expect("object")
    }

    pub async fn get(&self, world: &World, event: &Value) -> Result<Vec<u8>, String> {
        let key = attachment(event)["storage_key"].as_str().expect("key");
        let mut command = self.command(world, &[]);
        // A file of 1 GiB takes its time where nothing is optimised.
        let seconds = match std::env::var_os("CHANNEL_WHATSAPP_LONG") {
            Some(_) => 600,
            None => PATIENCE.as_secs(),
        };
        let within = seconds.to_string();
        command
            .args(["media", "get", key, "--timeout", &within])
            .stderr(Stdio::piped());
        let output = tokio::time::timeout(Duration::from_secs(2 * seconds), command.output());
        let output = output.await.expect("in time").expect("output");
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// What `doctor` says, as JSON.
    pub async fn doctor(&self, world: &World, more: &[(&str, &str)]) -> Value {
        let mut command = self.command(world, more);
        let output = command.args(["doctor", "--json"]).output();
        let output = timeout(output).await.expect("output");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }
}

/// A configuration that keeps media in the bucket.
pub fn config(media: Value) -> Value {
    let mut config = open();
    config["media"] = media;
    if config["media"]["store"].is_null() {
        config["media"]["store"] = json!("s3://media/our files/");
    }
    config
}

/// Sends a file; the id of its message.
pub async fn send(person: &Person, world: &World, content: &[u8]) -> String {
    let sent = person
        .document(world.jid(), content, "a file", "application/pdf")
        .await;
    sent.expect("document")
}

/// The event of this message; what comes again before it is passed over.
pub async fn told(host: &mut Host, id: &str) -> Value {
    loop {
        let event = host.event().await;
        if event["message"]["id"] == id {
            return event;
        }
    }
}
