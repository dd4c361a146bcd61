//! A client of few habits: it says what a test tells it to say, and nothing of its own accord.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use buffa::{Message as _, MessageField};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rand::rngs::StdRng;
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, MaybeTlsStream, Message, WebSocketStream};
use wacore::{
    libsignal::protocol::KeyPair,
    pair::{DeviceState, PairUtils},
};
use wacore_binary::{
    Node, NodeContent, OwnedNodeRef, builder::NodeBuilder, consts::WA_CONN_HEADER,
};
use wacore_noise::{
    NoiseCipher, XxHandshakeState,
    framing::{FrameDecoder, encode_frame},
};
use waproto::whatsapp::{ClientPayload, client_payload::DevicePairingRegistrationData};
use whatsapp_loopback::Server;

const PATIENCE: Duration = Duration::from_secs(20);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The keys of a device.
pub struct Keys {
    pub noise: KeyPair,
    pub identity: KeyPair,
    pub skey: KeyPair,
    secret: [u8; 32],
}

impl Keys {
    pub fn new() -> Arc<Self> {
        let mut rng = rand::make_rng::<StdRng>();
        let mut pair = || KeyPair::generate(&mut rng);
        Arc::new(Self {
            noise: pair(),
            identity: pair(),
            skey: pair(),
            secret: [7; 32],
        })
    }

    pub fn signature(&self) -> Result<Vec<u8>> {
        let public = self.skey.public_key.serialize();
        let mut rng = rand::make_rng::<StdRng>();
        Ok(self
            .identity
            .calculate_signature(&public, &mut rng)?
            .to_vec())
    }

    fn registration(&self) -> Result<ClientPayload> {
        let bytes = |pair: &KeyPair| Some(pair.public_key.public_key_bytes().to_vec());
        Ok(ClientPayload {
            device_pairing_data: MessageField::some(DevicePairingRegistrationData {
                e_regid: Some(vec![0, 0, 0, 9]),
                e_keytype: Some(vec![5]),
                e_ident: bytes(&self.identity),
                e_skey_id: Some(vec![0, 0, 1]),
                e_skey_val: bytes(&self.skey),
                e_skey_sig: Some(self.signature()?),
                ..Default::default()
            }),
            ..Default::default()
        })
    }
}

/// A connection.
pub struct Raw {
    socket: Socket,
    frames: FrameDecoder,
    read: NoiseCipher,
    write: NoiseCipher,
    received: u32,
    sent: u32,
    ids: u32,
}

/// A WebSocket on which nothing has been said.
pub async fn socket(server: &Server) -> Result<Socket> {
    let uri = server.ws_url().parse()?;
    Ok(ClientBuilder::from_uri(uri).connect().await?.0)
}

impl Raw {
    /// Connects and shakes hands.
    pub async fn connect(server: &Server, keys: &Keys, payload: ClientPayload) -> Result<Self> {
        let mut socket = socket(server).await?;
        let mut noise =
            XxHandshakeState::new(keys.noise.clone(), payload.encode_to_vec(), &WA_CONN_HEADER)?;
        let hello = encode_frame(&noise.build_client_hello()?, Some(&WA_CONN_HEADER))?;
        socket.send(Message::binary(hello)).await?;
        let mut frames = FrameDecoder::new();
        let reply = frame(&mut socket, &mut frames).await?;
        let finish = noise.read_server_hello_and_build_client_finish(&reply)?;
        socket
            .send(Message::binary(encode_frame(&finish, None)?))
            .await?;
        let done = noise.finish()?;
        Ok(Self {
            socket,
            frames,
            read: done.read_cipher,
            write: done.write_cipher,
            received: 0,
            sent: 0,
            ids: 0,
        })
    }

    /// Logs in as a device.
    pub async fn login(server: &Server, keys: &Keys, phone: &str, device: u32) -> Result<Self> {
        let payload = ClientPayload {
            username: Some(phone.parse()?),
            device: Some(device),
            passive: Some(true),
            ..Default::default()
        };
        Self::connect(server, keys, payload).await
    }

