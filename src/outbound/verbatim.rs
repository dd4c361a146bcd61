//! What is not markup in a WhatsApp text: code and URLs.
//!
//! Invariant: the ranges of each list are in order and apart from each other, so [`within`] may search them by halves.

use std::ops::Range;

/// Code between backticks as WhatsApp reads it: three of them across lines, one within a line.
pub(super) fn code(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = fences(text).into_iter().map(|fence| fence.range).collect();
    let mut spans = Vec::new();
    let mut from = 0;
    for fence in found.iter().map(Some).chain([None]) {
        let until = fence.map_or(text.len(), |fence| fence.start);
        let mut at = from;
        for line in text[from..until].split_inclusive('\n') {
            let mut ticks = line.match_indices('`').map(|(tick, _)| at + tick);
            while let (Some(open), Some(close)) = (ticks.next(), ticks.next()) {
                spans.push(open..close + 1);
            }
            at += line.len();
        }
        from = fence.map_or(until, |fence| fence.end);
    }
    found.append(&mut spans);
    found.sort_by_key(|range| range.start);
    found
}

/// A stretch of preformatted text with the backticks round it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fence {
    pub(super) range: Range<usize>,
    /// How many backticks open it, and how many close it.
    pub(super) ticks: (usize, usize),
}

/// Longer rows of backticks are ornaments.
const MOST_TICKS: usize = 8;

/// The fences; one that is never closed is none.
pub(super) fn fences(text: &str) -> Vec<Fence> {
    let mut runs = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find("```").map(|found| at + found) {
        let length = text[start..].bytes().take_while(|&b| b == b'`').count();
        if length <= MOST_TICKS {
            runs.push(start..start + length);
        }
        at = start + length;
    }
    let pair = |pair: &[Range<usize>]| match pair {
        [open, close] => Some(Fence {
            range: open.start..close.end,
            ticks: (open.len(), close.len()),
        }),
        _ => None,
    };
    runs.chunks(2).filter_map(pair).collect()
}

/// The URLs that stand in the text. They end where a URL cannot go on, before a bracket that they have not opened, and
/// before the punctuation of the sentence.
pub(super) fn urls(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let schemes = text
        .match_indices("://")
        .filter_map(|(at, _)| scheme_start(text, at));
    let bare = text.match_indices("www.").map(|(at, _)| at);
    let mut starts: Vec<usize> = schemes.chain(bare).collect();
    starts.sort_unstable();
    for start in starts {
        let apart = text[..start]
            .chars()
            .next_back()
            .is_none_or(|before| !before.is_ascii_alphanumeric());
        if apart && found.last().is_none_or(|last| last.end <= start) {
            found.push(start..start + length(&text[start..]));
        }
    }
    found
}

fn scheme_start(text: &str, colon: usize) -> Option<usize> {
    let scheme = text[..colon]
        .bytes()
        .rev()
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
        .count();
    let name = &text[colon - scheme..colon];
    let skipped = name.bytes().position(|b| b.is_ascii_alphabetic())?;
    (scheme - skipped > 1).then_some(colon - scheme + skipped)
}

fn length(text: &str) -> usize {
    let mut open = 0usize;
    let goes_on = |c: char| match c {
        '(' => {
            open += 1;
            true
        }
        ')' => match open.checked_sub(1) {
            Some(fewer) => {
                open = fewer;
                true
            }
            None => false,
        },
        '<' | '>' | '[' | ']' | '{' | '}' | '"' | '`' | '|' => false,
        _ if c.is_ascii() => c.is_ascii_graphic(),
        _ => c.is_alphanumeric(),
    };
    let mut goes_on = goes_on;
    let end = text.find(|c| !goes_on(c)).unwrap_or(text.len());
    text[..end]
        .trim_end_matches(['?', '!', '.', ',', ':', ';', '*', '_', '~', '\'', '\\'])
        .len()
}

/// Whether a place lies in one of the ranges.
pub(super) fn within(ranges: &[Range<usize>], at: usize) -> bool {
    let next = ranges.partition_point(|range| range.end <= at);
    ranges.get(next).is_some_and(|range| range.start <= at)
}
