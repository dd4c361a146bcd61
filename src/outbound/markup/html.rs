//! HTML in Markdown: the tags go, the text stays.
//!
//! Only tags that lay out a text are tags here. What else stands between angle brackets is what somebody wanted to be
//! read: `Vec<String>`, `cp <source> <target>`.

/// Elements that begin a line of their own; in order.
const BLOCKS: [&str; 41] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "center",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "head",
    "header",
    "hr",
    "html",
    "li",
    "main",
    "nav",
    "ol",
    "p",
    "pre",
    "script",
    "section",
    "style",
    "summary",
    "table",
    "tbody",
    "thead",
    "tr",
    "ul",
];

/// Elements within a line; in order.
const INLINES: [&str; 36] = [
    "a", "abbr", "b", "bdi", "bdo", "big", "button", "cite", "code", "del", "dfn", "em", "font",
    "i", "iframe", "img", "ins", "kbd", "mark", "picture", "q", "s", "samp", "small", "span",
    "strike", "strong", "sub", "sup", "svg", "td", "th", "tt", "u", "var", "wbr",
];

/// Longer tags and comments stay; a limit keeps the search for the end of each from growing with the text.
const LONGEST: usize = 4096;

/// What a tag does to the text round it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    /// Nothing.
    Inline,
    /// What follows begins a line.
    Block,
    /// What follows is a point of a list.
    Point,
    /// A line break.
    Break,
}

/// The tag or comment at the beginning of the text, with its length.
pub(super) fn tag(text: &str) -> Option<(Tag, usize)> {
    let text = &text[..text.floor_char_boundary(LONGEST)];
    let inner = text.strip_prefix('<')?;
    if let Some(comment) = inner.strip_prefix("!--") {
        return Some((Tag::Inline, comment.find("-->")? + 7));
    }
    if inner
        .get(..8)
        .is_some_and(|word| word.eq_ignore_ascii_case("!doctype"))
    {
        return Some((Tag::Inline, inner.find('>')? + 2));
    }
    let closing = inner.starts_with('/');
    let named = &inner[usize::from(closing)..];
    let name = named
        .find(|c: char| !c.is_ascii_alphanumeric())
        .map(|end| named[..end].to_ascii_lowercase())?;
    let tag = match name.as_str() {
        "br" => Tag::Break,
        "li" if !closing => Tag::Point,
        name if BLOCKS.binary_search(&name).is_ok() => Tag::Block,
        name if INLINES.binary_search(&name).is_ok() => Tag::Inline,
        _ => return None,
    };
    let attributes = &named[name.len()..];
    if !attributes.starts_with(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>')) {
        return None;
    }
    let mut quoted = None;
    let end = attributes.find(|c| match quoted {
        Some(quote) => {
            if c == quote {
                quoted = None;
            }
            false
        }
        None => {
            if matches!(c, '"' | '\'') {
                quoted = Some(c);
            }
            c == '>'
        }
    })?;
    Some((tag, text.len() - attributes.len() + end + 1))
}

/// The text without its tags; lines that held nothing but tags go with them.
pub(super) fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut line, mut tags, mut break_due) = (text, 0, false, false);
    // Whether the line has no words so far.
    let mut blank = true;
    while let Some(c) = rest.chars().next() {
        if let Some((tag, length)) = tag(rest) {
            match tag {
                Tag::Inline => {}
                Tag::Block | Tag::Break => break_due = !blank,
                Tag::Point => {
                    if !blank {
                        out.push('\n');
                        line = out.len();
                    }
                    out.push_str("- ");
                    (blank, break_due) = (false, false);
                }
            }
            tags = true;
            rest = &rest[length..];
            continue;
        }
        if c == '\n' {
            if blank && tags {
                out.truncate(line);
            } else {
                out.push('\n');
            }
            line = out.len();
            (tags, break_due, blank) = (false, false, true);
        } else {
            if break_due && !c.is_whitespace() {
                out.truncate(out.trim_end_matches(' ').len());
                out.push('\n');
                line = out.len();
                break_due = false;
            }
            blank &= c.is_whitespace();
            out.push(c);
        }
        rest = &rest[c.len_utf8()..];
    }
    if tags && blank {
        out.truncate(line);
    }
    out
}
