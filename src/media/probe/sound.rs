//! How long MP3, AAC and AMR are, by the heads of their frames.
//!
//! Invariant: of an MP3 only a window behind its tag is read, of the others every frame's head, up to a number of frames. A
//! library for tags does the same and more, and takes seconds for a few megabytes that were made to be searched.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

/// How far the first frame may be behind the tag, and what is read of it.
const WINDOW: u64 = 64 << 10;
/// Smallest frame of an MP3 in bytes; more frames than fit are not believed.
const SMALLEST: u64 = 24;
/// Most frames of AAC or AMR that are counted: more than five hours.
const FRAMES: u64 = 1_000_000;
/// Bytes of a frame of AMR behind its head, by its type; each is 20 ms (RFC 4867, 5.3, with the sizes of 3GPP TS 26.101).
const AMR: [u64; 9] = [12, 13, 15, 17, 19, 20, 26, 31, 5];
/// A frame of AMR in which nothing was said.
const SILENCE: u8 = 15;
/// Kilobits a second by index, for MPEG 1 and for MPEG 2 and 2.5, layer III.
const RATES: [[u32; 15]; 2] = [
    [
        0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
    ],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];
/// Samples a second by index, as MPEG 4 numbers them.
const CLOCKS: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

/// Seconds of an MP3, rounded up. The error says what is wrong with it.
pub(super) fn mp3(file: &mut (impl Read + Seek), size: u64) -> Result<u32, String> {
    window(file, size)
        .map_err(|error| error.to_string())?
        .ok_or("there is no sound in it".into())
}

fn window(file: &mut (impl Read + Seek), size: u64) -> io::Result<Option<u32>> {
    let mut tag = [0; 10];
    file.rewind()?;
    let there = file.by_ref().take(10).read(&mut tag)?;
    let behind = match tag.starts_with(b"ID3") && there == 10 {
        true => {
            10 + tag[6..]
                .iter()
                .fold(0, |size, byte| size << 7 | u64::from(byte & 127))
        }
        false => 0,
    };
    file.seek(SeekFrom::Start(behind))?;
    let mut bytes = Vec::new();
    file.take(WINDOW).read_to_end(&mut bytes)?;
    let first = (0..bytes.len()).find_map(|at| {
        let frame = Frame::read(&bytes[at..])?;
        // Any two bytes may look like a frame; another one of the same sort behind it is no accident.
        let next = bytes.get(at + frame.length..)?;
        let goes_on = match next.len() {
            0..4 => at + frame.length + next.len() == bytes.len(),
            _ => Frame::read(next).is_some_and(|next| next.clock == frame.clock),
        };
        goes_on.then_some((at, frame))
    });
    let Some((at, frame)) = first else {
        return Ok(None);
    };
    let sound = size.saturating_sub(behind + at as u64);
    let said = frame
        .count(&bytes[at..])
        .filter(|count| u64::from(*count) <= sound / SMALLEST);
    let seconds = match said {
        Some(count) => (u64::from(count) * frame.samples).div_ceil(frame.clock.into()),
        None => (sound * 8).div_ceil(u64::from(frame.rate) * 1000),
    };
    Ok(Some(seconds.try_into().unwrap_or(u32::MAX)))
}

/// The head of a frame of MPEG sound, layer III.
struct Frame {
    /// Kilobits a second.
    rate: u32,
    /// Samples a second.
    clock: u32,
    samples: u64,
    /// In bytes, its head included.
    length: usize,
    /// Where the numbers of an encoder would be.
    numbers: usize,
}

