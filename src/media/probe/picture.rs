//! Pictures: their sizes and small copies of them.
//!
//! Invariant: nothing is decoded before its size is known and small enough, and no decoder takes more memory than
//! [`MEMORY`].

use std::io::{BufReader, Cursor, Read, Seek};

use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, Limits, RgbImage};

/// Most pixels that are decoded for a thumbnail: a phone's ordinary photo has 12 to 24 million.
const DECODED: u64 = 25_000_000;
/// Most pixels that a phone can be asked to show; its largest cameras make 200 million. More go as a document.
const SHOWN: u64 = 256_000_000;
/// Most memory of a decoder in bytes.
const MEMORY: u64 = 128 << 20;
/// Most bytes of a JPEG that are read: its decoder holds all of it.
const ENCODED: u64 = 16 << 20;
/// Longest side of a thumbnail in pixels.
const THUMBNAIL: u32 = 100;

/// What is known of a picture.
pub(super) struct Picture {
    /// As shown, in pixels.
    pub width: u32,
    /// As shown, in pixels.
    pub height: u32,
    /// A small JPEG, unless the picture is too large or of a rare sort.
    pub thumbnail: Option<Vec<u8>>,
    /// Whether it moves.
    pub animated: bool,
}

impl Picture {
    /// Whether a phone can be asked to show it.
    pub fn shown(&self) -> bool {
        pixels(self.width, self.height) <= SHOWN
    }
}

/// Reads a JPEG, PNG or WebP. The error says what is wrong with it.
pub(super) fn read(file: &mut (impl Read + Seek), mime: &str) -> Result<Picture, String> {
    read_as(file, mime).map_err(|error| error.to_string())
}

fn read_as(file: &mut (impl Read + Seek), mime: &str) -> Result<Picture, ImageError> {
    file.rewind()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MEMORY);
    match mime {
        "image/jpeg" => {
            let mut bytes = Vec::new();
            let whole = file.take(ENCODED).read_to_end(&mut bytes)? < ENCODED as usize;
            let beside = coefficients(&bytes);
            looked_at(JpegDecoder::new(Cursor::new(bytes))?, limits, whole, beside)
        }
        "image/png" => {
            let decoder = PngDecoder::with_limits(BufReader::new(file), limits.clone())?;
            looked_at(decoder, limits, true, 0)
        }
        _ => {
            let decoder = WebPDecoder::new(BufReader::new(file))?;
            let (width, height) = decoder.dimensions();
            Ok(Picture {
                width,
                height,
                thumbnail: None,
                animated: decoder.has_animation(),
            })
        }
    }
}

/// Looks at a picture of which the decoder has all or not, and needs so many bytes beside the pixels.
fn looked_at(
    mut decoder: impl ImageDecoder,
    limits: Limits,
    whole: bool,
    beside: u64,
) -> Result<Picture, ImageError> {
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let memory = decoder.total_bytes().saturating_add(beside);
    let small = whole && pixels(width, height) <= DECODED && memory <= MEMORY;
    let thumbnail = match small {
        true => match thumbnail(decoder, limits, orientation) {
            Ok(thumbnail) => Some(thumbnail),
            // It is a picture, only of a sort that this decoder does not know or that takes too much.
            Err(ImageError::Limits(_) | ImageError::Unsupported(_)) => None,
            Err(error) => return Err(error),
        },
        false => None,
    };
    let turned = matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    );
    let (width, height) = match turned {
        true => (height, width),
        false => (width, height),
    };
    Ok(Picture {
        width,
        height,
        thumbnail,
        animated: false,
    })
}

/// What a progressive JPEG takes beside its pixels: its scans refine the coefficients of the whole picture, two bytes
/// each, of which zune-jpeg (0.5, `decode_mcu_ycbcr_progressive`) holds all that the components' sampling makes. Other
/// JPEGs are decoded row by row. Whatever looks like a frame's header (ITU-T T.81, B.2.2) counts, the largest, since
/// a file of several is read in ways that differ.
fn coefficients(jpeg: &[u8]) -> u64 {
    const PROGRESSIVE: [u8; 2] = [0xff, 0xc2];
    let of = |header: &[u8]| {
        let &[_, _, _, _, _, h0, h1, w0, w1, count, ..] = header else {
            return 0;
        };
        let blocks = |length: [u8; 2], sampling: u8| {
            u64::from(u16::from_be_bytes(length)).div_ceil(8 * u64::from(sampling.max(1)))
        };
        let samplings = || {
            let components = header[10..].chunks_exact(3).take(count.min(4).into());
            components.map(|component| (component[1] >> 4, component[1] & 15))
        };
        let (across, down) = samplings().fold((1, 1), |(across, down), (x, y)| {
            (across.max(x), down.max(y))
        });
        let each: u64 = samplings().map(|(x, y)| u64::from(x) * u64::from(y)).sum();
        blocks([w0, w1], across) * blocks([h0, h1], down) * each * 64 * 2
    };
    let headers = jpeg
        .windows(2)
        .enumerate()
        .filter(|(_, marker)| *marker == PROGRESSIVE);
    headers
        .map(|(at, _)| of(&jpeg[at..]))
        .max()
        .unwrap_or_default()
}

fn thumbnail(
    mut decoder: impl ImageDecoder,
    limits: Limits,
    orientation: Orientation,
) -> Result<Vec<u8>, ImageError> {
    decoder.set_limits(limits)?;
    let picture = DynamicImage::from_decoder(decoder)?;
    let longest = picture.width().max(picture.height()).min(THUMBNAIL);
    let mut small = picture.thumbnail(longest, longest);
    drop(picture);
    small.apply_orientation(orientation);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 70).encode_image(&on_white(&small))?;
    Ok(jpeg)
}

/// JPEG has no transparency; what is behind it in a chat is nearly white.
fn on_white(picture: &DynamicImage) -> RgbImage {
    let picture = picture.to_rgba8();
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let image::Rgba([r, g, b, alpha]) = *picture.get_pixel(x, y);
        let over = |c: u8| {
            let (c, alpha) = (u32::from(c), u32::from(alpha));
            ((c * alpha + 255 * (255 - alpha)) / 255) as u8
        };
        image::Rgb([over(r), over(g), over(b)])
    })
}

fn pixels(width: u32, height: u32) -> u64 {
    u64::from(width) * u64::from(height)
}
