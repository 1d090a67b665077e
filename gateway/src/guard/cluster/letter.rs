//! The form in which facts travel: encrypted to the cluster, signed by the machine that says them, numbered.
//!
//! *Invariant:* nothing of a letter is looked at but its sender before the signature is found good, and the signature
//! covers all of it. Letters are bounded in size, and so is what is in them.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    hmac,
    signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize};

use super::fact::ClusterFact;
use crate::{message::cluster::LONGEST_LETTER, settings::cluster::KEY_BYTES};

/// The largest letter, in bytes: a message between processes has room for it.
const MOST_BYTES: usize = LONGEST_LETTER;

/// The most facts of one letter.
pub(crate) const MOST_FACTS: usize = 64;

/// The most letters of one whole.
pub(crate) const MOST_PARTS: u16 = 320;

/// What is signed begins so: a signature for something else is none for a letter.
const CONTEXT: &[u8] = b"gateway cluster: letter 1";

const SIGNATURE: usize = 64;
const NONCE: usize = 12;

/// Who says it, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LetterHead {
    /// The machine's name.
    pub(super) node: String,
    /// When its guard began to number letters: each start has a larger one.
    pub(super) epoch: u64,
    /// The number of the last change that this is about.
    pub(super) number: u64,
    /// When it was written: milliseconds since the Unix epoch.
    pub(super) at: u64,
    /// Which part of so many it is of all that its guard has to say; `None`: a change.
    pub(super) part: Option<(u16, u16)>,
}

/// Why a letter is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LetterError {
    /// It is from no machine of this cluster.
    Foreign,
    /// Its machine has not signed it.
    Forged,
    /// It is no letter, or cut off, or too large.
    Malformed,
    /// It, or something later, was heard already.
    Old,
    /// It is this machine's own.
    Own,
    /// It was written too long ago, or in the future.
    Stale,
    /// Something before it was not heard: it is made up for by the next whole.
    Untimely,
}

impl LetterError {
    /// As metrics and the log have it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Forged => "forged",
            Self::Malformed => "malformed",
            Self::Old => "old",
            Self::Own => "own",
            Self::Stale => "stale",
            Self::Untimely => "untimely",
        }
    }
}

/// Writes a letter; `None`: the machine has no randomness, or it is too large.
pub(super) fn write(head: &LetterHead, facts: &[ClusterFact], secret: &[u8], pair: &Ed25519KeyPair) -> Option<Vec<u8>> {
    let head_bytes = postcard::to_stdvec(head).ok()?;
    let mut letter = u16::try_from(head_bytes.len()).ok()?.to_le_bytes().to_vec();
    letter.extend_from_slice(&head_bytes);
    let mut sealed = postcard::to_stdvec(facts).ok()?;
    let nonce = key(secret, head)?.seal_in_place_append_tag(Aad::from(&head_bytes), &mut sealed).ok()?;
    letter.extend_from_slice(nonce.as_ref());
    letter.extend_from_slice(&sealed);
    let signature = pair.sign(&[CONTEXT, &letter].concat());
    letter.extend_from_slice(signature.as_ref());
    (letter.len() <= MOST_BYTES).then_some(letter)
}

/// Reads a letter. `public` knows the key of a machine.
pub(super) fn read(
    letter: &[u8],
    secret: &[u8],
    public: impl Fn(&str) -> Option<[u8; KEY_BYTES]>,
) -> Result<(LetterHead, Vec<ClusterFact>), LetterError> {
    if letter.len() > MOST_BYTES {
        return Err(LetterError::Malformed);
    }
    let (signed, signature) = letter
        .len()
        .checked_sub(SIGNATURE)
        .and_then(|length| letter.split_at_checked(length))
        .ok_or(LetterError::Malformed)?;
    let (length, rest) = signed.split_first_chunk::<2>().ok_or(LetterError::Malformed)?;
    let (head_bytes, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into()).ok_or(LetterError::Malformed)?;
    let head: LetterHead = postcard::from_bytes(head_bytes).map_err(|_malformed| LetterError::Malformed)?;
    let public = public(&head.node).ok_or(LetterError::Foreign)?;
    UnparsedPublicKey::new(&ED25519, public)
        .verify(&[CONTEXT, signed].concat(), signature)
        .map_err(|_forged| LetterError::Forged)?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or(LetterError::Malformed)?;
    let mut opened = sealed.to_vec();
    let key = key(secret, &head).ok_or(LetterError::Malformed)?;
    // Another secret than this machine's: its machine is of another cluster.
    let opened = key
        .open_in_place(Nonce::from(nonce), Aad::from(head_bytes), &mut opened)
        .map_err(|_unspecified| LetterError::Foreign)?;
    let facts: Vec<ClusterFact> = postcard::from_bytes(opened).map_err(|_malformed| LetterError::Malformed)?;
    let fits = facts.len() <= MOST_FACTS && facts.iter().all(ClusterFact::fits);
    if fits { Ok((head, facts)) } else { Err(LetterError::Malformed) }
}

/// By which key a machine encrypts, from one start to the next.
fn key(secret: &[u8], head: &LetterHead) -> Option<RandomizedNonceKey> {
    let base = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let text = [b"gateway cluster: letters ", &head.epoch.to_le_bytes()[..], head.node.as_bytes()].concat();
    RandomizedNonceKey::new(&AES_256_GCM, hmac::sign(&base, &text).as_ref()).ok()
}
