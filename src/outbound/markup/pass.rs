//! One pass over the text: finds what Markdown marks up and writes it as WhatsApp does.
//!
//! Invariant: the text is gone through from left to right, and each byte is copied once or, where only Markdown needs
//! it, not at all.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use super::super::verbatim::{urls, within};
use super::inline::{Link, Span};
use super::{block, html, table};

/// What the parser found, and where.
pub(super) type Piece<'a> = (Event<'a>, Range<usize>);

/// The text with its Markdown rendered; Markdown that only this brought forth is still in it.
pub(super) fn render(source: &str) -> String {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_TASKLISTS;
    let parser = Parser::new_ext(source, options).into_offset_iter();
    let definitions: Vec<(String, Range<usize>)> = parser
        .reference_definitions()
        .iter()
        .map(|(label, definition)| (label.to_lowercase(), definition.span.clone()))
        .collect();
    let pieces: Vec<Piece> = parser.collect();
    let urls = urls(source);
    let mut pass = Pass {
        source,
        definitions: used(&pieces, definitions),
        strong_within: emphasis_with_strong(source, &pieces, &urls),
        urls,
        out: String::with_capacity(source.len()),
        pos: 0,
        seen: 0,
        spans: Vec::new(),
        links: Vec::new(),
        source_line: (0, 0),
        lists: Vec::new(),
    };
    let mut at = 0;
    while at < pieces.len() {
        at = pass.block(&pieces, at);
    }
    pass.copy_to(source.len());
    pass.out
}

/// Where the definitions stand that links refer to. The links will say it all themselves.
fn used(pieces: &[Piece], definitions: Vec<(String, Range<usize>)>) -> VecDeque<Range<usize>> {
    let labels: HashSet<String> = pieces
        .iter()
        .filter_map(|(event, _)| match event {
            Event::Start(Tag::Link { id, .. } | Tag::Image { id, .. }) => Some(id.to_lowercase()),
            _ => None,
        })
        .collect();
    let mut used: Vec<_> = definitions
        .into_iter()
        .filter(|(label, _)| labels.contains(label))
        .map(|(_, span)| span)
        .collect();
    used.sort_by_key(|span| span.start);
    used.into()
}

