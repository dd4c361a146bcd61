//! The values of the keys of metadata, each checked where it is read. Their errors name the key, since serde does not.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use unicode_properties::UnicodeEmoji;
use unicode_segmentation::UnicodeSegmentation;

use super::OutboundError;
use crate::identity::Phone;
use crate::protocol::StringMap;

/// Longest question and option of a poll, and longest name and address, in characters. WhatsApp Web lets people type
/// 255 and 100; longer ones are cut on phones.
pub(super) const QUESTION: usize = 255;
const OPTION: usize = 100;
const NAME: usize = 255;
/// WhatsApp's bounds for a poll.
const OPTIONS: std::ops::RangeInclusive<usize> = 2..=12;
/// Real ids have some 20 to 40 characters.
const MESSAGE_ID: usize = 128;

/// The id of a message: the `message.id` of an event, or the `message_id` of a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct MessageId(#[schemars(length(min = 1, max = 128))] String);

impl MessageId {
    /// The id itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MessageId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let sound =
            (1..=MESSAGE_ID).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        match sound {
            true => Ok(Self(text)),
            false => Err(format!(
                "metadata.target_message_id is the message.id of an event or the message_id of a receipt, not {}",
                quoted(&text)
            )),
        }
    }
}

/// One emoji; empty takes the reaction back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Emoji(String);

impl Emoji {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Emoji {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let one = text.graphemes(true).count() == 1 && text.len() <= 64;
        let picture = text.chars().next().is_some_and(|first| match first {
            // `1️⃣` begins with a digit.
            '0'..='9' | '#' | '*' => text.ends_with('\u{20e3}'),
            _ => first.is_emoji_char(),
        });
        match text.is_empty() || one && picture {
            true => Ok(Self(text)),
            false => Err(format!(
                "metadata.emoji is one emoji, or empty to take the reaction back, not {}",
                quoted(&text)
            )),
        }
    }
}

/// The options of a poll as a JSON array of 2 to 12 different texts of at most 100 characters, in a string.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct PollOptions(#[schemars(with = "String")] pub(super) Vec<String>);

impl TryFrom<String> for PollOptions {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |reason: String| format!("metadata.options {reason}");
        let options: Vec<String> = serde_json::from_str(&text).map_err(|_| {
            wrong(format!(
                "is a JSON array of texts, like [\"Yes\",\"No\"], not {}",
                quoted(&text)
            ))
        })?;
        let options: Vec<String> = options.iter().map(|o| o.trim().to_owned()).collect();
        if !OPTIONS.contains(&options.len()) {
            return Err(wrong(format!("has 2 to 12 options, not {}", options.len())));
        }
        for (n, option) in options.iter().enumerate() {
            let length = option.chars().count();
            if !(1..=OPTION).contains(&length) {
                return Err(wrong(format!(
                    "has options of 1 to {OPTION} characters; number {} has {length}",
                    n + 1
                )));
            }
            // Votes name an option by its hash.
            if options[..n].contains(option) {
                return Err(wrong(format!("has {} twice", quoted(option))));
            }
        }
        Ok(Self(options))
    }
}

/// How many options one person may choose: `1` if absent, `0` for any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Selectable(#[schemars(with = "String")] pub(super) u32);

impl Default for Selectable {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<String> for Selectable {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let most = u32::try_from(*OPTIONS.end()).unwrap_or(u32::MAX);
        match text.parse() {
            Ok(count) if count <= most => Ok(Self(count)),
            _ => Err(format!(
                "metadata.selectable is how many options one may choose, 0 for any number, not {}",
                quoted(&text)
            )),
        }
    }
}

/// Degrees north, from `-90` to `90`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Latitude(#[schemars(with = "String")] pub(super) f64);

/// Degrees east, from `-180` to `180`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Longitude(#[schemars(with = "String")] pub(super) f64);

impl TryFrom<String> for Latitude {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        degrees("latitude", &text, 90.0).map(Self)
    }
}

impl TryFrom<String> for Longitude {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        degrees("longitude", &text, 180.0).map(Self)
    }
}

fn degrees(key: &str, text: &str, limit: f64) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(degrees) if degrees.abs() <= limit => Ok(degrees),
        _ => Err(format!(
            "metadata.{key} is a number of degrees from -{limit} to {limit}, not {}",
            quoted(text)
        )),
    }
}

/// A name of a place or a person, at most 255 characters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Name(pub(super) String);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        short("name", &text).map(Self)
    }
}

/// An address of a place, at most 255 characters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Address(pub(super) String);

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        short("address", &text).map(Self)
    }
}

fn short(key: &str, text: &str) -> Result<String, String> {
    let text = text.trim();
    match (1..=NAME).contains(&text.chars().count()) {
        true => Ok(text.to_owned()),
        false => Err(format!("metadata.{key} has 1 to {NAME} characters")),
    }
}

/// The person's phone number with its country code, where no vCard is given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct PhoneText(#[schemars(with = "String")] pub(super) Phone);

impl TryFrom<String> for PhoneText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let phone = text.parse::<Phone>();
        phone
            .map(Self)
            .map_err(|error| format!("metadata.phone: {error}"))
    }
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    True,
    False,
}

/// What an attachment may be sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SentAs {
    /// As a file, whatever it is: nothing of it is changed or shown.
    Document,
    /// A WebP as a sticker.
    Sticker,
    /// A video that repeats without sound.
    Gif,
    /// Sound as a voice note.
    Voice,
    /// As what it is.
    Image,
    Video,
    Audio,
}

/// How the attachments of a message are to be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    /// `metadata.as`.
    pub sent_as: Option<SentAs>,
    /// `metadata.voice`.
    pub voice: bool,
}

impl Wish {
    /// What the metadata says about it.
    ///
    /// # Errors
    /// [`OutboundError::InvalidWish`] for a value that is none.
    pub fn parse(metadata: &StringMap) -> Result<Self, OutboundError> {
        let sent_as = word(
            metadata,
            "as",
            "document, sticker, gif, voice, image, video or audio",
        )
        .map_err(OutboundError::InvalidWish)?;
        let voice = word(metadata, "voice", "true or false").map_err(OutboundError::InvalidWish)?
            == Some(Flag::True);
        Ok(Self {
            voice: voice || sent_as == Some(SentAs::Voice),
            sent_as,
        })
    }
}

/// The value of a key that takes one of these words; else what is wrong with it.
pub(super) fn word<T: DeserializeOwned>(
    metadata: &StringMap,
    key: &str,
    words: &str,
) -> Result<Option<T>, String> {
    let Some(text) = metadata.get(key).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let read = serde_json::from_value(Value::String(text.clone()));
    read.map(Some)
        .map_err(|_| format!("metadata.{key} is {words}, not {}", quoted(text)))
}

/// A value in an error, short enough to be read.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.chars().nth(SHOWN) {
        None => format!("{text:?}"),
        Some(_) => format!("{:?}…", text.chars().take(SHOWN).collect::<String>()),
    }
}
