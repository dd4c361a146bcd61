//! The commands that an operator types.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use whatsapp_loopback::people::Person;

use super::{World, timeout};

/// Runs a command; its stdout, or its reason on stderr where it failed.
pub async fn run(world: &World, arguments: &[&str]) -> Result<String, String> {
    let mut command = world.command();
    // Its reason is for the operator, and no log.
    command
        .env("CHANNEL_WHATSAPP_LOG", "error")
        .args(arguments)
        .stderr(Stdio::piped());
    let output = timeout(command.output()).await.expect("run");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

pub async fn as_json(world: &World, arguments: &[&str]) -> Value {
    let out = run(world, arguments).await.expect("succeeds");
    let told = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
    world.discreet.note(&told);
    told
}

/// Whoever wrote last, once it is in the store.
pub async fn says(world: &World, person: &Person, text: &str) -> String {
    let id = person.text(world.jid(), text).await.expect("text");
    assert_eq!(person.wait_ack(&id).await.expect("ack"), None);
    id
}

/// The latest verdict on a message, once there is one.
pub async fn verdict(world: &World, id: &str) -> Value {
    timeout(async {
        loop {
            if let Ok(out) = run(world, &["explain", "--json", id]).await {
                let told: Value = serde_json::from_str(&out).expect("JSON");
                let first = told["messages"][0].clone();
                if first["outcome"] != "waiting" {
                    return first;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}
