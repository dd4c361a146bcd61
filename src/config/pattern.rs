//! Regular expressions of the configuration: compiled when it is read, so that a bad one is named before anything runs.

use std::fmt;

use regex::{Regex, RegexBuilder};

/// Longest expression, bytes.
const LONGEST: usize = 1000;
/// Largest compiled expression, bytes. Matching takes time in proportion to the text and to this, never more.
const COMPILED: usize = 256 << 10;
/// Most expressions in one list.
pub(super) const MOST: usize = 100;

/// A regular expression in the syntax of the `regex` crate, which has no look-around and no back references.
#[derive(Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Whether it is found anywhere in the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// Compiles one.
///
/// # Errors
/// What is allowed, and what is wrong with this one.
pub(super) fn pattern(text: &str) -> Result<Pattern, String> {
    if text.trim().is_empty() || text.len() > LONGEST {
        return Err(format!("a regular expression of 1 to {LONGEST} bytes"));
    }
    let compiled = RegexBuilder::new(text)
        .size_limit(COMPILED)
        .dfa_size_limit(COMPILED)
        .build();
    compiled.map(Pattern).map_err(|error| {
        let error = match error {
            regex::Error::CompiledTooBig(_) => "compiled it is too large".to_owned(),
            // The last line says what is wrong, those before it draw where.
            error => error
                .to_string()
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned(),
        };
        format!("a regular expression ({error})")
    })
}
