//! Files that are broken on purpose: each has the result that is written down here or in its snapshot, soon, within bounds
//! of memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use channel_whatsapp::media::probe::{Kind, ProbeError, Probed};
use image::ImageFormat;
use proptest::prelude::*;

use super::samples::*;
use super::{claimed, memory, plain};

/// Longest time for one file, in an unoptimised build.
const TIME: Duration = Duration::from_secs(1);
/// Most memory for one file: a decoder's 128 MiB and what is read of a picture.
const MEMORY: usize = 160 << 20;

/// How long this thread has worked, where that can be told: other tests take their share of a machine.
fn busy() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let start = *START;
    let worked = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = worked.and_then(|all| all.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

/// One file of each kind, with a type to claim.
fn valid() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("image/jpeg", turned(64, 48, 6)),
        ("image/png", png(64, 48)),
        ("image/webp", webp(64, 48)),
        ("image/webp", moving_webp(64, 48)),
        ("image/gif", picture_gif()),
        ("video/mp4", mp4()),
        ("audio/ogg", opus((0..40).map(|n| n * 7 % 50 + 3))),
        ("audio/mpeg", mp3(12)),
        ("audio/aac", aac(12)),
        ("audio/amr", amr(12)),
    ]
}

fn picture_gif() -> Vec<u8> {
    b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;".to_vec()
}

/// Probes it with and without a claim, within the bounds. What becomes of it with one; what becomes of it without follows
/// from that.
fn survives(what: &str, mime: &str, bytes: &[u8]) -> &'static str {
    let within_bounds = |probe: &dyn Fn() -> Result<Probed, ProbeError>| {
        let before = busy();
        let (result, used) = memory::most(probe);
        let took = busy() - before;
        assert!(took < TIME, "{what} {mime} took {took:?}");
        assert!(used < MEMORY, "{what} {mime} took {} MiB", used >> 20);
        if let Ok(probed) = &result {
            let thumbnail = probed.thumbnail.as_ref().map_or(0, Vec::len);
            assert!(thumbnail < 16 << 10, "{what} {mime}");
            let mut bars = probed.waveform.iter().flatten();
            assert!(bars.all(|bar| *bar <= 100), "{what} {mime}");
        }
        result
    };
    let claimed = within_bounds(&|| claimed(bytes, mime));
    let plain = within_bounds(&|| plain(bytes));
    let is = format!("{what} {mime}: {claimed:?} claimed, {plain:?} else");
    match (&claimed, &plain) {
        (Err(ProbeError::Empty), Err(ProbeError::Empty)) => "empty",
        // Of what nobody gave as something, a broken file is just a file.
        (Err(ProbeError::Unreadable { .. }), Ok(plain)) => {
            assert_eq!(plain.kind, Kind::Document, "{is}");
            "unreadable"
        }
        // It is something else.
        (Err(ProbeError::Mismatch { .. }), Ok(_)) => "mismatch",
        (Ok(claimed), Ok(plain)) => {
            assert_eq!(claimed.kind, plain.kind, "{is}");
            if claimed.kind != Kind::Document {
                assert_eq!(claimed, plain, "{is}");
            }
            match claimed.kind {
                Kind::Image => "image",
                Kind::Video => "video",
                Kind::Audio => "audio",
                Kind::Voice => "voice",
                Kind::Sticker => "sticker",
                Kind::Document => "document",
                Kind::Gif => panic!("nobody asked for that: {is}"),
            }
        }
        _ => panic!("no such result: {is}"),
    }
}

