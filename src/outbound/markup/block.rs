//! Blocks of preformatted text: fences, and tables, which become fences.

use std::ops::Range;

use pulldown_cmark::{Event, Tag, TagEnd};

use super::html::{self, Tag as HtmlTag};
use super::inline::shown;
use super::pass::Piece;

/// The range without the line break at its end.
pub(super) fn trimmed(source: &str, range: &Range<usize>) -> Range<usize> {
    let text = source[range.clone()].trim_end_matches(['\n', '\r']);
    range.start..range.start + text.len()
}

/// Nobody nests quotations and lists any deeper, in bytes: without a bound a text of marks and breaks would grow by its
/// square.
const DEEPEST: usize = 32;

/// What a further line of the block at `at` begins with: the marks of the quotations and the indentation of the
/// lists that it is in.
pub(super) fn prefix(source: &str, at: usize) -> String {
    let line = source[..at].rfind('\n').map_or(0, |newline| newline + 1);
    marks(&source[line..at])
}

/// The same of the line that begins so.
pub(super) fn marks(line: &str) -> String {
    let mut rest = line;
    let mut prefix = String::new();
    while let Some(c) = rest.chars().next().filter(|_| prefix.len() < DEEPEST) {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let marker = match &rest[digits..] {
            after if digits > 0 && after.starts_with(['.', ')']) => digits + 1,
            after if digits == 0 && after.starts_with(['-', '*', '+']) => 1,
            _ => 0,
        };
        if matches!(c, '>' | ' ' | '\t') {
            prefix.push(c);
            rest = &rest[1..];
        } else if marker > 0 && rest[marker..].starts_with([' ', '\t']) {
            prefix.extend(std::iter::repeat_n(' ', marker));
            rest = &rest[marker..];
        } else {
            break;
        }
    }
    prefix
}

/// A fence of three backticks, which is all that WhatsApp knows, without the language, which it would show, and closed.
/// `None` if it has to stay as it is: it has backticks within, or it is not Markdown's at all.
pub(super) fn fence(source: &str, range: &Range<usize>, info: &str) -> Option<String> {
    let block = &source[trimmed(source, range)];
    let prefix = prefix(source, range.start);
    let (first, rest) = block.split_once('\n')?;
    let mark = first.chars().next()?;
    let ticks = first.chars().take_while(|&c| c == mark).count();
    let (body, last) = match rest.rsplit_once('\n') {
        Some((body, last)) => (Some(body), last),
        None => (None, rest),
    };
    let quoted = |c: char| matches!(c, ' ' | '\t') || c == '>' && prefix.contains('>');
    let closing = last.trim_start_matches(quoted).trim_end();
    let closed = closing.len() >= ticks && closing.chars().all(|c| c == mark);
    let body = if closed { body } else { Some(rest) };
    if body.is_some_and(|body| body.contains("```")) || info.contains('`') {
        return None;
    }
    if !closed && rest.trim_matches(|c| quoted(c) || c == '\n').is_empty() {
        return None;
    }
    let ending = if first.ends_with('\r') { "\r" } else { "" };
    // More than one word is text that somebody put behind WhatsApp's own backticks.
    let shown = match info.trim().contains(char::is_whitespace) {
        true => first[ticks..].trim_end(),
        false => "",
    };
    let body = body.map_or_else(String::new, |body| format!("{body}\n"));
    let before_last = match closed {
        true => &last[..last.len() - last.trim_start_matches(quoted).len()],
        false => prefix.as_str(),
    };
    Some(format!("```{shown}{ending}\n{body}{before_last}```"))
}

/// The lines in a fence that begins at `at`; `None` if they have fences themselves.
pub(super) fn fenced(source: &str, at: usize, lines: &[String]) -> Option<String> {
    if lines.iter().any(|line| line.contains("```")) {
        return None;
    }
    let separator = format!("\n{}", prefix(source, at));
    let mut fence = "```".to_owned();
    for line in lines.iter().map(String::as_str).chain(["```"]) {
        fence.push_str(&separator);
        fence.push_str(line);
    }
    Some(fence)
}

/// The cells of a table without markup, which would show in a fence.
pub(super) fn rows(table: &[Piece]) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut links: Vec<(usize, &str)> = Vec::new();
    let mut cell = String::new();
    for (event, _) in table {
        match event {
            Event::Start(Tag::TableHead | Tag::TableRow) => rows.push(Vec::new()),
            Event::End(TagEnd::TableCell) => {
                let text = std::mem::take(&mut cell);
                if let Some(row) = rows.last_mut() {
                    row.push(text.split_whitespace().collect::<Vec<_>>().join(" "));
                }
            }
            Event::Text(text) | Event::Code(text) => cell.push_str(text),
            Event::FootnoteReference(label) => cell.push_str(&format!("[{label}]")),
            Event::InlineHtml(tag) => match html::tag(tag) {
                Some((HtmlTag::Inline, _)) => {}
                Some(_) => cell.push(' '),
                None => cell.push_str(tag),
            },
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                links.push((cell.len(), dest_url));
            }
            Event::End(TagEnd::Link | TagEnd::Image) => {
                if let Some((label, url)) = links.pop() {
                    let label = cell.split_off(label);
                    cell.push_str(&shown(&label, url));
                }
            }
            _ => {}
        }
    }
    rows
}
