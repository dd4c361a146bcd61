//! A group of people with the plugin in it, in one of the two address modes.

use waproto::whatsapp as wa;
use whatsapp_loopback::people::{Person, PersonSpec};
use whatsapp_rust::Jid;

use super::World;

/// A group that Anna has made, with Bob and the plugin in it.
pub struct Room {
    pub world: World,
    pub anna: Person,
    pub bob: Person,
    pub group: Jid,
    pub by_lid: bool,
}

impl Room {
    pub async fn open(by_lid: bool) -> Self {
        Self::open_to(by_lid, false).await
    }

    /// By LID, and what Bob writes does not tell his number.
    pub async fn open_to_a_stranger() -> Self {
        Self::open_to(true, true).await
    }

    async fn open_to(by_lid: bool, secretive: bool) -> Self {
        let world = match by_lid {
            true => World::linked_lid().await,
            false => World::linked().await,
        };
        let spec = |name: &str| match by_lid {
            true => PersonSpec::new(name).lid_migrated(),
            false => PersonSpec::new(name),
        };
        let anna = Person::join_as(&world.server, spec("Anna")).await;
        let mut bobs = spec("Bob");
        bobs.account.secretive = secretive;
        let bob = Person::join_as(&world.server, bobs).await;
        let (anna, bob) = (anna.expect("Anna"), bob.expect("Bob"));
        let group = world.group(&anna, "Cooks").await;
        anna.add(&group, &bob).await.expect("add");
        Self {
            world,
            anna,
            bob,
            group,
            by_lid,
        }
    }

    /// How the chats here address somebody.
    pub fn member(&self, person: &Person) -> Jid {
        match self.by_lid {
            true => person.lid(),
            false => person.pn(),
        }
    }

    /// How the plugin's account is addressed here.
    pub fn plugin(&self) -> Jid {
        match self.by_lid {
            true => self.world.lid(),
            false => self.world.jid(),
        }
    }

    /// Somebody writes and the server has it.
    pub async fn says(&self, person: &Person, text: &str) -> String {
        let id = person.text(self.group.clone(), text).await.expect("text");
        assert_eq!(person.wait_ack(&id).await.expect("ack"), None);
        id
    }

    /// The same with any message.
    pub async fn sends(&self, person: &Person, message: wa::Message) -> String {
        let id = person.send(self.group.clone(), message).await;
        let id = id.expect("send");
        assert_eq!(person.wait_ack(&id).await.expect("ack"), None);
        id
    }

    /// Somebody mentions the plugin.
    pub async fn asks(&self, person: &Person, question: &str) -> String {
        let plugin = self.plugin();
        let text = format!("@{} {question}", plugin.user);
        self.sends(person, mentioning(&plugin, &text, false)).await
    }
}

/// A message that mentions somebody.
pub fn mentioning(whom: &Jid, text: &str, forwarded: bool) -> wa::Message {
    wa::Message {
        extended_text_message: wa::message::ExtendedTextMessage {
            text: Some(text.to_owned()),
            context_info: wa::ContextInfo {
                mentioned_jid: vec![whom.to_string()],
                is_forwarded: forwarded.then_some(true),
                ..wa::ContextInfo::default()
            }
            .into(),
            ..wa::message::ExtendedTextMessage::default()
        }
        .into(),
        ..wa::Message::default()
    }
}
