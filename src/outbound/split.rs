//! Long text → parts.
//!
//! Invariants: no part is empty or longer than the limit, no grapheme is cut, and nothing is lost but white space at
//! the cuts. A single grapheme longer than the limit is a part of its own.

use unicode_segmentation::UnicodeSegmentation;

/// Cuts the text into parts of at most `limit` characters, at the best place in the latter half of each: between
/// paragraphs, lines, sentences, words, else graphemes. Text of nothing but white space has no parts.
pub(super) fn split(text: &str, limit: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(cut) = cut(rest, limit.max(1)) {
        push(&mut parts, trim_end(&rest[..cut.end]));
        rest = &rest[cut.resume..];
    }
    push(&mut parts, rest);
    parts
}

fn push<'a>(parts: &mut Vec<&'a str>, part: &'a str) {
    if !part.trim().is_empty() {
        parts.push(part);
    }
}

/// Where a part ends and where the next one begins.
#[derive(Clone, Copy)]
struct Cut {
    end: usize,
    resume: usize,
}

/// How good a place is for cutting.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Word,
    Sentence,
    Line,
    Paragraph,
}

/// The cut for the first part; `None` if all of it fits.
fn cut(text: &str, limit: usize) -> Option<Cut> {
    let mut chars = 0;
    let mut best: Option<(Rank, usize)> = None;
    let mut word: Option<usize> = None;
    let mut before = "";
    let mut over = None;
    for (at, grapheme) in text.grapheme_indices(true) {
        // White space just behind the limit is as good a place as any within.
        if let Some(rank) = rank(text, at, grapheme, before) {
            word = Some(at);
            if chars >= limit / 2 && best.is_none_or(|(found, _)| rank >= found) {
                best = Some((rank, at));
            }
        }
        let length = grapheme.chars().count();
        if chars + length > limit {
            over = Some(if at == 0 { grapheme.len() } else { at });
            break;
        }
        chars += length;
        before = grapheme;
    }
    let over = over?;
    let found = best.or(word.filter(|&at| at > 0).map(|at| (Rank::Word, at)));
    Some(match found.filter(|&(_, at)| at > 0) {
        Some((rank, end)) => Cut {
            end,
            resume: end + skipped(&text[end..], rank),
        },
        None => Cut {
            end: over,
            resume: over,
        },
    })
}

fn rank(text: &str, at: usize, grapheme: &str, before: &str) -> Option<Rank> {
    if !is_space(grapheme) {
        return None;
    }
    if is_newline(grapheme) {
        let after = &text[at + grapheme.len()..];
        let next = after
            .graphemes(true)
            .find(|g| is_newline(g) || !is_space(g));
        return Some(match next {
            Some(next) if is_newline(next) => Rank::Paragraph,
            _ => Rank::Line,
        });
    }
    let ended = before.ends_with(['.', '!', '?', '…', '。', '！', '？', ':', ';']);
    Some(if ended { Rank::Sentence } else { Rank::Word })
}

/// How much white space goes at a cut. After a line break the next line's indentation stays.
fn skipped(rest: &str, rank: Rank) -> usize {
    let mut skipped = 0;
    for (at, grapheme) in rest.grapheme_indices(true) {
        if !is_space(grapheme) {
            return if rank >= Rank::Line { skipped } else { at };
        }
        if is_newline(grapheme) {
            skipped = at + grapheme.len();
        }
    }
    rest.len()
}

fn trim_end(text: &str) -> &str {
    let kept = text
        .grapheme_indices(true)
        .rev()
        .find(|(_, grapheme)| !is_space(grapheme));
    kept.map_or("", |(at, grapheme)| &text[..at + grapheme.len()])
}

fn is_newline(grapheme: &str) -> bool {
    matches!(grapheme, "\n" | "\r\n" | "\r" | "\u{2028}" | "\u{2029}")
}

/// White space at which one may break: all of it but what says that one must not.
fn is_space(grapheme: &str) -> bool {
    grapheme
        .chars()
        .all(|c| c.is_whitespace() && !matches!(c, '\u{a0}' | '\u{2007}' | '\u{202f}'))
}
