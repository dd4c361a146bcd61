//! Punctuation that was written so as to be nothing but itself: `\*`, `&lt;`.
//!
//! WhatsApp has no escapes, so the character alone is written, but only where neither Markdown nor WhatsApp sees markup
//! in it. Elsewhere the escape stays: it shows, and what was meant can be read.

/// Whether a character is only itself, behind `line` (the line as far as it is written) and before `rest`.
pub(super) fn is_plain(c: char, line: &str, rest: &str) -> bool {
    let before = line.chars().next_back();
    let after = rest.chars().next();
    let begins = !line.chars().any(char::is_alphanumeric);
    match c {
        '*' | '_' | '~' => {
            let joined = before.is_some_and(char::is_alphanumeric)
                && after.is_some_and(char::is_alphanumeric);
            let apart =
                before.is_none_or(char::is_whitespace) && after.is_none_or(char::is_whitespace);
            joined || apart && !begins
        }
        '`' => false,
        '\\' => after.is_some_and(|after| after.is_alphanumeric() || after == ' '),
        '<' => !after.is_some_and(|after| after.is_ascii_alphabetic() || "/!?".contains(after)),
        '&' => {
            let name = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '#');
            !name.starts_with(';')
        }
        '[' => !before.is_some_and(|before| "!]".contains(before)) && after != Some('^'),
        ']' => !after.is_some_and(|after| "([:".contains(after)),
        '(' | ':' => before != Some(']'),
        '!' => after != Some('['),
        '-' | '+' | '#' | '>' | '=' | '|' => !begins,
        '.' | ')' => {
            // `1.` at the beginning of a line is a point of a list.
            let word = line.rsplit(char::is_whitespace).next().unwrap_or(line);
            let first = !line[..line.len() - word.len()].contains(char::is_alphanumeric);
            let number = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
            !(first && number) || after.is_some_and(|after| !after.is_whitespace())
        }
        _ => !c.is_control() && (!c.is_whitespace() || !c.is_ascii()),
    }
}
