//! One client's socket: handshake, admission, and then a reader and a writer side by side in one task.
//!
//! The reader handles a stanza to its end before it takes the next, so a client's stanzas take effect in the order in
//! which it sent them.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_websockets::{Message, WebSocketStream};
use wacore_binary::{Node, builder::NodeBuilder};
use wacore_noise::{NoiseCipher, framing::append_frame_into};
use waproto::whatsapp::ClientPayload;

use crate::{
    clock,
    core::Core,
    faults::Cut,
    log::Who,
    mailbox::Link,
    outbox::{End, Outbox},
    pairing::Pairing,
    presence,
    session::Session,
    sync::lock,
    wire::{
        frames::{Frames, INTRO},
        handshake::{self, Answer},
        node,
    },
};

/// How much goes into one WebSocket message when much waits.
const COALESCE: usize = 48 * 1024;

/// Clients derive the keys of the stream after they have sent their `ClientFinish`, and some take what comes before
/// they are done for no stanza and stumble over the rest (Baileys 6.7). No network is as fast as this one.
const HEAD_START: Duration = Duration::from_millis(20);

enum Role {
    Pairing(Arc<Pairing>),
    Device(Session),
    Refused,
}

/// Serves a socket until it ends.
pub async fn run<S>(core: &Arc<Core>, id: u64, ws: WebSocketStream<S>, outbox: Arc<Outbox>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut sink, mut stream) = ws.split();
    let mut frames = Frames::default();
    let limit = core.limits().handshake_timeout;
    let shaken =
        tokio::time::timeout(limit, shake(core, &mut sink, &mut stream, &mut frames)).await;
    let Ok(Some(session)) = shaken else {
        let _ = tokio::time::timeout(Duration::from_secs(1), sink.close()).await;
        return;
    };
    core.describe(id, |info| {
        info.handshake = Some(session.pattern);
        info.routing = frames.routing().map(<[u8]>::len);
    });
    let role = admit(core, id, &outbox, &session.client, &session.payload);
    let who = match &role {
        Role::Device(session) => Who {
            phone: session.account.phone.as_str().into(),
            device: session.device.id,
        },
        Role::Pairing(_) | Role::Refused => Who::default(),
    };
    let writer = async {
        if session.pattern == handshake::Pattern::Xx {
            tokio::time::sleep(HEAD_START).await;
        }
        write(core, &mut sink, &session.write, &outbox, &who).await;
    };
    let reader = read(
        core,
        &mut stream,
        &mut frames,
        &session.read,
        &outbox,
        &who,
        &role,
    );
    tokio::select! {
        () = outbox.aborted() => {}
        () = writer => {
            if outbox.ending() == End::Now {
                return;
            }
            // The peer is to see the end of the stream rather than a reset.
            let _ = tokio::time::timeout(Duration::from_secs(1), sink.close()).await;
        }
        () = reader => {}
    }
}

async fn shake<K, R>(
    core: &Core,
    sink: &mut K,
    stream: &mut R,
    frames: &mut Frames,
) -> Option<handshake::Session>
where
    K: SinkExt<Message> + Unpin,
    R: Stream<Item = Result<Message, tokio_websockets::Error>> + Unpin,
{
    let key = core.static_key();
    let hello = next_frame(stream, frames).await?;
    let done = async {
        match handshake::answer(&key, INTRO, &hello)? {
            Answer::Done(reply, session) => {
                send(sink, &reply).await?;
                Ok(*session)
            }
            Answer::Wait(reply, waiting) => {
                send(sink, &reply).await?;
                let finish = next_frame(stream, frames)
                    .await
                    .ok_or(handshake::Failed("the client left"))?;
                waiting.finish(&finish)
            }
        }
    };
    done.await
        .inspect_err(|failed| tracing::debug!(why = failed.0, "handshake"))
        .ok()
}

async fn send<K: SinkExt<Message> + Unpin>(
    sink: &mut K,
    payload: &[u8],
) -> Result<(), handshake::Failed> {
    let mut out = BytesMut::new();
    append_frame_into(payload, None, &mut out).map_err(|_| handshake::Failed("too long"))?;
    sink.send(Message::binary(out))
        .await
        .map_err(|_| handshake::Failed("the client left"))
}

