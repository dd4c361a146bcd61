//! Opus in Ogg (RFC 3533, 7845): how long it is, and where in it somebody speaks.
//!
//! The bars that WhatsApp draws under a voice note come from the sizes of the packets. An encoder with a variable rate
//! spends bytes where there is sound, so they show speech and pauses. That needs no decoder: those in Rust are young, and
//! each is one person's work. A constant rate tells nothing, and then there are no bars rather than a flat
//! line.
//!
//! Invariant: of a packet its first two bytes are looked at and no more, and memory does not grow with the file.

use std::io::{self, BufRead, BufReader, Read, Seek};

use super::sound::skip;

/// Most pages that are read; some recorders make one for every 20 ms.
const PAGES: u32 = 1_000_000;
/// Samples a second of all Opus (its clock, whatever was recorded).
const RATE: u64 = 48_000;
/// Bars of a waveform.
const BARS: usize = 64;
/// Steps of time that are kept while the whole length is not known.
const STEPS: usize = 64 * BARS;

/// What is known of a recording.
pub(super) struct Recording {
    /// Duration, rounded up.
    pub seconds: u32,
    /// Loudness in 64 steps from 0 to 100.
    pub waveform: Option<Vec<u8>>,
}

/// Reads Opus in Ogg; none if it is something else in Ogg. The error says what is wrong with it.
pub(super) fn read(file: &mut (impl Read + Seek)) -> Result<Option<Recording>, String> {
    file.rewind().map_err(|error| error.to_string())?;
    let mut pages = BufReader::with_capacity(64 << 10, file);
    let mut stream = Stream::default();
    for _ in 0..PAGES {
        match stream.page(&mut pages) {
            Ok(true) => {}
            Ok(false) => break,
            // What was read before it broke off can be played.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error.to_string()),
        }
        if stream.foreign {
            return Ok(None);
        }
    }
    if stream.samples == 0 {
        return Err("there is no sound in it".to_owned());
    }
    // The last page may say that its end is to be cut off; a larger number than there are samples is a lie.
    let said = stream.granule.saturating_sub(stream.skip);
    let samples = match said {
        0 => stream.samples,
        said => said.min(stream.samples),
    };
    Ok(Some(Recording {
        seconds: samples.div_ceil(RATE).try_into().unwrap_or(u32::MAX),
        waveform: stream.envelope.bars(),
    }))
}

#[derive(Default)]
struct Stream {
    /// Of the first stream in the file, the only one that counts.
    serial: Option<[u8; 4]>,
    foreign: bool,
    packets: u64,
    skip: u64,
    granule: u64,
    samples: u64,
    envelope: Envelope,
    packet: Packet,
}

/// A packet that may go on in the next page.
#[derive(Default)]
struct Packet {
    size: u64,
    begin: Vec<u8>,
}

/// As much of a packet as is kept: all of the head's fixed part.
const BEGIN: usize = 19;

impl Stream {
    /// Reads a page; false where there is none.
    fn page(&mut self, input: &mut impl BufRead) -> io::Result<bool> {
        let mut head = [0; 27];
        input.read_exact(&mut head)?;
        if !head.starts_with(b"OggS") {
            return Ok(false);
        }
        let mut lacing = [0; 255];
        let lacing = &mut lacing[..usize::from(head[26])];
        input.read_exact(lacing)?;
        let serial = [head[14], head[15], head[16], head[17]];
        if *self.serial.get_or_insert(serial) != serial {
            let all: u64 = lacing.iter().map(|length| u64::from(*length)).sum();
            skip(input, all)?;
            return Ok(true);
        }
        for &length in lacing.iter() {
            let wanted = (BEGIN - self.packet.begin.len()).min(length.into());
            input
                .by_ref()
                .take(wanted as u64)
                .read_to_end(&mut self.packet.begin)?;
            skip(input, u64::from(length) - wanted as u64)?;
            self.packet.size += u64::from(length);
            if length < 255 {
                let packet = std::mem::take(&mut self.packet);
                self.packet_done(&packet);
            }
        }
        let granule = i64::from_le_bytes([
            head[6], head[7], head[8], head[9], head[10], head[11], head[12], head[13],
        ]);
        // Minus one: no packet ends in this page.
        if let Ok(granule) = u64::try_from(granule) {
            self.granule = granule;
        }
        Ok(true)
    }

    fn packet_done(&mut self, packet: &Packet) {
        self.packets += 1;
        match self.packets {
            1 if packet.begin.starts_with(b"OpusHead") && packet.begin.len() == BEGIN => {
                self.skip = u16::from_le_bytes([packet.begin[10], packet.begin[11]]).into();
            }
            1 => self.foreign = true,
            // The second is for comments.
            2 => {}
            _ => {
                let samples = samples(&packet.begin);
                self.samples += samples;
                self.envelope.add(samples, packet.size);
            }
        }
    }
}

/// How many samples a packet is long (RFC 6716, 3.1): zero if it says more than the 120 ms that it may be.
fn samples(begin: &[u8]) -> u64 {
    let Some(&toc) = begin.first() else { return 0 };
    let frame = match toc >> 3 {
        mode @ 0..=11 => [480, 960, 1920, 2880][usize::from(mode % 4)],
        mode @ 12..=15 => [480, 960][usize::from(mode % 2)],
        mode => [120, 240, 480, 960][usize::from(mode % 4)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(begin.get(1).map_or(0, |count| count & 63)),
    };
    match frame * frames {
        samples @ 0..=5760 => samples,
        _ => 0,
    }
}

/// Bytes over time. The steps grow as the recording does, so that there are never more than [`STEPS`].
#[derive(Default)]
struct Envelope {
    /// Bytes of each step.
    steps: Vec<u64>,
    /// Samples of a step.
    width: u64,
    samples: u64,
}

impl Envelope {
    fn add(&mut self, samples: u64, bytes: u64) {
        self.width = self.width.max(960);
        let mut step = (self.samples / self.width) as usize;
        if step >= STEPS {
            let halves = self.steps.chunks(2).map(|two| two.iter().sum());
            self.steps = halves.collect();
            self.width *= 2;
            step /= 2;
        }
        if self.steps.len() <= step {
            self.steps.resize(step + 1, 0);
        }
        self.steps[step] += bytes;
        self.samples += samples;
    }

    /// None where the rate is constant, or where there is too little.
    fn bars(&self) -> Option<Vec<u8>> {
        let count = self.steps.len();
        let bars: Vec<u64> = (0..BARS)
            .map(|bar| {
                let first = bar * count / BARS;
                let end = ((bar + 1) * count / BARS).max(first + 1);
                let part = self.steps.get(first..end).unwrap_or_default();
                part.iter().sum::<u64>() * 100 / part.len().max(1) as u64
            })
            .collect();
        // The last step may be a piece, and the first ones are what an encoder begins with.
        let (low, high) = (*bars.iter().min()?, *bars.iter().max()?);
        let inner = &bars[1..BARS - 1];
        let spread = inner.iter().max()? - inner.iter().min()?;
        if spread * 20 < high {
            return None;
        }
        let scaled = |bar: &u64| ((bar - low) * 100 / (high - low)) as u8;
        Some(bars.iter().map(scaled).collect())
    }
}
