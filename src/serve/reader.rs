//! The thread that reads stdin: lines in, requests out.
//!
//! Invariant: every line that is not blank becomes exactly one [`Incoming`], in order, and the last is
//! [`Incoming::End`]. No line is worth more than [`MAX_LINE`] bytes of memory, and none ends the process.

use std::io::{self, BufRead, BufReader, Read};
use std::thread::{Builder, JoinHandle};

use crate::protocol::jsonrpc::{Refused, Request, RequestId, WireError, parse};

/// Longest line, without its end. Attachments come in base64 within the line.
pub const MAX_LINE: usize = 256 << 20;

/// What the host sent.
#[derive(Debug)]
pub enum Incoming {
    /// A request.
    Request(Request),
    /// A line that is none, with its answer.
    Refused(Refused),
    /// No more will come.
    End,
}

/// Reads `input` on a thread of its own and hands on what comes, until it ends or `deliver` answers `false`.
/// `deliver` may block: that is how a busy process slows its host down.
///
/// # Errors
/// When no thread can be started.
pub fn start(
    input: impl Read + Send + 'static,
    deliver: impl FnMut(Incoming) -> bool + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let thread = Builder::new().name("stdin".to_owned());
    thread.spawn(move || read(BufReader::with_capacity(64 << 10, input), deliver, MAX_LINE))
}

fn read(mut input: impl BufRead, mut deliver: impl FnMut(Incoming) -> bool, max_line: usize) {
    loop {
        let mut line = Vec::new();
        let incoming = match next_line(&mut input, &mut line, max_line) {
            Ok(Next::Line) if line.trim_ascii().is_empty() => continue,
            Ok(Next::Line) => parse(line).map_or_else(Incoming::Refused, Incoming::Request),
            Ok(Next::TooLong) => Incoming::Refused(too_long(max_line)),
            Ok(Next::End) => break,
            Err(error) => {
                tracing::error!(%error, "stdin cannot be read; this counts as its end");
                break;
            }
        };
        if !deliver(incoming) {
            return;
        }
    }
    deliver(Incoming::End);
}

enum Next {
    Line,
    TooLong,
    End,
}

/// Reads one line, the last one perhaps without its end.
fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>, max_line: usize) -> io::Result<Next> {
    let limit = max_line as u64 + 1;
    if input.take(limit).read_until(b'\n', line)? == 0 {
        return Ok(Next::End);
    }
    if line.last() == Some(&b'\n') || line.len() <= max_line {
        return Ok(Next::Line);
    }
    *line = Vec::new();
    input.skip_until(b'\n')?;
    Ok(Next::TooLong)
}

