//! `channel-whatsapp --link`: codes on stderr, the summary alone on stdout.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::args::LinkArgs;
use super::qr;
use crate::account::{OwnerLock, Paths, Role, private_file};
use crate::clock::now;
use crate::media::depot::is_object;
use crate::platform;
use crate::session::{self, LinkError, LinkProgress, LinkRequest, Terminal, TerminalKind};
use crate::store::{Linked, Remnant, Store, linked_device};

/// Links an account, or says in one line why it did not.
pub fn run(args: &LinkArgs) -> ExitCode {
    match link(args) {
        Ok(summary) => {
            // Nobody to tell if stdout is closed; the account is linked all the same.
            let _ = writeln!(std::io::stdout(), "{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            if args.json {
                let code = code(&error);
                say(&json!({"event": "failed", "code": code, "message": format!("{error:#}")}));
            }
            let _ = writeln!(std::io::stderr(), "channel-whatsapp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A refusal of this command itself.
#[derive(Debug, thiserror::Error)]
#[error(
    "already_linked: this account is linked to {0}; to link another, run `channel-whatsapp unlink` first, or use another --account"
)]
struct AlreadyLinked(String);

fn code(error: &anyhow::Error) -> &'static str {
    if error.is::<AlreadyLinked>() {
        return "already_linked";
    }
    let link = error.downcast_ref::<LinkError>().map(LinkError::code);
    link.or_else(|| {
        error
            .downcast_ref::<crate::account::InUse>()
            .map(crate::account::InUse::code)
    })
    .or_else(|| {
        error
            .downcast_ref::<crate::account::AccountError>()
            .map(crate::account::AccountError::code)
    })
    .or_else(|| {
        error
            .downcast_ref::<crate::store::StoreError>()
            .map(crate::store::StoreError::code)
    })
    .unwrap_or("failed")
}

fn link(args: &LinkArgs) -> anyhow::Result<Value> {
    let paths = Paths::resolve(&args.account, args.sqlite_store_path.as_deref())?;
    let _lock = OwnerLock::take(&paths, Role::Link)?;
    paths.prepare()?;
    let mut store = Store::open(&paths.channel())?;
    if let Some(linked) = linked_device(paths.store())? {
        let terminal = store.terminal().wait()?.and_then(Terminal::recorded);
        if terminal.is_none_or(|terminal| terminal.kind != TerminalKind::LoggedOut) {
            return Err(AlreadyLinked(linked.phone.to_string()).into());
        }
        paths.set_aside(paths.store(), now())?;
    }
    if args.replace {
        // Whom the operator has let in is the operator's, not the number's.
        let approvals = store.approvals().wait()?;
        let passed_on = store.passed_on().wait()?;
        // Files on the disk are found by the next sweep; of those in an object store nobody would know any more.
        let mut remains = store.remains().wait()?;
        let objects = store.places().wait()?.into_iter();
        remains.extend(
            objects
                .filter(|place| is_object(place))
                .map(Remnant::object),
        );
        drop(store);
        paths.set_aside(&paths.channel(), now())?;
        paths.prepare()?;
        store = Store::open(&paths.channel())?;
        store.take_passed_on(passed_on).wait()?;
        store.take_approvals(approvals).wait()?;
        store.take_remains(remains).wait()?;
    }
    paths.prepare()?;
    let only = store.linked().wait()?.map(|linked| linked.phone);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let linked = runtime.block_on(async {
        let request = LinkRequest {
            device_name: args.device_name.clone(),
            pair_code: args
                .pair_code
                .as_ref()
                .map(|phone| phone.digits().to_owned()),
            custom_code: args.custom_pair_code.clone(),
            only,
            deadline: Instant::now() + Duration::from_secs(args.timeout),
            web_version: None,
        };
        let mut screen = Screen::new(args);
        let linked =
            session::link(&paths, &store, request, |progress| screen.show(&progress)).await;
        screen.done();
        linked
    });
    if matches!(linked, Err(LinkError::OtherAccount)) {
        paths.set_aside(paths.store(), now())?;
    }
    let linked = linked?;
    let stored = store.set_linked(Some(linked.clone()));
    // The phone has just let this device in.
    drop(store.note_phone(now()));
    store.set_terminal(None).wait()?;
    stored.wait()?;
    Ok(summary(&linked, &paths, args.json))
}

fn summary(linked: &Linked, paths: &Paths, event: bool) -> Value {
    let mut summary = json!({
        "phone_jid": linked.phone.to_string(),
        "lid": linked.lid.as_ref().map(ToString::to_string),
        "device_id": linked.device,
        "push_name": linked.push_name,
        "store_path": paths.store(),
    });
    if event {
        summary["event"] = json!("linked");
    }
    summary
}

/// Whoever scans the code while it is valid links this device, so it is for this user alone.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = private_file(path)?;
    file.set_len(0)?;
    file.write_all(bytes)
}

fn say(event: &Value) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{event}").and_then(|()| stdout.flush());
}

/// How many rows of the window a line takes. One of the drawing takes one; only words are broken.
fn rows(line: &str, width: Option<usize>) -> usize {
    match width {
        Some(width) if !line.contains(['█', '▀', '▄']) => {
            line.chars().count().div_ceil(width.max(1)).max(1)
        }
        _ => 1,
    }
}

/// Whether a code can be seen in the window that it is drawn in.
#[derive(Debug, PartialEq, Eq)]
enum Room {
    Enough,
    /// Its lines would be broken.
    Narrow(String),
    /// Its top would be out of sight.
    Short(String),
}

