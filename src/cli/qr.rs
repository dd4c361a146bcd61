//! The QR code of a link, for a terminal and as a picture.

use qrcode::{Color, EcLevel, QrCode};

/// Width of the light border that a reader needs, in modules (ISO/IEC 18004, 6.3.8).
const QUIET: usize = 4;
/// Pixels a module in a picture.
const SCALE: usize = 8;

/// Why a code could not be made.
#[derive(Debug, thiserror::Error)]
pub enum QrError {
    /// The text does not fit into a QR code.
    #[error("the text does not fit into a QR code: {0}")]
    Text(#[from] qrcode::types::QrError),
    /// The picture could not be encoded.
    #[error("the picture could not be made: {0}")]
    Picture(#[from] png::EncodingError),
}

/// Modules with their border: `true` is dark.
struct Modules {
    width: usize,
    dark: Vec<bool>,
}

impl Modules {
    fn new(text: &str) -> Result<Self, QrError> {
        // The lowest correction: the code is on a screen, and a small one fits into more terminals.
        let code = QrCode::with_error_correction_level(text, EcLevel::L)?;
        let dark = code
            .to_colors()
            .into_iter()
            .map(|color| color == Color::Dark)
            .collect();
        Ok(Self {
            width: code.width(),
            dark,
        })
    }

    /// Width and height with the border.
    fn size(&self) -> usize {
        self.width + 2 * QUIET
    }

    fn is_dark(&self, x: usize, y: usize) -> bool {
        let inside = |at: usize| at.checked_sub(QUIET).filter(|at| *at < self.width);
        matches!((inside(x), inside(y)), (Some(x), Some(y)) if self.dark[y * self.width + x])
    }
}

/// The code as lines of half blocks, two modules to a character, for stderr. The ink is the light part, so that the border
/// is there also where spaces at the end of a line are not.
///
/// # Errors
/// [`QrError::Text`] if the text is too long.
pub fn terminal(text: &str) -> Result<String, QrError> {
    draw(text, crate::platform::stderr_takes_escapes())
}

/// The columns and rows that a drawing of this text takes.
///
/// # Errors
/// [`QrError::Text`] if the text is too long.
pub fn extent(text: &str) -> Result<(usize, usize), QrError> {
    let size = Modules::new(text)?.size();
    Ok((size, size.div_ceil(2)))
}

/// With `coloured` the code brings its own black and white. Without, its light part has the text's colour, which is
/// right on the usual dark background; dark text on a light one shows it inverted.
fn draw(text: &str, coloured: bool) -> Result<String, QrError> {
    let modules = Modules::new(text)?;
    let size = modules.size();
    // Colours 16 and 231 are the fixed black and white of the 256; the first sixteen follow the terminal's theme.
    let (begin, end) = if coloured {
        ("\x1b[38;5;231;48;5;16m", "\x1b[0m\n")
    } else {
        ("", "\n")
    };
    let mut drawing = String::with_capacity(size * (size / 2 + 1) * 3);
    for y in (0..size).step_by(2) {
        drawing.push_str(begin);
        for x in 0..size {
            // Below the last row there is light.
            drawing.push(match (modules.is_dark(x, y), modules.is_dark(x, y + 1)) {
                (false, false) => '█',
                (false, true) => '▀',
                (true, false) => '▄',
                (true, true) => ' ',
            });
        }
        drawing.push_str(end);
    }
    Ok(drawing)
}

/// The code as a PNG file.
///
/// # Errors
/// [`QrError`] if the text is too long or the picture cannot be encoded.
pub fn png(text: &str) -> Result<Vec<u8>, QrError> {
    let modules = Modules::new(text)?;
    let side = modules.size() * SCALE;
    let pixel = |at: usize| {
        if modules.is_dark(at % side / SCALE, at / side / SCALE) {
            0
        } else {
            255
        }
    };
    let pixels: Vec<u8> = (0..side * side).map(pixel).collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side as u32, side as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use whatsapp_loopback::camera;

    use super::*;

    /// As long as a real one: a reference and three keys.
    const TEXT: &str = "2@Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4,\
        AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=,BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB=,\
        CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC=,1";

    /// What a terminal shows: whether each half of each character is dark.
    fn shown(drawing: &str) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in drawing.lines() {
            let halves = |upper: bool| {
                let dark = move |c| match c {
                    '█' => false,
                    '▀' => !upper,
                    '▄' => upper,
                    ' ' => true,
                    other => panic!("{other:?}"),
                };
                line.chars().map(dark).collect::<Vec<bool>>()
            };
            rows.push(halves(true));
            rows.push(halves(false));
        }
        rows
    }

    /// Where it brings its colours it is no negative on any ground, without them on the usual dark one.
    #[test]
    fn what_is_drawn_can_be_read() {
        for (coloured, light_ground, seen) in [
            (true, false, true),
            (true, true, true),
            (false, false, true),
            (false, true, false),
        ] {
            let text = camera::read(&draw(TEXT, coloured).unwrap(), light_ground);
            assert_eq!(
                text.as_deref(),
                seen.then_some(TEXT),
                "{coloured} {light_ground}"
            );
        }
        let coloured = draw(TEXT, true).unwrap();
        for line in coloured.lines() {
            assert!(line.starts_with("\x1b[38;5;231;48;5;16m") && line.ends_with("\x1b[0m"));
        }
    }

    #[test]
    fn it_outlives_what_cuts_spaces_off() {
        for line in draw(TEXT, false).unwrap().lines() {
            assert!(line.ends_with('█'));
        }
    }

    #[test]
    fn it_has_its_border_and_fits_a_terminal() {
        let rows = shown(&draw(TEXT, false).unwrap());
        let width = rows[0].len();
        assert!(width <= 80, "{width}");
        assert!(rows.iter().all(|row| row.len() == width));
        let dark = |x: usize, y: usize| rows[y][x];
        for far in 0..width {
            for near in (0..QUIET).chain(width - QUIET..width) {
                assert!(!dark(far, near) && !dark(near, far));
            }
        }
        assert!(
            dark(QUIET, QUIET),
            "the finder begins where the border ends"
        );
    }

    #[test]
    fn the_picture_shows_the_same() {
        let file = png(TEXT).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(file))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let side = info.width as usize;
        let rows = shown(&draw(TEXT, false).unwrap());
        assert_eq!((side, info.height as usize), (rows[0].len() * SCALE, side));
        for (at, pixel) in pixels[..side * side].iter().enumerate() {
            let dark = rows[at / side / SCALE][at % side / SCALE];
            assert_eq!(*pixel, if dark { 0 } else { 255 });
        }
    }

    #[test]
    fn too_long_is_an_error() {
        assert!(matches!(
            draw(&"x".repeat(3000), true),
            Err(QrError::Text(_))
        ));
        assert!(png(&"x".repeat(3000)).is_err());
    }
}
