//! The API keys that the proxy knows, found by id: one table for all workers and all configurations.
//!
//! It is in parts, and a change replaces one part: whoever looks a key up waits for nobody, and a change takes as long
//! with a million keys as with a thousand.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use arc_swap::{ArcSwap, Guard};

use super::{
    pepper::{Pepper, Tag},
    record::{KeyRecord, Profile},
    text::KeyId,
};
use crate::{
    policy::auth::{Identity, revocation::Revocable},
    settings::auth::Method,
};

/// How many parts the table has.
const PARTS: usize = 1_024;

/// The unit of when a key was used last, in seconds: whoever uses it often is noted once.
pub const PERIOD: u64 = 3_600;

/// The most keys whose use is noted between two calls of [`KeyTable::take_used`]. Others are noted when they are used the
/// next time.
const MOST_USED: usize = 65_536;

/// Whether it is known which keys there are.
#[derive(Debug)]
pub enum TableState {
    /// It is, and by this pepper they were hashed.
    Ready(Box<Pepper>),
    /// It is not: why, for the log. Keys are neither good nor bad.
    Unknown(String),
}

/// A key in the table.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) tag: Tag,
    pub(super) name: Box<str>,
    pub(super) profile: Arc<Profile>,
    pub(super) expires: Option<u64>,
    pub(super) is_revoked: bool,
    is_replaced: bool,
    /// In [`PERIOD`]s since the Unix epoch.
    used: AtomicU32,
    /// Made when the key is used first.
    identity: OnceLock<Arc<Identity>>,
}

impl Key {
    pub(super) fn identity(&self, id: KeyId) -> Arc<Identity> {
        let identity = || {
            let roles = self.profile.roles.iter().map(|role| role.as_str().into()).collect();
            let principal = format!("key:{}", self.name).into();
            let expires = self.expires.unwrap_or(u64::MAX);
            let identity = Identity::proved_otherwise(Method::ApiKey, principal, roles, expires);
            let rests_on = vec![Arc::new(Revocable { key: Some(id.0), ..Revocable::default() })];
            let plan = self.profile.plan.as_deref().map(Into::into);
            Arc::new(Identity { rests_on, plan, ..identity })
        };
        Arc::clone(self.identity.get_or_init(identity))
    }
}

/// Keys in the order of their ids.
#[derive(Debug, Default)]
struct KeyShard {
    ids: Box<[u64]>,
    keys: Box<[Arc<Key>]>,
}

/// A key that is to be known from now on, or no longer.
pub(super) type Change = (KeyId, Option<Arc<Key>>);

/// The keys that there are.
#[derive(Debug)]
pub struct KeyTable {
    state: ArcSwap<TableState>,
    parts: Box<[ArcSwap<KeyShard>]>,
    has_foreign: AtomicBool,
    /// Keys were lost: one that is not known may have been good.
    has_lost: AtomicBool,
    /// Keys that were used for the first time in a [`PERIOD`], and that period.
    used: Mutex<HashSet<(u64, u32)>>,
    /// When keys end that others took the place of: seconds since the Unix epoch. Operators alone make them.
    ends: Mutex<BTreeSet<u64>>,
    /// Held by whoever changes the table.
    changes: Mutex<()>,
}

impl Default for KeyTable {
    fn default() -> Self {
        let empty = Arc::new(KeyShard::default());
        Self {
            state: ArcSwap::from_pointee(TableState::Unknown(
                "the API keys have not come from the guard yet".to_owned(),
            )),
            parts: (0..PARTS).map(|_| ArcSwap::new(Arc::clone(&empty))).collect(),
            has_foreign: AtomicBool::new(false),
            has_lost: AtomicBool::new(false),
            used: Mutex::default(),
            ends: Mutex::default(),
            changes: Mutex::default(),
        }
    }
}

impl KeyTable {
    pub(super) fn state(&self) -> Guard<Arc<TableState>> {
        self.state.load()
    }

    /// From now on it is known which keys there are, or it is not.
    pub fn set_state(&self, state: TableState) {
        self.state.store(Arc::new(state));
    }

    /// Whether there are keys that other programs have made.
    pub(super) fn has_foreign(&self) -> bool {
        self.has_foreign.load(Ordering::Relaxed)
    }

    /// Whether keys were lost, so that one that is not known may have been good.
    pub(super) fn has_lost(&self) -> bool {
        self.has_lost.load(Ordering::Relaxed)
    }

    /// From now on keys count as lost, or they do not.
    pub fn set_lost(&self, has_lost: bool) {
        self.has_lost.store(has_lost, Ordering::Relaxed);
    }

    /// The key of an id.
    pub(super) fn find(&self, id: KeyId) -> Option<Arc<Key>> {
        let part = self.parts.get(place(id.0))?.load();
        let at = part.ids.binary_search(&id.0).ok()?;
        part.keys.get(at).cloned()
    }

    /// Whether the key is one that may be used no more, or is not known: it is revoked, or another took its place and its
    /// time is over. `until`: when it was to expire once. Times are in seconds since the Unix epoch.
    #[must_use]
    pub fn is_revoked(&self, id: KeyId, until: u64, now: u64) -> bool {
        let is_over = |key: Arc<Key>| {
            let has_ended = |expires| (key.is_replaced || expires < until) && expires <= now;
            key.is_revoked || key.expires.is_some_and(has_ended)
        };
        self.find(id).is_none_or(is_over)
    }