/// For each piece whether it begins an emphasis with strong words in it.
fn emphasis_with_strong(source: &str, pieces: &[Piece], urls: &[Range<usize>]) -> Vec<bool> {
    let mut found = vec![false; pieces.len()];
    let mut open: Vec<usize> = Vec::new();
    for (at, (event, range)) in pieces.iter().enumerate() {
        match event {
            Event::Start(Tag::Emphasis) => open.push(at),
            Event::End(TagEnd::Emphasis) => {
                open.pop();
            }
            Event::Start(Tag::Strong) if !stays(source, urls, range, 2) => {
                for &emphasis in open.iter().rev() {
                    // Those further out were found with it.
                    if std::mem::replace(&mut found[emphasis], true) {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// Whether a span with marks of this width stays as it is: its marks are bytes of a URL, or both are within words, where
/// WhatsApp would show them, as in `2**10 + 3**10`.
pub(super) fn stays(
    source: &str,
    urls: &[Range<usize>],
    span: &Range<usize>,
    width: usize,
) -> bool {
    let marks = [span.start..span.start + width, span.end - width..span.end];
    let in_word = |mark: &Range<usize>| {
        let before = source[..mark.start].bytes().next_back();
        let after = source[mark.end..].bytes().next();
        before.is_some_and(|b| b.is_ascii_alphanumeric())
            && after.is_some_and(|b| b.is_ascii_alphanumeric())
    };
    marks.iter().all(in_word)
        || marks
            .iter()
            .any(|mark| within(urls, mark.start) || within(urls, mark.end - 1))
}

struct List {
    first: u64,
    count: u64,
    /// All its items have the first one's number, as Markdown allows.
    unnumbered: bool,
}

pub(super) struct Pass<'a> {
    pub(super) source: &'a str,
    pub(super) urls: Vec<Range<usize>>,
    /// The link definitions to come that are not copied.
    definitions: VecDeque<Range<usize>>,
    pub(super) strong_within: Vec<bool>,
    pub(super) out: String,
    /// What is before it is in `out`, or left out.
    pub(super) pos: usize,
    /// Where the last piece within a line ended.
    pub(super) seen: usize,
    pub(super) spans: Vec<Span>,
    pub(super) links: Vec<Link>,
    /// Where the source's line begins, and as far as where that was looked for.
    pub(super) source_line: (usize, usize),
    lists: Vec<List>,
}

impl Pass<'_> {
    /// Copies what stands before `to`, without the definitions in it.
    pub(super) fn copy_to(&mut self, to: usize) {
        while let Some(definition) = self.definitions.pop_front_if(|next| next.start < to) {
            self.copy(definition.start);
            let after = &self.source[definition.end..];
            if after.trim().is_empty() {
                self.out.truncate(self.out.trim_end().len());
                self.pos = self.source.len();
            } else {
                let line = after.trim_start_matches([' ', '\t', '\r']);
                let mut line = line.strip_prefix('\n').unwrap_or(after);
                // The empty line before it does for both.
                if self.out.ends_with("\n\n") {
                    line = line.trim_start_matches(['\r', '\n']);
                }
                self.pos = self.source.len() - line.len();
            }
        }
        self.copy(to);
    }

    fn copy(&mut self, to: usize) {
        if let Some(text) = self.source.get(self.pos..to) {
            self.out.push_str(text);
            self.pos = to;
        }
    }

    /// Writes `text` for what stands in the range.
    pub(super) fn replace(&mut self, range: Range<usize>, text: &str) {
        self.copy_to(range.start);
        self.out.push_str(text);
        self.pos = range.end;
        self.seen = range.end;
    }

    /// Takes a piece, or all of a block that is taken whole; the place of the next one.
    fn block(&mut self, pieces: &[Piece], at: usize) -> usize {
        let (event, range) = &pieces[at];
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                if let CodeBlockKind::Fenced(info) = kind
                    && let Some(fence) = block::fence(self.source, range, info)
                {
                    self.replace(block::trimmed(self.source, range), &fence);
                }
                return behind(pieces, at);
            }
            Event::Start(Tag::HtmlBlock) => {
                let stripped = html::strip(&self.source[range.clone()]);
                self.replace(range.clone(), &stripped);
                return behind(pieces, at);
            }
            Event::Start(Tag::Table(alignments)) => {
                let behind = behind(pieces, at);
                let lines = table::lines(alignments, &block::rows(&pieces[at..behind]));
                if let Some(fence) = block::fenced(self.source, range.start, &lines) {
                    self.replace(block::trimmed(self.source, range), &fence);
                }
                return behind;
            }
            // A heading without words is no heading to anybody.
            Event::Start(Tag::Heading { .. }) => match pieces.get(at + 1) {
                Some(next) if !matches!(next.0, Event::End(_)) => self.heading(range.start, next),
                _ => return behind(pieces, at),
            },
            Event::End(TagEnd::Heading(_)) => {
                self.copy_to(self.seen);
                self.close_span();
                self.pos = block::trimmed(self.source, range).end;
            }
            Event::Start(Tag::List(first)) => self.lists.push(List {
                first: first.unwrap_or_default(),
                count: 0,
                unnumbered: false,
            }),
            Event::End(TagEnd::List(_)) => {
                self.lists.pop();
            }
            Event::Start(Tag::Item) => self.item(range.start),
            Event::TaskListMarker(done) => {
                self.replace(range.clone(), if *done { "☑" } else { "☐" });
            }
            Event::Rule => self.replace(block::trimmed(self.source, range), "———"),
            Event::Start(Tag::FootnoteDefinition(label)) => {
                // Not `[1]:`, which would define a link.
                let mark = format!("[^{label}]:");
                if self.source[range.start..].starts_with(&mark) {
                    self.replace(range.start..range.start + mark.len(), &format!("[{label}]"));
                }
            }
            _ => self.inline(pieces, at),
        }
        at + 1
    }

    fn item(&mut self, start: usize) {
        let text = self.source[start..].trim_start_matches(' ');
        let start = self.source.len() - text.len();
        if text.starts_with('+') {
            return self.replace(start..start + 1, "-");
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (Some(list), Ok(written)) = (self.lists.last_mut(), text[..digits].parse::<u64>())
        else {
            return;
        };
        if list.count == 1 {
            list.unnumbered = written == list.first;
        }
        let number = match list.unnumbered {
            true => (list.first + list.count).to_string(),
            false => text[..digits].to_owned(),
        };
        list.count += 1;
        self.replace(start..start + digits + 1, &format!("{number}."));
    }
}

/// The place behind the block or span that begins here.
fn behind(pieces: &[Piece], at: usize) -> usize {
    let mut depth = 0usize;
    for (next, (event, _)) in pieces.iter().enumerate().skip(at) {
        match event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return next + 1;
        }
    }
    pieces.len()
}
