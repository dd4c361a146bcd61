//! What the plugin's processes write to stderr and to log files in a test, at `info` unless the test wants something else,
//! and that it says nothing of what was said, by whoever and to whomever, and names nobody: looked for at the end of every
//! test.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, LazyLock, Mutex, Weak};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use whatsapp_loopback::Server;

/// What a log would say only if it told a text; shorter ones are there by chance, single words sooner than several.
fn is_telling(text: &str) -> bool {
    text == "hello" || text.len() >= if text.contains(' ') { 8 } else { 10 }
}

/// The code with which a stranger waits, and no code of an error.
fn is_code(text: &str) -> bool {
    let of_code = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    text.len() == 8 && text.bytes().all(of_code)
}

/// Whether a line has this text, and not as a part of a longer word; of a number any place will do.
fn tells(line: &str, text: &str) -> bool {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    line.match_indices(text).any(|(at, _)| {
        if is_number {
            return true;
        }
        let (before, after) = (&line[..at], &line[at + text.len()..]);
        !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric)
    })
}

/// The variable of the environment by which a process is known to belong to a world.
const HOME: &str = "XDG_CONFIG_HOME";

/// Those of this process, by the directory of their world.
static ALL: LazyLock<Mutex<HashMap<PathBuf, Weak<Discreet>>>> = LazyLock::new(Default::default);

/// The log of one world's processes.
pub struct Discreet {
    logs: TempDir,
    core: Arc<whatsapp_loopback::Core>,
    said: Mutex<BTreeSet<String>>,
    files: Mutex<Vec<File>>,
}

impl Discreet {
    pub fn new(home: &Path, server: &Server) -> Arc<Self> {
        let new = Arc::new(Self {
            logs: tempfile::tempdir().expect("directory"),
            core: server.core().clone(),
            said: Mutex::default(),
            files: Mutex::default(),
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

    /// The log file of a process that is to have one; below `info` it may name people.
    pub fn also(&self, command: &Command) {
        let of = |name: &str| {
            let mut variables = command.as_std().get_envs();
            variables.find_map(|(key, value)| (key == name).then_some(value?))
        };
        let detailed = of("CHANNEL_WHATSAPP_LOG").is_some_and(|it| it == "debug" || it == "trace");
        let Some(path) = of("CHANNEL_WHATSAPP_LOG_FILE").filter(|_| !detailed) else {
            return;
        };
        // Its directory may be gone when it is looked at.
        let mut file = OpenOptions::new();
        let file = file.read(true).append(true).create(true).open(path);
        self.files.lock().expect("files").push(file.expect("log"));
    }

    /// Takes note of what is said in a line of the protocol, or in what a command says.
    pub fn note(&self, line: &Value) {
        let mut texts = Vec::new();
        contents(line, &mut texts);
        for text in texts {
            self.keep(text);
        }
    }

    /// Takes note of a text that is to stay here.
    pub fn keep(&self, text: &str) {
        let mut said = self.said.lock().expect("said");
        said.extend(text.lines().map(str::to_owned));
    }
}

/// Every text of a message, in whatever it is; names of files and groups, and codes.
fn contents<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "content" => texts.push(text),
                    Value::String(text) if name == "filename" => texts.push(text),
                    Value::String(text) if name == "conversation_title" => texts.push(text),
                    Value::String(text) if name == "code" && is_code(text) => {
                        texts.push(text);
                    }
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
        let heard = self.core.said();
        secrets.extend(
            heard
                .iter()
                .flat_map(|text| text.lines().map(str::to_owned)),
        );
        secrets.retain(|text| is_telling(text) || is_code(text));
        for account in self.core.accounts() {
            let lid = account.lid_jid.split('@').next();
            secrets.extend(lid.map(str::to_owned));
            secrets.extend([account.phone, account.push_name]);
        }
        let mut logs = std::mem::take(self.files.get_mut().expect("files"));
        for entry in fs::read_dir(self.logs.path()).expect("logs") {
            logs.push(File::open(entry.expect("entry").path()).expect("log"));
        }
        for mut file in logs {
            let mut log = Vec::new();
            file.read_to_end(&mut log).expect("log");
            for line in String::from_utf8_lossy(&log).lines() {
                let told = secrets.iter().find(|secret| tells(line, secret));
                assert!(told.is_none(), "{told:?} is told in a log: {line}");
            }
        }
    }
}
