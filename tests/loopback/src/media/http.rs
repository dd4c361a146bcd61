//! The CDN's HTTP: uploads with resume, downloads with ranges.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::faults::MediaOp;
use super::upload::Upload;
use super::{Blob, Hash, MediaStore, TOKEN, auth_token, direct_path};
use crate::listener::{Reply, reply};
use base64::Engine as _;

/// Longest silence in an upload's body.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a body that is slowed down or cut, a frame.
const SLICE: usize = 16 * 1024;

impl MediaStore {
    /// Answers one request. An error means: close the connection without an answer.
    pub(crate) async fn handle(&self, request: Request<Incoming>) -> io::Result<Reply> {
        let op = match *request.method() {
            Method::GET | Method::HEAD => MediaOp::Download,
            Method::POST => MediaOp::Upload,
            _ => {
                return Ok(refusal(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "GET, HEAD and POST are served here",
                ));
            }
        };
        let refused = self.state().faults.refusal(op);
        if let Some(status) = refused {
            return Ok(refusal(status, "refused as asked for"));
        }
        match op {
            MediaOp::Download => {
                Ok(self.download(request.uri().path(), request.headers(), request.method()))
            }
            MediaOp::Upload => self.upload(request).await,
        }
    }

    async fn upload(&self, request: Request<Incoming>) -> io::Result<Reply> {
        let Some((kind, hash)) = upload_target(request.uri().path()) else {
            return Ok(refusal(
                StatusCode::BAD_REQUEST,
                "the path has to end in the file's SHA-256 in base64url",
            ));
        };
        let query = request.uri().query().unwrap_or_default();
        if parameter(query, "auth")
            .is_none_or(|auth| auth != auth_token(self.state().auth_generation))
        {
            self.state().unauthorised += 1;
            return Ok(refusal(
                StatusCode::UNAUTHORIZED,
                "the auth token is not a current one",
            ));
        }
        let path = direct_path(&kind, &hash);
        if parameter(query, "resume") == Some("1") {
            return Ok(self.resume(&path, &hash));
        }
        let offset = match parameter(query, "file_offset").map(str::parse::<u64>) {
            None => 0,
            Some(Ok(offset)) => offset,
            Some(Err(_)) => {
                return Ok(refusal(
                    StatusCode::BAD_REQUEST,
                    "file_offset is not a number",
                ));
            }
        };
        let mut body = request.into_body();
        let announced = body.size_hint().lower();
        if announced > self.state().limits.blob {
            return Ok(refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the file is too large",
            ));
        }
        let mut upload = match Upload::begin(self, hash, offset, announced) {
            Ok(upload) => upload,
            Err(status) => {
                return Ok(refusal(
                    status,
                    "there is no upload to continue at this offset",
                ));
            }
        };
        let cut = self.state().faults.cut(MediaOp::Upload);
        while let Some(frame) = timeout(PATIENCE, body.frame()).await? {
            let Ok(mut data) = frame.map_err(io::Error::other)?.into_data() else {
                continue;
            };
            if let Some(after) = cut {
                data.truncate(
                    usize::try_from(after.saturating_sub(upload.received)).unwrap_or(usize::MAX),
                );
            }
            // Looked at again and again: it may be let go meanwhile.
            let begun = Instant::now();
            while let Some(rate) = self.upload_rate()
                && begun.elapsed().as_secs_f64() < data.len() as f64 / rate as f64
            {
                sleep(Duration::from_millis(10)).await;
            }
            if let Err(status) = upload.append(&data) {
                return Ok(refusal(status, "the file does not fit"));
            }
            if cut.is_some_and(|after| upload.received >= after) {
                return Err(io::Error::new(
                    io::ErrorKind::ConnectionAborted,
                    "upload cut as asked for",
                ));
            }
        }
        Ok(match upload.finish(path.clone()) {
            Ok(()) => self.uploaded(&path, None),
            Err(status) => refusal(
                status,
                "the body does not have the SHA-256 that the path names",
            ),
        })
    }

    fn resume(&self, path: &str, hash: &Hash) -> Reply {
        let state = self.state();
        if state
            .blobs
            .get(path)
            .is_some_and(|blob| blob.expired.is_none())
        {
            drop(state);
            return self.uploaded(path, Some("complete"));
        }
        let offset = state.partial.get(hash).map_or(0, Vec::len);
        json_reply(&json!({ "resume": offset.to_string() }))
    }

    fn uploaded(&self, path: &str, resume: Option<&str>) -> Reply {
        let mut answer = json!({ "url": self.url(path), "direct_path": path });
        if let Some(resume) = resume {
            answer["resume"] = resume.into();
        }
        json_reply(&answer)
    }

    fn download(&self, path: &str, headers: &HeaderMap, method: &Method) -> Reply {
        let mut state = self.state();
        let (bytes, kind) = match state.blobs.get(path) {
            None => return refusal(StatusCode::NOT_FOUND, "there is no such file"),
            Some(Blob {
                expired: Some(status),
                ..
            }) => return refusal(*status, "the file has expired"),
            Some(blob) => (blob.bytes.clone(), blob.kind),
        };
        let total = bytes.len() as u64;
        let (status, start, end) = match headers
            .get(header::RANGE)
            .map_or(Range::Whole, |range| range_of(range, total))
        {
            Range::Whole => (StatusCode::OK, 0, total),
            Range::Part(start, end) => (StatusCode::PARTIAL_CONTENT, start, end),
            Range::Outside => {
                let mut reply = refusal(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    "the range is outside the file",
                );
                set(
                    &mut reply,
                    header::CONTENT_RANGE,
                    &format!("bytes */{total}"),
                );
                return reply;
            }
        };
        // Both fit in usize: they are offsets into `bytes`.
        let part = bytes.slice(start as usize..end as usize);
        let rate = state.faults.rate(path);
        let cut = if method == Method::HEAD {
            None
        } else {
            state.faults.cut(MediaOp::Download)
        };
        if method != Method::HEAD && cut.is_none() {
            state.downloads += 1;
        }
        drop(state);
        let length = part.len();
        let mut reply = if method == Method::HEAD {
            reply(status, kind, Bytes::new())
        } else if rate.is_some() || cut.is_some() {
            faulty(status, kind, part, rate, cut)
        } else {
            reply(status, kind, part)
        };
        set(&mut reply, header::CONTENT_LENGTH, &length.to_string());
        set(&mut reply, header::ACCEPT_RANGES, "bytes");
        if status == StatusCode::PARTIAL_CONTENT {
            set(
                &mut reply,
                header::CONTENT_RANGE,
                &format!("bytes {start}-{}/{total}", end - 1),
            );
        }
        reply
    }
}

