//! What each source and each principal does, as far as it takes to see who attacks before a rule bans anybody: how many
//! requests, how many fail, how many different paths, programs and counterparts, how much, and at which hours.
//!
//! *Invariant:* memory is bounded: so many profiles of a fixed size each, and the name of a principal. What differs is
//! counted by bits, as an estimate. Whoever fails most in the present minute is not pushed out by a crowd.

use std::hash::{BuildHasher as _, RandomState};

use gateway_common::source::Source;
use serde::{Deserialize, Serialize};

use crate::{
    collections::bounded::Sharded,
    os::clock::{MINUTE, SECOND},
    signal::Signal,
    text::counted::counted,
    web::request_id::RequestId,
};

mod recent;

pub use recent::LastRequest;

use recent::{LONGEST_NAME, PRINCIPALS, REQUESTS, Recent, beginning};

/// The most profiles that are told at once.
pub const MAX_PROFILES: usize = 50;

/// The most reasons of a row, and how long each is, in bytes.
const MOST_REASONS: usize = 8;
const LONGEST_REASON: usize = 160;

/// How many kinds of signals are told apart.
const SIGNALS: usize = 4;

/// Who has a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    /// Its hash.
    Principal(u64),
    Source(Source),
}

/// The profiles of all sources and principals.
#[derive(Debug)]
pub(super) struct Profiles {
    all: Sharded<Who, DetectionProfile>,
    capacity: usize,
    seed: RandomState,
}

/// One request that is over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Finished<'a> {
    /// Its id.
    pub id: Option<RequestId>,
    /// Who proved to have sent it.
    pub principal: Option<&'a str>,
    /// The canonical path.
    pub path: Option<&'a str>,
    /// What [`Detector::agent`](super::Detector::agent) made of the `User-Agent`.
    pub agent: Option<u32>,
    /// The status that it was answered with.
    pub status: u16,
    /// What it says about its source.
    pub signal: Option<Signal>,
    /// Bytes of its body.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
    /// The hour of the day, in UTC.
    pub hour: u8,
}

/// What one source or principal does, for an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileRow {
    /// A source, or a principal's name.
    pub who: String,
    /// `source` or `principal`.
    pub kind: String,
    /// All requests since it is known.
    pub requests: u64,
    /// Those answered by 4xx or 5xx.
    pub failed: u64,
    /// Those answered by 5xx.
    pub errors: u64,
    /// In the last minute, about.
    pub per_minute: u64,
    /// In the last minute, about, those that failed.
    pub failed_per_minute: u64,
    /// About how many different paths.
    pub paths: u32,
    /// About how many different `User-Agent` headers.
    pub agents: u32,
    /// About how many different principals of a source, or sources of a principal.
    pub counterparts: u32,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// The largest response body.
    pub largest: u64,
    /// The hours of the day at which it came, in UTC.
    pub hours: Vec<u8>,
    /// It came first so many seconds ago.
    pub since_seconds: u64,
    /// It came last so many seconds ago.
    pub idle_seconds: u64,
    /// What it did, and which rules count it: most first.
    pub reasons: Vec<String>,
    /// Who has proved to be behind this source, the last of them first; only where one source is asked for. They are hashed
    /// where the access log hashes them.
    pub principals: Vec<String>,
    /// Its last requests, the last one first; only where one source is asked for.
    pub last_requests: Vec<LastRequest>,
}

impl ProfileRow {
    /// Whether it keeps to its bounds: a proxy tells it.
    #[must_use]
    pub(crate) fn fits(&self) -> bool {
        self.who.len() <= LONGEST_NAME
            && self.kind.len() <= LONGEST_NAME
            && self.hours.len() <= 24
            && self.reasons.len() <= MOST_REASONS
            && self.reasons.iter().all(|reason| reason.len() <= LONGEST_REASON)
            && self.principals.len() <= PRINCIPALS
            && self.principals.iter().all(|principal| principal.len() <= LONGEST_NAME)
            && self.last_requests.len() <= REQUESTS
    }
}

