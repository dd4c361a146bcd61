//! MP4 and its relatives: files of boxes (ISO 14496-12). Only what tells the tracks, their size and their time is read.
//!
//! Invariant: boxes are visited [`BOXES`] at most, into named ones only, and of none more is read than its fixed part.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

/// Most boxes that are visited; a fragmented recording of many hours has some ten thousand.
const BOXES: u32 = 50_000;
/// Most entries of an index of fragments, which counts them in 16 bits.
const ENTRIES: usize = 65_535;

/// What a film is.
#[derive(Debug, Default)]
pub(super) struct Movie {
    /// Whether a track has pictures.
    pub video: bool,
    /// Whether a track has sound.
    pub audio: bool,
    /// Width and height as shown, in pixels.
    pub size: Option<(u32, u32)>,
    /// Duration, rounded up.
    pub seconds: Option<u32>,
    scale: u32,
    ticks: u64,
    indexed: Option<u32>,
}

/// Reads the tracks of a film. The error says what is wrong with it.
pub(super) fn read(file: &mut (impl Read + Seek)) -> Result<Movie, String> {
    let end = file.seek(SeekFrom::End(0)).map_err(|e| e.to_string())?;
    let mut movie = Movie::default();
    let mut found = false;
    let mut boxes = Boxes { file, left: BOXES };
    let mut at = 0;
    // What is cut at its end still has what was before.
    while let Some((kind, inside)) = boxes.next(&mut at, end)? {
        match &kind {
            b"moov" => {
                if inside.end > end {
                    return Err("its description is cut".to_owned());
                }
                found = true;
                boxes.movie(inside, &mut movie)?;
            }
            b"sidx" if movie.indexed.is_none() => movie.indexed = boxes.index(inside)?,
            _ => {}
        }
    }
    if !found {
        return Err("it has no description (moov), as after a recording that broke off".to_owned());
    }
    if !movie.video && !movie.audio {
        return Err("it has neither pictures nor sound".to_owned());
    }
    let known = matches!(movie.ticks, 1..=0xffff_fffe | 0x1_0000_0000..=0xffff_ffff_ffff);
    movie.seconds = match movie.scale {
        scale if scale > 0 && known => Some(seconds(movie.ticks, scale)),
        _ => movie.indexed,
    };
    Ok(movie)
}

struct Boxes<'a, F> {
    file: &'a mut F,
    left: u32,
}

type Found = ([u8; 4], Range<u64>);

