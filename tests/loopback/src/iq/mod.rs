//! Requests of logged-in clients. Every one is answered: what is unknown with an empty result, what is malformed with
//! an error.

pub mod appstate;
pub mod encrypt;
mod misc;
mod privacy;
pub mod profile;
mod usync;

use wacore_binary::Node;

use crate::{
    groups, phone,
    session::Session,
    wire::node::{self, child},
};

/// The answer to a request.
pub fn answer(session: &Session, namespace: &str, iq: &Node) -> Node {
    match namespace {
        "encrypt" => encrypt::answer(session, iq),
        "usync" => usync::answer(session, iq),
        "w:sync:app:state" => appstate::answer(session, iq),
        "blocklist" => privacy::blocklist(session, iq),
        "privacy" => privacy::privacy(session, iq),
        "disappearing_mode" => privacy::disappearing(session, iq),
        "w:profile:picture" => profile::picture(session, iq),
        "status" => profile::about(session, iq),
        "w:g2" => groups::answer(session, iq),
        "w:m" => misc::media(session, iq),
        "abt" | "w" => misc::props(iq),
        "w:mex" => misc::mex(session, iq),
        _ => node::result(iq).build(),
    }
}

/// What follows from a request once it is answered.
pub fn after(session: &Session, namespace: &str, iq: &Node) {
    match namespace {
        "passive" if child(iq, "active").is_some() => {
            session.activate();
            phone::share_history(&session.core, &session.account, &session.device);
        }
        "encrypt" => encrypt::after(session, iq),
        "md" => misc::unlink(session, iq),
        _ => {}
    }
}