#[derive(Clone, Debug)]
struct DetectionProfile {
    /// Of a principal.
    name: Option<Box<str>>,
    /// Of a source.
    recent: Option<Box<Recent>>,
    first: u64,
    last: u64,
    requests: u64,
    failed: u64,
    errors: u64,
    minute: u64,
    /// Requests and failures, in the present minute and in the one before.
    rates: [[u32; 2]; 2],
    paths: Estimate<4>,
    agents: Estimate<1>,
    counterparts: Estimate<1>,
    bytes_in: u64,
    bytes_out: u64,
    largest: u64,
    hours: u32,
    signals: [(u8, u32); SIGNALS],
}

/// How many different values there were, by 64 bits a word (linear counting, Whang 1990).
#[derive(Clone, Copy, Debug)]
struct Estimate<const WORDS: usize>([u64; WORDS]);

impl<const WORDS: usize> Estimate<WORDS> {
    fn note(&mut self, hash: u64) {
        let word = usize::try_from(hash >> 6).unwrap_or(0) % WORDS.max(1);
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << (hash & 63);
        }
    }

    fn count(&self) -> u32 {
        let bits = f64::from(u32::try_from(WORDS * 64).unwrap_or(u32::MAX));
        let zeros: u32 = self.0.iter().map(|word| word.count_zeros()).sum();
        let estimate = (bits * (bits / f64::from(zeros.max(1))).ln()).round();
        #[expect(clippy::cast_possible_truncation, reason = "at most some thousands, and never below 0")]
        let estimate = estimate as u32;
        estimate
    }
}

impl DetectionProfile {
    fn new(name: Option<Box<str>>, now: u64) -> Self {
        Self {
            recent: name.is_none().then(Box::default),
            name,
            first: now,
            last: now,
            requests: 0,
            failed: 0,
            errors: 0,
            minute: 0,
            rates: [[0; 2]; 2],
            paths: Estimate([0; 4]),
            agents: Estimate([0]),
            counterparts: Estimate([0]),
            bytes_in: 0,
            bytes_out: 0,
            largest: 0,
            hours: 0,
            signals: [(0, 0); SIGNALS],
        }
    }

    fn turn(&mut self, now: u64) {
        let minute = now / MINUTE;
        match minute.saturating_sub(self.minute) {
            0 => return,
            1 => self.rates = [[0; 2], self.rates[0]],
            _ => self.rates = [[0; 2]; 2],
        }
        self.minute = minute;
    }

    /// About how many requests, and how many failures, in the last minute.
    fn per_minute(&self, now: u64) -> [u64; 2] {
        let [present, before] = match (now / MINUTE).saturating_sub(self.minute) {
            0 => self.rates,
            1 => [[0; 2], self.rates[0]],
            _ => [[0; 2]; 2],
        };
        let left = MINUTE - now % MINUTE;
        let about = |at: usize| {
            let of = |counts: &[u32; 2]| u64::from(counts.get(at).copied().unwrap_or(0));
            of(&present) + (of(&before) * (left / SECOND)).div_ceil(60)
        };
        [about(0), about(1)]
    }

