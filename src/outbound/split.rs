//! Long text → parts.
//!
//! Invariants: no part is empty or longer than the limit, no grapheme is cut, every part closes the fences that it
//! opens, and nothing is lost but white space at the cuts. A single grapheme longer than the limit is a part of its own.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use super::verbatim::{Fence, fences};

/// Below it there is no room for the marks of a fence beside the text in it, and backticks are text like any other.
const LEAST_FOR_FENCES: usize = 32;

/// Cuts the text into parts of at most `limit` characters, at the best place in the latter half of each: between
/// paragraphs, lines, sentences, words, else graphemes. A fence that fits into a part is not torn; one that does not is
/// closed at the cut and opened again behind it. Text of nothing but white space has no parts.
pub(super) fn split(text: &str, limit: usize) -> Vec<String> {
    let fences = match limit {
        ..LEAST_FOR_FENCES => Vec::new(),
        _ => fences(text),
    };
    let words = fences.iter().map(|fence| words(text, fence)).collect();
    let whole = Text {
        text,
        limit: limit.max(1),
        fences,
        words,
    };
    let mut parts = Vec::new();
    let mut from = 0;
    while let Some(cut) = whole.cut(from) {
        push(&mut parts, whole.part(from, cut.end));
        from = cut.resume;
    }
    push(&mut parts, whole.part(from, text.len()));
    parts
}

fn push(parts: &mut Vec<String>, part: String) {
    if !part.trim().is_empty() {
        parts.push(part);
    }
}

/// From the first to the last of what stands in a fence besides white space.
fn words(text: &str, fence: &Fence) -> Range<usize> {
    let inner = fence.range.start + fence.ticks.0..fence.range.end - fence.ticks.1;
    let trimmed = text[inner.clone()].trim_start();
    let start = inner.end - trimmed.len();
    start..start + trimmed.trim_end().len()
}

fn is_blank(text: &str) -> bool {
    text.trim_start().is_empty()
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

/// What a place is to the fences.
enum Place<'a> {
    Outside,
    Inside(&'a Fence, &'a Range<usize>),
    /// Between the backticks of a mark.
    Mark,
}

struct Text<'a> {
    text: &'a str,
    limit: usize,
    /// In order.
    fences: Vec<Fence>,
    /// Where the words of each are.
    words: Vec<Range<usize>>,
}

impl Text<'_> {
    fn place(&self, at: usize) -> Place<'_> {
        let next = self.fences.partition_point(|fence| fence.range.end <= at);
        match self.fences.get(next) {
            Some(fence) if fence.range.start < at => {
                let (open, close) = fence.ticks;
                let inside = fence.range.start + open..=fence.range.end - close;
                match inside.contains(&at) {
                    true => Place::Inside(fence, &self.words[next]),
                    false => Place::Mark,
                }
            }
            _ => Place::Outside,
        }
    }

    /// The part, with the marks of the fences that it was cut out of.
    fn part(&self, from: usize, end: usize) -> String {
        let mut part = String::new();
        if let Place::Inside(fence, _) = self.place(from) {
            part.push_str(&"`".repeat(fence.ticks.0));
            part.push('\n');
        }
        match end < self.text.len() {
            true => part.push_str(trim_end(&self.text[from..end])),
            false => part.push_str(&self.text[from..end]),
        }
        if let Place::Inside(fence, _) = self.place(end) {
            part.push('\n');
            part.push_str(&"`".repeat(fence.ticks.1));
        }
        part
    }

    /// How many characters a cut here costs besides the text, and whether something is left in the fence on both
    /// sides, where the part's own words begin at `first`; `None` if it would tear a mark.
    fn cost(&self, first: usize, at: usize) -> Option<(usize, bool)> {
        match self.place(at) {
            Place::Outside => Some((0, true)),
            Place::Mark => None,
            Place::Inside(fence, words) => {
                let filled = first.max(words.start) < at && at < words.end;
                Some((1 + fence.ticks.1, filled))
            }
        }
    }

    /// The cut for the part that begins at `from`; `None` if all of the rest fits.
    fn cut(&self, from: usize) -> Option<Cut> {
        let limit = match self.place(from) {
            Place::Inside(fence, _) => self.limit - fence.ticks.0 - 1,
            _ => self.limit,
        };
        let rest = &self.text[from..];
        let first = self.text.len() - rest.trim_start().len();
        let mut chars = 0;
        let mut best: Option<(Rank, usize)> = None;
        let mut word: Option<usize> = None;
        // Any place at all, and any that leaves a fence empty.
        let (mut any, mut spare) = (None, None);
        let mut before = "";
        let mut over = None;
        for (offset, grapheme) in rest.grapheme_indices(true) {
            let at = from + offset;
            // White space just behind the limit is as good a place as any within.
            if let Some((cost, filled)) = self.cost(first, at)
                && chars + cost <= limit
                && at > from
            {
                *if filled { &mut any } else { &mut spare } = Some(at);
                if let Some(rank) = rank(rest, offset, grapheme, before).filter(|_| filled) {
                    // An empty line in a fence ends nothing.
                    let rank = if cost > 0 { rank.min(Rank::Line) } else { rank };
                    word = Some(at);
                    if chars >= limit / 2 && best.is_none_or(|(found, _)| rank >= found) {
                        best = Some((rank, at));
                    }
                }
            }
            let length = grapheme.chars().count();
            if chars + length > limit {
                over = Some(if offset == 0 { at + grapheme.len() } else { at });
                break;
            }
            chars += length;
            before = grapheme;
        }
        let over = over?;
        let found = best.or(word.map(|at| (Rank::Word, at)));
        let cut = match found {
            Some((rank, end)) => Cut {
                end,
                resume: end + skipped(&self.text[end..], rank),
            },
            None => {
                let at = any.or(spare).unwrap_or(over);
                Cut {
                    end: at,
                    resume: at,
                }
            }
        };
        Some(self.before_fence(from, cut.end).unwrap_or(cut))
    }

    /// The cut before the fence that a cut at `end` would tear though it fits into a part.
    fn before_fence(&self, from: usize, end: usize) -> Option<Cut> {
        let Place::Inside(fence, _) = self.place(end) else {
            return None;
        };
        let start = fence.range.start;
        let line = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let indented = self.text[line..start]
            .trim_start_matches([' ', '\t', '>'])
            .is_empty();
        let at = if indented { line } else { start };
        let fits = self.text[fence.range.clone()]
            .chars()
            .take(self.limit + 1)
            .count()
            <= self.limit;
        let before = self.text.get(from..at)?;
        (fits && !is_blank(before)).then_some(Cut {
            end: at,
            resume: at,
        })
    }
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
