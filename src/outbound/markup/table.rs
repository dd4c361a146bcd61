//! Tables → lines of equal columns, for a font of equal widths.

use pulldown_cmark::Alignment;
use unicode_width::UnicodeWidthStr;

/// The lines: the head, a rule, the rows. The first row is the head.
pub(super) fn lines(alignments: &[Alignment], rows: &[Vec<String>]) -> Vec<String> {
    let widths: Vec<usize> = (0..alignments.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.width()).max().unwrap_or_default()
        })
        .collect();
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells = row.iter().zip(alignments).zip(&widths);
            let cells: Vec<String> = cells
                .map(|((cell, alignment), &width)| aligned(cell, *alignment, width))
                .collect();
            cells.join(" | ").trim_end().to_owned()
        })
        .collect();
    let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
    lines.insert(lines.len().min(1), rule.join("-|-"));
    lines
}

fn aligned(cell: &str, alignment: Alignment, width: usize) -> String {
    let room = width.saturating_sub(cell.width());
    let left = match alignment {
        Alignment::None | Alignment::Left => 0,
        Alignment::Center => room / 2,
        Alignment::Right => room,
    };
    format!("{:left$}{cell}{:right$}", "", "", right = room - left)
}
