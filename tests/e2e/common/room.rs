//! A group of people with the plugin in it, in one of the two address modes.

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
        let world = match by_lid {
            true => World::linked_lid().await,
            false => World::linked().await,
        };
        let spec = |name: &str| match by_lid {
            true => PersonSpec::new(name).lid_migrated(),
            false => PersonSpec::new(name),
        };
        let anna = Person::join_as(&world.server, spec("Anna")).await;
        let bob = Person::join_as(&world.server, spec("Bob")).await;
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
}
