//! Profile pictures and about texts.

use wacore_binary::{Jid, Node, Server, builder::NodeBuilder};

use crate::{
    account::Family,
    clock, groups,
    session::Session,
    sync::lock,
    wire::node::{self, attr, bytes, child, text},
};

/// Longer about texts are refused.
const ABOUT: usize = 2_048;
/// Larger pictures are refused.
const PICTURE: usize = 4 << 20;

/// A picture of a person or a group.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Changes with the picture.
    pub id: String,
    /// Where the media store has it.
    pub path: String,
}

/// Answers a request for a picture, or to change one's own or a group's.
pub fn picture(session: &Session, iq: &Node) -> Node {
    let target =
        node::jid(iq, "target").or_else(|| node::jid(iq, "to").filter(|to| !to.user.is_empty()));
    let asked = child(iq, "picture");
    if text(iq, "type") == "set" {
        return set(session, iq, target, asked);
    }
    let found = match target {
        Some(group) if group.server == Server::Group => groups::picture(session, &group),
        Some(person) => session
            .core
            .by_jid(&person)
            .and_then(|account| lock(&account.state).picture.clone()),
        None => None,
    };
    let Some(picture) = found else {
        return node::error(iq, 404, "item-not-found");
    };
    let known = asked.and_then(|asked| attr(asked, "id"));
    if known.as_deref() == Some(&picture.id) {
        return node::result(iq).build();
    }
    let kind = asked.and_then(|asked| attr(asked, "type"));
    let reply = NodeBuilder::new("picture")
        .attr("id", &picture.id)
        .attr("type", kind.as_deref().unwrap_or("image"))
        .attr("url", session.core.media.url(&picture.path))
        .attr("direct_path", &picture.path)
        .build();
    node::result(iq).children([reply]).build()
}

fn set(session: &Session, iq: &Node, target: Option<Jid>, asked: Option<&Node>) -> Node {
    let image = asked.map(bytes).unwrap_or_default();
    if image.len() > PICTURE {
        return node::error(iq, 413, "too-large");
    }
    let picture = if image.is_empty() {
        None
    } else {
        let Some(path) = session.core.media.publish(image.to_vec()) else {
            return node::error(iq, 507, "no-room");
        };
        let id = format!("{}{:03}", clock::unix(), session.core.fresh() % 1_000);
        Some(Picture { id, path })
    };
    match target {
        Some(group) if group.server == Server::Group => {
            if let Err(code) = groups::set_picture(session, &group, picture.clone()) {
                return node::error(iq, code, "refused");
            }
        }
        _ => {
            lock(&session.account.state).picture.clone_from(&picture);
            let own = session.account.jid(Family::Pn);
            tell(session, |notification| {
                notification
                    .attr("from", own.clone())
                    .attr("type", "picture")
                    .children([change(session, picture.as_ref(), &own)])
                    .build()
            });
        }
    }
    let mut reply = node::result(iq);
    if let Some(picture) = picture {
        reply = reply.children([NodeBuilder::new("picture").attr("id", picture.id).build()]);
    }
    reply.build()
}

/// The change of a picture, as others are told.
pub fn change(session: &Session, picture: Option<&Picture>, whose: &Jid) -> Node {
    let change = NodeBuilder::new(if picture.is_some() { "set" } else { "delete" })
        .attr("jid", whose)
        .attr("author", session.account.jid(Family::Pn));
    match picture {
        Some(picture) => change.attr("id", &picture.id).build(),
        None => change.build(),
    }
}

/// Tells those who have asked for the device list, and the account's own devices.
fn tell(session: &Session, build: impl Fn(NodeBuilder) -> Node) {
    session.core.notify(&session.account, None, &build);
    let watchers: Vec<String> = lock(&session.account.state)
        .watchers
        .iter()
        .filter(|phone| **phone != session.account.phone)
        .cloned()
        .collect();
    for watcher in watchers {
        if let Some(account) = session.core.by_phone(&watcher) {
            session.core.notify(&account, None, &build);
        }
    }
}

/// Answers a request to change the about text.
pub fn about(session: &Session, iq: &Node) -> Node {
    let Some(status) = child(iq, "status") else {
        return node::result(iq).build();
    };
    if text(iq, "type") != "set" {
        return node::result(iq).build();
    }
    let Ok(about) = String::from_utf8(bytes(status).to_vec()) else {
        return node::error(iq, 400, "bad-request");
    };
    if about.len() > ABOUT {
        return node::error(iq, 406, "not-acceptable");
    }
    lock(&session.account.state).about = Some((about.clone(), clock::unix()));
    let own = session.account.jid(Family::Pn);
    tell(session, |notification| {
        let set = NodeBuilder::new("set").bytes(about.as_bytes()).build();
        notification
            .attr("from", own.clone())
            .attr("type", "status")
            .children([set])
            .build()
    });
    node::result(iq).build()
}
