//! The keys of one issuer, which may be replaced while tokens are verified: by a fetch, or by a file that has changed.
//!
//! *Invariant:* a key that is gone vouches for nothing any more, remembered tokens included. Keys that were not confirmed
//! for too long vouch for nothing either.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::keys::{JwtKeys, KeyName};
use crate::{
    collections::swap::Swap,
    diagnostic::Diagnostic,
    os::{clock::Now, file::NamedFile},
    settings::jwt::{Issuer, KeyFetch, KeySource},
};

/// So far the clock may have been set back since keys were confirmed, in milliseconds: it was only set right.
const SET_RIGHT: u64 = 60_000;

/// A key to look for.
#[derive(Debug)]
pub struct KeysLookup {
    /// Whose.
    pub set: Arc<KeySet>,
    /// Which.
    pub name: KeyName,
}

impl KeysLookup {
    /// The longest that a request waits for what comes of it.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.set.fetch().map_or(Duration::ZERO, |fetch| fetch.wait)
    }
}

/// What came of looking for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysAnswer {
    /// The issuer does not have it.
    Absent,
    /// It is there now.
    Known,
    /// Nothing can be said for so long: keys were fetched a moment ago, or cannot be fetched.
    Later(Duration),
}

/// The keys of one issuer.
pub struct KeySet {
    /// The issuer's table: `jwt`, or `issuer.NAME`.
    key: String,
    /// What `iss` is.
    issuer: String,
    settings: KeySource,
    source: String,
    keys: Swap<Option<JwtKeys>>,
    /// Grows when a key goes.
    revision: AtomicU64,
    /// Until when they are good: `CLOCK_MONOTONIC`, nanoseconds.
    usable_until: AtomicU64,
    /// When the issuer last confirmed them: milliseconds since the Unix epoch; 0: never.
    confirmed: AtomicU64,
}

impl KeySet {
    /// Reads the keys of a file. Those that have to be fetched are not there yet, unless `known` has them.
    ///
    /// # Errors
    /// Everything that is wrong with them, under the issuer's table.
    pub(super) fn new(issuer: &Issuer, known: &[Arc<Self>]) -> Result<Arc<Self>, Vec<Diagnostic>> {
        let is_same = |known: &&Arc<Self>| {
            (&known.key, &known.issuer, &known.settings) == (&issuer.key, &issuer.issuer, &issuer.keys)
        };
        if let Some(known) = known.iter().find(is_same).filter(|_| issuer.keys.fetch().is_some()) {
            return Ok(Arc::clone(known));
        }
        let keys = JwtKeys::of(&issuer.keys);
        let keys = keys.map_err(|found| found.into_iter().map(|one| one.under(&issuer.key)).collect::<Vec<_>>())?;
        let usable_until = if keys.is_some() { u64::MAX } else { 0 };
        Ok(Arc::new(Self {
            key: issuer.key.clone(),
            issuer: issuer.issuer.clone(),
            settings: issuer.keys.clone(),
            source: source(issuer).unwrap_or_default(),
            keys: Swap::new(keys),
            revision: AtomicU64::new(0),
            usable_until: AtomicU64::new(usable_until),
            confirmed: AtomicU64::new(0),
        }))
    }

    /// The issuer's table: `jwt`, or `issuer.NAME`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What `iss` is.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// How they are fetched; `None`: they are in a file.
    #[must_use]
    pub const fn fetch(&self) -> Option<&KeyFetch> {
        self.settings.fetch()
    }

    /// Whether the issuer's metadata says where they are.
    #[must_use]
    pub const fn is_discovered(&self) -> bool {
        matches!(self.settings, KeySource::Discovery(_))
    }

    /// The keys of this moment; `None`: there are none yet.
    #[must_use]
    pub fn load(&self) -> Arc<Option<JwtKeys>> {
        self.keys.load()
    }

    /// What tokens that were verified by now are remembered with.
    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Whether they are good at `now`.
    #[must_use]
    pub fn is_usable(&self, now: u64) -> bool {
        now < self.usable_until.load(Ordering::Relaxed)
    }

