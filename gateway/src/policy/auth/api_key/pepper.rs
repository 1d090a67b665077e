//! What API keys are hashed with, and their hashes.

use std::fmt;

use aws_lc_rs::{
    digest::{SHA256, digest},
    hmac,
};

/// The hash of a key, as it is stored.
pub type Tag = [u8; 32];

/// What keys are hashed with, besides themselves.
#[derive(Clone)]
pub struct Pepper(hmac::Key);

impl Pepper {
    /// Of these bytes, at least [`Self::SHORTEST`].
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// A shorter one could be guessed by whoever has the store and one key.
    pub const SHORTEST: usize = 16;

    /// The hash of the key whose text has this SHA-256.
    #[must_use]
    pub fn tag(&self, sha256: &Tag) -> Tag {
        tag_of(hmac::sign(&self.0, sha256).as_ref())
    }

    /// Tells this pepper from others, and says nothing else of it.
    #[must_use]
    pub fn check(&self) -> Tag {
        tag_of(hmac::sign(&self.0, b"which pepper this is").as_ref())
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Pepper")
    }
}

/// The SHA-256 of a text.
#[must_use]
pub fn sha256(text: &[u8]) -> Tag {
    tag_of(digest(&SHA256, text).as_ref())
}

fn tag_of(bytes: &[u8]) -> Tag {
    let mut tag = [0; 32];
    tag.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    tag
}
