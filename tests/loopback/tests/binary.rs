//! The server as a program of its own: what it prints, and how it ends.

mod http;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use http::request;

/// Ends the program when a test is over, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_whatsapp-loopback"))
}

#[tokio::test]
async fn it_prints_where_it_is_and_goes_when_told_to() -> Result<()> {
    let child = command()
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut running = Running(child);
    let mut first = String::new();
    let mut stdout = BufReader::new(running.0.stdout.take().context("no stdout")?);
    stdout.read_line(&mut first)?;
    let addr = first
        .split("ws://")
        .nth(1)
        .and_then(|rest| rest.split('/').next())
        .context(first.clone())?;
    let answer = request(addr.parse()?, "GET /admin/state", &[], &[]).await?;
    assert_eq!(
        (
            answer.status,
            answer.json()?["accounts"].as_array().map(Vec::len)
        ),
        (200, Some(0))
    );
    let told = Command::new("kill")
        .arg(running.0.id().to_string())
        .status()?;
    assert!(told.success());
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        match running.0.try_wait()? {
            Some(status) => break status,
            None => anyhow::ensure!(Instant::now() < deadline, "it is still running"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(status.success(), "{status}");
    Ok(())
}

#[test]
fn it_refuses_to_be_reachable_from_elsewhere() -> Result<()> {
    let output = command().args(["--listen", "0.0.0.0:0"]).output()?;
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr)?;
    assert!(said.contains("not a loopback address"), "{said}");
    Ok(())
}
