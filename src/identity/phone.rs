//! Phone numbers as people write them, and as they stand in a JID.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A phone number of the international plan: 7 to 15 digits, country code first (E.164).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Phone(String);

/// Why a text is no international phone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PhoneError {
    /// Something besides digits and the usual separators.
    #[error("a phone number consists of digits, with a leading + if you like")]
    NotDigits,
    /// A national number: the first digit is 0.
    #[error("the country code is missing; write the number as +1 555 123 4567")]
    NoCountryCode,
    /// Fewer than 7 or more than 15 digits.
    #[error("an international phone number has 7 to 15 digits, country code included")]
    Length,
    /// It begins with no country's code.
    #[error("no country has this code; write the number with its country code, as +1 555 123 4567")]
    UnknownCountry,
    /// More or fewer digits than numbers of that country have.
    #[error(
        "numbers of this country do not have so many, or so few, digits; check it digit by digit"
    )]
    ImpossibleLength,
}

impl Phone {
    /// The digits alone, as they stand in a JID.
    pub fn digits(&self) -> &str {
        &self.0
    }

    pub(super) fn from_digits(digits: &str) -> Result<Self, PhoneError> {
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(PhoneError::NotDigits);
        }
        if digits.starts_with('0') {
            return Err(PhoneError::NoCountryCode);
        }
        if !(7..=15).contains(&digits.len()) {
            return Err(PhoneError::Length);
        }
        Ok(Self(digits.to_owned()))
    }
}

/// Characters that people and address books put between digits; the last range is invisible direction marks,
/// which come along when a number is copied out of a contact card.
fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '-' | '.' | '(' | ')' | '/' | '\u{2010}'..='\u{2015}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}')
}

impl FromStr for Phone {
    type Err = PhoneError;

    fn from_str(text: &str) -> Result<Self, PhoneError> {
        let text = text.trim_matches(is_separator);
        let (international, rest) = match text.strip_prefix('+').or_else(|| text.strip_prefix("00"))
        {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        // "+44 (0)20 …": the trunk prefix is only dialled inside the country.
        let rest = match rest.split_once("(0)") {
            Some((country, national)) if international => format!("{country}{national}"),
            _ => rest.to_owned(),
        };
        let digits: String = rest.chars().filter(|&c| !is_separator(c)).collect();
        Self::from_digits(&digits)
    }
}

impl fmt::Display for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}", self.0)
    }
}
