//! What is neither about keys nor about people.

use wacore_binary::{Node, builder::NodeBuilder};

use crate::{
    session::Session,
    wire::node::{self, child, text},
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

/// The query for the reach-out time-lock. Source: `WAWebMexFetchReachoutTimelockJobQuery` in wacore.
const REACHOUT: &str = "23983697327930364";

/// Answers a GraphQL query: there is nothing of what it asks for, unless that is the reach-out time-lock.
pub fn mex(session: &Session, iq: &Node) -> Node {
    let asked = child(iq, "query").is_some_and(|query| text(query, "query_id") == REACHOUT);
    let answer = match session.account.restricted_until() {
        _ if !asked => r#"{"data":{}}"#.to_owned(),
        None => {
            r#"{"data":{"xwa2_fetch_account_reachout_timelock":{"is_active":false}}}"#.to_owned()
        }
        Some(until) => format!(
            r#"{{"data":{{"xwa2_fetch_account_reachout_timelock":{{"is_active":true,"time_enforcement_ends":"{until}","enforcement_type":"DEFAULT"}}}}}}"#
        ),
    };
    let result = NodeBuilder::new("result")
        .bytes(answer.into_bytes())
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