    /// Notes that a key was used, once in a [`PERIOD`].
    pub(super) fn note_use(&self, id: KeyId, key: &Key, seconds: u64) {
        let period = u32::try_from(seconds / PERIOD).unwrap_or(u32::MAX);
        if key.used.load(Ordering::Relaxed) == period || key.used.swap(period, Ordering::Relaxed) == period {
            return;
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() < MOST_USED {
            used.insert((id.0, period));
        } else {
            key.used.store(0, Ordering::Relaxed);
        }
    }

    /// At most `most` of the keys that were used since they were told of last, and in which [`PERIOD`] since the Unix epoch.
    #[must_use]
    pub fn take_used(&self, most: usize) -> Vec<(u64, u32)> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: Vec<_> = used.iter().copied().take(most).collect();
        for one in &taken {
            used.remove(one);
        }
        taken
    }

    /// Whether any key has ended, by `now`, that another took the place of: what rests on it is to be looked at again. Says
    /// so once.
    #[must_use]
    pub fn take_ended(&self, now: u64) -> bool {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.first().is_none_or(|end| *end > now) {
            return false;
        }
        let later = ends.split_off(&now.saturating_add(1));
        *ends = later;
        true
    }

    fn note_ends(&self, ends: BTreeSet<u64>) {
        if !ends.is_empty() {
            self.ends.lock().unwrap_or_else(PoisonError::into_inner).extend(ends);
        }
    }

    /// Knows these keys from now on, and those of `gone` no longer.
    pub fn change(&self, keys: impl IntoIterator<Item = KeyRecord>, gone: &[u64]) {
        let mut loaded = LoadedKeys::default();
        keys.into_iter().for_each(|key| loaded.add(key));
        let removed = gone.iter().map(|id| (KeyId(*id), None));
        self.note_ends(std::mem::take(&mut loaded.ends));
        let mut by_place: HashMap<usize, Vec<Change>> = HashMap::new();
        for (place, keys) in loaded.parts.into_iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
            by_place.entry(place).or_default().extend(keys.into_iter().map(|(id, key)| (KeyId(id), Some(key))));
        }
        removed.for_each(|change| by_place.entry(place(change.0.0)).or_default().push(change));
        let _held = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.has_foreign {
            self.has_foreign.store(true, Ordering::Relaxed);
        }
        for (place, changes) in by_place {
            let Some(part) = self.parts.get(place) else { continue };
            let before = part.load_full();
            let mut keys: HashMap<u64, Arc<Key>> =
                before.ids.iter().copied().zip(before.keys.iter().cloned()).collect();
            for (KeyId(id), key) in changes {
                match key {
                    Some(key) => drop(keys.insert(id, key)),
                    None => drop(keys.remove(&id)),
                }
            }
            part.store(Arc::new(sorted(keys.into_iter().collect())));
        }
    }

    /// Knows the keys that were loaded, and no others.
    pub fn replace(&self, loaded: LoadedKeys) {
        self.note_ends(loaded.ends);
        let _held = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_foreign.store(loaded.has_foreign, Ordering::Relaxed);
        for (part, keys) in self.parts.iter().zip(loaded.parts) {
            part.store(Arc::new(sorted(keys)));
        }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.load().ids.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Keys that are read one by one, to be put in the place of all.
#[derive(Debug)]
pub struct LoadedKeys {
    parts: Vec<Vec<(u64, Arc<Key>)>>,
    /// Each once.
    profiles: HashSet<Arc<Profile>>,
    has_foreign: bool,
    /// As those of the table.
    ends: BTreeSet<u64>,
}

impl Default for LoadedKeys {
    fn default() -> Self {
        let (profiles, ends) = (HashSet::new(), BTreeSet::new());
        Self { parts: (0..PARTS).map(|_| Vec::new()).collect(), profiles, has_foreign: false, ends }
    }
}

impl LoadedKeys {
    /// One more key.
    pub fn add(&mut self, record: KeyRecord) {
        let KeyRecord { id, tag, name, profile, expires, is_revoked, is_replaced, is_foreign } = record;
        let profile = match self.profiles.get(&profile) {
            Some(known) => Arc::clone(known),
            None => {
                let profile = Arc::new(profile);
                self.profiles.insert(Arc::clone(&profile));
                profile
            }
        };
        self.has_foreign |= is_foreign;
        self.ends.extend(expires.filter(|_| is_replaced));
        let (used, identity) = (AtomicU32::new(0), OnceLock::new());
        let key = Key { tag, name: name.into(), profile, expires, is_revoked, is_replaced, used, identity };
        if let Some(part) = self.parts.get_mut(place(id)) {
            part.push((id, Arc::new(key)));
        }
    }
}

fn sorted(mut keys: Vec<(u64, Arc<Key>)>) -> KeyShard {
    keys.sort_unstable_by_key(|(id, _)| *id);
    let (ids, keys): (Vec<u64>, Vec<Arc<Key>>) = keys.into_iter().unzip();
    KeyShard { ids: ids.into(), keys: keys.into() }
}

/// The part where a key is. Ids are random.
fn place(id: u64) -> usize {
    usize::try_from(id % PARTS as u64).unwrap_or(0)
}
