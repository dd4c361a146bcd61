//! An attachment in a request's line, on its way into a file.

use channel_whatsapp::media::stage::Staging;
use channel_whatsapp::protocol::jsonrpc::parse;
use channel_whatsapp::protocol::request::Body;

use super::memory;

#[test]
fn a_line_with_an_attachment_is_in_memory_once() {
    const DATA: usize = 64 << 20;
    let begin = r#"{"jsonrpc":"2.0","id":1,"method":"channel.push","params":{"kind":"push","protocol_version":1,"message":{"attachments":[{"data_base64":""#;
    let mut line = Vec::with_capacity(DATA + 1000);
    line.extend(begin.as_bytes());
    line.resize(begin.len() + DATA, b'A');
    line.extend(br#""}]}}}"#);
    let media = tempfile::tempdir().unwrap();
    let staging = Staging::open(media.path()).unwrap();
    let (staged, used) = memory::most(move || {
        let Ok(Body::Push { message, .. }) = parse(line).map(|request| request.body) else {
            panic!("no push")
        };
        let text = message.attachments[0].data_base64.as_deref().unwrap();
        staging.from_base64(text, u64::MAX).unwrap()
    });
    assert_eq!(staged.size(), DATA as u64 / 4 * 3);
    assert!(used < 1 << 20, "{used} bytes beyond the line");
}