impl<F: Read + Seek> Boxes<'_, F> {
    /// The box at `at`, which is moved behind it; none at `end`. Its inside may reach beyond the file's end.
    fn next(&mut self, at: &mut u64, end: u64) -> Result<Option<Found>, String> {
        if end.saturating_sub(*at) < 8 {
            return Ok(None);
        }
        self.left = self.left.checked_sub(1).ok_or("it has too many boxes")?;
        let mut header = [0; 16];
        let length = (end - *at).min(16) as usize;
        self.fill(*at, &mut header[..length])?;
        let kind = [header[4], header[5], header[6], header[7]];
        let (start, size) = match word(&header, 0) {
            0 => (8, end - *at),
            1 => (16, long(&header, 8)),
            size => (8, size.into()),
        };
        if size < start {
            return Err("a box is smaller than its own head".to_owned());
        }
        let inside = *at + start..at.saturating_add(size);
        *at = inside.end;
        Ok(Some((kind, inside)))
    }

    fn movie(&mut self, inside: Range<u64>, movie: &mut Movie) -> Result<(), String> {
        let mut at = inside.start;
        while let Some((kind, part)) = self.within(&mut at, inside.end)? {
            match &kind {
                b"mvhd" => {
                    let head: [u8; 32] = self.head(part)?;
                    (movie.scale, movie.ticks) = match head[0] {
                        1 => (word(&head, 20), long(&head, 24)),
                        _ => (word(&head, 12), word(&head, 16).into()),
                    };
                }
                b"trak" => self.track(part, movie)?,
                b"mvex" => {
                    let mut at = part.start;
                    while let Some((kind, extended)) = self.within(&mut at, part.end)? {
                        if &kind == b"mehd" {
                            let head: [u8; 12] = self.head(extended)?;
                            movie.ticks = match head[0] {
                                1 => long(&head, 4),
                                _ => word(&head, 4).into(),
                            };
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn track(&mut self, inside: Range<u64>, movie: &mut Movie) -> Result<(), String> {
        let (mut size, mut handler) = (None, [0; 4]);
        let mut at = inside.start;
        while let Some((kind, part)) = self.within(&mut at, inside.end)? {
            match &kind {
                b"tkhd" => size = shown(&self.head::<96>(part)?),
                b"mdia" => {
                    let mut at = part.start;
                    while let Some((kind, media)) = self.within(&mut at, part.end)? {
                        if &kind == b"hdlr" {
                            let head: [u8; 12] = self.head(media)?;
                            handler.copy_from_slice(&head[8..]);
                        }
                    }
                }
                _ => {}
            }
        }
        match &handler {
            b"vide" => {
                movie.video = true;
                movie.size = movie.size.or(size);
            }
            b"soun" => movie.audio = true,
            _ => {}
        }
        Ok(())
    }

    /// Seconds that an index of fragments sums up to.
    fn index(&mut self, inside: Range<u64>) -> Result<Option<u32>, String> {
        let head: [u8; 32] = self.head(inside.clone())?;
        let scale = word(&head, 8);
        let counted = if head[0] == 1 { 30 } else { 22 };
        let count = usize::from(head[counted]) << 8 | usize::from(head[counted + 1]);
        let first = inside.start + counted as u64 + 2;
        let fit = (inside.end.saturating_sub(first) / 12) as usize;
        let mut entries = vec![0; count.min(fit).min(ENTRIES) * 12];
        self.fill(first, &mut entries)?;
        let ticks = entries
            .chunks_exact(12)
            .map(|e| u64::from(word(e, 4)))
            .sum();
        Ok((scale > 0 && ticks > 0).then(|| seconds(ticks, scale)))
    }

    /// The next box within another one, which it must not leave.
    fn within(&mut self, at: &mut u64, end: u64) -> Result<Option<Found>, String> {
        match self.next(at, end)? {
            Some((_, inside)) if inside.end > end => {
                Err("a box is larger than the one that it is in".to_owned())
            }
            found => Ok(found),
        }
    }

    /// The beginning of a box, zeros where it is shorter.
    fn head<const N: usize>(&mut self, inside: Range<u64>) -> Result<[u8; N], String> {
        let mut head = [0; N];
        let length = (inside.end - inside.start).min(N as u64) as usize;
        self.fill(inside.start, &mut head[..length])?;
        Ok(head)
    }

    fn fill(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), String> {
        let mut read = |file: &mut F| -> io::Result<()> {
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(bytes)
        };
        read(self.file).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => "it is cut".to_owned(),
            _ => error.to_string(),
        })
    }
}

/// Width and height of a track's head, exchanged if its matrix turns it by a quarter.
fn shown(head: &[u8; 96]) -> Option<(u32, u32)> {
    let matrix = if head[0] == 1 { 52 } else { 40 };
    let (width, height) = (word(head, matrix + 36) >> 16, word(head, matrix + 40) >> 16);
    let turned = word(head, matrix) == 0 && word(head, matrix + 4) != 0;
    match (width, height) {
        (0, _) | (_, 0) => None,
        (width, height) if turned => Some((height, width)),
        size => Some(size),
    }
}

fn seconds(ticks: u64, scale: u32) -> u32 {
    ticks.div_ceil(scale.into()).try_into().unwrap_or(u32::MAX)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes[at..at + 4].iter();
    four.fold(0, |word, byte| word << 8 | u32::from(*byte))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) << 32 | u64::from(word(bytes, at + 4))
}
