//! An attachment in a request's line, on its way into a file.

use channel_whatsapp::media::base64;
use channel_whatsapp::media::intake::{Intake, Taken};
use channel_whatsapp::media::probe::Wanted;
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
    // A picture: on the threads that encrypt a document this test would not see what is in use.
    line.extend(b"/9j/");
    line.resize(begin.len() + DATA, b'A');
    line.extend(br#""}]}}}"#);
    let media = tempfile::tempdir().unwrap();
    let staging = Staging::open(media.path()).unwrap();
    let (size, used) = memory::most(move || {
        let Ok(Body::Push { message, .. }) = parse(line).map(|request| request.body) else {
            panic!("no push")
        };
        let text = message.attachments[0].data_base64.as_deref().unwrap();
        let mut intake = Intake::new(&staging, Wanted::default(), u64::MAX);
        base64::decode(text, &mut intake).unwrap();
        let Taken::Staged(staged) = intake.finish().unwrap().0 else {
            panic!("it begins as a picture")
        };
        staged.size()
    });
    assert_eq!(size, DATA as u64 / 4 * 3);
    assert!(used < 1 << 20, "{used} bytes beyond the line");
}