async fn next_frame<R>(stream: &mut R, frames: &mut Frames) -> Option<BytesMut>
where
    R: Stream<Item = Result<Message, tokio_websockets::Error>> + Unpin,
{
    loop {
        if let Some(frame) = frames.next_frame() {
            return Some(frame);
        }
        let message = stream.next().await?.ok()?;
        if message.is_close() {
            return None;
        }
        if message.is_binary() {
            frames.feed(message.as_payload()).ok()?;
        }
    }
}

async fn read<R>(
    core: &Arc<Core>,
    stream: &mut R,
    frames: &mut Frames,
    cipher: &NoiseCipher,
    outbox: &Arc<Outbox>,
    who: &Who,
    role: &Role,
) where
    R: Stream<Item = Result<Message, tokio_websockets::Error>> + Unpin,
{
    let mut counter = 0_u32;
    loop {
        let next = tokio::time::timeout(core.limits().idle_timeout, next_frame(stream, frames));
        let Ok(Some(mut frame)) = next.await else {
            return;
        };
        if cipher
            .decrypt_in_place_with_counter(counter, &mut frame)
            .is_err()
        {
            return;
        }
        // The counter is the nonce and must not come round.
        let Some(following) = counter.checked_add(1) else {
            return;
        };
        counter = following;
        while let Some(until) = outbox.stalled() {
            tokio::time::sleep_until(until.into()).await;
        }
        let stanza = frame.freeze();
        core.record(false, who, &stanza);
        let Some(stanza) = node::decode(stanza) else {
            tracing::debug!("a frame is no stanza");
            outbox.push(node::encode(&bad_format()));
            outbox.finish();
            continue;
        };
        match role {
            Role::Pairing(pairing) => pairing.handle(core, &stanza),
            Role::Device(session) => session.handle(&stanza),
            Role::Refused => {}
        }
    }
}

async fn write<K: SinkExt<Message> + Unpin>(
    core: &Core,
    sink: &mut K,
    cipher: &NoiseCipher,
    outbox: &Outbox,
    who: &Who,
) {
    let mut counter = 0_u32;
    let mut batch: Vec<Bytes> = Vec::new();
    let mut scratch = Vec::new();
    loop {
        while let Some(until) = outbox.stalled() {
            tokio::time::sleep_until(until.into()).await;
        }
        batch.clear();
        let end = outbox.take(COALESCE, &mut batch);
        if end == End::Now || (batch.is_empty() && end == End::AfterFlush) {
            return;
        }
        if batch.is_empty() {
            outbox.ready().await;
            continue;
        }
        let mut out = BytesMut::with_capacity(COALESCE);
        let mut cut = None;
        for stanza in &batch {
            cut = core.faults().cut(&who.phone, who.device);
            if cut == Some(Cut::Before) {
                break;
            }
            scratch.clear();
            scratch.extend_from_slice(stanza);
            let sealed = cipher
                .encrypt_in_place_with_counter(counter, &mut scratch)
                .is_ok();
            let Some(following) = counter.checked_add(1).filter(|_| sealed) else {
                return;
            };
            counter = following;
            let begin = out.len();
            if append_frame_into(&scratch, None, &mut out).is_err() {
                tracing::error!(len = scratch.len(), "a stanza is too long for a frame");
                return;
            }
            if cut == Some(Cut::Within) {
                out.truncate(begin + (out.len() - begin) / 2);
                break;
            }
            core.record(true, who, stanza);
        }
        if !out.is_empty() {
            let sent =
                tokio::time::timeout(core.limits().write_timeout, sink.send(Message::binary(out)));
            if !matches!(sent.await, Ok(Ok(()))) {
                return;
            }
        }
        if cut.is_some() {
            outbox.abort();
            return;
        }
    }
}

