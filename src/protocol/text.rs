//! A long text of a request, left where it is in the line: an attachment in base64 may be most of it.
//!
//! Invariant: no character is copied, unless the line has it escaped. The line goes with the last text that refers to it.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use serde_json::value::RawValue;

/// A part of a request's line.
#[derive(Clone, Default)]
pub struct Text {
    line: Arc<String>,
    range: Range<usize>,
}

impl Text {
    /// The string that `raw` is, which was read from `line`.
    ///
    /// # Errors
    /// When `raw` is no string.
    pub(super) fn read(raw: &RawValue, line: &Arc<String>) -> serde_json::Result<Self> {
        let json = raw.get();
        let plain = json
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .filter(|inside| !inside.contains('\\'));
        if let Some(inside) = plain {
            let start = inside.as_ptr().addr().wrapping_sub(line.as_ptr().addr());
            let range = start..start.saturating_add(inside.len());
            if line.get(range.clone()).is_some() {
                let line = Arc::clone(line);
                return Ok(Self { line, range });
            }
        }
        serde_json::from_str(json).map(|text: String| text.into())
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        // It was there when this was made, and nobody changes a line.
        self.line.get(self.range.clone()).unwrap_or_default()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self {
            range: 0..text.len(),
            line: Arc::new(text),
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// Tells its size only, since it ends in logs.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_in_its_line() {
        let line = Arc::new(r#"["QUJD","QU\/D",""]"#.to_owned());
        let raws: Vec<&RawValue> = serde_json::from_str(&line).unwrap();
        let texts: Vec<Text> = raws
            .iter()
            .map(|raw| Text::read(raw, &line).unwrap())
            .collect();
        assert_eq!([&*texts[0], &*texts[1], &*texts[2]], ["QUJD", "QU/D", ""]);
        assert!(std::ptr::eq(texts[0].as_ptr(), &line.as_bytes()[2]));
        let number: &RawValue = serde_json::from_str("5").unwrap();
        assert!(Text::read(number, &line).is_err());
        // From another line it is copied.
        let other = Text::read(raws[0], &Arc::default()).unwrap();
        assert_eq!(&*other, "QUJD");
        drop(texts);
        assert_eq!(Arc::strong_count(&line), 1);
    }
}
