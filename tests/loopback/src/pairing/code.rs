//! Linking by a code that the client shows and that is typed on the phone.
//!
//! The code is never sent: it wraps the ephemeral keys of both sides, and a wrong one shows when the client's key
//! bundle does not open.

use std::{sync::Arc, time::Duration};

use rand::rngs::StdRng;
use tokio::sync::oneshot;
use wacore::{crypto::hkdf_sha256_into, pair_code::PairCodeUtils};
use wacore_binary::{Node, builder::NodeBuilder};
use wacore_libsignal::{
    crypto::aes_256_gcm_decrypt,
    protocol::{KeyPair, PublicKey},
};

use super::{PairError, Pairing, phone_of, reference};
use crate::{
    account::{Account, AccountInfo, is_phone},
    clock,
    core::Core,
    sync::lock,
    wire::{
        cert::raw,
        node::{self, attr, child_array, child_bytes},
    },
};

/// Salt, IV and wrapped key.
const WRAPPED: usize = 80;
/// Salt, IV, three keys and the tag.
const BUNDLE: usize = 32 + 12 + 96 + 16;
/// How long the client may take to answer the phone.
const PATIENCE: Duration = Duration::from_secs(15);

/// A code that a client shows.
pub struct Code {
    phone: String,
    wrapped: [u8; WRAPPED],
    reference: String,
    entered: Option<Entered>,
}

struct Entered {
    account: Arc<Account>,
    ephemeral: KeyPair,
    companion: [u8; 32],
    answer: oneshot::Sender<Result<AccountInfo, PairError>>,
}

impl Core {
    /// Plays the phone on which a pair code is typed.
    ///
    /// # Errors
    /// No client waits for a code of this number, or it shows another one.
    pub async fn enter_code(
        self: &Arc<Self>,
        phone: &str,
        code: &str,
    ) -> Result<AccountInfo, PairError> {
        let phone = phone.trim_start_matches('+').to_owned();
        if !is_phone(&phone) {
            return Err(PairError::BadPhone);
        }
        // Clients show it in two groups.
        let code = code.trim().replace(['-', ' '], "");
        let pairing = lock(&self.pairings.0)
            .by_phone
            .get(&phone)
            .cloned()
            .ok_or(PairError::NoCodeWanted)?;
        let account = pairing.account(self, Some(&phone))?;
        let wrapped = lock(&pairing.stage)
            .code
            .as_ref()
            .map(|code| code.wrapped)
            .ok_or(PairError::NoCodeWanted)?;
        let ephemeral = KeyPair::generate(&mut rand::make_rng::<StdRng>());
        let own = raw(&ephemeral);
        // Stretching a code takes a tenth of a second.
        let (companion, sealed) = tokio::task::spawn_blocking(move || {
            let companion = PairCodeUtils::decrypt_primary_ephemeral_pub(&wrapped, &code);
            (companion, PairCodeUtils::encrypt_ephemeral_pub(&own, &code))
        })
        .await
        .map_err(|_| PairError::Gone)?;
        let companion = companion.map_err(|_| PairError::WrongCode)?;
        let (answer, answered) = oneshot::channel();
        let notification = {
            let mut stage = lock(&pairing.stage);
            let shown = stage.code.as_mut().ok_or(PairError::NoCodeWanted)?;
            shown.entered = Some(Entered {
                account: account.clone(),
                ephemeral,
                companion,
                answer,
            });
            primary_hello(self, &account, &sealed, &shown.reference)
        };
        pairing.outbox.push(node::encode(&notification));
        tokio::time::timeout(PATIENCE, answered)
            .await
            .map_err(|_| PairError::Gone)?
            .map_err(|_| PairError::Gone)?
    }
}

fn primary_hello(core: &Core, account: &Account, sealed: &[u8], reference: &str) -> Node {
    let leaf = |tag, content: &[u8]| NodeBuilder::new(tag).bytes(content).build();
    let hello = NodeBuilder::new("link_code_companion_reg")
        .attr("stage", "primary_hello")
        .children([
            leaf("link_code_pairing_wrapped_primary_ephemeral_pub", sealed),
            leaf("primary_identity_pub", &raw(&account.identity)),
            leaf("link_code_pairing_ref", reference.as_bytes()),
        ])
        .build();
    NodeBuilder::new("notification")
        .attr("from", node::server())
        .attr("type", "link_code_companion_reg")
        .attr("id", core.stanza_id())
        .attr("t", clock::unix())
        .children([hello])
        .build()
}

