//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{DEFAULT_ACCOUNT, account_name};

mod link;
#[cfg(test)]
mod tests;

pub use link::LinkArgs;

/// What `--version` prints after the name.
#[cfg(not(feature = "loopback"))]
const VERSION: &str = crate::VERSION;
#[cfg(feature = "loopback")]
const VERSION: &str = concat!(
    env!("CHANNEL_WHATSAPP_VERSION"),
    "\nloopback build: certificates are not checked, only loopback addresses are spoken to; not for real accounts"
);

/// What the process is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Serve the host on stdin and stdout.
    Serve,
    /// Link an account.
    Link(LinkArgs),
    /// Say how an account stands, or repair it.
    Doctor(DoctorArgs),
    /// Send events again.
    Redeliver(RedeliverArgs),
    /// Say who was let in, and decide about who waits.
    Access(AccessArgs),
    /// Say what became of a message, and why.
    Explain(ExplainArgs),
    /// Apply other settings to a running session.
    Reload(ReloadArgs),
    /// Fetch one file that somebody sent.
    MediaGet(MediaGetArgs),
    /// Print a JSON schema.
    Schema(SchemaArgs),
    /// Log an account's device out and remove its files.
    Unlink(UnlinkArgs),
    /// Print a script that completes the command line.
    Completions(CompletionsArgs),
    /// Print the manual page.
    Man,
}

#[derive(Debug, Parser)]
#[command(
    name = "channel-whatsapp",
    version = VERSION,
    about = "WhatsApp channel plugin for the Dispatch agent host",
    long_about = "WhatsApp channel plugin for the Dispatch agent host.\n\n\
        Without a command it serves the host: JSON-RPC, one object a line, on stdin and stdout. \
        An account is linked once before that, as a companion device, with `link` (or `--link`).",
    after_help = "Examples:\n  \
        channel-whatsapp --link\n  \
        channel-whatsapp link --account work --device-name \"Front desk\"\n  \
        dispatch channel install ./channel-plugin.json\n\n\
        Environment:\n  \
        CHANNEL_WHATSAPP_LOG         level of the log: off, error, warn, info, debug, trace\n  \
        CHANNEL_WHATSAPP_LOG_FILE    also log to this file, at level info; stderr gets warnings\n  \
        CHANNEL_WHATSAPP_LOG_FORMAT  text or json\n  \
        CHANNEL_WHATSAPP_WS_URL      another address than WhatsApp's, for proxies and tests",
    disable_help_subcommand = true
)]
struct Line {
    #[command(subcommand)]
    command: Option<Sub>,
}

#[derive(Debug, Subcommand)]
enum Sub {
    Link(LinkArgs),
    Doctor(DoctorArgs),
    Redeliver(RedeliverArgs),
    Access(AccessArgs),
    Explain(ExplainArgs),
    Reload(ReloadArgs),
    Media(MediaArgs),
    Schema(SchemaArgs),
    Unlink(UnlinkArgs),
    Completions(CompletionsArgs),
    /// Print the manual page, all commands in one
    #[command(after_help = "Example:\n  channel-whatsapp man | man -l -")]
    Man,
}

/// Which account a command is about.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Which {
    /// The `account` of the configuration
    #[arg(long, value_name = "NAME", default_value = DEFAULT_ACCOUNT, value_parser = account_name)]
    pub account: String,
    /// Absolute path of the store, instead of the account's directory
    #[arg(long, value_name = "PATH", value_parser = absolute_path)]
    pub sqlite_store_path: Option<PathBuf>,
}

/// Say how an account stands, and what to do about it
///
/// Looks at the files, and asks the process that has the connection, if there is one. Phone numbers are shortened, so
/// that what it prints can be put into a bug report. The exit code is 0 only if all is well.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:\n  \
    channel-whatsapp doctor\n  \
    channel-whatsapp doctor --json --account work\n  \
    channel-whatsapp doctor --connect\n  \
    channel-whatsapp doctor --repair")]