/// Kind and promised hash of `/mms/<kind>/<hash>` and its like.
fn upload_target(path: &str) -> Option<(String, Hash)> {
    let mut parts = path.trim_start_matches('/').rsplitn(3, '/');
    let (token, kind) = (parts.next()?, parts.next()?);
    let token = token.replace("%3D", "").replace("%3d", "");
    let hash = TOKEN.decode(token).ok()?.try_into().ok()?;
    Some((kind.to_owned(), hash))
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

enum Range {
    Whole,
    /// First byte, and one past the last.
    Part(u64, u64),
    Outside,
}

/// RFC 9110, 14.2: one range of bytes; what does not parse, or names several, is ignored.
fn range_of(value: &HeaderValue, total: u64) -> Range {
    let spec = value
        .to_str()
        .ok()
        .and_then(|value| value.trim().strip_prefix("bytes="));
    let Some((first, last)) = spec.and_then(|spec| spec.split_once('-')) else {
        return Range::Whole;
    };
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => part(first, last.saturating_add(1).min(total)),
        (Ok(first), Err(_)) if last.trim().is_empty() => part(first, total),
        (Err(_), Ok(suffix)) if first.trim().is_empty() => {
            part(total.saturating_sub(suffix), total)
        }
        _ => Range::Whole,
    }
}