    /// Links a new device to the account of a phone number, and logs in.
    pub async fn link(server: &Server, phone: &str) -> Result<(Self, Arc<Keys>)> {
        let keys = Keys::new();
        let mut raw = Self::connect(server, &keys, keys.registration()?).await?;
        let asked = raw.next_tag("iq").await?;
        let device = asked.get_optional_child("pair-device").context("QRs")?;
        let first = device.get_optional_child("ref").context("a QR")?;
        let reference = first.content_as_string().map(String::from);
        let reference = reference
            .or_else(|| String::from_utf8(bytes(first).to_vec()).ok())
            .context("a text")?;
        let text = |pair: &KeyPair| STANDARD.encode(pair.public_key.public_key_bytes());
        let qr = [
            reference,
            text(&keys.noise),
            text(&keys.identity),
            STANDARD.encode(keys.secret),
            "1".to_owned(),
        ]
        .join(",");
        let account = server.core().scan_qr(&qr, Some(phone))?;
        let success = raw.next_tag("iq").await?;
        let id = attr(&success, "id");
        let success = success
            .get_optional_child("pair-success")
            .context("success")?;
        let container = success
            .get_optional_child("device-identity")
            .context("identity")?;
        let state = DeviceState {
            identity_key: keys.identity.clone(),
            noise_key: keys.noise.clone(),
            adv_secret_key: keys.secret,
        };
        let (signed, index) = PairUtils::do_pair_crypto(&state, bytes(container))
            .map_err(|error| anyhow::anyhow!(error.text))?;
        raw.send(&PairUtils::build_pair_success_response(&id, signed, index))
            .await?;
        let error = raw.next_tag("stream:error").await?;
        ensure!(attr(&error, "code") == "515", "{error:?}");
        let device = account.devices.len() as u32 + 1;
        let mut raw = Self::login(server, &keys, phone, device).await?;
        raw.next_tag("success").await?;
        Ok((raw, keys))
    }

    /// A node as it goes over the wire, before encryption.
    pub fn plain(node: &Node) -> Result<Vec<u8>> {
        Ok(wacore_binary::marshal(node)?)
    }

    /// The frame of plain bytes.
    pub fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>> {
        let sealed = self.write.encrypt_with_counter(self.sent, plain)?;
        self.sent += 1;
        encode_frame(&sealed, None)
    }

    pub async fn send_bytes(&mut self, bytes: Vec<u8>) -> Result<()> {
        Ok(self.socket.send(Message::binary(bytes)).await?)
    }

    pub async fn send(&mut self, node: &Node) -> Result<()> {
        let frame = self.seal(&Self::plain(node)?)?;
        self.send_bytes(frame).await
    }

    /// The next stanza.
    pub async fn next(&mut self) -> Result<Node> {
        let mut sealed = frame(&mut self.socket, &mut self.frames).await?.to_vec();
        self.read
            .decrypt_in_place_with_counter(self.received, &mut sealed)?;
        self.received += 1;
        let plain = wacore_binary::util::unpack(&sealed)?.into_owned();
        Ok(OwnedNodeRef::new(Bytes::from(plain))?.to_owned_node())
    }

    /// The next stanza of a tag; others are passed over.
    pub async fn next_tag(&mut self, tag: &str) -> Result<Node> {
        let mut passed = Vec::new();
        loop {
            match self.next().await {
                Ok(node) if node.tag == tag => return Ok(node),
                Ok(node) => passed.push(node.tag),
                Err(error) => bail!("no {tag} but {passed:?}: {error}"),
            }
        }
    }

    /// Asks and waits for the answer.
    pub async fn ask(&mut self, kind: &str, xmlns: &str, to: &str, content: Node) -> Result<Node> {
        self.ids += 1;
        let id = format!("ask-{}", self.ids);
        let iq = NodeBuilder::new("iq")
            .attr("id", id.as_str())
            .attr("type", kind)
            .attr("xmlns", xmlns)
            .attr("to", to)
            .children([content])
            .build();
        self.send(&iq).await?;
        loop {
            let answer = self.next_tag("iq").await?;
            if attr(&answer, "id") == id {
                return Ok(answer);
            }
        }
    }

    /// Says that it wants its offline queue.
    pub async fn activate(&mut self) -> Result<()> {
        let active = NodeBuilder::new("active").build();
        self.ask("set", "passive", "s.whatsapp.net", active).await?;
        Ok(())
    }

    /// Waits for the server to end the connection.
    pub async fn closed(&mut self) -> Result<()> {
        while self.next().await.is_ok() {}
        Ok(())
    }
}

async fn frame(socket: &mut Socket, frames: &mut FrameDecoder) -> Result<Bytes> {
    loop {
        if let Some(frame) = frames.decode_frame() {
            return Ok(frame.freeze());
        }
        let next = tokio::time::timeout(PATIENCE, socket.next()).await;
        let message = next
            .context("nothing came")?
            .context("the connection ended")??;
        if message.is_close() {
            bail!("the connection was closed");
        }
        frames.feed(message.as_payload());
    }
}

/// An attribute, empty when absent.
pub fn attr(node: &Node, key: &str) -> String {
    node.attrs
        .get(key)
        .map(|value| value.as_str().into_owned())
        .unwrap_or_default()
}

/// The bytes of a node.
pub fn bytes(node: &Node) -> &[u8] {
    match &node.content {
        Some(NodeContent::Bytes(bytes)) => bytes,
        Some(NodeContent::String(text)) => text.as_bytes(),
        _ => &[],
    }
}