/// What became of a family of broken files, in their order: the first letter of each result, by the type that was claimed.
#[derive(Default)]
struct Results(BTreeMap<&'static str, String>);

impl Results {
    fn note(&mut self, what: &str, mime: &'static str, bytes: &[u8]) {
        let result = survives(what, mime, bytes);
        let all = self.0.entry(mime).or_default();
        all.extend(result.chars().next());
    }

    fn count(&self) -> usize {
        self.0.values().map(String::len).sum()
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (mime, all) in &self.0 {
            writeln!(f, "{mime}, {} files", all.len())?;
            for line in all.as_bytes().chunks(80) {
                writeln!(f, "  {}", String::from_utf8_lossy(line))?;
            }
        }
        write!(f, "{} files in all", self.count())
    }
}

/// Deterministic noise.
struct Noise(u64);

impl Noise {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

#[test]
fn files_that_were_cut() {
    let mut results = Results::default();
    for (mime, bytes) in valid() {
        let beginning = 0..bytes.len().min(64);
        let rest = (64..bytes.len()).step_by((bytes.len() / 16).max(1));
        for length in beginning.step_by(3).chain(rest) {
            results.note(&format!("cut at {length}"), mime, &bytes[..length]);
        }
    }
    insta::assert_snapshot!(results);
}

#[test]
fn files_with_wrong_bits() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut results = Results::default();
    for (mime, bytes) in valid() {
        for round in 0..40 {
            let mut bytes = bytes.clone();
            for _ in 0..=round % 8 {
                // Heads are where it hurts.
                let within = if round % 2 == 0 { 100 } else { bytes.len() };
                let at = noise.next(within.min(bytes.len()));
                bytes[at] ^= 1 << noise.next(8);
            }
            results.note(&format!("bits, round {round}"), mime, &bytes);
        }
    }
    insta::assert_snapshot!(results);
}

#[test]
fn files_with_wrong_numbers() {
    let mut noise = Noise(0x2545_f491_4f6c_dd1d);
    let mut results = Results::default();
    let numbers = [
        0_u32,
        1,
        7,
        8,
        0x7fff_ffff,
        0x8000_0000,
        u32::MAX - 7,
        u32::MAX,
    ];
    for (mime, bytes) in valid() {
        for number in numbers {
            let mut bytes = bytes.clone();
            let at = noise.next(bytes.len().min(300) - 4);
            bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
            results.note(&format!("{number:#x} at {at}"), mime, &bytes);
        }
    }
    insta::assert_snapshot!(results);
}

#[test]
fn pictures_that_claim_to_be_huge() {
    let mut results = Results::default();
    for side in [16_384_u32, 25_000, 50_000, 65_535, 0x7fff_ffff] {
        results.note("a huge PNG", "image/png", &png_of(side));
        let short = (side.min(65_535) as u16).to_be_bytes();
        let mut bytes = jpeg(8, 8);
        let frame = bytes
            .windows(2)
            .position(|two| two == [0xff, 0xc0])
            .unwrap();
        bytes[frame + 5..frame + 7].copy_from_slice(&short);
        bytes[frame + 7..frame + 9].copy_from_slice(&short);
        results.note("a huge JPEG", "image/jpeg", &bytes);
        let mut bytes = picture_gif();
        bytes[6..8].copy_from_slice(&side.to_le_bytes()[..2]);
        bytes[8..10].copy_from_slice(&side.to_le_bytes()[..2]);
        results.note("a huge GIF", "image/gif", &bytes);
        let mut bytes = moving_webp(8, 8);
        bytes[24..27].copy_from_slice(&side.to_le_bytes()[..3]);
        bytes[27..30].copy_from_slice(&side.to_le_bytes()[..3]);
        results.note("a huge WebP", "image/webp", &bytes);
    }
    insta::assert_snapshot!(results);
    // What fits the bounds and is nothing but zeros: a thousandth of its size as a file.
    for (mime, bomb) in [
        ("image/png", picture(4_900, 5_000, ImageFormat::Png)),
        ("image/jpeg", flat(Frame::Baseline, 5_000, 0x11)),
    ] {
        assert!(bomb.len() < 4 << 20);
        assert_eq!(survives("25 million pixels", mime, &bomb), "image");
    }
}

#[test]
fn a_progressive_picture_is_shrunk_if_there_is_memory_for_all_of_it() {
    for (side, sampling, small) in [
        (400, 0x22, true),
        (400, 0x11, true),
        (3_500, 0x22, true),
        (4_500, 0x11, false),
        (5_000, 0x11, false),
        (5_000, 0x41, false),
    ] {
        let bytes = flat(Frame::Progressive, side, sampling);
        assert_eq!(survives("progressive", "image/jpeg", &bytes), "image");
        let probed = claimed(&bytes, "image/jpeg").unwrap();
        assert_eq!(probed.width, Some(side.into()));
        assert_eq!(probed.thumbnail.is_some(), small, "{side} {sampling:x}");
    }
}

#[test]
fn boxes_in_boxes() {
    let start = boxed(b"ftyp", b"isom\0\0\0\0");
    let sized = |size: u32, kind: &[u8]| [&size.to_be_bytes()[..], kind].concat();
    let many = boxed(b"free", b"").repeat(200_000);
    let tracks = boxed(b"moov", track(b"text", 0, 0, false).repeat(20_000));
    let long = [&1_u32.to_be_bytes()[..], b"moov", &[0xff; 8]].concat();
    let mut results = Results::default();
    results.note("nested", "video/mp4", &nested());
    for (what, rest) in [
        ("size zero", sized(0, b"moov")),
        ("smaller than its head", sized(3, b"moov")),
        ("huge", sized(u32::MAX, b"moov")),
        ("64 bits of ones", long),
        ("many", many),
        ("tracks", tracks),
        ("an index that lies", boxed(b"sidx", [0xff; 40])),
        ("a small one within", boxed(b"moov", sized(3, b"mvhd"))),
    ] {
        results.note(what, "video/mp4", &[start.clone(), rest].concat());
    }
    insta::assert_snapshot!(results);
    // A film behind too many boxes is not looked for.
    let film = boxed(b"moov", track(b"vide", 9, 9, false));
    for (boxes, found) in [(1_000, true), (100_000, false)] {
        let file = [&start[..], &boxed(b"free", b"").repeat(boxes), &film].concat();
        assert_eq!(claimed(&file, "video/mp4").is_ok(), found);
    }
}

#[test]
fn pages_that_lie() {
    let start = opus([20; 3]);
    let whole = page(1, &[vec![0x78; 255 * 255 - 1]]);
    let mut results = Results::default();
    for (what, rest) in [
        ("segments without bytes", whole[..300].to_vec()),
        ("empty pages", page(1, &[]).repeat(50_000)),
        (
            "empty packets",
            page(1, &vec![Vec::new(); 255]).repeat(2_000),
        ),
        (
            "a packet without end",
            page(1, &[vec![255; 255 * 254]]).repeat(20),
        ),
        (
            "packets that say too much",
            page(1, &vec![vec![0xff, 0xff]; 100]).repeat(50),
        ),
        ("a negative position", page(i64::MIN, &[vec![0x78; 9]])),
        (
            "noise",
            (0..100_000_u32)
                .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
                .collect(),
        ),
    ] {
        results.note(what, "audio/ogg", &[start.clone(), rest].concat());
    }
    insta::assert_snapshot!(results);
}

#[test]
fn long_files_of_nothing() {
    let mut results = Results::default();
    for (mime, begin) in [
        ("audio/mpeg", &b"ID3\x04\0\0\x7f\x7f\x7f\x7f"[..]),
        ("audio/mpeg", b"\xff\xfb\x90\0"),
        ("audio/aac", b"\xff\xf1\x50\x80\x19\x1f\xfc"),
        ("image/jpeg", b"\xff\xd8\xff\xe0"),
        ("image/png", b"\x89PNG\r\n\x1a\n"),
        ("image/webp", b"RIFF\xff\xff\xff\xffWEBPVP8X"),
        ("audio/ogg", b"OggS"),
    ] {
        for filling in [
            &b"\0"[..],
            b"\xff",
            b"\xff\xe0\0\x02",
            b"\xff\xfb\0\0",
            b"ID3\x04\0\0\0\0\0\0",
        ] {
            let mut bytes = begin.to_vec();
            bytes.extend(filling.iter().cycle().take(4 << 20));
            results.note("4 MiB of nothing", mime, &bytes);
        }
    }
    insta::assert_snapshot!(results);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_behind_any_beginning(kind in 0..9_usize, kept in 0..200_usize, rest: Vec<u8>) {
        let (mime, bytes) = valid().swap_remove(kind);
        let bytes = [&bytes[..kept.min(bytes.len())], &rest].concat();
        survives("any bytes", mime, &bytes);
    }
}
