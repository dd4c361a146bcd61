//! What a person does in a chat. Each action returns once the client has put it on the wire; whether the server
//! took it and whether the other side has it is for the waits on [`Person`].

use anyhow::Result;
use wacore::proto_helpers::{MessageBuilderExt as _, MessageExt as _};
use wacore_binary::Jid;
use waproto::whatsapp as wa;
use whatsapp_rust::bot::MessageContext;
use whatsapp_rust::{RevokeType, SendOptions};

use super::{Person, SeenMessage};

impl Person {
    /// Writes a text and returns its message id.
    ///
    /// # Errors
    /// The person is offline, or the client could not send.
    pub async fn text(&self, to: impl Into<Jid>, text: &str) -> Result<String> {
        self.send(to, wa::Message::text(text)).await
    }

    /// Sends any message and returns its id.
    ///
    /// # Errors
    /// As [`Person::text`].
    pub async fn send(&self, to: impl Into<Jid>, message: wa::Message) -> Result<String> {
        self.note_said(&message);
        Ok(self
            .client()
            .await?
            .send_message(to.into(), message)
            .await?
            .message_id)
    }

    /// Sends any message under an id of the caller's choice.
    ///
    /// # Errors
    /// As [`Person::text`].
    pub async fn send_as(&self, id: &str, to: impl Into<Jid>, message: wa::Message) -> Result<()> {
        self.note_said(&message);
        let options = SendOptions::default().with_message_id(id);
        self.client()
            .await?
            .send_message_with_options(to.into(), message, options)
            .await?;
        Ok(())
    }

    /// Answers a message, quoting it, and returns the answer's id.
    ///
    /// # Errors
    /// As [`Person::text`].
    pub async fn reply(&self, to: &SeenMessage, text: &str) -> Result<String> {
        self.server().core().note_said(text);
        Ok(self
            .context(to)
            .await?
            .reply_quoting(text)
            .await?
            .message_id)
    }

    /// Reacts to a message; an empty emoji takes the reaction back. Returns the reaction's own id.
    ///
    /// # Errors
    /// As [`Person::text`].
    pub async fn react(&self, to: &SeenMessage, emoji: &str) -> Result<String> {
        Ok(self.context(to).await?.react(emoji).await?.message_id)
    }

    /// Replaces the text of an own message and returns the edit's own id.
    ///
    /// # Errors
    /// As [`Person::text`].
    pub async fn edit(&self, chat: impl Into<Jid>, id: &str, text: &str) -> Result<String> {
        self.server().core().note_said(text);
        Ok(self
            .client()
            .await?
            .edit_message(chat.into(), id, wa::Message::text(text))
            .await?)
    }

    /// Deletes an own message for everybody.
    ///
    /// # Errors
    /// As [`Person::text`].
    pub async fn revoke(&self, chat: impl Into<Jid>, id: &str) -> Result<()> {
        Ok(self
            .client()
            .await?
            .revoke_message(chat.into(), id, RevokeType::Sender)
            .await?)
    }

    /// As admin, deletes somebody else's message in a group for everybody.
    ///
    /// # Errors
    /// As [`Person::text`].
    pub async fn revoke_as_admin(&self, message: &SeenMessage) -> Result<()> {
        let kind = RevokeType::Admin {
            original_sender: message.sender().to_non_ad(),
        };
        Ok(self
            .client()
            .await?
            .revoke_message(message.chat(), message.id(), kind)
            .await?)
    }

    /// Marks a message as read.
    ///
    /// # Errors
    /// As [`Person::text`].
    pub async fn read(&self, message: &SeenMessage) -> Result<()> {
        let author = message.info.source.is_group.then(|| message.sender());
        self.client()
            .await?
            .mark_as_read(message.chat(), author, &[message.id()])
            .await
    }

    /// Marks a voice note or a video as played.
    ///
    /// # Errors
    /// As [`Person::text`].
    pub async fn played(&self, message: &SeenMessage) -> Result<()> {
        let author = message.info.source.is_group.then(|| message.sender());
        self.client()
            .await?
            .mark_as_played(message.chat(), author, &[message.id()])
            .await
    }

    /// Begins to type.
    ///
    /// # Errors
    /// As [`Person::text`].
    pub async fn composing(&self, to: impl Into<Jid>) -> Result<()> {
        Ok(self
            .client()
            .await?
            .chatstate()
            .send_composing(&to.into())
            .await?)
    }

    /// Begins to record a voice note.
    ///
    /// # Errors
    /// As [`Person::text`].
    pub async fn recording(&self, to: impl Into<Jid>) -> Result<()> {
        Ok(self
            .client()
            .await?
            .chatstate()
            .send_recording(&to.into())
            .await?)
    }

    /// Stops typing or recording.
    ///
    /// # Errors
    /// As [`Person::text`].
    pub async fn paused(&self, to: impl Into<Jid>) -> Result<()> {
        Ok(self
            .client()
            .await?
            .chatstate()
            .send_paused(&to.into())
            .await?)
    }

    /// Comes to the fore, or goes to the background.
    ///
    /// # Errors
    /// As [`Person::text`].
    pub async fn available(&self, available: bool) -> Result<()> {
        let client = self.client().await?;
        if available {
            client.presence().set_available().await?;
        } else {
            client.presence().set_unavailable().await?;
        }
        Ok(())
    }

    /// Asks to be told when somebody is available.
    ///
    /// # Errors
    /// As [`Person::text`].
    pub async fn watch(&self, whom: impl Into<Jid>) -> Result<()> {
        Ok(self
            .client()
            .await?
            .presence()
            .subscribe(whom.into())
            .await?)
    }

    fn note_said(&self, message: &wa::Message) {
        let text = message.text_content().or_else(|| message.get_caption());
        if let Some(text) = text {
            self.server().core().note_said(text);
        }
    }

    pub(super) async fn context(&self, message: &SeenMessage) -> Result<MessageContext> {
        Ok(MessageContext::from_arc(
            message.message.clone(),
            &message.info,
            self.client().await?,
        ))
    }
}