fn too_long(max_line: usize) -> Refused {
    Refused {
        id: RequestId::default(),
        error: WireError::new(
            "invalid_request",
            format_args!(
                "the request line is longer than {max_line} bytes ({} MiB); send large files by url",
                max_line >> 20
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocol::request::Body;

    const SHUTDOWN: &str = r#"{"jsonrpc":"2.0","id":5,"method":"channel.shutdown","params":{"kind":"shutdown","protocol_version":1}}"#;

    /// One word a thing that came: the kind of a request, or the code of a refusal with its id.
    fn heard(input: impl BufRead, max_line: usize) -> Vec<String> {
        let mut heard = Vec::new();
        let deliver = |incoming| {
            heard.push(match incoming {
                Incoming::Request(Request {
                    body: Body::Shutdown,
                    id,
                }) => format!("shutdown {id}"),
                Incoming::Request(Request {
                    body: Body::Deliver { message, .. },
                    ..
                }) => {
                    let data = message.attachments[0].data_base64.as_ref();
                    format!("deliver {}", data.map_or(0, |text| text.len()))
                }
                Incoming::Request(other) => format!("{other:?}"),
                Incoming::Refused(refused) => format!("{} {}", refused.error.code, refused.id),
                Incoming::End => "end".to_owned(),
            });
            true
        };
        read(input, deliver, max_line);
        heard
    }

    #[test]
    fn lines_of_all_kinds() {
        for (input, expected) in [
            (String::new(), &["end"][..]),
            ("\n\r\n  \t\n".to_owned(), &["end"]),
            (format!("{SHUTDOWN}\n"), &["shutdown 5", "end"]),
            (
                format!("\n{SHUTDOWN}\r\n\r\n{SHUTDOWN}"),
                &["shutdown 5", "shutdown 5", "end"],
            ),
            (
                format!("{SHUTDOWN}\n{{\"id\":"),
                &["shutdown 5", "parse_error 1", "end"],
            ),
            (
                format!("garbage\n[]\n{SHUTDOWN}\n"),
                &["parse_error 1", "invalid_request 1", "shutdown 5", "end"],
            ),
        ] {
            assert_eq!(heard(input.as_bytes(), MAX_LINE), expected, "{input:?}");
        }
        let not_utf8 = [b"\"\xff\xfe\"\n", SHUTDOWN.as_bytes()].concat();
        assert_eq!(
            heard(&not_utf8[..], MAX_LINE),
            ["parse_error 1", "shutdown 5", "end"]
        );
    }

    #[test]
    fn a_line_arrives_in_pieces() {
        let input = format!("{SHUTDOWN}\r\n{SHUTDOWN}\n");
        assert_eq!(
            heard(BufReader::with_capacity(1, input.as_bytes()), MAX_LINE),
            ["shutdown 5", "shutdown 5", "end"]
        );
    }

    #[test]
    fn the_limit_counts_the_line_without_its_end() {
        let max = SHUTDOWN.len();
        let fits = format!("{SHUTDOWN}\n{SHUTDOWN}");
        assert_eq!(
            heard(fits.as_bytes(), max),
            ["shutdown 5", "shutdown 5", "end"]
        );
        let long = format!("{SHUTDOWN} \n{SHUTDOWN}\n{SHUTDOWN} ");
        assert_eq!(
            heard(long.as_bytes(), max),
            [
                "invalid_request 1",
                "shutdown 5",
                "invalid_request 1",
                "end"
            ]
        );
        let message = too_long(MAX_LINE).error.message;
        assert!(message.contains("256 MiB"), "{message}");
    }

    #[test]
    fn a_line_over_the_limit_is_not_held() {
        // A gigabyte that never exists at once.
        let long = io::repeat(b'x')
            .take(1 << 30)
            .chain(b"\n".chain(SHUTDOWN.as_bytes()));
        let mut input = BufReader::new(long);
        let mut line = Vec::new();
        assert!(matches!(
            next_line(&mut input, &mut line, 1 << 20),
            Ok(Next::TooLong)
        ));
        assert_eq!(line.capacity(), 0);
        assert!(matches!(
            next_line(&mut input, &mut line, 1 << 20),
            Ok(Next::Line)
        ));
        assert_eq!(line, SHUTDOWN.as_bytes());
    }

    #[test]
    fn a_hundred_megabytes() {
        let data = "QUJD".repeat(25 << 20);
        let params = json!({"kind": "deliver", "protocol_version": 1, "config": {},
            "message": {"content": "", "attachments": [{"name": "a", "mime_type": "a/b", "data_base64": "@"}]}});
        let line =
            json!({"jsonrpc": "2.0", "id": 1, "method": "channel.deliver", "params": params})
                .to_string();
        let (before, after) = line.split_once('@').unwrap();
        let input = before
            .as_bytes()
            .chain(data.as_bytes())
            .chain(after.as_bytes())
            .chain(&b"\n"[..]);
        let expected = format!("deliver {}", data.len());
        assert_eq!(
            heard(BufReader::new(input.chain(SHUTDOWN.as_bytes())), MAX_LINE),
            [&expected, "shutdown 5", "end"]
        );
    }

    #[test]
    fn it_stops_when_nobody_listens_or_reading_fails() {
        let mut count = 0;
        read(
            format!("{SHUTDOWN}\n{SHUTDOWN}\n").as_bytes(),
            |_| {
                count += 1;
                false
            },
            MAX_LINE,
        );
        assert_eq!(count, 1);

        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        assert_eq!(heard(BufReader::new(Broken), MAX_LINE), ["end"]);
    }

    #[test]
    fn it_runs_on_its_own_thread() {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let thread = start(io::Cursor::new(SHUTDOWN), move |incoming| {
            sender.send(incoming).is_ok()
        })
        .unwrap();
        assert!(matches!(receiver.recv(), Ok(Incoming::Request(_))));
        assert!(matches!(receiver.recv(), Ok(Incoming::End)));
        assert!(receiver.recv().is_err());
        thread.join().unwrap();
    }
}
