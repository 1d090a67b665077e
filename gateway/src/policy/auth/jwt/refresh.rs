//! When the keys of an issuer are fetched, and what an unknown key means until then. Pure: whoever fetches asks.
//!
//! A token by a key that is not there is either nobody's, or it is by a key that is newer than ours. Which of both is
//! known after a fetch that began later than the token came. Until then nobody is blamed.
//!
//! An issuer may sign by a key before it publishes it. So what one fetch has not found is looked for by the next one too,
//! which begins as soon as it may, before it is believed for a cool-down that the key is nobody's. A key that was there
//! before and has gone is not looked for again: its clients need another token, and learn that at once.
//!
//! *Invariant:* between the beginnings of two fetches there is at least `cooldown`, whatever clients send. What is kept
//! of clients is bounded: [`MAX_ABSENT`] keys, [`MAX_UNDECIDED`] requests.

use std::{collections::HashMap, time::Duration};

use super::keys::KeyName;
use crate::{settings::jwt::KeyFetch, text::digits::decimal};

/// The most keys that are remembered as being nobody's.
const MAX_ABSENT: usize = 1_000;

/// The most requests by one of these keys that are remembered, should it turn out to be somebody's.
const MAX_ASKERS: usize = 16;

/// The most requests that wait for being judged.
const MAX_UNDECIDED: usize = 1_024;

/// How long it is remembered who was refused because of a key that was nobody's.
const REMEMBERED: Duration = Duration::from_secs(600);

/// After so many fetches in a row that did not find a key, it is nobody's for everybody who asks within the cool-down.
const CONVINCED: u32 = 2;

/// Servers that want to be asked more often than this are not.
const LEAST: Duration = Duration::from_secs(60);

/// The longest pause after fetches that failed, where `refresh` is not shorter.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What is to be done about an unknown key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshDecision {
    /// It is nobody's: a fetch has shown it.
    Absent,
    /// Fetch the keys. The caller says so by [`Refresh::begin`].
    Fetch,
    /// A fetch is under way: its end decides.
    Join,
    /// Nothing can be said for so long.
    Later(Duration),
}

/// What is known of a key after a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPresence {
    /// It was there before, and is not any more.
    Gone,
    /// It is there.
    Known,
    /// It never was there.
    Never,
}

/// What a fetch has decided.
#[derive(Debug, PartialEq, Eq)]
pub struct Settled<A> {
    /// These requests were by nobody's keys, and nobody was told so.
    pub unknown: Vec<A>,
    /// These were refused because of keys that turn out to be good.
    pub wronged: Vec<A>,
}

/// The state of one issuer's keys. `A`: who asked. Times are `CLOCK_MONOTONIC`, nanoseconds.
#[derive(Debug)]
pub struct Refresh<A> {
    refresh: u64,
    cooldown: u64,
    /// When the last fetch began.
    began: Option<u64>,
    is_fetching: bool,
    /// How many failed since the last that did not.
    failures: u32,
    /// When the next begins by itself.
    due: u64,
    absent: HashMap<KeyName, Absent<A>>,
    undecided: Vec<Undecided<A>>,
}

#[derive(Debug)]
struct Absent<A> {
    /// Until when this is believed without another fetch.
    until: u64,
    /// When it was last asked for.
    last: u64,
    /// How many fetches in a row have not found it.
    looks: u32,
    askers: Vec<A>,
}

#[derive(Debug)]
struct Undecided<A> {
    name: KeyName,
    asked: u64,
    asker: A,
}

impl<A> Refresh<A> {
    /// Nothing was fetched yet: the first fetch is due at `due`.
    #[must_use]
    pub fn new(fetch: &KeyFetch, due: u64) -> Self {
        Self {
            refresh: nanos(fetch.refresh),
            cooldown: nanos(fetch.cooldown),
            began: None,
            is_fetching: false,
            failures: 0,
            due,
            absent: HashMap::new(),
            undecided: Vec::new(),
        }
    }

    /// When the next fetch begins by itself; `None`: one is under way.
    #[must_use]
    pub fn due(&self) -> Option<u64> {
        let due = if self.undecided.is_empty() { self.due } else { self.due.min(self.may_begin()) };
        (!self.is_fetching).then_some(due)
    }

    /// From when on another fetch may begin.
    fn may_begin(&self) -> u64 {
        self.began.map_or(0, |began| began.saturating_add(self.cooldown))
    }

    /// A token is by a key that is not there.
    pub fn ask(&mut self, name: &KeyName, asker: A, now: u64) -> RefreshDecision {
        let is_believed = |absent: &&mut Absent<A>| now < absent.until && absent.looks >= CONVINCED;
        if let Some(absent) = self.absent.get_mut(name).filter(is_believed) {
            absent.last = now;
            if absent.askers.len() < MAX_ASKERS {
                absent.askers.push(asker);
            }
            return RefreshDecision::Absent;
        }
        if self.is_fetching {
            return RefreshDecision::Join;
        }
        let may_begin = self.may_begin();
        if may_begin <= now {
            return RefreshDecision::Fetch;
        }
        self.defer(name.clone(), asker, now);
        RefreshDecision::Later(Duration::from_nanos(may_begin - now))
    }

