//! The phone's camera: reads a QR off a terminal drawing, as its lens would off the screen.

/// Pixels a module. A reader wants to see more than one.
const SCALE: usize = 4;

/// The text of the QR that is drawn in half blocks somewhere in `drawing`, for a reader to which a negative is none, on a
/// terminal with dark text on a light ground, or the other way round. The black 16 and the white 231 of the 256 colours
/// are known, and that 0 takes colours back.
#[must_use]
pub fn read(drawing: &str, light_ground: bool) -> Option<String> {
    let mut rows: Vec<Vec<[bool; 2]>> = Vec::new();
    for line in drawing.lines().filter(|line| line.contains('█')) {
        let own = (!light_ground, light_ground);
        let ((mut text, mut ground), mut row) = (own, Vec::new());
        let mut characters = line.trim_end_matches('\r').chars();
        while let Some(character) = characters.next() {
            row.push(match character {
                '█' => [text, text],
                '▀' => [text, ground],
                '▄' => [ground, text],
                '\x1b' => {
                    let command = characters.by_ref().take_while(|c| !c.is_ascii_alphabetic());
                    match command.collect::<String>().as_str() {
                        "[38;5;231;48;5;16" => (text, ground) = (true, false),
                        "[0" => (text, ground) = own,
                        _ => {}
                    }
                    continue;
                }
                _ => [ground, ground],
            });
        }
        rows.push(row);
    }
    let width = rows.iter().map(Vec::len).max()?;
    decoded((width, rows.len() * 2), |x, y| {
        let cell = rows[y / 2].get(x);
        cell.map_or(light_ground, |halves| halves[y % 2])
    })
}

/// The text of the only QR among so many modules.
fn decoded(
    (width, height): (usize, usize),
    light: impl Fn(usize, usize) -> bool,
) -> Option<String> {
    let mut picture =
        rqrr::PreparedImage::prepare_from_greyscale(width * SCALE, height * SCALE, |x, y| {
            if light(x / SCALE, y / SCALE) { 255 } else { 0 }
        });
    let grids = picture.detect_grids();
    Some(grids.first()?.decode().ok()?.1)
}
