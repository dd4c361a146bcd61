//! Small valid files of every kind, made here so that nobody has to trust a binary in the repository.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageFormat, Rgba, RgbaImage};

/// Red on its left half, blue on its right one.
pub fn drawing(width: u32, height: u32) -> DynamicImage {
    let color = |x| match x < width / 2 {
        true => Rgba([220, 20, 20, 255]),
        false => Rgba([20, 20, 220, 255]),
    };
    DynamicImage::from(RgbaImage::from_fn(width, height, |x, _| color(x)))
}

pub fn picture(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    drawing(width, height).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub fn png(width: u32, height: u32) -> Vec<u8> {
    picture(width, height, ImageFormat::Png)
}

pub fn webp(width: u32, height: u32) -> Vec<u8> {
    picture(width, height, ImageFormat::WebP)
}

pub fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, 80);
    drawing(width, height)
        .to_rgb8()
        .write_with_encoder(encoder)
        .unwrap();
    bytes
}

/// How a JPEG is written: at once, row by row, or in scans that refine each other (ITU-T T.81).
#[derive(Clone, Copy)]
pub enum Frame {
    Baseline = 0xc0,
    Progressive = 0xc2,
}

/// A square JPEG of one colour, whose brightness has `sampling` (across and down, four bits each).
pub fn flat(frame: Frame, side: u16, sampling: u8) -> Vec<u8> {
    let (across, down) = (u32::from(sampling >> 4), u32::from(sampling & 15));
    let units = u32::from(side).div_ceil(8 * across) * u32::from(side).div_ceil(8 * down);
    // One bit a block: no difference from the one before. And one for its end, where it has more than that.
    let (bits, last) = match frame {
        Frame::Baseline => (2, 63),
        Frame::Progressive => (1, 0),
    };
    let scan = vec![0; (units * (across * down + 2) * bits).div_ceil(8) as usize];
    let segment = |marker: u8, inside: &[u8]| {
        let length = (inside.len() as u16 + 2).to_be_bytes();
        [&[0xff, marker], &length[..], inside].concat()
    };
    let side = side.to_be_bytes();
    let components = [3, 1, sampling, 0, 2, 0x11, 0, 3, 0x11, 0];
    // A code of one bit stands for nought.
    let table = |class: u8| [&[class, 1][..], &[0; 15], &[0]].concat();
    [
        vec![0xff, 0xd8],
        segment(0xdb, &[&[0][..], &[1; 64]].concat()),
        segment(frame as u8, &[&[8], &side[..], &side, &components].concat()),
        segment(0xc4, &[table(0), table(0x10)].concat()),
        segment(0xda, &[3, 1, 0, 2, 0, 3, 0, 0, last, 0]),
        scan,
        vec![0xff, 0xd9],
    ]
    .concat()
}

/// A PNG that says of itself that it is a square of this many pixels a side, and is of nine.
pub fn png_of(side: u32) -> Vec<u8> {
    let mut bytes = png(3, 3);
    bytes[16..20].copy_from_slice(&side.to_be_bytes());
    bytes[20..24].copy_from_slice(&side.to_be_bytes());
    let sum = crc(&bytes[12..29]).to_be_bytes();
    bytes[29..33].copy_from_slice(&sum);
    bytes
}

/// The checksum of a PNG's chunk.
pub fn crc(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| {
        if crc & 1 == 1 {
            0xedb8_8320 ^ (crc >> 1)
        } else {
            crc >> 1
        }
    };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| bit(crc));
    !bytes.iter().fold(u32::MAX, byte)
}

/// Boxes within boxes, as deep as 100,000 bytes allow.
pub fn nested() -> Vec<u8> {
    let mut nested = boxed(b"moov", b"");
    while nested.len() < 100_000 {
        nested = boxed(b"moov", nested);
    }
    [boxed(b"ftyp", b"isom\0\0\0\0"), nested].concat()
}

/// A JPEG whose camera was held as this EXIF orientation says.
pub fn turned(width: u32, height: u32, orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let plain = jpeg(width, height);
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&plain[..2], &[0xff, 0xe1], &length, &exif, &plain[2..]].concat()
}

/// The same still picture as the only one of an animation.
pub fn moving_webp(width: u32, height: u32) -> Vec<u8> {
    let still = webp(width, height);
    let three = |n: u32| n.to_le_bytes()[..3].to_vec();
    let size = [three(width - 1), three(height - 1)].concat();
    let frame = [&[0; 6][..], &size, &three(100), &[0], &still[12..]].concat();
    let chunk = |name: &[u8; 4], inside: &[u8]| {
        let mut chunk = [name, &(inside.len() as u32).to_le_bytes()[..], inside].concat();
        chunk.resize(chunk.len().next_multiple_of(2), 0);
        chunk
    };
    let chunks = [
        b"WEBP".to_vec(),
        chunk(b"VP8X", &[&[0x12, 0, 0, 0][..], &size].concat()),
        chunk(b"ANIM", &[0; 6]),
        chunk(b"ANMF", &frame),
    ]
    .concat();
    chunk(b"RIFF", &chunks)
}

