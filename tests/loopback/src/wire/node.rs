//! Reading what clients send and building what they get, in fewer words.

use std::borrow::Cow;

use bytes::Bytes;
use wacore_binary::{Jid, Node, NodeContent, NodeValue, SERVER_JID, Server, builder::NodeBuilder};

/// An attribute as text.
pub fn attr<'a>(node: &'a Node, key: &str) -> Option<Cow<'a, str>> {
    node.attrs.get(key).map(|value| value.as_str())
}

/// An attribute as text, empty when absent.
pub fn text<'a>(node: &'a Node, key: &str) -> Cow<'a, str> {
    attr(node, key).unwrap_or_default()
}

/// An attribute as a JID; an old-style `c.us` one as the phone JID that it stands for.
pub fn jid(node: &Node, key: &str) -> Option<Jid> {
    let mut jid = node.attrs.get(key)?.to_jid()?;
    if jid.server == Server::Legacy {
        jid.server = Server::Pn;
    }
    Some(jid)
}

/// An attribute as a number.
pub fn number<T: std::str::FromStr>(node: &Node, key: &str) -> Option<T> {
    attr(node, key)?.parse().ok()
}

/// The children, none when the content is something else.
pub fn children(node: &Node) -> &[Node] {
    node.children().unwrap_or_default()
}

/// The first child of a tag.
pub fn child<'a>(node: &'a Node, tag: &str) -> Option<&'a Node> {
    children(node).iter().find(|child| child.tag == tag)
}

/// The children of a tag.
pub fn all<'a>(node: &'a Node, tag: &'a str) -> impl Iterator<Item = &'a Node> {
    children(node).iter().filter(move |child| child.tag == tag)
}

/// The content as bytes. The encoder may have packed text, so both kinds count.
pub fn bytes(node: &Node) -> &[u8] {
    match &node.content {
        Some(NodeContent::Bytes(bytes)) => bytes,
        Some(NodeContent::String(text)) => text.as_bytes(),
        _ => &[],
    }
}

/// The bytes of a child.
pub fn child_bytes<'a>(node: &'a Node, tag: &str) -> Option<&'a [u8]> {
    child(node, tag).map(bytes)
}

/// The bytes of a child that has to have exactly `N`.
pub fn child_array<const N: usize>(node: &Node, tag: &str) -> Option<[u8; N]> {
    child_bytes(node, tag)?.try_into().ok()
}

/// Up to four big-endian bytes as a number.
pub fn be(bytes: &[u8]) -> Option<u32> {
    if bytes.is_empty() || bytes.len() > 4 {
        return None;
    }
    Some(bytes.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
}

/// A result for an iq.
pub fn result(request: &Node) -> NodeBuilder {
    reply(request, "result")
}

/// An error for an iq.
pub fn error(request: &Node, code: u16, text: &str) -> Node {
    let error = NodeBuilder::new("error")
        .attr("code", code)
        .attr("text", text)
        .build();
    reply(request, "error").children([error]).build()
}

/// The server's own JID. On the wire it is a JID without a user, not a text: clients compare it as such.
pub fn server() -> Jid {
    Jid::new("", Server::Pn)
}

/// Whom a stanza was for, as its answer says whom it is from.
pub fn addressee(stanza: &Node) -> NodeValue {
    match stanza.attrs.get("to") {
        Some(to) if to.as_str() != SERVER_JID => to.clone(),
        _ => server().into(),
    }
}

fn reply(request: &Node, kind: &'static str) -> NodeBuilder {
    NodeBuilder::new("iq")
        .attr("from", addressee(request))
        .attr("id", text(request, "id").as_ref())
        .attr("type", kind)
}

/// A copy of a node's attribute, if it has it.
pub fn copy(mut to: NodeBuilder, from: &Node, keys: &[&'static str]) -> NodeBuilder {
    for key in keys {
        if let Some(value) = from.attrs.get(key) {
            to = to.attr(key, value.clone());
        }
    }
    to
}

/// The bytes of a stanza, with the flag byte, before encryption.
pub fn encode(node: &Node) -> Bytes {
    // Encoding fails for lengths beyond what the format can express, which no stanza that came in has.
    wacore_binary::marshal_auto(node)
        .inspect_err(|error| tracing::error!(%error, tag = %node.tag, "a stanza cannot be encoded"))
        .map(Bytes::from)
        .unwrap_or_default()
}

/// The node of a stanza's bytes, inflated if need be.
pub fn decode(bytes: Bytes) -> Option<Node> {
    let plain = match bytes.first()? {
        flag if flag & 2 == 0 => bytes.slice(1..),
        _ => Bytes::from(wacore_binary::util::unpack(&bytes).ok()?.into_owned()),
    };
    let node = wacore_binary::OwnedNodeRef::new(plain).ok()?;
    Some(node.to_owned_node())
}