pub struct DoctorArgs {
    #[command(flatten)]
    pub which: Which,
    /// Make new databases out of what can be read of damaged ones; the originals are kept beside them
    #[arg(long)]
    pub repair: bool,
    /// Also connect, unless somebody else is connected; what waits is received and sent, as in any call
    #[arg(long)]
    pub connect: bool,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// Send events again that were set aside or of which nothing is known
///
/// Without an id it lists them. A process that is receiving emits them within a second, else the next one that does.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:\n  \
    channel-whatsapp redeliver\n  \
    channel-whatsapp redeliver whatsapp:15551234567@s.whatsapp.net:15551234567@s.whatsapp.net:3EB0C767D0")]
pub struct RedeliverArgs {
    #[command(flatten)]
    pub which: Which,
    /// Ids of events
    #[arg(value_name = "EVENT_ID")]
    pub events: Vec<String>,
}

/// Say who was let in, and decide about who waits
///
/// With `dm_policy` `pairing`, a stranger who writes gets a code. The one who brings it to you can be let in here: what
/// they wrote within the hour goes to the agent at once, and a running session needs no restart. A code is valid for an
/// hour, and at most three wait. Approvals stay when the account is linked anew.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:\n  \
    channel-whatsapp access pending\n  \
    channel-whatsapp access approve ABCD2345\n  \
    channel-whatsapp access approve +15551230000   (the new holder of a suspended number)\n  \
    channel-whatsapp access list --json --account work\n  \
    channel-whatsapp access revoke +15551230000")]
pub struct AccessArgs {
    #[command(subcommand)]
    pub what: AccessWhat,
}

/// What about access.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum AccessWhat {
    /// Who was let in
    #[command(after_help = "Examples:\n  \
        channel-whatsapp access list\n  \
        channel-whatsapp access list --json --account work")]
    List(AccessAsked),
    /// Who waits with a code, and which numbers of your lists have gone to somebody else
    #[command(after_help = "Examples:\n  \
        channel-whatsapp access pending\n  \
        channel-whatsapp access pending --json | jq -r '.pending[].code'")]
    Pending(AccessAsked),
    /// Let the owner of this code in, or whoever has this suspended number now
    #[command(after_help = "Examples:\n  \
        channel-whatsapp access approve ABCD2345\n  \
        channel-whatsapp access approve +15551230000")]
    Approve(AccessDecision),
    /// Send the owner of this code away: what they wrote is erased, and for a day they get no other code
    #[command(after_help = "Example:\n  channel-whatsapp access deny ABCD2345")]
    Deny(AccessDecision),
    /// Take an approval back; any address of the person, or their phone number
    #[command(after_help = "Examples:\n  \
        channel-whatsapp access revoke +15551230000\n  \
        channel-whatsapp access revoke 123456789012345@lid")]
    Revoke(AccessDecision),
}

/// A look at access.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct AccessAsked {
    #[command(flatten)]
    pub which: Which,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// A decision about access.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct AccessDecision {
    #[command(flatten)]
    pub asked: AccessAsked,
    /// The code, or a phone number, JID or LID
    #[arg(value_name = "CODE_OR_ID")]
    pub who: String,
}

/// Say what became of a message, and why
///
/// The gates that it met, in order, the addresses of its sender that were tried, and the rule that spoke. Addresses are
/// shortened, so that what it prints can be put into a bug report, and nothing tells what the message said. Of messages
/// that never got into the inbox the last 10,000 of the last 30 days are known. Edits, deletions, reactions and votes are
/// messages with ids of their own. Receipts, calls, changes of groups and the like are none: they meet the same rules when
/// they happen, and leave no trace.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:\n  \
    channel-whatsapp explain 3EB0C767D0\n  \
    channel-whatsapp explain --full whatsapp:15551234567@s.whatsapp.net:15551234567@s.whatsapp.net:3EB0C767D0")]