    fn note(&mut self, finished: &Finished<'_>, [path, counterpart]: [Option<u64>; 2], now: u64) {
        self.turn(now);
        self.last = now;
        let failed = finished.status >= 400;
        self.requests += 1;
        self.failed += u64::from(failed);
        self.errors += u64::from(finished.status >= 500);
        let [requests, failures] = &mut self.rates[0];
        *requests = requests.saturating_add(1);
        *failures = failures.saturating_add(u32::from(failed));
        path.into_iter().for_each(|hash| self.paths.note(hash));
        counterpart.into_iter().for_each(|hash| self.counterparts.note(hash));
        if let Some(recent) = &mut self.recent {
            if let (Some(name), Some(hash)) = (finished.principal, counterpart) {
                recent.principal(name, hash);
            }
            finished.id.into_iter().for_each(|id| recent.request(id, finished.status, now));
        }
        finished.agent.into_iter().for_each(|agent| self.agents.note(u64::from(agent)));
        self.bytes_in = self.bytes_in.saturating_add(finished.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(finished.bytes_out);
        self.largest = self.largest.max(finished.bytes_out);
        self.hours |= 1 << (finished.hour % 24);
        if let Some(signal) = finished.signal.filter(|signal| *signal != Signal::Served) {
            self.signal(signal as u8 + 1);
        }
    }

    /// Counts a signal. One that is new takes the place of the one that came least, and goes on with its count less one.
    fn signal(&mut self, signal: u8) {
        if let Some((_, count)) = self.signals.iter_mut().find(|(known, _)| *known == signal) {
            *count = count.saturating_add(1);
        } else if let Some(least) = self.signals.iter_mut().min_by_key(|(_, count)| *count) {
            *least = if least.1 <= 1 { (signal, 1) } else { (least.0, least.1 - 1) };
        }
    }

    fn row(&self, who: &Who, now: u64) -> ProfileRow {
        let [per_minute, failed_per_minute] = self.per_minute(now);
        let (who, kind) = match who {
            Who::Principal(_) => (self.name.as_deref().unwrap_or_default().to_owned(), "principal"),
            Who::Source(source) => (source.to_string(), "source"),
        };
        let mut signals: Vec<_> = self.signals.iter().filter(|(_, count)| *count > 0).collect();
        signals.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let reason = |(signal, count): &(u8, u32)| {
            let signal = Signal::ALL.get(usize::from(*signal).checked_sub(1)?)?;
            Some(counted(*count, signal.singular(), signal.plural()))
        };
        ProfileRow {
            who,
            kind: kind.to_owned(),
            requests: self.requests,
            failed: self.failed,
            errors: self.errors,
            per_minute,
            failed_per_minute,
            paths: self.paths.count(),
            agents: self.agents.count(),
            counterparts: self.counterparts.count(),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            largest: self.largest,
            hours: (0..24).filter(|hour| self.hours & 1 << hour != 0).collect(),
            since_seconds: now.saturating_sub(self.first) / SECOND,
            idle_seconds: now.saturating_sub(self.last) / SECOND,
            reasons: signals.into_iter().filter_map(reason).collect(),
            principals: Vec::new(),
            last_requests: Vec::new(),
        }
    }
}

impl Profiles {
    pub(super) fn new(capacity: usize) -> Self {
        Self { all: Sharded::new(capacity), capacity, seed: RandomState::new() }
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// A request of `source` is over.
    pub(super) fn note(&self, source: Source, finished: &Finished<'_>, now: u64) {
        let path = finished.path.map(|path| self.seed.hash_one(path));
        let principal = finished.principal.map(|name| (name, self.seed.hash_one(name)));
        self.fill(Who::Source(source), None, finished, [path, principal.map(|(_, hash)| hash)], now);
        if let Some((name, hash)) = principal {
            let counterpart = Some(self.seed.hash_one(source));
            self.fill(Who::Principal(hash), Some(name), finished, [path, counterpart], now);
        }
    }

    fn fill(&self, who: Who, name: Option<&str>, finished: &Finished<'_>, hashes: [Option<u64>; 2], now: u64) {
        let mut all = self.all.lock(&who);
        if let Some(profile) = all.find(&who) {
            profile.note(finished, hashes, now);
            return;
        }
        let mut profile = DetectionProfile::new(name.map(|name| beginning(name).into()), now);
        profile.note(finished, hashes, now);
        all.put(who, profile, |_, profile| (profile.per_minute(now)[1], profile.last));
    }

    /// What `source` does, who was behind it, and its last requests.
    pub(super) fn of(&self, source: Source, now: u64) -> Option<ProfileRow> {
        let who = Who::Source(source);
        self.all.lock(&who).find(&who).map(|profile| {
            let recent = profile.recent.as_deref();
            let principals = recent.into_iter().flat_map(|recent| &recent.principals);
            ProfileRow {
                principals: principals.map(|(_, name)| name.to_string()).collect(),
                last_requests: recent.map(|recent| recent.last_requests(now)).unwrap_or_default(),
                ..profile.row(&who, now)
            }
        })
    }

    /// Who fails most, then who asks most, in the last minute; then whoever came last.
    pub(super) fn top(&self, most: usize, now: u64) -> Vec<(Option<Source>, ProfileRow)> {
        let mut found = Vec::new();
        self.all.each(|who, profile| {
            let [requests, failures] = profile.per_minute(now);
            found.push(((failures, requests, profile.last), *who));
        });
        let most = most.min(MAX_PROFILES).min(found.len());
        found.sort_unstable_by(|(one, _), (other, _)| other.cmp(one));
        let rows = found.into_iter().take(most).filter_map(|(_, who)| {
            let row = self.all.lock(&who).find(&who).map(|profile| profile.row(&who, now))?;
            Some((if let Who::Source(source) = who { Some(source) } else { None }, row))
        });
        rows.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const START: u64 = 1_000 * MINUTE;

    fn source(number: u32) -> Source {
        Source::of(Ipv4Addr::from_bits(number).into(), 64)
    }

    #[test]
    fn a_profile_tells_what_somebody_does() {
        let profiles = Profiles::new(1_000);
        for number in 0..100_u32 {
            let path = format!("/p/{number}");
            let finished = Finished {
                id: Some(RequestId(u128::from(number))),
                principal: Some(["ada", "bob"][number as usize % 2]),
                path: Some(&path),
                agent: Some(number % 3 * 1_000 + 7),
                status: if number % 4 == 0 { 404 } else { 200 },
                signal: (number % 4 == 0).then_some(Signal::UnknownRoute),
                bytes_in: 1,
                bytes_out: u64::from(number),
                hour: 14,
            };
            profiles.note(source(1), &finished, START + u64::from(number) * SECOND / 10);
        }
        let row = profiles.of(source(1), START + 10 * SECOND).unwrap();
        assert_eq!((row.requests, row.failed, row.errors, row.bytes_in, row.largest), (100, 25, 0, 100, 99));
        assert_eq!((row.per_minute, row.failed_per_minute, row.hours.as_slice()), (100, 25, &[14][..]));
        assert!((80..=120).contains(&row.paths) && row.agents == 3, "{row:?}");
        // An estimate: two names may fall on one bit.
        assert!((1..=2).contains(&row.counterparts), "{row:?}");
        assert_eq!(row.reasons, ["25 unknown routes"]);
        assert_eq!(row.principals, ["bob", "ada"]);
        let last: Vec<_> = row.last_requests.iter().map(|last| (last.id.0, last.status)).collect();
        assert_eq!(last, [(99, 200), (98, 200), (97, 200), (96, 404), (95, 200), (94, 200), (93, 200), (92, 404)]);
        assert_eq!(row.last_requests.last().map(|last| last.seconds_ago), Some(0));
        assert_eq!(profiles.of(source(2), START), None);
        let top = profiles.top(10, START + 10 * SECOND);
        let names: Vec<_> = top.iter().map(|(_, row)| row.who.as_str()).collect();
        assert_eq!(names, ["0.0.0.1", "ada", "bob"]);
        // A minute later it is history.
        assert_eq!(profiles.of(source(1), START + 3 * MINUTE).map(|row| row.per_minute), Some(0));
    }

    #[test]
    fn few_principals_of_a_source_are_named() {
        let profiles = Profiles::new(1_000);
        for name in ["ada", "bob", "cy", "dee", "eve", "bob", &"x".repeat(500)] {
            let finished = Finished { principal: Some(name), status: 200, ..Finished::default() };
            profiles.note(source(1), &finished, START);
        }
        let row = profiles.of(source(1), START).unwrap();
        assert_eq!(row.principals, ["x".repeat(LONGEST_NAME).as_str(), "bob", "eve", "dee"]);
        assert!(row.fits() && row.last_requests.is_empty(), "{row:?}");
        let many = ProfileRow { principals: vec![String::new(); PRINCIPALS + 1], ..row };
        assert!(!many.fits());
        // Rows of many have neither.
        assert!(profiles.top(10, START).iter().all(|(_, row)| row.principals.is_empty()));
    }

    #[test]
    fn a_crowd_pushes_no_attacker_out() {
        let profiles = Profiles::new(256);
        let failed = Finished { status: 401, signal: Some(Signal::ForgedToken), ..Finished::default() };
        for _ in 0..50 {
            profiles.note(source(u32::MAX), &failed, START);
        }
        for number in 0..100_000 {
            profiles.note(source(number), &Finished { status: 200, ..Finished::default() }, START + SECOND);
        }
        let top = profiles.top(MAX_PROFILES, START + SECOND);
        assert_eq!((top.len(), top[0].1.who.as_str()), (MAX_PROFILES, "255.255.255.255"));
        assert_eq!(top[0].1.reasons, ["50 forged tokens"]);
    }
}
