//! What others did with our messages.

use wacore::types::events::Receipt;
use wacore::types::presence::ReceiptType;

use super::{Notice, address, told};

/// One notice for each message of a receipt. Receipts between devices and those that ask to send again are machinery.
pub(super) fn read(receipt: &Receipt) -> Vec<Notice> {
    let (word, content) = match receipt.r#type {
        ReceiptType::Delivered => ("delivered", "Received a message"),
        ReceiptType::Read => ("read", "Read a message"),
        ReceiptType::Played => ("played", "Played a message"),
        _ => return Vec::new(),
    };
    let source = &receipt.source;
    if source.is_from_me {
        return Vec::new();
    }
    let ids = receipt.message_ids.iter();
    let notice = |id: &String| {
        let mut draft = told(&format!("receipt.{word}"), content);
        draft.target_message_id = Some(id.clone());
        draft.set("device", Some(source.sender.device));
        Notice {
            id: format!("receipt:{word}:{id}:{}", source.sender.device),
            chat: address(&source.chat),
            actor: address(&source.sender),
            actor_alt: source.sender_alt.as_ref().and_then(address),
            timestamp: receipt.timestamp.timestamp(),
            draft,
        }
    };
    ids.map(notice).collect()
}
