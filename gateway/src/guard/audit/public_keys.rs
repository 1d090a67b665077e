//! The public keys of a chain: which of them are believed, and how one takes the place of another.

use std::{fs, path::Path};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use data_encoding::{BASE64, HEXLOWER};

use crate::guard::state_files::PUBLIC;

/// What stands before an Ed25519 key in `SubjectPublicKeyInfo` (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Public halves of Ed25519 keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicKeys {
    known: Vec<Vec<u8>>,
    /// Those that another took the place of: what they sign after that is not believed.
    retired: Vec<Vec<u8>>,
}

impl PublicKeys {
    /// Reads those of a state folder.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn read(state_dir: &Path) -> Result<Self, String> {
        let text =
            fs::read_to_string(state_dir.join(PUBLIC)).map_err(|error| format!("{PUBLIC} cannot be read: {error}"))?;
        Self::parse(&text).map_err(|what| format!("{PUBLIC} {what}"))
    }

    /// Reads keys, one a line in hexadecimal, or in PEM.
    ///
    /// # Errors
    /// What is wrong, for people, after the name of where the text is from.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("-----")) {
            // PEM of an Ed25519 key has one line.
            let spki = BASE64.decode(line.as_bytes()).ok().and_then(|der| der.strip_prefix(&SPKI).map(<[u8]>::to_vec));
            let key = match spki {
                Some(key) => key,
                None => HEXLOWER.decode(line.as_bytes()).map_err(|error| format!("is not hexadecimal: {error}"))?,
            };
            if key.len() != 32 {
                return Err(format!("holds a key of {} bytes: one of Ed25519 has 32", key.len()));
            }
            keys.known.push(key);
        }
        if keys.known.is_empty() {
            return Err("is empty".to_owned());
        }
        Ok(keys)
    }

    /// Whether there is none.
    pub(super) const fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether this is one of them.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.known.iter().any(|known| known == key)
    }

    /// Adds one.
    pub(super) fn add(&mut self, key: Vec<u8>) {
        self.known.push(key);
    }

    /// All of them, a line each.
    pub(super) fn to_text(&self) -> String {
        self.known.iter().map(|key| HEXLOWER.encode(key) + "\n").collect()
    }

    /// All of them, in the order in which they were made.
    pub fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.known.iter().map(Vec::as_slice)
    }

    /// Which of them made this signature.
    pub fn signer(&self, text: &[u8], signature: &[u8]) -> Option<&[u8]> {
        let mut believed = self.known.iter().filter(|key| !self.retired.contains(key));
        believed.find(|key| is_signed(key, text, signature)).map(Vec::as_slice)
    }

    /// Believes `next` in the place of the key that made `signature`, if both have signed. Whether they have.
    pub(super) fn rotate(&mut self, next: &[u8], text: &[u8], signature: &[u8], next_signature: &[u8]) -> bool {
        let Some(old) = self.signer(text, signature).map(<[u8]>::to_vec) else { return false };
        if old == next || !is_signed(next, text, next_signature) {
            return false;
        }
        self.retired.push(old);
        self.retired.retain(|key| key != next);
        if !self.has(next) {
            self.add(next.to_vec());
        }
        true
    }
}

/// A key as `openssl pkeyutl -pubin -inkey` reads it.
#[must_use]
pub fn pem(key: &[u8]) -> String {
    let der = [SPKI.as_slice(), key].concat();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(&der))
}

fn is_signed(key: &[u8], text: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(text, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_both_forms_and_nothing_else() {
        let hex = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let key = HEXLOWER.decode(hex.as_bytes()).unwrap();
        for (text, expect) in [
            (hex.to_owned(), Ok(1)),
            (format!("{hex}\n{hex}\n\n"), Ok(2)),
            (pem(&key), Ok(1)),
            (format!("{}{hex}", pem(&key)), Ok(2)),
            (String::new(), Err("is empty")),
            ("zz".to_owned(), Err("is not hexadecimal")),
            (hex.to_uppercase(), Err("is not hexadecimal")),
            (hex[2..].to_owned(), Err("31 bytes")),
        ] {
            match (PublicKeys::parse(&text), expect) {
                (Ok(keys), Ok(many)) => assert!(keys.all().count() == many && keys.has(&key), "{text}"),
                (Err(what), Err(part)) => assert!(what.contains(part), "{text}: {what}"),
                (found, expect) => panic!("{text}: {found:?}, not {expect:?}"),
            }
        }
    }
}
