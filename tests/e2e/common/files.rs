//! Small files of all kinds, each as its real programs write them as far as anybody reads.

use std::io::Cursor;

use image::{ExtendedColorType, ImageFormat, Rgb, RgbImage};

#[path = "../../probe/samples.rs"]
#[expect(dead_code, reason = "others look closer at what a file is")]
mod samples;

pub use samples::{Frame, aac, amr, boxed, flat, moving_webp, nested, png_of};

/// Sound as phones record it: MPEG-4 without pictures.
pub fn m4a() -> Vec<u8> {
    let sound = samples::track(b"soun", 0, 0, false);
    samples::film(b"M4A ", &[samples::movie_head(2500), sound].concat())
}

/// A film of old phones.
pub fn three_gp() -> Vec<u8> {
    let film = samples::track(b"vide", 176, 144, false);
    samples::film(b"3gp4", &[samples::movie_head(1500), film].concat())
}

/// A picture.
pub fn jpeg() -> Vec<u8> {
    picture(64, 48, ImageFormat::Jpeg)
}

/// A picture.
pub fn png() -> Vec<u8> {
    picture(40, 30, ImageFormat::Png)
}

/// A picture that is fit for a sticker.
pub fn webp() -> Vec<u8> {
    picture(64, 64, ImageFormat::WebP)
}

fn picture(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let picture = RgbImage::from_fn(width, height, |x, y| Rgb([x as u8, y as u8, 128]));
    let mut bytes = Cursor::new(Vec::new());
    let pixels = picture.as_raw();
    image::write_buffer_with_format(
        &mut bytes,
        pixels,
        width,
        height,
        ExtendedColorType::Rgb8,
        format,
    )
    .expect("picture");
    bytes.into_inner()
}

/// A video of 320 by 240 pixels and three seconds, without a picture in it.
pub fn mp4() -> Vec<u8> {
    let word = |n: u32| n.to_be_bytes();
    let matrix: Vec<u8> = [0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000]
        .into_iter()
        .flat_map(word)
        .collect();
    // Version and times; scale and duration; rate, volume, what is reserved.
    let times = [0, 0, 0].map(word).concat();
    let mvhd = [
        times.clone(),
        [1000, 3000, 0x10000].map(word).concat(),
        vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        matrix.clone(),
        vec![0; 24],
        word(2).to_vec(),
    ]
    .concat();
    let tkhd = [
        [3, 0, 0, 1, 0, 3000, 0, 0, 0, 0].map(word).concat(),
        matrix,
        [320 << 16, 240 << 16].map(word).concat(),
    ]
    .concat();
    let mdhd = [times, [1000, 3000, 0x55c4_0000].map(word).concat()].concat();
    let hdlr = [&[0; 8][..], b"vide", &[0; 12], b"Video\0"].concat();
    let entry = [
        &[0, 0, 0, 0, 0, 0, 0, 1][..],
        &[0; 16],
        &320_u16.to_be_bytes(),
        &240_u16.to_be_bytes(),
        &[0, 0x48, 0, 0, 0, 0x48, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0; 32],
        &[0, 0x18, 0xff, 0xff],
    ]
    .concat();
    let stsd = [[0, 1].map(word).concat(), boxed(b"avc1", &entry)].concat();
    let empty = [0, 0].map(word).concat();
    let stbl = [
        boxed(b"stsd", &stsd),
        boxed(b"stts", &empty),
        boxed(b"stsc", &empty),
        boxed(b"stsz", [0, 0, 0].map(word).concat()),
        boxed(b"stco", &empty),
    ]
    .concat();
    let minf = [boxed(b"vmhd", [0; 12]), boxed(b"stbl", &stbl)].concat();
    let mdia = [
        boxed(b"mdhd", &mdhd),
        boxed(b"hdlr", &hdlr),
        boxed(b"minf", &minf),
    ]
    .concat();
    let trak = [boxed(b"tkhd", &tkhd), boxed(b"mdia", &mdia)].concat();
    let moov = [boxed(b"mvhd", &mvhd), boxed(b"trak", &trak)].concat();
    [
        boxed(b"ftyp", b"isom\0\0\x02\0isommp42"),
        boxed(b"moov", &moov),
        boxed(b"mdat", [7; 64]),
    ]
    .concat()
}

/// Four seconds of silence as a phone records them: Opus in Ogg.
pub fn voice() -> Vec<u8> {
    const SERIAL: u32 = 1;
    let head = [
        &b"OpusHead\x01\x01"[..],
        &312_u16.to_le_bytes(),
        &48_000_u32.to_le_bytes(),
        &[0, 0, 0],
    ]
    .concat();
    let tags = [&b"OpusTags"[..], &4_u32.to_le_bytes(), b"test", &[0; 4]].concat();
    let mut bytes = page(2, 0, SERIAL, 0, &[head]);
    bytes.extend(page(0, 0, SERIAL, 1, &[tags]));
    // Frames of 20 ms, fifty a page; some are longer, as when somebody speaks.
    for second in 0..4 {
        let packets: Vec<Vec<u8>> = (0..50)
            .map(|n| {
                let mut packet = vec![0x78];
                packet.resize(3 + (n * (second + 1)) % 60, 5);
                packet
            })
            .collect();
        let last = if second == 3 { 4 } else { 0 };
        let granule = (second as u64 + 1) * 48_000 + 312;
        bytes.extend(page(last, granule, SERIAL, second as u32 + 2, &packets));
    }
    bytes
}

fn page(flags: u8, granule: u64, serial: u32, number: u32, packets: &[Vec<u8>]) -> Vec<u8> {
    let lacing: Vec<u8> = packets.iter().map(|packet| packet.len() as u8).collect();
    let mut page = [
        &b"OggS\0"[..],
        &[flags],
        &granule.to_le_bytes(),
        &serial.to_le_bytes(),
        &number.to_le_bytes(),
        &[0; 4],
        &[lacing.len() as u8],
        &lacing,
        &packets.concat(),
    ]
    .concat();
    let sum = page.iter().fold(0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << 24, |sum, _| match sum >> 31 {
            1 => sum << 1 ^ 0x04c1_1db7,
            _ => sum << 1,
        })
    });
    page[22..26].copy_from_slice(&sum.to_le_bytes());
    page
}

/// Some seconds of MPEG sound.
pub fn mp3() -> Vec<u8> {
    let mut frame = vec![0xff, 0xfb, 0x90, 0x00];
    frame.resize(417, 0);
    frame.repeat(100)
}

/// A document.
pub fn pdf() -> Vec<u8> {
    b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n".to_vec()
}

/// So many bytes, no two such files the same.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    fastrand::fill(&mut noise);
    noise
}
