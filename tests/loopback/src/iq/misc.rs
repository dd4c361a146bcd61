//! What is neither about keys nor about people.

use wacore_binary::{Node, builder::NodeBuilder};

use crate::{
    session::Session,
    wire::node::{self, child},
};

/// How long clients may use the media hosts that they are told, in seconds.
const MEDIA_TTL: u32 = 21_600;

/// Answers a request for media hosts.
pub fn media(session: &Session, iq: &Node) -> Node {
    if child(iq, "media_conn").is_none() {
        return node::result(iq).build();
    }
    let media = &session.core.media;
    let hosts = media.hosts().into_iter().map(|hostname| {
        NodeBuilder::new("host")
            .attr("hostname", hostname)
            .attr("type", "primary")
            .children([
                NodeBuilder::new("upload").build(),
                NodeBuilder::new("download").build(),
            ])
            .build()
    });
    let conn = NodeBuilder::new("media_conn")
        .attr("auth", media.auth())
        .attr("ttl", MEDIA_TTL)
        .attr("auth_ttl", MEDIA_TTL)
        .attr("max_buckets", 12)
        .children(hosts)
        .build();
    node::result(iq).children([conn]).build()
}

/// Answers a request for properties: none differs from what clients assume.
pub fn props(iq: &Node) -> Node {
    if child(iq, "props").is_none() {
        return node::result(iq).build();
    }
    let props = NodeBuilder::new("props")
        .attr("protocol", "1")
        .attr("hash", "1")
        .attr("refresh", 86_400)
        .attr("refresh_id", "1")
        .attr("delta_update", "false")
        .build();
    node::result(iq).children([props]).build()
}

/// Answers a GraphQL query: there is nothing of what it asks for.
pub fn mex(iq: &Node) -> Node {
    let result = NodeBuilder::new("result")
        .bytes(b"{\"data\":{}}".as_slice())
        .build();
    node::result(iq).children([result]).build()
}

/// A client takes a device off its account, mostly itself.
pub fn unlink(session: &Session, iq: &Node) {
    let Some(remove) = child(iq, "remove-companion-device") else {
        return;
    };
    let device = node::jid(remove, "jid").map_or(session.device.id, |jid| jid.device);
    session.core.drop_device(&session.account, device, true);
}
