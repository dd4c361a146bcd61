//! Linking by a QR that the client shows and the phone scans.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::PairError;
use crate::{account::AccountInfo, core::Core, sync::lock};

struct Scanned {
    reference: String,
    noise: [u8; 32],
    identity: [u8; 32],
    secret: Vec<u8>,
}

/// `ref,noise,identity,secret[,platform]`, with or without a link before it.
fn read_qr(text: &str) -> Option<Scanned> {
    let text = text.trim();
    let text = text.rsplit_once('#').map_or(text, |(_, body)| body);
    let mut fields = text.split(',');
    let reference = fields.next()?.to_owned();
    let mut key = || STANDARD.decode(fields.next()?).ok();
    let (noise, identity, secret) = (key()?, key()?, key()?);
    Some(Scanned {
        reference,
        noise: noise.try_into().ok()?,
        identity: identity.try_into().ok()?,
        secret: (secret.len() == 32).then_some(secret)?,
    })
}

impl Core {
    /// Plays the phone that scans a QR. Without `phone` it is the account that goes by the push name in the
    /// client's registration, else a new one. The client is linked a moment later.
    ///
    /// # Errors
    /// The QR is not one that a client shows now, or there is no room.
    pub fn scan_qr(&self, qr: &str, phone: Option<&str>) -> Result<AccountInfo, PairError> {
        let scanned = read_qr(qr).ok_or(PairError::NotAQr)?;
        let (pairing, index) = lock(&self.pairings.0)
            .by_ref
            .get(&scanned.reference)
            .cloned()
            .ok_or(PairError::UnknownQr)?;
        let options = &self.options;
        let until = options.qr_first_ttl + options.qr_ttl * index + options.qr_grace;
        if pairing.opened.elapsed() > until {
            return Err(PairError::ExpiredQr);
        }
        if scanned.noise != pairing.noise || scanned.identity != pairing.identity {
            return Err(PairError::NotAQr);
        }
        let account = pairing.account(self, phone)?;
        pairing.offer(self, &account, &scanned.secret)?;
        Ok(account.info())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qr_texts_with_and_without_a_link() {
        let key = STANDARD.encode([7; 32]);
        for text in [
            format!("2@ref,{key},{key},{key},1"),
            format!("2@ref,{key},{key},{key}"),
            format!("https://wa.me/settings/linked_devices#2@ref,{key},{key},{key},9\n"),
        ] {
            let scanned = read_qr(&text).unwrap();
            assert_eq!(scanned.reference, "2@ref");
            assert_eq!(scanned.secret, [7; 32]);
        }
        for text in [
            "",
            "2@ref",
            "2@ref,a,b,c",
            &format!("2@ref,{key},{key},AAAA"),
        ] {
            assert!(read_qr(text).is_none(), "{text}");
        }
    }
}