impl Frame {
    fn read(bytes: &[u8]) -> Option<Self> {
        let &[0xff, b, c, d, ..] = bytes else {
            return None;
        };
        let (version, layer) = (b >> 3 & 3, b >> 1 & 3);
        if b >> 5 != 7 || version == 1 || layer != 1 {
            return None;
        }
        let first = version == 3;
        let rate = *RATES[usize::from(!first)].get(usize::from(c >> 4))?;
        let clock = *[44_100, 48_000, 32_000].get(usize::from(c >> 2 & 3))? >> (3 - version).min(2);
        let samples = if first { 1152 } else { 576 };
        let mono = d >> 6 == 3;
        let numbers = match (first, mono) {
            (true, false) => 36,
            (true, true) | (false, false) => 21,
            (false, true) => 13,
        };
        let length = samples / 8 * rate * 1000 / clock + u32::from(c >> 1 & 1);
        (rate > 0).then_some(Self {
            rate,
            clock,
            samples: samples.into(),
            length: length as usize,
            numbers,
        })
    }

    /// How many frames the encoder says that there are, where the rate varies.
    fn count(&self, bytes: &[u8]) -> Option<u32> {
        let number = |at| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let at = self.numbers;
        match bytes.get(at..at + 4)? {
            b"Xing" | b"Info" if number(at + 4)? & 1 == 1 => number(at + 8),
            _ if bytes.get(36..40)? == b"VBRI" => number(50),
            _ => None,
        }
    }
}

/// Seconds of AAC in ADTS (ISO 13818-7), rounded up. The error says what is wrong with it.
pub(super) fn aac(file: &mut (impl Read + Seek)) -> Result<u32, String> {
    let counted = || -> io::Result<u64> {
        file.rewind()?;
        let mut input = BufReader::with_capacity(WINDOW as usize, file);
        let (mut blocks, mut clock) = (0, 0);
        for _ in 0..FRAMES {
            let mut head = [0; 7];
            match input.read_exact(&mut head) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                read => read?,
            }
            let length =
                u64::from(head[3] & 3) << 11 | u64::from(head[4]) << 3 | u64::from(head[5] >> 5);
            let index = usize::from(head[2] >> 2 & 15);
            let (true, Some(known)) = (head[0] == 0xff && head[1] >> 4 == 15, CLOCKS.get(index))
            else {
                break;
            };
            let Some(rest) = length.checked_sub(7) else {
                break;
            };
            clock = *known;
            blocks += u64::from(head[6] & 3) + 1;
            skip(&mut input, rest)?;
        }
        Ok((blocks * 1024).div_ceil(u64::from(clock).max(1)))
    };
    match counted().map_err(|error| error.to_string())? {
        0 => Err("there is no sound in it".to_owned()),
        seconds => Ok(seconds.try_into().unwrap_or(u32::MAX)),
    }
}

/// Seconds of AMR, rounded up. The error says what is wrong with it.
pub(super) fn amr(file: &mut (impl Read + Seek)) -> Result<u32, String> {
    let counted = || -> io::Result<u64> {
        file.seek(SeekFrom::Start(b"#!AMR\n".len() as u64))?;
        let mut input = BufReader::with_capacity(WINDOW as usize, file);
        for frames in 0..FRAMES {
            let mut head = [0];
            match input.read_exact(&mut head) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(frames),
                read => read?,
            }
            match (head[0] >> 3 & 15, head[0] & 0x83) {
                (SILENCE, 0) => {}
                (kind, 0) if usize::from(kind) < AMR.len() => {
                    skip(&mut input, AMR[usize::from(kind)])?;
                }
                _ => return Ok(frames),
            }
        }
        Ok(FRAMES)
    };
    match counted().map_err(|error| error.to_string())?.div_ceil(50) {
        0 => Err("there is no sound in it".to_owned()),
        seconds => Ok(seconds.try_into().unwrap_or(u32::MAX)),
    }
}

/// Passes over so many bytes, or to the end.
pub(super) fn skip(input: &mut impl BufRead, mut bytes: u64) -> io::Result<()> {
    while bytes > 0 {
        let there = input.fill_buf()?.len() as u64;
        if there == 0 {
            break;
        }
        let taken = there.min(bytes);
        input.consume(taken as usize);
        bytes -= taken;
    }
    Ok(())
}
