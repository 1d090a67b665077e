//! Tells an operator's word about a quota from one that the store has made up: machines of a cluster have a secret that
//! the store does not know.

use aws_lc_rs::hmac;

/// Makes the tags of operators' words.
pub(in crate::policy::limit) struct Seal(hmac::Key);

impl Seal {
    /// `secret`: that of the cluster.
    pub(in crate::policy::limit) fn new(secret: &[u8]) -> Self {
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"gateway cluster: words about quotas");
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }

    /// The tag of the word of this number about a count. Without a word there is none: 0.
    pub(super) fn tag(&self, name: &str, generation: u64) -> u64 {
        if generation == 0 {
            return 0;
        }
        let tag = hmac::sign(&self.0, &[&generation.to_le_bytes(), name.as_bytes()].concat());
        tag.as_ref().first_chunk().map_or(1, |bytes| u64::from_le_bytes(*bytes)).max(1)
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Seal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_of_one_word_about_one_count() {
        let [seal, other] = [&b"a"[..], b"b"].map(Seal::new);
        let tag = seal.tag("q:1:2", 7);
        assert_eq!((tag, seal.tag("q:1:2", 0)), (Seal::new(b"a").tag("q:1:2", 7), 0));
        for wrong in [seal.tag("q:1:3", 7), seal.tag("q:1:2", 8), other.tag("q:1:2", 7)] {
            assert_ne!(wrong, tag);
        }
    }
}