impl Room {
    /// From columns and rows of the code and of the window; without a window there is room enough.
    fn new((columns, rows): (usize, usize), window: Option<(usize, usize)>) -> Self {
        let otherwise =
            "or link with --pair-code PHONE, or with --qr-png FILE and open the picture";
        match window {
            Some((width, _)) if width < columns => Self::Narrow(format!(
                "The code takes {columns} columns and this window has {width}: make it wider or its letters smaller, and the \
                 next code is drawn; {otherwise}.\n"
            )),
            // The line below the code is to be seen too, and this sentence.
            Some((_, height)) if height < rows + 3 => Self::Short(format!(
                "The code takes {rows} rows and this window has {height}: make it taller or its letters smaller; {otherwise}.\n"
            )),
            _ => Self::Enough,
        }
    }
}

/// What the operator sees meanwhile: drawn on stderr, or told as NDJSON.
struct Screen<'a> {
    args: &'a LinkArgs,
    seq: u32,
    /// Lines of the last drawing, to draw over on a terminal.
    drawn: usize,
}

impl<'a> Screen<'a> {
    fn new(args: &'a LinkArgs) -> Self {
        Self {
            args,
            seq: 0,
            drawn: 0,
        }
    }

    fn show(&mut self, progress: &LinkProgress) {
        if let LinkProgress::Qr { text, .. } = progress {
            self.seq += 1;
            self.keep_png(text);
        }
        if self.args.json {
            return say(&self.event(progress));
        }
        match progress {
            LinkProgress::Qr { text, expires_in } => self.draw(text, *expires_in),
            LinkProgress::PairCode { code, expires_in } => self.line(&format!(
                "Or enter this code on the phone (WhatsApp › Linked devices › Link with phone number): {}-{}  (valid {} s)",
                &code[..code.len() / 2],
                &code[code.len() / 2..],
                expires_in.as_secs()
            )),
            LinkProgress::Scanned => self.line("The phone has taken the code."),
            LinkProgress::Restarting => self.line("Logging in for the first time …"),
            LinkProgress::Expired => self.line("The codes have run out; here come fresh ones."),
            LinkProgress::Unreachable => self.line("WhatsApp cannot be reached; trying again …"),
        }
    }

    fn event(&self, progress: &LinkProgress) -> Value {
        match progress {
            LinkProgress::Qr { text, expires_in } => json!({
                "event": "qr",
                "text": text,
                "png_data_url": qr::png(text).map(|png| format!("data:image/png;base64,{}", STANDARD.encode(png))).ok(),
                "expires_in": expires_in.as_secs(),
                "seq": self.seq,
            }),
            LinkProgress::PairCode { code, expires_in } => {
                json!({"event": "pair_code", "code": code, "expires_in": expires_in.as_secs()})
            }
            LinkProgress::Scanned => json!({"event": "scanned"}),
            LinkProgress::Restarting => json!({"event": "restarting"}),
            LinkProgress::Expired => json!({"event": "expired"}),
            LinkProgress::Unreachable => json!({"event": "unreachable"}),
        }
    }

    fn draw(&mut self, text: &str, expires_in: Duration) {
        let window = terminal_size::terminal_size_of(std::io::stderr())
            .map(|(width, height)| (width.0.into(), height.0.into()));
        let room = qr::extent(text).map_or(Room::Enough, |code| Room::new(code, window));
        let mut picture = match (&room, qr::terminal(text)) {
            // Broken lines cannot be scanned, and hide what is said below them.
            (Room::Narrow(_), _) => String::new(),
            (_, Ok(picture)) => picture,
            (_, Err(error)) => format!("The code cannot be drawn ({error}); its text is {text}\n"),
        };
        if let Room::Narrow(advice) | Room::Short(advice) = room {
            picture.push_str(&advice);
        }
        picture.push_str(&format!(
            "Scan this with WhatsApp › Linked devices › Link a device. Code {}, valid {} s.\n",
            self.seq,
            expires_in.as_secs()
        ));
        let mut stderr = std::io::stderr().lock();
        if self.drawn > 0 && platform::stderr_takes_escapes() {
            // Over the one before: an old code that can still be seen is an old code that gets scanned.
            let _ = write!(stderr, "\x1b[{}A\x1b[J", self.drawn);
        }
        let _ = write!(stderr, "{picture}");
        let width = window.map(|(width, _)| width);
        self.drawn = picture.lines().map(|line| rows(line, width)).sum();
    }

    fn line(&mut self, text: &str) {
        self.drawn += usize::from(self.drawn > 0);
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn keep_png(&self, text: &str) {
        let Some(file) = &self.args.qr_png else {
            return;
        };
        let kept = qr::png(text)
            .map_err(anyhow::Error::from)
            .and_then(|png| write_private(file, &png).context("cannot be written"));
        if let Err(error) = kept {
            let _ = writeln!(std::io::stderr(), "{}: {error:#}", file.display());
        }
    }

    /// The codes are of no use any more.
    fn done(&mut self) {
        if let Some(file) = &self.args.qr_png {
            let _ = std::fs::remove_file(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_is_too_small_is_said() {
        let code = (65, 33);
        for (window, expected) in [
            (None, "Enough"),
            (Some((80, 40)), "Enough"),
            (Some((65, 36)), "Enough"),
            (Some((64, 100)), "Narrow"),
            (Some((80, 24)), "Short"),
            (Some((40, 10)), "Narrow"),
        ] {
            let room = format!("{:?}", Room::new(code, window));
            assert!(room.starts_with(expected), "{window:?}: {room}");
            assert!(expected == "Enough" || room.contains("--pair-code"));
        }
    }
}
