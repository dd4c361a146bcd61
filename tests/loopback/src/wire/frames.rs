//! The byte stream inside the WebSocket messages, whose own boundaries carry no meaning: an optional routing
//! preamble, the four intro bytes, then frames with a length of three bytes.

use bytes::BytesMut;
use wacore_noise::framing::FrameDecoder;

/// `WA`, the protocol version and the version of the token dictionary. Also the prologue of the handshake.
pub type Intro = [u8; 4];

/// The intro that the codec understands.
pub const INTRO: Intro = wacore_binary::consts::WA_CONN_HEADER;

/// Routing information longer than this is none that the server has given out.
const MAX_ROUTING: usize = 4_096;

/// The stream does not begin as a client's does.
#[derive(Debug, PartialEq, Eq)]
pub struct BadIntro;

/// Takes the stream apart.
#[derive(Default)]
pub struct Frames {
    /// What came before the intro was complete.
    head: Vec<u8>,
    /// The routing information that the client sent along.
    routing: Option<Vec<u8>>,
    decoder: Option<FrameDecoder>,
}

impl Frames {
    /// Takes bytes in.
    ///
    /// # Errors
    /// [`BadIntro`]; nothing after it makes sense.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), BadIntro> {
        if let Some(decoder) = &mut self.decoder {
            decoder.feed(bytes);
            return Ok(());
        }
        self.head.extend_from_slice(bytes);
        if let Some(used) = self.intro()? {
            let mut decoder = FrameDecoder::new();
            decoder.feed(&self.head[used..]);
            self.decoder = Some(decoder);
            self.head = Vec::new();
        }
        Ok(())
    }

    /// Reads preamble and intro; answers how many bytes they took once they are complete.
    fn intro(&mut self) -> Result<Option<usize>, BadIntro> {
        let mut at = 0;
        if let [b'E', b'D', rest @ ..] = self.head.as_slice() {
            // `ED 00 01`, then the length.
            let [0, 1, high, mid, low, rest @ ..] = rest else {
                return if rest.len() < 5 {
                    Ok(None)
                } else {
                    Err(BadIntro)
                };
            };
            let len = usize::from(*high) << 16 | usize::from(*mid) << 8 | usize::from(*low);
            if len > MAX_ROUTING {
                return Err(BadIntro);
            }
            if rest.len() < len {
                return Ok(None);
            }
            self.routing = Some(rest[..len].to_vec());
            at = 7 + len;
        }
        match self.head.get(at..at + INTRO.len()) {
            Some(intro) if intro == INTRO => Ok(Some(at + INTRO.len())),
            Some(_) => Err(BadIntro),
            None => Ok(None),
        }
    }

    /// The next whole frame.
    pub fn next_frame(&mut self) -> Option<BytesMut> {
        self.decoder.as_mut()?.decode_frame()
    }

    /// The routing information of the preamble.
    pub fn routing(&self) -> Option<&[u8]> {
        self.routing.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, BadIntro> {
        let mut frames = Frames::default();
        let mut out = Vec::new();
        for piece in pieces {
            frames.feed(piece)?;
            while let Some(frame) = frames.next_frame() {
                out.push(frame.to_vec());
            }
        }
        Ok(out)
    }

    fn stream(routing: Option<&[u8]>) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(routing) = routing {
            bytes.extend_from_slice(b"ED\x00\x01\x00\x00");
            bytes.push(u8::try_from(routing.len()).unwrap());
            bytes.extend_from_slice(routing);
        }
        bytes.extend_from_slice(&INTRO);
        bytes.extend_from_slice(b"\x00\x00\x03abc\x00\x00\x01d");
        bytes
    }

    #[test]
    fn every_split_yields_the_same_frames() {
        for routing in [None, Some(b"route".as_slice())] {
            let whole = stream(routing);
            for cut in 0..whole.len() {
                let (a, b) = whole.split_at(cut);
                assert_eq!(take(&[a, b]).unwrap(), [b"abc".to_vec(), b"d".to_vec()]);
            }
        }
    }

    #[test]
    fn what_is_no_client_is_refused() {
        assert_eq!(take(&[b"GET / HTTP"]), Err(BadIntro));
        assert_eq!(take(&[b"ED\x00\x01\xff\xff\xff"]), Err(BadIntro));
        assert_eq!(take(&[b"ED\x01\x01\x00\x00\x00"]), Err(BadIntro));
    }
}
