//! Reading one level of the configuration: each value typed and in range, and what nobody asked for remembered.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// A known key with a bad value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("config key {key} is {given}; allowed is {allowed}")]
pub struct ConfigError {
    /// The key, with its path: `media.max_bytes`, `contacts[0].id`.
    pub key: String,
    /// What was given, shortened.
    pub given: String,
    /// What would do.
    pub allowed: String,
}

impl ConfigError {
    /// The wire's code.
    pub fn code(&self) -> &'static str {
        "invalid_config"
    }
}

/// What a person gets to see of a value: enough to find it, and never a whole file pasted into the wrong key.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

/// One object of the configuration. A key that is null counts as absent.
pub(super) struct Keys<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
    known: BTreeSet<&'static str>,
}

type Read<T> = Result<T, ConfigError>;

impl<'a> Keys<'a> {
    /// `path` is empty for the configuration itself. Null is an empty object.
    pub fn new(path: &str, value: &'a Value) -> Read<Self> {
        let map = match value {
            Value::Object(map) => Some(map),
            Value::Null => None,
            other => {
                let key = if path.is_empty() { "(the whole)" } else { path };
                return Err(ConfigError {
                    key: key.to_owned(),
                    given: shown(other),
                    allowed: "an object".to_owned(),
                });
            }
        };
        Ok(Self {
            path: path.to_owned(),
            map,
            known: BTreeSet::new(),
        })
    }

    pub fn path(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The error that `key` must be `allowed`.
    pub fn error(&self, key: &str, allowed: impl Into<String>) -> ConfigError {
        let given = self
            .map
            .and_then(|map| map.get(key))
            .map_or("missing".to_owned(), shown);
        ConfigError {
            key: self.path(key),
            given,
            allowed: allowed.into(),
        }
    }

    pub fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.insert(key);
        self.map?.get(key).filter(|value| !value.is_null())
    }

    pub fn flag(&mut self, key: &'static str) -> Read<bool> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.error(key, "true or false")),
        }
    }

    pub fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Read<u64> {
        match self.get(key).map(Value::as_u64) {
            None => Ok(default),
            Some(Some(number)) if range.contains(&number) => Ok(number),
            Some(_) => {
                let (least, most) = range.into_inner();
                Err(self.error(key, format!("a whole number from {least} to {most}")))
            }
        }
    }

    /// A text that `parse` takes; its error is what is allowed.
    pub fn text<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Read<Option<T>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => parse(text)
                .map(Some)
                .map_err(|allowed| self.error(key, allowed)),
            Some(_) => Err(self.error(key, "a text")),
        }
    }

    /// One of the words of `T`.
    pub fn word<T: Word>(&mut self, key: &'static str) -> Read<Option<T>> {
        self.text(key, word)
    }

    /// A list of texts that `parse` takes.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Read<Option<Vec<T>>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let Value::Array(entries) = value else {
            return Err(self.error(key, "a list of texts"));
        };
        let read = |(at, entry): (usize, &Value)| {
            let parsed = entry
                .as_str()
                .ok_or_else(|| "a text".to_owned())
                .and_then(&parse);
            parsed.map_err(|allowed| ConfigError {
                key: format!("{}[{at}]", self.path(key)),
                given: shown(entry),
                allowed,
            })
        };
        entries
            .iter()
            .enumerate()
            .map(read)
            .collect::<Read<Vec<T>>>()
            .map(Some)
    }

    /// A list of objects.
    pub fn objects(&mut self, key: &'static str) -> Read<Vec<Keys<'a>>> {
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let Value::Array(entries) = value else {
            return Err(self.error(key, "a list of objects"));
        };
        let path = self.path(key);
        entries
            .iter()
            .enumerate()
            .map(|(at, entry)| Keys::new(&format!("{path}[{at}]"), entry))
            .collect()
    }

    /// An object.
    pub fn object(&mut self, key: &'static str) -> Read<Keys<'a>> {
        Keys::new(&self.path(key), self.get(key).unwrap_or(&Value::Null))
    }

    /// The keys that were never asked for, with their path. To be called last.
    pub fn unknown(self, into: &mut Vec<String>) {
        let keys = self.map.into_iter().flat_map(Map::keys);
        into.extend(
            keys.filter(|key| !self.known.contains(key.as_str()))
                .map(|key| self.path(key)),
        );
    }
}

/// A setting that is one of a few words.
pub(super) trait Word: Copy + 'static {
    const ALL: &'static [(&'static str, Self)];
}

pub(super) fn word<T: Word>(text: &str) -> Result<T, String> {
    let found = T::ALL.iter().find(|(name, _)| *name == text);
    found.map(|(_, word)| *word).ok_or_else(|| {
        let names: Vec<&str> = T::ALL.iter().map(|(name, _)| *name).collect();
        format!("one of {}", names.join(", "))
    })
}

/// Defines an enum whose variants are words of the configuration.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// The word of the configuration.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl $crate::config::read::Word for $name {
            const ALL: &'static [(&'static str, Self)] = &[$(($word, Self::$variant),)+];
        }
    };
}
pub(super) use words;