    /// Whether somebody is told at `now` that they were not confirmed for long, as they are good only for a while longer.
    #[must_use]
    pub fn is_stale(&self, now: u64) -> bool {
        let left = self.usable_until.load(Ordering::Relaxed).saturating_sub(now);
        let age = Duration::from_nanos(self.stale_for().saturating_sub(left));
        left > 0 && self.fetch().is_some_and(|fetch| age > fetch.told_after())
    }

    /// Whether what was verified at `revision` still is.
    pub(super) fn vouches(&self, revision: u64, now: u64) -> bool {
        self.revision() == revision && self.is_usable(now)
    }

    /// When the issuer last confirmed them: milliseconds since the Unix epoch; 0: never.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Relaxed)
    }

    /// Goes on with keys that were fetched at `now`.
    pub fn replace(&self, keys: JwtKeys, now: Now) {
        self.put(keys);
        self.confirm(now);
    }

    /// The keys that its file holds now, where it is one of these `files`.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(super) fn read_again(&self, files: &[(PathBuf, Vec<u8>)]) -> Result<Option<JwtKeys>, Vec<Diagnostic>> {
        let Some(file) = self.settings.key_set_file() else { return Ok(None) };
        let changed = files.iter().rev().find(|(path, _)| *path == file.path);
        let keys = changed.map(|(_, bytes)| JwtKeys::new(bytes)).transpose();
        keys.map_err(|found| found.into_iter().map(|one| one.under(&self.key)).collect())
    }

    /// Whether the keys in force are those of `source`. A file may have been read again since.
    pub(super) fn are_of(&self, source: &KeySource) -> bool {
        let is_in_force =
            |file: &NamedFile| self.keys.load().as_ref().as_ref().is_some_and(|it| it.are_of(&file.bytes));
        source.key_set_file().is_none_or(is_in_force)
    }

    /// Goes on with keys, whatever they are good for.
    pub(super) fn put(&self, keys: JwtKeys) {
        let all_stay = self.keys.load().as_ref().as_ref().is_none_or(|before| before.are_among(&keys));
        self.keys.store(Some(keys));
        if !all_stay {
            // After the keys: what is verified from now on is by these.
            self.revision.fetch_add(1, Ordering::Release);
        }
    }

    /// The keys are as they were at `now`.
    pub fn confirm(&self, now: Now) {
        self.confirmed.store(now.unix_millis, Ordering::Relaxed);
        self.usable_until.store(now.monotonic.saturating_add(self.stale_for()), Ordering::Relaxed);
    }

    /// Begins with keys that a process before this one fetched from `source`, and that were good at `confirmed`. They
    /// are good as long as they would have been there. Where the clock was set back since, nobody knows how long that
    /// is.
    pub fn adopt(&self, source: &str, document: &[u8], confirmed: u64, now: Now) {
        let is_ahead = confirmed > now.unix_millis.saturating_add(SET_RIGHT);
        let age = now.unix_millis.saturating_sub(confirmed).saturating_mul(1_000_000);
        let left = self.stale_for().saturating_sub(age);
        if self.source != source || is_ahead || left == 0 || self.keys.load().is_some() {
            return;
        }
        let Ok(keys) = JwtKeys::new(document) else { return };
        self.keys.store(Some(keys));
        self.confirmed.store(confirmed, Ordering::Relaxed);
        self.usable_until.store(now.monotonic.saturating_add(left), Ordering::Relaxed);
    }

    /// How long keys are good once they are fetched: nanoseconds.
    fn stale_for(&self) -> u64 {
        let stale_for = self.settings.fetch().map_or(Duration::ZERO, |fetch| fetch.stale_for);
        u64::try_from(stale_for.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Of whom they are, and from where they are fetched.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// Of whom the keys are, and from where they are fetched; `None`: they are in a file.
#[must_use]
pub fn source(issuer: &Issuer) -> Option<String> {
    let fetch = issuer.keys.fetch()?;
    let how = if matches!(issuer.keys, KeySource::Discovery(_)) { "discovered at" } else { "at" };
    Some(format!("{} {how} {}", issuer.issuer, fetch.url))
}

impl fmt::Debug for KeySet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {:?}", self.key, self.keys.load())
    }
}
