//! What the measurements share: how much is measured, the server, the accounts, and the values so far.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use whatsapp_loopback::Server;

use crate::accounts::{Account, Side};
use crate::table::{Aim, Row, Unit};

/// How much of everything.
pub struct Sizes {
    pub repeats: usize,
    pub spawns: usize,
    pub starts: usize,
    pub health: usize,
    pub queue: usize,
    pub live: usize,
    pub chat: usize,
    pub sends: usize,
    /// Bytes of a file.
    pub file: usize,
}

impl Sizes {
    pub fn full() -> Self {
        Self {
            repeats: 5,
            spawns: 200,
            starts: 15,
            health: 2_000,
            queue: 20_000,
            live: 20_000,
            chat: 2_000,
            sends: 2_000,
            file: 256 << 20,
        }
    }

    /// Enough to see that it works.
    pub fn quick() -> Self {
        Self {
            repeats: 1,
            spawns: 20,
            starts: 3,
            health: 200,
            queue: 1_000,
            live: 1_000,
            chat: 200,
            sends: 200,
            file: 64 << 20,
        }
    }
}

/// People who write at the same time.
pub const CHATS: usize = 64;
/// The server, the two accounts, and what was measured so far.
pub struct Bench {
    pub sizes: Sizes,
    directory: tempfile::TempDir,
    /// The binary that does nothing.
    pub empty: PathBuf,
    pub runtime: tokio::runtime::Runtime,
    pub accounts: Vec<Account>,
    order: Vec<&'static str>,
    rows: BTreeMap<&'static str, Row>,
}

impl Bench {
    pub fn new(sizes: Sizes) -> Result<Self> {
        // Beside the build, so on a disk: the system's temporary directory may be memory.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let empty = compile_empty(directory.path())?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            sizes,
            directory,
            empty,
            runtime,
            accounts: Vec::new(),
            order: Vec::new(),
            rows: BTreeMap::new(),
        })
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A new server with two new accounts, so that no repeat stands on the stores that the one before has filled.
    pub fn begin(&mut self, repeat: usize) -> Result<()> {
        self.accounts.clear();
        let server = self.runtime.block_on(Server::start(Default::default()))?;
        let mut sides = [Side::Plugin, Side::Bare];
        if repeat % 2 == 1 {
            sides.reverse();
        }
        for side in sides {
            let home = self.directory.path().join(format!("{repeat}-{side:?}"));
            self.accounts
                .push(Account::link(&server, side, home, CHATS)?);
        }
        Ok(())
    }

    /// The rows, in the order in which they were first taken.
    pub fn rows(mut self) -> Vec<Row> {
        self.order
            .iter()
            .filter_map(|label| self.rows.remove(label))
            .collect()
    }

    /// Notes one side's value of this repeat.
    pub fn note(&mut self, side: Side, label: &'static str, unit: Unit, aim: Aim, value: f64) {
        let row = self.rows.entry(label).or_insert_with(|| {
            self.order.push(label);
            Row {
                label,
                unit,
                aim,
                plugin: Vec::new(),
                other: Vec::new(),
            }
        });
        match side {
            Side::Plugin => row.plugin.push(value),
            Side::Bare => row.other.push(value),
        }
    }

    /// Runs for both sides; the accounts are in the order of this repeat.
    pub fn both(&mut self, take: impl Fn(&mut Self, &Account) -> Result<()>) -> Result<()> {
        let accounts = std::mem::take(&mut self.accounts);
        let taken = accounts.iter().try_for_each(|account| take(self, account));
        self.accounts = accounts;
        taken
    }
}

fn compile_empty(directory: &Path) -> Result<PathBuf> {
    let source = directory.join("empty.rs");
    std::fs::write(&source, "fn main() {}\n")?;
    let binary = directory.join("empty");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(rustc)
        .arg("-O")
        .arg(&source)
        .arg("-o")
        .arg(&binary)
        .status()?;
    ensure!(status.success(), "rustc: {status}");
    Ok(binary)
}
