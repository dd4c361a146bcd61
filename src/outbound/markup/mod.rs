//! Markdown → WhatsApp's markup.
//!
//! WhatsApp knows `*bold*`, `_italic_`, `~struck~`, code between one or three backticks, and, at the beginning of a
//! line, `- `, `* `, `1. ` and `> ` (faq.whatsapp.com/539178204879377). Much of it is Markdown as well, so the text is
//! not written anew: what has to change is changed where it stands, everything else is left byte for byte. Bold between
//! single asterisks is emphasis to Markdown; since WhatsApp's own markup is left alone, it stays bold.
//!
//! Invariants: what was rendered is rendered to itself, and code and URLs stay as they are.

mod block;
mod html;
mod inline;
mod literal;
mod pass;
mod table;

#[cfg(test)]
mod tests;

/// Most texts are done after one pass; what one leaves behind that is Markdown again (nested HTML, above all) takes
/// another.
const MOST_PASSES: usize = 8;

/// Quotations and lists within each other, at most. The parser's work grows with the square of it.
const DEEPEST: usize = 100;

/// The text in WhatsApp's markup. A text that does not come to rest is given back as it was, so that rendering
/// twice is always the same as rendering once. So is one that nests as nobody writes.
pub(super) fn render(markdown: &str) -> String {
    if markdown.lines().any(|line| depth(line) > DEEPEST) {
        return markdown.to_owned();
    }
    let mut text = markdown.to_owned();
    for _ in 0..MOST_PASSES {
        let rendered = pass::render(&text);
        if rendered == text {
            return text;
        }
        text = rendered;
    }
    markdown.to_owned()
}

/// How many marks of quotations and lists a line begins with, as far as it matters.
fn depth(line: &str) -> usize {
    let mut words = line.split([' ', '\t']);
    let mut depth = 0;
    while depth <= DEEPEST
        && let Some(word) = words.next()
    {
        let quotations = word.bytes().take_while(|&b| b == b'>').count();
        let rest = &word[quotations..];
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let item = matches!(rest, "-" | "*" | "+") || digits != rest && matches!(digits, "." | ")");
        depth += quotations + usize::from(item);
        if !rest.is_empty() && !item {
            break;
        }
    }
    depth
}
