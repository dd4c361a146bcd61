//! A message of every kind, as protobuf values; nothing of the crate is used, so that the tests of the binary can send
//! them too.

macro_rules! message {
    ($field:ident: $value:expr) => {
        Message {
            $field: some($value),
            ..Message::default()
        }
    };
}

macro_rules! fields {
    ($($path:ident)::+ { $($field:ident: $value:expr),* $(,)? }) => {
        $($path)::+ { $($field: $value,)* ..Default::default() }
    };
}

mod business;
mod families;
mod more;

pub use wa::message::protocol_message::Type;
pub use wa::{ContextInfo, Message, MessageKey, message as m};
pub use waproto::buffa::MessageField;
pub use waproto::whatsapp as wa;

pub const ANN: &str = "15551230001@s.whatsapp.net";
pub const ANN_LID: &str = "100000000000001@lid";
pub const BOB: &str = "15551230002@s.whatsapp.net";
pub const ME: &str = "15550000000@s.whatsapp.net";
pub const GROUP: &str = "120363000000000001@g.us";
pub const NOW: i64 = 1_700_000_000;

pub fn some<T: Default>(value: T) -> MessageField<T> {
    MessageField::some(value)
}

pub fn s(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub fn text(content: &str) -> Message {
    Message {
        conversation: s(content),
        ..Message::default()
    }
}

pub fn key(id: &str) -> MessageField<MessageKey> {
    some(MessageKey {
        id: s(id),
        participant: s(BOB),
        ..MessageKey::default()
    })
}

pub fn with_context(content: &str, context: ContextInfo) -> Message {
    Message {
        extended_text_message: some(m::ExtendedTextMessage {
            text: s(content),
            context_info: some(context),
            ..m::ExtendedTextMessage::default()
        }),
        ..Message::default()
    }
}

pub fn future(inner: Message) -> MessageField<m::FutureProofMessage> {
    some(m::FutureProofMessage {
        message: some(inner),
    })
}

pub fn image(caption: Option<&str>) -> Message {
    Message {
        image_message: some(m::ImageMessage {
            mimetype: s("image/jpeg"),
            caption: caption.map(str::to_owned),
            file_length: Some(12345),
            width: Some(640),
            height: Some(480),
            ..m::ImageMessage::default()
        }),
        ..Message::default()
    }
}

pub fn poll() -> m::PollCreationMessage {
    let option = |name: &str| m::poll_creation_message::Option {
        option_name: s(name),
        ..Default::default()
    };
    m::PollCreationMessage {
        name: s("Lunch?"),
        options: vec![option("Soup"), option("Salad")],
        selectable_options_count: Some(1),
        ..Default::default()
    }
}

pub fn protocol(r#type: Type) -> m::ProtocolMessage {
    m::ProtocolMessage {
        r#type: Some(r#type),
        key: key("OLD"),
        ..Default::default()
    }
}

/// Every sample, with its name.
pub fn samples() -> Vec<(&'static str, Message)> {
    let mut all = families::all();
    all.extend(more::all());
    all.extend(business::all());
    all
}