    /// A request that came at `asked` is not judged yet. The next fetch decides about it.
    pub fn defer(&mut self, name: KeyName, asker: A, asked: u64) {
        if self.undecided.len() < MAX_UNDECIDED {
            self.undecided.push(Undecided { name, asked, asker });
        }
    }

    /// A fetch begins.
    pub const fn begin(&mut self, now: u64) {
        self.began = Some(now);
        self.is_fetching = true;
    }

    /// Whether the last fetch, which has come back, decides about what was asked for at `asked`.
    #[must_use]
    pub fn decides(&self, asked: u64) -> bool {
        self.began.is_some_and(|began| asked <= began)
    }

    /// A request that the last fetch has decided about is refused: its key is nobody's.
    pub fn note_absent(&mut self, name: KeyName, found: KeyPresence, asker: A, now: u64) {
        let until = self.may_begin();
        if self.absent.len() >= MAX_ABSENT && !self.absent.contains_key(&name) {
            return;
        }
        let absent = self.absent.entry(name).or_insert(Absent { until, last: now, looks: 1, askers: Vec::new() });
        (absent.until, absent.last) = (until, now);
        if found == KeyPresence::Gone {
            absent.looks = CONVINCED;
        }
        if absent.askers.len() < MAX_ASKERS {
            absent.askers.push(asker);
        }
    }

    /// The fetch brought keys; `find` says which. `max_age`: for how long the server thinks that they are good.
    pub fn succeed(
        &mut self,
        find: impl Fn(&KeyName) -> KeyPresence,
        max_age: Option<Duration>,
        random: u64,
        now: u64,
    ) -> Settled<A>
    where
        A: Clone,
    {
        self.is_fetching = false;
        self.failures = 0;
        let least = nanos(LEAST).min(self.refresh);
        let interval = max_age.map_or(self.refresh, nanos).clamp(least, self.refresh);
        self.due = now.saturating_add(jitter(interval, random));
        let forgotten = now.saturating_sub(nanos(REMEMBERED));
        let mut settled = Settled { unknown: Vec::new(), wronged: Vec::new() };
        self.absent.retain(|name, absent| {
            let is_known = find(name) == KeyPresence::Known;
            absent.looks = absent.looks.saturating_add(1);
            if is_known {
                settled.wronged.append(&mut absent.askers);
            }
            !is_known && absent.last >= forgotten
        });
        for Undecided { name, asked, asker } in std::mem::take(&mut self.undecided) {
            let found = find(&name);
            if found == KeyPresence::Known {
                continue;
            }
            if self.decides(asked) {
                settled.unknown.push(asker.clone());
                self.note_absent(name, found, asker, now);
            } else {
                self.undecided.push(Undecided { name, asked, asker });
            }
        }
        settled
    }

    /// The fetch failed. What is undecided stays so, and nobody is blamed for it.
    pub fn fail(&mut self, random: u64, now: u64) {
        self.is_fetching = false;
        self.failures = self.failures.saturating_add(1);
        self.undecided.clear();
        let longest = nanos(LONGEST_PAUSE).min(self.refresh).max(self.cooldown);
        let pause = self.cooldown.saturating_mul(1 << self.failures.min(16).saturating_sub(1)).min(longest);
        self.due = self.may_begin().max(now.saturating_add(jitter(pause, random)));
    }

    /// After how long another fetch may begin.
    #[must_use]
    pub fn pause(&self, now: u64) -> Duration {
        Duration::from_nanos(self.may_begin().saturating_sub(now))
    }
}

/// At most a tenth sooner: gateways that were started together do not ask together.
const fn jitter(interval: u64, random: u64) -> u64 {
    interval - (random % 1_000) * (interval / 10_000)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// For how long an answer may be used without asking again, by its `Cache-Control` and `Age` (RFC 9111 5.2.2); `None`: it
/// does not say. What must not be stored is asked for again as soon as may be.
#[must_use]
pub fn max_age(cache_control: &[&str], age: Option<&str>) -> Option<Duration> {
    let mut directives = cache_control.iter().flat_map(|line| line.split(',')).map(str::trim);
    let is_fresh = |directive: &str| ["no-cache", "no-store"].iter().any(|it| directive.eq_ignore_ascii_case(it));
    if directives.clone().any(is_fresh) {
        return Some(Duration::ZERO);
    }
    let seconds = directives.find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        let value = value.trim().trim_matches('"');
        let is_number = !value.is_empty() && value.bytes().all(|digit| digit.is_ascii_digit());
        // A number that is too large means for ever (RFC 9111 1.2.2).
        (name.trim().eq_ignore_ascii_case("max-age") && is_number).then(|| value.parse().unwrap_or(u64::from(u32::MAX)))
    })?;
    let age = age.and_then(|age| decimal(age.trim())).unwrap_or(0);
    Some(Duration::from_secs(seconds.saturating_sub(age)))
}

#[cfg(test)]
mod tests;