/// A box of an MP4.
pub fn boxed(kind: &[u8; 4], inside: impl AsRef<[u8]>) -> Vec<u8> {
    let inside = inside.as_ref();
    let size = (inside.len() as u32 + 8).to_be_bytes();
    [&size[..], kind, inside].concat()
}

/// A movie head: so many ticks of a thousandth of a second.
pub fn movie_head(ticks: u32) -> Vec<u8> {
    let mut head = vec![0; 100];
    head[12..16].copy_from_slice(&1000_u32.to_be_bytes());
    head[16..20].copy_from_slice(&ticks.to_be_bytes());
    boxed(b"mvhd", head)
}

pub fn track(handler: &[u8; 4], width: u32, height: u32, turned: bool) -> Vec<u8> {
    let mut head = vec![0; 84];
    let matrix = if turned {
        [0_i32, 1, -1, 0]
    } else {
        [1, 0, 0, 1]
    };
    for (place, value) in [40, 44, 52, 56].into_iter().zip(matrix) {
        head[place..place + 4].copy_from_slice(&(value << 16).to_be_bytes());
    }
    head[76..80].copy_from_slice(&(width << 16).to_be_bytes());
    head[80..84].copy_from_slice(&(height << 16).to_be_bytes());
    let handler = [&[0; 8][..], handler, &[0; 12]].concat();
    let media = boxed(b"mdia", boxed(b"hdlr", handler));
    boxed(b"trak", [boxed(b"tkhd", head), media].concat())
}

/// A film of two and a half seconds, 640 by 360 pixels, with sound; what describes it is at the end.
pub fn mp4() -> Vec<u8> {
    let tracks = [track(b"vide", 640, 360, false), track(b"soun", 0, 0, false)].concat();
    film(b"isom", &[movie_head(2500), tracks].concat())
}

pub fn film(brand: &[u8; 4], description: &[u8]) -> Vec<u8> {
    [
        boxed(b"ftyp", [&brand[..], &[0; 4], b"isom"].concat()),
        boxed(b"mdat", [7; 200]),
        boxed(b"moov", description),
    ]
    .concat()
}

/// A page of Ogg with these packets.
pub fn page(granule: i64, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut lacing = Vec::new();
    for packet in packets {
        lacing.extend(std::iter::repeat_n(255, packet.len() / 255));
        lacing.push((packet.len() % 255) as u8);
    }
    let granule = granule.to_le_bytes();
    let head = [b"OggS\0\0", &granule[..], b"one.", &[0; 8]].concat();
    [head, vec![lacing.len() as u8], lacing, packets.concat()].concat()
}

/// A voice note of packets of 20 ms with these sizes.
pub fn opus(sizes: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let mut head = b"OpusHead\x01\x01".to_vec();
    head.extend(312_u16.to_le_bytes());
    head.extend(48_000_u32.to_le_bytes());
    head.extend([0; 3]);
    let comments = b"OpusTags\0\0\0\0\0\0\0\0".to_vec();
    let mut file = [page(0, &[head]), page(0, &[comments])].concat();
    let mut samples = 312;
    for size in sizes {
        samples += 960;
        let mut packet = vec![0x55; size.max(1)];
        packet[0] = 0x78;
        file.extend(page(samples, &[packet]));
    }
    file
}

/// Silence of 128 kbit/s, a frame of 26 ms after the other.
pub fn mp3(frames: usize) -> Vec<u8> {
    [&[0xff, 0xfb, 0x90, 0x00][..], &[0; 413]]
        .concat()
        .repeat(frames)
}

/// Frames of 20 ms, every other one silent, as a phone records them at 12.2 kbit/s.
pub fn amr(frames: usize) -> Vec<u8> {
    let spoken = [&[0x3c][..], &[0x55; 31]].concat();
    let frames = (0..frames).map(|n| match n % 2 {
        0 => spoken.clone(),
        _ => vec![0x7c],
    });
    let frames: Vec<u8> = frames.flatten().collect();
    [b"#!AMR\n".to_vec(), frames].concat()
}

/// Frames of 1,024 samples at 44.1 kHz.
pub fn aac(frames: usize) -> Vec<u8> {
    let frame = [&[0xff, 0xf1, 0x50, 0x80, 0x19, 0x1f, 0xfc][..], &[0; 193]].concat();
    frame.repeat(frames)
}
