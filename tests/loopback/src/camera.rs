//! The phone's camera: reads a QR off a terminal drawing, as its lens would off the screen.

/// Pixels a module. A reader wants to see more than one.
const SCALE: usize = 4;

/// The text of the QR that is drawn in half blocks somewhere in `drawing`; colours are looked through. None if no
/// QR can be read, be it that its quiet zone is too narrow.
#[must_use]
pub fn read(drawing: &str) -> Option<String> {
    let plain = without_escapes(drawing);
    let rows: Vec<Vec<char>> = plain
        .lines()
        .filter(|line| line.contains(['█', '▀', '▄']))
        .map(|line| line.chars().collect())
        .collect();
    let width = rows.iter().map(Vec::len).max()?;
    let lit = |x: usize, y: usize| {
        let cell = rows[y / 2].get(x).copied().unwrap_or(' ');
        matches!((cell, y % 2), ('█', _) | ('▀', 0) | ('▄', 1))
    };
    // Which of the two is paper depends on the terminal's colours; a camera sees both.
    [true, false].into_iter().find_map(|light| {
        let mut picture = rqrr::PreparedImage::prepare_from_greyscale(
            width * SCALE,
            rows.len() * 2 * SCALE,
            |x, y| {
                if lit(x / SCALE, y / SCALE) == light {
                    255
                } else {
                    0
                }
            },
        );
        let grids = picture.detect_grids();
        grids
            .first()
            .and_then(|grid| grid.decode().ok())
            .map(|(_, text)| text)
    })
}

/// Terminal control sequences end with a letter.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => drop(characters.find(char::is_ascii_alphabetic)),
            _ => plain.push(character),
        }
    }
    plain
}