fn part(start: u64, end: u64) -> Range {
    if start < end {
        Range::Part(start, end)
    } else {
        Range::Outside
    }
}

/// A body that trickles or breaks off.
fn faulty(
    status: StatusCode,
    kind: &'static str,
    part: Bytes,
    rate: Option<u64>,
    cut: Option<u64>,
) -> Reply {
    let mut left = part;
    let mut allowed = cut;
    let frames = stream::unfold(true, move |first| {
        let broken = allowed == Some(0) && !left.is_empty();
        let limit = allowed.map_or(SLICE, |allowed| {
            usize::try_from(allowed).unwrap_or(SLICE).min(SLICE)
        });
        // A tenth of a second's worth at a time keeps the rate even.
        let limit = rate.map_or(limit, |rate| {
            limit.min(usize::try_from(rate / 10).unwrap_or(SLICE).max(1))
        });
        let slice = left.split_to(limit.min(left.len()));
        allowed = allowed.map(|allowed| allowed - slice.len() as u64);
        async move {
            if broken {
                // What was sent so far has to leave first: an error discards what is still buffered.
                sleep(Duration::from_millis(20)).await;
                return Some((
                    Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "cut as asked for",
                    )),
                    false,
                ));
            }
            if slice.is_empty() {
                return None;
            }
            if let Some(rate) = rate.filter(|_| !first) {
                sleep(Duration::from_secs_f64(slice.len() as f64 / rate as f64)).await;
            }
            Some((Ok(Frame::data(slice)), false))
        }
    });
    let mut reply = Response::new(StreamBody::new(frames).boxed_unsync());
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

fn json_reply(answer: &serde_json::Value) -> Reply {
    reply(StatusCode::OK, "application/json", answer.to_string())
}

fn refusal(status: StatusCode, why: &str) -> Reply {
    let code = status.as_u16();
    reply(
        status,
        "application/json",
        json!({ "error": { "code": code, "message": why } }).to_string(),
    )
}

fn set(reply: &mut Reply, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::URL_SAFE;

    fn bounds(value: &str, total: u64) -> Option<(u64, u64)> {
        match range_of(&HeaderValue::from_str(value).expect("a header"), total) {
            Range::Whole => Some((0, total)),
            Range::Part(start, end) => Some((start, end)),
            Range::Outside => None,
        }
    }

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        assert_eq!(bounds("bytes=0-0", 10), Some((0, 1)));
        assert_eq!(bounds("bytes=3-", 10), Some((3, 10)));
        assert_eq!(bounds("bytes=-4", 10), Some((6, 10)));
        assert_eq!(bounds("bytes=-40", 10), Some((0, 10)));
        assert_eq!(bounds("bytes=5-400", 10), Some((5, 10)));
        assert_eq!(bounds("bytes=10-", 10), None);
        assert_eq!(bounds("bytes=-0", 10), None);
        assert_eq!(bounds("bytes=0-", 0), None);
        for ignored in [
            "bytes=5-3",
            "bytes=a-b",
            "lines=1-2",
            "bytes=",
            "bytes=1-2,4-5",
        ] {
            assert_eq!(bounds(ignored, 10), Some((0, 10)), "{ignored}");
        }
    }

    #[test]
    fn upload_paths_name_kind_and_hash() {
        let token = URL_SAFE.encode([0xFB; 32]);
        let bare = token.trim_end_matches('=');
        let expected = Some(("image".to_owned(), [0xFB; 32]));
        assert_eq!(upload_target(&format!("/mms/image/{bare}")), expected);
        assert_eq!(upload_target(&format!("/mms/image/{token}")), expected);
        assert_eq!(upload_target(&format!("/mms/image/{bare}%3D")), expected);
        for wrong in [
            "/mms/image/",
            "/mms/image",
            "/mms/image/AAAA",
            "/mms/image/%%%",
            "/",
        ] {
            assert_eq!(upload_target(wrong), None, "{wrong}");
        }
    }
}
