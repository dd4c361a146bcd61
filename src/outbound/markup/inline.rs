//! What stands within lines: emphasis, links, escapes, line breaks.
//!
//! WhatsApp's emphasis ends with its line, and the marks have to touch the words; so what spans lines is closed and
//! opened again at each break.

use std::ops::Range;

use pulldown_cmark::{Event, Tag, TagEnd};

use super::super::verbatim::within;
use super::html::{self, Tag as HtmlTag};
use super::pass::{Pass, Piece, stays};
use super::{block, literal};

/// A heading or a span of emphasis that is open.
#[derive(Clone, Copy)]
pub(super) struct Span {
    /// How many bytes mark its end in the source.
    width: usize,
    /// What marks it in the text; nothing within another of its kind. `None`: it stays as it is.
    mark: Option<&'static str>,
    /// Where its words begin in the text, in this line.
    words: usize,
}

/// A link or an image that is open.
pub(super) struct Link {
    /// Where its label begins in the text.
    label: usize,
    url: String,
    /// An image within a link is only its description.
    described: bool,
}

/// How much of a line is looked at for what stands before a place in it.
const LINE_WINDOW: usize = 256;

impl Pass<'_> {
    pub(super) fn inline(&mut self, pieces: &[Piece], at: usize) {
        let (event, range) = &pieces[at];
        match event {
            Event::Start(Tag::Strong | Tag::Emphasis | Tag::Strikethrough) => {
                self.open_span(event, range, self.strong_within[at]);
                return;
            }
            Event::End(TagEnd::Strong | TagEnd::Emphasis | TagEnd::Strikethrough) => {
                if let Some(span) = self.spans.last()
                    && span.mark.is_some()
                {
                    self.copy_to(range.end - span.width);
                    self.pos = range.end;
                }
                self.close_span();
            }
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                let image = self.source[range.start..].starts_with('!');
                self.replace(range.start..range.start + 1 + usize::from(image), "");
                self.links.push(Link {
                    label: self.out.len(),
                    url: dest_url.to_string(),
                    described: image && !self.links.is_empty(),
                });
                return;
            }
            Event::End(TagEnd::Link | TagEnd::Image) => {
                self.copy_to(self.seen);
                if let Some(link) = self.links.pop()
                    && !link.described
                {
                    let label = self.out.split_off(link.label);
                    self.out.push_str(&shown(&label, &link.url));
                }
                self.pos = range.end;
            }
            Event::Text(text) => self.text(range, text),
            Event::Code(_) => self.code(range),
            Event::InlineHtml(_) => match html::tag(&self.source[range.clone()]) {
                Some((HtmlTag::Break, _)) => self.br(range),
                Some((HtmlTag::Inline, _)) => self.replace(range.clone(), ""),
                Some(_) => {
                    self.copy_to(range.start);
                    match self.line().contains(char::is_alphanumeric) {
                        true => self.br(range),
                        false => self.replace(range.clone(), ""),
                    }
                }
                None => {}
            },
            Event::SoftBreak | Event::HardBreak => self.line_break(range, pieces.get(at + 1)),
            Event::FootnoteReference(label) => {
                self.replace(range.clone(), &format!("[{label}]"));
            }
            _ => return,
        }
        self.seen = range.end;
    }

    pub(super) fn heading(&mut self, start: usize, first: &Piece) {
        self.copy_to(start);
        self.pos = self.begin(first);
        self.push_span(0, Some("*"));
    }

    fn open_span(&mut self, event: &Event, range: &Range<usize>, strong_within: bool) {
        let source = &self.source[range.start..];
        let bold = self.spans.iter().any(|span| span.mark == Some("*"));
        let (width, mark) = match event {
            Event::Start(Tag::Strong) => (2, "*"),
            Event::Start(Tag::Strikethrough) if source.starts_with("~~") => (2, "~"),
            Event::Start(Tag::Emphasis) if source.starts_with('*') && (bold || strong_within) => {
                (1, "_")
            }
            _ => return self.push_span(0, None),
        };
        if stays(self.source, &self.urls, range, width) {
            return self.push_span(0, None);
        }
        self.copy_to(range.start);
        self.pos = range.start + width;
        let nested = self.spans.iter().any(|span| span.mark == Some(mark));
        self.push_span(width, Some(if nested { "" } else { mark }));
    }

    fn push_span(&mut self, width: usize, mark: Option<&'static str>) {
        self.out.push_str(mark.unwrap_or_default());
        self.spans.push(Span {
            width,
            mark,
            words: self.out.len(),
        });
    }

    pub(super) fn close_span(&mut self) {
        if let Some(span) = self.spans.pop() {
            self.mark_end(span);
        }
    }

    /// Marks the end of a span behind its last word; without words there is no span.
    fn mark_end(&mut self, span: Span) {
        let mark = span.mark.unwrap_or_default();
        if mark.is_empty() {
            return;
        }
        let words = self.out[span.words..].trim_end().len();
        let space = self.out.split_off(span.words + words);
        if words == 0 {
            self.out.truncate(span.words - mark.len());
        } else {
            self.out.push_str(mark);
        }
        self.out.push_str(&space);
    }

    /// Where a piece begins, its escape included.
    fn begin(&self, piece: &Piece) -> usize {
        let (event, Range { start, .. }) = piece;
        let escaped = matches!(event, Event::Text(_)) && self.source[..*start].ends_with('\\');
        start - usize::from(escaped)
    }

    fn line_break(&mut self, range: &Range<usize>, next: Option<&Piece>) {
        let resume = next
            .filter(|(event, _)| !matches!(event, Event::End(_)))
            .map_or(range.end, |next| self.begin(next));
        if !self.links.is_empty() {
            return self.replace(range.start..resume, " ");
        }
        // A hard break is a line break like any other here.
        let newline = self.source[range.clone()]
            .find(['\r', '\n'])
            .map_or(range.start, |newline| range.start + newline);
        if newline > range.start {
            self.replace(range.start..newline, "");
        }
        if self.spans.iter().any(|span| span.mark.is_some()) {
            self.copy_to(range.start);
            let between = self.source[newline..resume].to_owned();
            self.between_lines(&between);
            self.pos = resume;
        }
    }

    fn br(&mut self, range: &Range<usize>) {
        let after = self.source[range.end..].trim_start_matches([' ', '\t']);
        self.replace(range.start..self.source.len() - after.len(), "");
        if !self.links.is_empty() {
            self.out.push(' ');
        } else if !after.is_empty() && !after.starts_with(['\r', '\n']) {
            let prefix = block::marks(self.line_before(range.start));
            self.between_lines(&format!("\n{prefix}"));
        }
    }

    /// The source's line as far as `at`. Asked for from left to right.
    fn line_before(&mut self, at: usize) -> &str {
        let (line, searched) = self.source_line;
        let newline = self.source[searched..at].rfind('\n');
        let line = newline.map_or(line, |newline| searched + newline + 1);
        self.source_line = (line, at);
        &self.source[line..at]
    }

    fn between_lines(&mut self, between: &str) {
        let open = self.spans.clone();
        for span in open.iter().rev() {
            self.mark_end(*span);
        }
        self.out.push_str(between);
        for span in &mut self.spans {
            self.out.push_str(span.mark.unwrap_or_default());
            span.words = self.out.len();
        }
    }

    fn text(&mut self, range: &Range<usize>, text: &str) {
        let source = self.source;
        let in_url = within(&self.urls, range.start.saturating_sub(1));
        if let Some(escape) = range.start.checked_sub(1)
            && escape >= self.pos.max(self.seen)
            && source.as_bytes()[escape] == b'\\'
            && let Some(c) = text.chars().next()
        {
            self.copy_to(escape);
            // A URL has no backslashes: this one is Markdown's.
            let plain = match in_url {
                true => "_*~-.#=&+!".contains(c),
                false => literal::is_plain(c, self.line(), &source[range.start + c.len_utf8()..]),
            };
            if plain {
                self.pos = range.start;
            }
            return;
        }
        let written = &source[range.clone()];
        let is_entity = written != text && written.starts_with('&') && written.ends_with(';');
        if is_entity && !within(&self.urls, range.start) {
            self.copy_to(range.start);
            let line = self.line();
            if text
                .chars()
                .all(|c| literal::is_plain(c, line, &source[range.end..]))
            {
                self.replace(range.clone(), text);
            }
        }
    }

    /// The line as far as it is written, or the end of it.
    fn line(&self) -> &str {
        let from = self.out.len().saturating_sub(LINE_WINDOW);
        let end = &self.out[self.out.ceil_char_boundary(from)..];
        end.rsplit('\n').next().unwrap_or(end)
    }

    /// Code between two backticks is code between one; WhatsApp knows one and three.
    fn code(&mut self, range: &Range<usize>) {
        let written = &self.source[range.clone()];
        let ticks = written.bytes().take_while(|&b| b == b'`').count();
        let code = written.trim_matches('`');
        if ticks != 1
            && ticks != 3
            && !code.contains('`')
            && written.len() == code.len() + 2 * ticks
        {
            self.replace(range.clone(), &format!("`{code}`"));
        }
    }
}

/// A link as people write it: its label, and where it leads if the label does not say so.
pub(super) fn shown(label: &str, url: &str) -> String {
    let bare = |text: &str| {
        let text = text
            .trim_start_matches("https://")
            .trim_start_matches("http://");
        text.trim_end_matches('/').to_owned()
    };
    let label = label.trim();
    let address = url
        .strip_prefix("mailto:")
        .or_else(|| url.strip_prefix("tel:"))
        .unwrap_or(url);
    if label.is_empty() || bare(label) == bare(address) {
        address.to_owned()
    } else if address.is_empty() || address.starts_with('#') {
        // A place in the same document: there is none in a chat.
        label.to_owned()
    } else {
        format!("{label} ({address})")
    }
}