pub struct ExplainArgs {
    #[command(flatten)]
    pub which: Which,
    /// Id of a message or of its event
    #[arg(value_name = "MESSAGE_ID")]
    pub id: String,
    /// Whole addresses
    #[arg(long)]
    pub full: bool,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// Apply other settings to a running session
///
/// The file has what the host gives as `config`, in JSON or TOML. It is checked first, and applied as a whole or not at
/// all, from the next message on; the connection stays. Without a running session it says so: then the settings that the
/// host gives apply at the next start anyway.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:\n  \
    channel-whatsapp reload --config whatsapp.toml\n  \
    channel-whatsapp reload --account work --config /srv/work.json")]
pub struct ReloadArgs {
    /// The account, if the file does not name it
    #[arg(long, value_name = "NAME", value_parser = account_name)]
    pub account: Option<String>,
    /// The settings
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// Files that people sent
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Example:\n  channel-whatsapp media get wa-media:0f3a… -o picture.jpg")]
pub struct MediaArgs {
    #[command(subcommand)]
    what: MediaSub,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum MediaSub {
    Get(MediaGetArgs),
}

/// Fetch one file by the storage key of its event
///
/// It comes from the media store; if it is not there, it is fetched from WhatsApp first, by the process that has the
/// connection or over one of its own. A file that WhatsApp no longer has is asked for from the phone.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:\n  \
    channel-whatsapp media get wa-media:0f3a… -o picture.jpg\n  \
    channel-whatsapp media get wa-media:0f3a… --account work | file -")]
pub struct MediaGetArgs {
    #[command(flatten)]
    pub which: Which,
    /// As it stands in the event's attachment
    #[arg(value_name = "STORAGE_KEY")]
    pub key: String,
    /// Write it to this file instead of stdout
    #[arg(long, short = 'o', value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Give up fetching it after this many seconds
    #[arg(long, value_name = "SECS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
}

/// Print a JSON schema
///
/// `config`: the configuration that comes with every request, with the meaning, range and default of each key. `message`:
/// what `message.metadata` of `deliver` and `push` may say, the actions among it.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(
    after_help = "Examples:\n  channel-whatsapp schema config\n  channel-whatsapp schema message"
)]
pub struct SchemaArgs {
    /// What of
    #[arg(value_enum)]
    pub of: SchemaOf,
}

/// Log the device out at WhatsApp, and remove what was kept for it
///
/// Removes the session, the inbox, the outbox, the media, and who was let in. If WhatsApp cannot be told, nothing is
/// removed. What earlier devices left, moved aside by linking anew or by `doctor --repair`, goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:\n  \
    channel-whatsapp unlink\n  \
    channel-whatsapp unlink --account work --yes\n  \
    channel-whatsapp unlink --local-only    # the device was removed on the phone")]
pub struct UnlinkArgs {
    #[command(flatten)]
    pub which: Which,
    /// Do not ask; needed where there is no terminal to ask on
    #[arg(long)]
    pub yes: bool,
    /// Remove the files without telling WhatsApp; the device stays in the phone's list until it is removed there
    #[arg(long)]
    pub local_only: bool,
    /// Keep who was let in with `access approve`, for the account that is linked here next
    #[arg(long)]
    pub keep_access: bool,
}

/// Print a script that completes the command line
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:\n  \
    channel-whatsapp completions bash > ~/.local/share/bash-completion/completions/channel-whatsapp\n  \
    channel-whatsapp completions fish > ~/.config/fish/completions/channel-whatsapp.fish")]
pub struct CompletionsArgs {
    /// Of which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// What there is a schema of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SchemaOf {
    /// The `config` of every request
    Config,
    /// `message.metadata` of `deliver` and `push`
    Message,
}

/// Reads the command line, the program's name included.
///
/// # Errors
/// With what is to be printed; `exit` prints it in the right place and ends with the right code: 0 for help and
/// version, 2 for usage.
pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    Ok(match Line::try_parse_from(with_subcommand(line))?.command {
        None => Command::Serve,
        Some(Sub::Link(args)) => Command::Link(args),
        Some(Sub::Doctor(args)) => Command::Doctor(args),
        Some(Sub::Redeliver(args)) => Command::Redeliver(args),
        Some(Sub::Access(args)) => Command::Access(args),
        Some(Sub::Explain(args)) => Command::Explain(args),
        Some(Sub::Reload(args)) => Command::Reload(args),
        Some(Sub::Media(MediaArgs {
            what: MediaSub::Get(args),
        })) => Command::MediaGet(args),
        Some(Sub::Schema(args)) => Command::Schema(args),
        Some(Sub::Unlink(args)) => Command::Unlink(args),
        Some(Sub::Completions(args)) => Command::Completions(args),
        Some(Sub::Man) => Command::Man,
    })
}

/// The definition of the command line, for what is generated from it.
pub(super) fn definition() -> clap::Command {
    Line::command()
}

/// The error that the command line asks for something that cannot be, as if it had been seen while it was read.
pub(super) fn usage(command: &str, message: &str) -> clap::Error {
    let mut definition = definition();
    definition.build();
    match definition.find_subcommand_mut(command) {
        Some(command) => command.error(ErrorKind::MissingRequiredArgument, message),
        None => definition.error(ErrorKind::MissingRequiredArgument, message),
    }
}

/// `--link` anywhere is the command `link`, the spelling of other plugins for the same thing.
fn with_subcommand(line: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut line: Vec<OsString> = line.into_iter().collect();
    if let Some(at) = line.iter().position(|arg| arg == "--link") {
        line.remove(at);
        if line.get(1).is_none_or(|arg| arg != "link") {
            line.insert(1, "link".into());
        }
    }
    line
}

fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err("write the whole path, from the root".to_owned())
    }
}
