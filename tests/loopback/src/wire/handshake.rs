//! The responder's side of the Noise handshake: XX, IK, and XXfallback when an IK hello was made for a static key
//! that is no more.

use buffa::{Message, MessageField};
use rand::rngs::StdRng;
use wacore_binary::consts::{NOISE_PATTERN_IK, NOISE_PATTERN_XX, NOISE_PATTERN_XXFALLBACK};
use wacore_libsignal::protocol::{KeyPair, PrivateKey};
use wacore_noise::{HandshakeError, NoiseCipher, NoiseHandshake};
use waproto::whatsapp::{
    ClientPayload, HandshakeMessage,
    handshake_message::{ClientHello, ServerHello},
};

use super::{
    cert::{StaticKey, raw},
    frames::Intro,
};

/// Why a handshake failed.
#[derive(Debug)]
pub struct Failed(pub &'static str);

impl From<HandshakeError> for Failed {
    fn from(_: HandshakeError) -> Self {
        Self("cryptography")
    }
}

impl From<buffa::DecodeError> for Failed {
    fn from(_: buffa::DecodeError) -> Self {
        Self("not a handshake message")
    }
}

/// A finished handshake.
pub struct Session {
    /// Decrypts what the client sends.
    pub read: NoiseCipher,
    /// Encrypts what the client gets.
    pub write: NoiseCipher,
    /// The client's static key.
    pub client: [u8; 32],
    /// What it wants.
    pub payload: ClientPayload,
    /// Which handshake it was.
    pub pattern: Pattern,
}

/// The handshake patterns that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// The client did not know the server's key.
    Xx,
    /// The client knew it.
    Ik,
    /// The client thought it knew it.
    XxFallback,
}

/// What a client's hello leads to. The bytes are the reply to send.
pub enum Answer {
    /// It is done (IK).
    Done(Vec<u8>, Box<Session>),
    /// The client's finish has to come (XX).
    Wait(Vec<u8>, Box<Waiting>),
}

/// A handshake that waits for the client's finish.
pub struct Waiting {
    noise: NoiseHandshake,
    ephemeral: PrivateKey,
    pattern: Pattern,
}

fn key(bytes: Option<Vec<u8>>) -> Result<[u8; 32], Failed> {
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(Failed("a key is missing"))
}

/// Answers a client's hello.
///
/// # Errors
/// It is not one.
pub fn answer(own: &StaticKey, prologue: Intro, frame: &[u8]) -> Result<Answer, Failed> {
    let hello = HandshakeMessage::decode_from_slice(frame)?
        .client_hello
        .into_option()
        .ok_or(Failed("no hello"))?;
    let ClientHello {
        ephemeral,
        r#static,
        payload,
        ..
    } = hello;
    let theirs = key(ephemeral)?;
    let ours = KeyPair::generate(&mut rand::make_rng::<StdRng>());
    match (r#static, payload) {
        (Some(client), Some(payload)) => match read_ik(own, prologue, &theirs, &client, &payload) {
            Ok(opened) => reply_ik(own, opened, &theirs, &ours),
            Err(_) => reply_xx(own, prologue, Pattern::XxFallback, &theirs, ours),
        },
        _ => reply_xx(own, prologue, Pattern::Xx, &theirs, ours),
    }
}

struct OpenedIk {
    noise: NoiseHandshake,
    client: [u8; 32],
    payload: Vec<u8>,
}

fn read_ik(
    own: &StaticKey,
    prologue: Intro,
    theirs: &[u8; 32],
    client: &[u8],
    payload: &[u8],
) -> Result<OpenedIk, Failed> {
    let secret = own.pair.private_key.serialize();
    let mut noise = NoiseHandshake::new(NOISE_PATTERN_IK, &prologue)?;
    noise.authenticate(&raw(&own.pair));
    noise.authenticate(theirs);
    noise.mix_shared_secret(secret, theirs)?;
    let client = key(Some(noise.decrypt(client)?))?;
    noise.mix_shared_secret(secret, &client)?;
    let payload = noise.decrypt(payload)?;
    Ok(OpenedIk {
        noise,
        client,
        payload,
    })
}

fn reply_ik(
    own: &StaticKey,
    opened: OpenedIk,
    theirs: &[u8; 32],
    ours: &KeyPair,
) -> Result<Answer, Failed> {
    let OpenedIk {
        mut noise,
        client,
        payload,
    } = opened;
    let secret = ours.private_key.serialize();
    noise.authenticate(&raw(ours));
    noise.mix_shared_secret(secret, theirs)?;
    noise.mix_shared_secret(secret, &client)?;
    let chain = noise.encrypt(&own.chain)?;
    let session = session(noise, client, &payload, Pattern::Ik)?;
    Ok(Answer::Done(
        server_hello(ours, None, chain),
        Box::new(session),
    ))
}

fn reply_xx(
    own: &StaticKey,
    prologue: Intro,
    pattern: Pattern,
    theirs: &[u8; 32],
    ours: KeyPair,
) -> Result<Answer, Failed> {
    let name = match pattern {
        Pattern::XxFallback => NOISE_PATTERN_XXFALLBACK,
        Pattern::Xx | Pattern::Ik => NOISE_PATTERN_XX,
    };
    let mut noise = NoiseHandshake::new(name, &prologue)?;
    noise.authenticate(theirs);
    noise.authenticate(&raw(&ours));
    noise.mix_shared_secret(ours.private_key.serialize(), theirs)?;
    let own_static = noise.encrypt(&raw(&own.pair))?;
    noise.mix_shared_secret(own.pair.private_key.serialize(), theirs)?;
    let chain = noise.encrypt(&own.chain)?;
    let reply = server_hello(&ours, Some(own_static), chain);
    Ok(Answer::Wait(
        reply,
        Box::new(Waiting {
            noise,
            ephemeral: ours.private_key,
            pattern,
        }),
    ))
}

fn server_hello(ours: &KeyPair, r#static: Option<Vec<u8>>, chain: Vec<u8>) -> Vec<u8> {
    HandshakeMessage {
        server_hello: MessageField::some(ServerHello {
            ephemeral: Some(raw(ours).to_vec()),
            r#static,
            payload: Some(chain),
            ..Default::default()
        }),
        ..Default::default()
    }
    .encode_to_vec()
}

impl Waiting {
    /// Takes the client's finish.
    ///
    /// # Errors
    /// It is not one, or does not belong to this handshake.
    pub fn finish(self, frame: &[u8]) -> Result<Session, Failed> {
        let Self {
            mut noise,
            ephemeral,
            pattern,
        } = self;
        let finish = HandshakeMessage::decode_from_slice(frame)?
            .client_finish
            .into_option()
            .ok_or(Failed("no finish"))?;
        let sealed = finish.r#static.ok_or(Failed("no static key"))?;
        let client = key(Some(noise.decrypt(&sealed)?))?;
        noise.mix_shared_secret(ephemeral.serialize(), &client)?;
        let payload = noise.decrypt(&finish.payload.ok_or(Failed("no payload"))?)?;
        session(noise, client, &payload, pattern)
    }
}

fn session(
    noise: NoiseHandshake,
    client: [u8; 32],
    payload: &[u8],
    pattern: Pattern,
) -> Result<Session, Failed> {
    // `finish` names the ciphers as the initiator sees them.
    let (read, write) = noise.finish()?;
    Ok(Session {
        read,
        write,
        client,
        payload: ClientPayload::decode_from_slice(payload)?,
        pattern,
    })
}
