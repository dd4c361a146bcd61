//! Reading one level of the configuration: each value typed and in range, and what nobody asked for remembered.

use std::cell::RefCell;
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

/// What a key takes, as the reader asks for it. The schema is made of these, so it cannot say anything else.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Takes {
    Flag,
    Number {
        least: u64,
        most: u64,
        default: u64,
    },
    Text {
        default: Option<&'static str>,
    },
    Word {
        words: Vec<&'static str>,
        default: Option<&'static str>,
    },
    Texts,
    Words(Vec<&'static str>),
    Object,
    Objects,
}

/// One key that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    /// With its path: `media.max_bytes`, `contacts[].id`.
    pub path: String,
    pub takes: Takes,
    /// Whether its object is nothing without it.
    pub needed: bool,
}

/// Where it is noted what is asked for.
pub(super) type Notes = RefCell<Vec<Asked>>;

/// One object of the configuration. A key that is null counts as absent.
pub(super) struct Keys<'a> {
    path: String,
    map: Option<&'a Map<String, Value>>,
    known: BTreeSet<&'static str>,
    notes: Option<&'a Notes>,
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
            notes: None,
        })
    }

    /// The same, with notes taken of what is asked for.
    pub fn noted(self, notes: Option<&'a Notes>) -> Self {
        Self { notes, ..self }
    }

    fn note(&self, key: &str, takes: Takes) {
        if let Some(notes) = self.notes {
            let path = self.path(key).replace("[0]", "[]");
            notes.borrow_mut().push(Asked {
                path,
                takes,
                needed: false,
            });
        }
    }

    /// What was asked for last, which has to be there; `allowed` is what would do.
    pub fn needed<T>(&self, key: &str, value: Option<T>, allowed: &str) -> Read<T> {
        if let Some(notes) = self.notes
            && let Some(asked) = notes.borrow_mut().last_mut()
        {
            asked.needed = true;
        }
        value.ok_or_else(|| self.error(key, allowed))
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
        self.note(key, Takes::Flag);
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
        let (least, most) = (*range.start(), *range.end());
        self.note(
            key,
            Takes::Number {
                least,
                most,
                default,
            },
        );
        match self.get(key).map(Value::as_u64) {
            None => Ok(default),
            Some(Some(number)) if range.contains(&number) => Ok(number),
            Some(_) => Err(self.error(key, format!("a whole number from {least} to {most}"))),
        }
    }

    /// A text that `parse` takes; its error is what is allowed.
    pub fn text<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Read<Option<T>> {
        self.note(key, Takes::Text { default: None });
        self.parsed(key, parse)
    }

    /// The same with what holds if it is absent, which must be allowed.
    pub fn text_or<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
        default: &'static str,
    ) -> Read<T> {
        let takes = Takes::Text {
            default: Some(default),
        };
        self.note(key, takes);
        match self.parsed(key, &parse)? {
            Some(given) => Ok(given),
            None => parse(default).map_err(|allowed| self.error(key, allowed)),
        }
    }

    fn parsed<T>(
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
        let takes = Takes::Word {
            words: names::<T>(),
            default: None,
        };
        self.note(key, takes);
        self.parsed(key, word)
    }

    /// The same with what holds if it is absent.
    pub fn word_or<T: Word + PartialEq>(&mut self, key: &'static str, default: T) -> Read<T> {
        let name = T::ALL.iter().find(|(_, word)| *word == default);
        let takes = Takes::Word {
            words: names::<T>(),
            default: name.map(|(name, _)| *name),
        };
        self.note(key, takes);
        Ok(self.parsed(key, word)?.unwrap_or(default))
    }

    /// A list of the words of `T`.
    pub fn words<T: Word>(&mut self, key: &'static str) -> Read<Option<Vec<T>>> {
        self.note(key, Takes::Words(names::<T>()));
        self.entries(key, word)
    }

    /// A list of texts that `parse` takes.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Read<Option<Vec<T>>> {
        self.note(key, Takes::Texts);
        self.entries(key, parse)
    }

    fn entries<T>(
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
        self.note(key, Takes::Objects);
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let Value::Array(entries) = value else {
            return Err(self.error(key, "a list of objects"));
        };
        let path = self.path(key);
        let notes = self.notes;
        entries
            .iter()
            .enumerate()
            .map(|(at, entry)| {
                Keys::new(&format!("{path}[{at}]"), entry).map(|keys| keys.noted(notes))
            })
            .collect()
    }

    /// An object.
    pub fn object(&mut self, key: &'static str) -> Read<Keys<'a>> {
        self.note(key, Takes::Object);
        let keys = Keys::new(&self.path(key), self.get(key).unwrap_or(&Value::Null))?;
        Ok(keys.noted(self.notes))
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

fn names<T: Word>() -> Vec<&'static str> {
    T::ALL.iter().map(|(name, _)| *name).collect()
}

pub(super) fn word<T: Word>(text: &str) -> Result<T, String> {
    let found = T::ALL.iter().find(|(name, _)| *name == text);
    found
        .map(|(_, word)| *word)
        .ok_or_else(|| format!("one of {}", names::<T>().join(", ")))
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
