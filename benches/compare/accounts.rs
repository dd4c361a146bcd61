//! The two accounts that are compared: both linked by the plugin, so that their stores start alike.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use whatsapp_loopback::Server;

/// Longer than anything takes; who waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Plugin,
    Bare,
}

/// The plugin's binary, as the tests have it: it takes the loopback server.
pub fn plugin() -> Command {
    Command::new(env!("CARGO_BIN_EXE_channel-whatsapp"))
}

/// One linked account and the people who write to it.
pub struct Account {
    pub side: Side,
    pub home: PathBuf,
    pub store: PathBuf,
    pub phone: String,
    pub device: u16,
    /// Phone numbers of those who write to it.
    pub people: Vec<String>,
    server: Server,
}

impl Account {
    /// Links a new account with the plugin, in a directory that does not exist yet.
    pub fn link(server: &Server, side: Side, home: PathBuf, people: usize) -> Result<Self> {
        std::fs::create_dir_all(&home)?;
        let mut child = plugin()
            .args(["--link", "--json", "--timeout", "60"])
            .env("XDG_CONFIG_HOME", &home)
            .env("CHANNEL_WHATSAPP_WS_URL", server.ws_url())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut summary = Value::Null;
        for line in BufReader::new(child.stdout.take().context("stdout")?).lines() {
            let event: Value = serde_json::from_str(&line?)?;
            match event["event"].as_str() {
                Some("qr") => {
                    let text = event["text"].as_str().context("a QR without text")?;
                    server.core().scan_qr(text, None)?;
                }
                Some("failed") => bail!("link failed: {event}"),
                Some("linked") => summary = event,
                _ => {}
            }
        }
        ensure!(child.wait()?.success(), "link failed");
        let text = |key: &str| {
            summary[key]
                .as_str()
                .map(str::to_owned)
                .context("link summary")
        };
        let jid = text("phone_jid")?;
        let phone = jid.split('@').next().unwrap_or_default().to_owned();
        let device = summary["device_id"]
            .as_u64()
            .context("device_id")?
            .try_into()?;
        let people = (0..people)
            .map(|_| {
                Ok(server
                    .core()
                    .writer(None, &phone, device, false)?
                    .phone()
                    .to_owned())
            })
            .collect::<Result<_, String>>()
            .map_err(anyhow::Error::msg)?;
        let store = text("store_path")?.into();
        let account = Self {
            side,
            home,
            store,
            phone,
            device,
            people,
            server: server.clone(),
        };
        account.away()?;
        Ok(account)
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Stanzas that the device has not settled.
    pub fn queued(&self) -> usize {
        self.server.core().queue_len(&self.phone, self.device)
    }

    /// How often the device has logged in.
    pub fn logins(&self) -> u64 {
        let info = self.server.core().account(&self.phone);
        let device = info.and_then(|info| info.devices.into_iter().find(|d| d.id == self.device));
        device.map_or(0, |device| device.logins)
    }

    /// Waits until the device has announced its presence, which the library does once the offline queue has been
    /// received: then it counts as ready.
    pub fn ready(&self) -> Result<()> {
        until("ready", || {
            self.server
                .core()
                .presence(&self.phone, self.device)
                .is_some()
        })
    }

    /// Waits until the server has seen the device leave.
    pub fn away(&self) -> Result<()> {
        let connected = |phone: Option<&String>| phone == Some(&self.phone);
        let core = self.server.core();
        until("away", || {
            !core
                .connections()
                .iter()
                .any(|c| connected(c.phone.as_ref()))
        })
    }
}

/// Looks every 50 µs, which costs a core little, until it holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        ensure!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_micros(50));
    }
    Ok(())
}
