//! What the proxy knows of credentials besides its configuration: which API keys there are, and what is revoked. The guard
//! hands it over while the proxy serves; all workers and all configurations share it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::{
    api_key::{
        record::KeyRecord,
        table::{KeyTable, LoadedKeys, TableState},
        text::KeyId,
    },
    identity::Identity,
    revocation::{RevocationChange, Revocations, Revoked},
};
use crate::{
    refusal::{Refusal, Reject},
    settings::revocation::Unavailable,
};

/// The tables.
#[derive(Debug, Default)]
pub struct CredentialTables {
    /// The API keys that there are.
    pub keys: KeyTable,
    /// What is revoked.
    pub revocations: Revocations,
    /// It is not known what other machines have revoked, and tokens and keys are to be refused for that.
    is_stale: AtomicBool,
    /// All that is revoked on this machine was there once, and every change since.
    is_known: AtomicBool,
    /// How many identities were admitted while it was not known.
    unchecked: AtomicU64,
}

impl CredentialTables {
    /// Whether it is known from now on what other machines have revoked.
    pub fn set_stale(&self, is_stale: bool) {
        self.is_stale.store(is_stale, Ordering::Relaxed);
    }

    /// Whether all that is revoked on this machine was there once, and every change since.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    /// An identity that was proved just now.
    ///
    /// # Errors
    /// What it rests on may have been revoked, on this machine or on another one.
    pub fn admit(&self, identity: Arc<Identity>, unavailable: Unavailable) -> Result<Arc<Identity>, Refusal> {
        let (is_stale, is_known) = (self.is_stale.load(Ordering::Relaxed), self.is_known());
        if !is_stale && is_known || identity.rests_on().next().is_none() {
            return Ok(identity);
        }
        // Fails closed, where the operator has asked for it.
        if is_stale {
            return Err(Refusal::new(Reject::Unavailable, "it is not known what other machines have revoked"));
        }
        // Fails closed, unless the operator has asked for something else.
        if unavailable == Unavailable::Refuse {
            return Err(Refusal::new(Reject::Unavailable, "it is not known what is revoked"));
        }
        self.unchecked.fetch_add(1, Ordering::Relaxed);
        Ok(identity)
    }

    /// How many identities were admitted since the last call while it was not known what is revoked.
    pub fn take_unchecked(&self) -> u64 {
        self.unchecked.swap(0, Ordering::Relaxed)
    }

    /// How often anything has changed that an identity may rest on: see [`Revocations::epoch`].
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.revocations.epoch()
    }

    /// Whether an identity rests on something that has been revoked since it was proved. `now` is in seconds since the Unix
    /// epoch.
    #[must_use]
    pub fn is_revoked(&self, identity: &Identity, now: u64) -> bool {
        identity.rests_on().any(|what| self.revocations.revokes(what)) || self.has_lost_a_key(identity, now)
    }

    /// Whether an identity rests on an API key that may not be used any more. A key that was replaced ends without any
    /// change: [`Self::take_ended`] says when.
    #[must_use]
    pub fn has_lost_a_key(&self, identity: &Identity, now: u64) -> bool {
        let mut keys = identity.rests_on().filter_map(|what| what.key);
        keys.any(|key| self.keys.is_revoked(KeyId(key), identity.expires(), now))
    }

    /// Whether API keys have ended, by `now` in seconds since the Unix epoch, that others took the place of: what rests on
    /// them ends as on a revocation.
    #[must_use]
    pub fn take_ended(&self, now: u64) -> bool {
        let has_ended = self.keys.take_ended(now);
        if has_ended {
            self.revocations.touch();
        }
        has_ended
    }

    /// There are these keys from now on, and not those; revocations have changed, in this order.
    pub fn change(&self, keys: Vec<KeyRecord>, gone: &[u64], revocations: Vec<RevocationChange>) {
        if !keys.is_empty() || !gone.is_empty() {
            self.keys.change(keys, gone);
        }
        // Last: whoever sees the new epoch finds the keys as they are now.
        self.revocations.change(revocations);
    }

    /// There are these keys and revocations from now on, and no others.
    pub fn replace(&self, keys: LoadedKeys, revoked: Vec<Revoked>) {
        self.keys.replace(keys);
        self.revocations.replace(revoked);
    }

    /// What was put in place is all that is revoked on this machine.
    pub fn set_known(&self) {
        self.is_known.store(true, Ordering::Relaxed);
    }

    /// From now on it is known which keys there are, or it is not.
    pub fn set_state(&self, state: TableState) {
        self.keys.set_state(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::auth::revocation::Revocable;

    #[test]
    fn while_revocations_are_not_known_what_may_be_revoked_is_refused() {
        let mut token = Identity::of("ada", &[]);
        token.rests_on = vec![Arc::new(Revocable { issuer: "i".into(), ..Revocable::default() })];
        let (token, certificate) = (Arc::new(token), Arc::new(Identity::of("eve", &[])));
        let tables = CredentialTables::default();
        let check = |is_stale, unavailable, expect: bool, unchecked| {
            tables.set_stale(is_stale);
            let admits = |identity: &Arc<Identity>| tables.admit(Arc::clone(identity), unavailable).is_ok();
            let found = (admits(&token), admits(&certificate), tables.take_unchecked());
            assert_eq!(found, (expect, true, unchecked), "{is_stale} {unavailable:?}");
        };
        // A proxy that was handed nothing yet, or a part.
        tables.change(Vec::new(), &[], vec![RevocationChange::Revoked(Revoked::Key(1))]);
        check(false, Unavailable::Refuse, false, 0);
        check(false, Unavailable::Serve, true, 1);
        check(true, Unavailable::Serve, false, 0);
        tables.replace(LoadedKeys::default(), Vec::new());
        check(false, Unavailable::Refuse, false, 0);
        tables.set_known();
        for unavailable in [Unavailable::Refuse, Unavailable::Serve] {
            for is_stale in [false, true] {
                check(is_stale, unavailable, !is_stale, 0);
            }
        }
    }
}
