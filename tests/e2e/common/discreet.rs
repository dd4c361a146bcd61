//! What the plugin's processes write to stderr in a test, at `info` unless the test wants something else, and that it
//! says nothing of what was said and names nobody: looked for at the end of every test.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, LazyLock, Mutex, Weak};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use whatsapp_loopback::Server;

/// Shorter texts are in a log by chance.
const TELLING: usize = 10;
/// The variable of the environment by which a process is known to belong to a world.
const HOME: &str = "XDG_CONFIG_HOME";

/// Those of this process, by the directory of their world.
static ALL: LazyLock<Mutex<HashMap<PathBuf, Weak<Discreet>>>> = LazyLock::new(Default::default);

/// The log of one world's processes.
pub struct Discreet {
    logs: TempDir,
    core: Arc<whatsapp_loopback::Core>,
    said: Mutex<BTreeSet<String>>,
}

impl Discreet {
    pub fn new(home: &Path, server: &Server) -> Arc<Self> {
        let new = Arc::new(Self {
            logs: tempfile::tempdir().expect("directory"),
            core: server.core().clone(),
            said: Mutex::default(),
        });
        let mut all = ALL.lock().expect("worlds");
        all.retain(|_, world| world.strong_count() > 0);
        all.insert(home.to_owned(), Arc::downgrade(&new));
        new
    }

    /// Of the world that this process belongs to.
    pub fn of(command: &Command) -> Option<Arc<Self>> {
        let home = command
            .as_std()
            .get_envs()
            .find_map(|(name, value)| (name == HOME).then_some(value?))?;
        ALL.lock().expect("worlds").get(Path::new(home))?.upgrade()
    }

    /// Where one process writes. `SHOW_STDERR` shows it instead.
    pub fn stderr(&self) -> Stdio {
        if std::env::var_os("SHOW_STDERR").is_some() {
            return Stdio::inherit();
        }
        let name = format!("{:016x}", fastrand::u64(..));
        File::create(self.logs.path().join(name))
            .expect("a file for stderr")
            .into()
    }

    /// Takes note of what is said in a line of the protocol.
    pub fn note(&self, line: &Value) {
        let mut texts = Vec::new();
        contents(line, &mut texts);
        let lines = texts.into_iter().flat_map(str::lines);
        let telling = lines.filter(|line| line.len() >= TELLING);
        self.said
            .lock()
            .expect("said")
            .extend(telling.map(str::to_owned));
    }
}

/// Every text of a message, in whatever it is.
fn contents<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "content" => texts.push(text),
                    other => contents(other, texts),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| contents(value, texts)),
        _ => {}
    }
}

impl Drop for Discreet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut secrets = std::mem::take(self.said.get_mut().expect("said"));
        for account in self.core.accounts() {
            secrets.insert(account.phone);
            let lid = account.lid_jid.split('@').next();
            secrets.extend(lid.map(str::to_owned));
        }
        for entry in fs::read_dir(self.logs.path()).expect("logs") {
            let path = entry.expect("entry").path();
            let log = fs::read(&path).expect("log");
            let log = String::from_utf8_lossy(&log);
            for line in log.lines() {
                let told = secrets.iter().find(|secret| line.contains(*secret));
                assert!(told.is_none(), "{told:?} is told on stderr: {line}");
            }
        }
    }
}
