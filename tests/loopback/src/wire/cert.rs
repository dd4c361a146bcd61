//! The server's static Noise key and the certificate chain for it.
//!
//! The chain is really signed (root over intermediate, intermediate over leaf), since some clients let one set the
//! root key and then verify all of it.

use buffa::{Message, MessageField};
use rand::rngs::StdRng;
use wacore_libsignal::protocol::{CurveError, KeyPair};
use waproto::whatsapp::{
    CertChain, cert_chain::NoiseCertificate, cert_chain::noise_certificate::Details,
};

use crate::clock;

/// Serial of the root, which clients expect as issuer of the intermediate.
const ROOT_SERIAL: u32 = 0;
const INTERMEDIATE_SERIAL: u32 = 1;
const LEAF_SERIAL: u32 = 2;
const DAY: u64 = 86_400;

/// The key pair that signs the server's certificates.
pub struct Root(KeyPair);

/// A static Noise key with its certificate chain.
pub struct StaticKey {
    /// The key.
    pub pair: KeyPair,
    /// The encoded `CertChain`.
    pub chain: Vec<u8>,
}

impl Root {
    /// A new root.
    pub fn generate() -> Self {
        Self(KeyPair::generate(&mut rand::make_rng::<StdRng>()))
    }

    /// The public key that clients verify against.
    pub fn public(&self) -> [u8; 32] {
        raw(&self.0)
    }

    /// A new static key, certified for ten years around now.
    ///
    /// # Errors
    /// A signature could not be made.
    pub fn issue(&self) -> Result<StaticKey, CurveError> {
        let mut rng = rand::make_rng::<StdRng>();
        let intermediate = KeyPair::generate(&mut rng);
        let pair = KeyPair::generate(&mut rng);
        let chain = CertChain {
            intermediate: MessageField::some(certificate(
                INTERMEDIATE_SERIAL,
                ROOT_SERIAL,
                &intermediate,
                &self.0,
            )?),
            leaf: MessageField::some(certificate(
                LEAF_SERIAL,
                INTERMEDIATE_SERIAL,
                &pair,
                &intermediate,
            )?),
        };
        Ok(StaticKey {
            pair,
            chain: chain.encode_to_vec(),
        })
    }
}

fn certificate(
    serial: u32,
    issuer_serial: u32,
    subject: &KeyPair,
    issuer: &KeyPair,
) -> Result<NoiseCertificate, CurveError> {
    let now = clock::unix();
    let details = Details {
        serial: Some(serial),
        issuer_serial: Some(issuer_serial),
        key: Some(raw(subject).to_vec()),
        not_before: Some(now - DAY),
        not_after: Some(now + 3_650 * DAY),
    }
    .encode_to_vec();
    let signature = issuer.calculate_signature(&details, &mut rand::make_rng::<StdRng>())?;
    Ok(NoiseCertificate {
        details: Some(details),
        signature: Some(signature.to_vec()),
    })
}

/// The 32 bytes of a public key, without the type byte.
pub fn raw(pair: &KeyPair) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(pair.public_key.public_key_bytes());
    key
}

#[cfg(test)]
mod tests {
    use wacore_libsignal::protocol::PublicKey;

    use super::*;

    fn signed_by(key: &[u8], certificate: &NoiseCertificate) -> Details {
        let details = certificate.details.as_deref().unwrap();
        let signature = certificate.signature.as_deref().unwrap();
        let key = PublicKey::from_djb_public_key_bytes(key).unwrap();
        assert!(key.verify_signature(details, signature));
        Details::decode_from_slice(details).unwrap()
    }

    #[test]
    fn the_chain_leads_from_the_root_to_the_key() {
        let root = Root::generate();
        let own = root.issue().unwrap();
        let chain = CertChain::decode_from_slice(&own.chain).unwrap();
        let intermediate = chain.intermediate.as_option().unwrap();
        let intermediate = signed_by(&root.public(), intermediate);
        let leaf = signed_by(
            intermediate.key.as_deref().unwrap(),
            chain.leaf.as_option().unwrap(),
        );
        assert_eq!(intermediate.issuer_serial, Some(ROOT_SERIAL));
        assert_eq!(leaf.issuer_serial, intermediate.serial);
        assert_eq!(leaf.key.as_deref(), Some(&raw(&own.pair)[..]));
    }
}
