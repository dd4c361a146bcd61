//! The options of `link`.

use std::path::PathBuf;

use clap::Args;

use super::absolute_path;
use crate::config::{DEFAULT_ACCOUNT, account_name};
use crate::identity::Phone;

/// Link a WhatsApp account as a companion device
///
/// Draws a QR code on stderr, which the phone scans under WhatsApp › Linked devices › Link a device. It is drawn anew
/// with every rotation. When the device has logged in, one JSON object on stdout names the account.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "Examples:\n  \
    channel-whatsapp --link\n  \
    channel-whatsapp link --account work --timeout 600\n  \
    channel-whatsapp link --pair-code \"+1 555 123 4567\"\n  \
    channel-whatsapp link --json --qr-png /tmp/qr.png\n\n\
    `channel-whatsapp --link …` is the same as `channel-whatsapp link …`.")]
pub struct LinkArgs {
    /// Name in WhatsApp's list of linked devices
    #[arg(long, short = 'n', value_name = "NAME", default_value = "Dispatch", value_parser = device_name)]
    pub device_name: String,
    /// Account to link; the `account` of the configuration
    #[arg(long, value_name = "NAME", default_value = DEFAULT_ACCOUNT, value_parser = account_name)]
    pub account: String,
    /// Absolute path of the store, instead of the account's directory
    #[arg(long, value_name = "PATH", value_parser = absolute_path)]
    pub sqlite_store_path: Option<PathBuf>,
    /// Also ask for an 8-character code to type on the phone with this number
    #[arg(long, value_name = "PHONE")]
    pub pair_code: Option<Phone>,
    /// Ask for exactly this code: 8 of the letters and digits without 0, I, O and U
    #[arg(long, value_name = "CODE", requires = "pair_code", value_parser = custom_code)]
    pub custom_pair_code: Option<String>,
    /// Also keep the current QR code in this file, as PNG
    #[arg(long, value_name = "FILE")]
    pub qr_png: Option<PathBuf>,
    /// Link although another phone number was linked here before; what was kept for that one is moved aside
    #[arg(long)]
    pub replace: bool,
    /// Tell the progress as JSON lines on stdout, and draw nothing
    #[arg(long)]
    pub json: bool,
    /// Give up after this many seconds; codes that run out are replaced until then
    #[arg(long, value_name = "SECS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
}

/// The phone shows one short line.
fn device_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    let printable = !name.chars().any(char::is_control);
    if printable && (1..=50).contains(&name.chars().count()) {
        Ok(name.to_owned())
    } else {
        Err("a name has 1 to 50 printable characters".to_owned())
    }
}

/// WhatsApp's alphabet for codes leaves out what is mistaken for something else.
fn custom_code(text: &str) -> Result<String, String> {
    let code: String = text
        .chars()
        .filter(|c| *c != '-')
        .map(|c| c.to_ascii_uppercase())
        .collect();
    let typed = |b: u8| b.is_ascii_alphanumeric() && !matches!(b, b'0' | b'I' | b'O' | b'U');
    if code.len() == 8 && code.bytes().all(typed) {
        Ok(code)
    } else {
        Err("a code has 8 letters or digits, without 0, I, O and U".to_owned())
    }
}