impl Pairing {
    /// Handles a stage of linking by code; answers the iq.
    pub(super) fn code(self: &Arc<Self>, core: &Arc<Core>, iq: &Node, reg: &Node) -> Node {
        match attr(reg, "stage").as_deref() {
            Some("companion_hello") => self.companion_hello(core, iq, reg),
            Some("companion_finish") => self.companion_finish(core, iq, reg),
            // Asks for the country that the number is of.
            Some("get_country_code") => {
                let country = NodeBuilder::new("country_code").attr("iso", "US").build();
                node::result(iq).children([country]).build()
            }
            _ => node::result(iq).build(),
        }
    }

    fn companion_hello(self: &Arc<Self>, core: &Core, iq: &Node, reg: &Node) -> Node {
        let wrapped = child_array(reg, "link_code_pairing_wrapped_companion_ephemeral_pub");
        let key: Option<[u8; 32]> = child_array(reg, "companion_server_auth_key_pub");
        let (Some(phone), Some(wrapped), Some(_)) = (
            phone_of(reg, "jid"),
            wrapped,
            key.filter(|key| *key == self.noise),
        ) else {
            return node::error(iq, 400, "bad-request");
        };
        let reference = reference();
        lock(&self.stage).code = Some(Code {
            phone: phone.clone(),
            wrapped,
            reference: reference.clone(),
            entered: None,
        });
        lock(&core.pairings.0).by_phone.insert(phone, self.clone());
        let reference = NodeBuilder::new("link_code_pairing_ref")
            .bytes(reference.as_bytes())
            .build();
        let reg = NodeBuilder::new("link_code_companion_reg")
            .attr("stage", "companion_hello")
            .children([reference])
            .build();
        node::result(iq).children([reg]).build()
    }

    fn companion_finish(&self, core: &Core, iq: &Node, reg: &Node) -> Node {
        let finished = {
            let mut stage = lock(&self.stage);
            let reference = child_bytes(reg, "link_code_pairing_ref");
            stage
                .code
                .as_mut()
                .filter(|code| reference == Some(code.reference.as_bytes()))
                .and_then(|code| Some((code.phone.clone(), code.entered.take()?)))
        };
        let Some((phone, entered)) = finished else {
            return node::error(iq, 404, "item-not-found");
        };
        let bundle = child_array::<BUNDLE>(reg, "link_code_pairing_wrapped_key_bundle");
        let identity = child_array::<32>(reg, "companion_identity_public");
        let secret = match (bundle, identity) {
            (Some(bundle), Some(identity)) if identity == self.identity => {
                adv_secret(&entered, &bundle, &identity)
            }
            _ => None,
        };
        let outcome = match secret {
            Some(secret) => self.offer(core, &entered.account, &secret),
            None => Err(PairError::WrongCode),
        };
        // A phone that cannot open the bundle says so to its own user only; the client hears nothing of it.
        if outcome.is_ok() {
            lock(&core.pairings.0).by_phone.remove(&phone);
        }
        // Who typed the code may have given up.
        let _ = entered
            .answer
            .send(outcome.map(|()| entered.account.info()));
        node::result(iq).build()
    }
}

/// The secret that both sides derive, if the bundle opens and names the right keys.
fn adv_secret(entered: &Entered, bundle: &[u8; BUNDLE], companion: &[u8; 32]) -> Option<[u8; 32]> {
    let agree = |pair: &KeyPair, key: &[u8]| {
        let key = PublicKey::from_djb_public_key_bytes(key).ok()?;
        pair.private_key.calculate_agreement(&key).ok()
    };
    let ephemeral = agree(&entered.ephemeral, &entered.companion)?;
    let (salt, rest) = bundle.split_at(32);
    let (iv, sealed) = rest.split_at(12);
    let mut key = [0; 32];
    let info = b"link_code_pairing_key_bundle_encryption_key";
    hkdf_sha256_into(&ephemeral, Some(salt), info, &mut key).ok()?;
    let mut plain = Vec::new();
    aes_256_gcm_decrypt(&key, iv.try_into().ok()?, b"", sealed, &mut plain).ok()?;
    let (theirs, rest) = plain.split_at_checked(32)?;
    let (ours, random) = rest.split_at_checked(32)?;
    if theirs != companion || ours != raw(&entered.account.identity) {
        return None;
    }
    let identities = agree(&entered.account.identity, companion)?;
    let material = [&ephemeral[..], &identities, random].concat();
    let mut secret = [0; 32];
    hkdf_sha256_into(&material, None, b"adv_secret", &mut secret).ok()?;
    Some(secret)
}