fn admit(
    core: &Arc<Core>,
    id: u64,
    outbox: &Arc<Outbox>,
    client: &[u8; 32],
    payload: &ClientPayload,
) -> Role {
    if let Some(data) = payload.device_pairing_data.as_option() {
        if let Some((code, _)) = core.faults().connect_failure("", 0) {
            return refuse(outbox, failure(code));
        }
        let pairing = Pairing::open(core, id, outbox, *client, data, payload.push_name.clone());
        return match pairing {
            Some(pairing) => Role::Pairing(pairing),
            None => refuse(outbox, failure(500)),
        };
    }
    let phone = payload.username.unwrap_or_default().to_string();
    let number = payload
        .device
        .and_then(|device| u16::try_from(device).ok())
        .unwrap_or_default();
    if let Some((code, expire)) = core.faults().connect_failure(&phone, number) {
        let mut refusal = failure(code);
        if let Some(expire) = expire {
            // 101 is "sent too many messages", the usual cause of a temporary ban.
            refusal.attrs.insert("code", "101");
            refusal.attrs.insert("expire", expire);
        }
        return refuse(outbox, refusal);
    }
    let account = core.by_phone(&phone);
    let device = account.as_ref().and_then(|account| account.device(number));
    match (account, device) {
        (Some(account), Some(device)) if device.noise == *client => {
            core.describe(id, |info| {
                info.phone = Some(phone);
                info.device = Some(number);
            });
            let session = Session {
                core: core.clone(),
                conn: id,
                outbox: outbox.clone(),
                account,
                device,
            };
            login(&session);
            Role::Device(session)
        }
        _ => refuse(outbox, failure(401)),
    }
}

fn refuse(outbox: &Outbox, refusal: Node) -> Role {
    outbox.push(node::encode(&refusal));
    outbox.finish();
    Role::Refused
}

fn login(session: &Session) {
    let Session {
        core,
        conn,
        outbox,
        account,
        device,
    } = session;
    core.counting()
        .logins
        .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let replaced = lock(&device.mail).connect(*conn, outbox.clone());
    if let Some(Link { outbox: old, .. }) = replaced {
        old.push(node::encode(&stream_error(409)));
        old.finish();
    }
    let mut routing = [0; 8];
    fastrand::fill(&mut routing);
    outbox.push(node::encode(
        &NodeBuilder::new("success")
            .attr("t", clock::unix())
            .attr(
                "lid",
                account.device_jid(crate::account::Family::Lid, device.id),
            )
            .attr("props", "27")
            .attr("abprops", "1")
            .attr("location", "lla")
            .attr("display_name", account.push_name())
            .build(),
    ));
    let info = NodeBuilder::new("routing_info").bytes(routing).build();
    let routing = NodeBuilder::new("edge_routing").children([info]).build();
    outbox.push(node::encode(
        &NodeBuilder::new("ib")
            .attr("from", node::server())
            .children([routing])
            .build(),
    ));
}

/// A connection has ended.
pub fn left(core: &Arc<Core>, conn: u64, phone: &str, device: u16) {
    let Some(account) = core.by_phone(phone) else {
        return;
    };
    let Some(device) = account.device(device) else {
        return;
    };
    if lock(&device.mail).disconnect(conn) {
        presence::gone(core, &account, &device);
    }
}

fn failure(code: u16) -> Node {
    NodeBuilder::new("failure")
        .attr("reason", code)
        .attr("location", "lla")
        .build()
}

fn bad_format() -> Node {
    let why = NodeBuilder::new("xml-not-well-formed").build();
    NodeBuilder::new("stream:error").children([why]).build()
}

/// The stanza that ends a stream with a code: 401 the device was removed, 409 replaced by a second login of the device, 515
/// the client is to come again, and others as they are.
pub fn stream_error(code: u16) -> Node {
    let error = NodeBuilder::new("stream:error");
    let conflict = |kind| NodeBuilder::new("conflict").attr("type", kind).build();
    match code {
        401 => error
            .attr("code", code)
            .children([conflict("device_removed")])
            .build(),
        409 => error.children([conflict("replaced")]).build(),
        _ => error.attr("code", code).build(),
    }
}
