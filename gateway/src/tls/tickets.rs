//! TLS session tickets and their keys: the key of the current six hours, and the one before.
//!
//! Keys form a chain: each is made from the one before by a function that cannot be turned back, and is forgotten after
//! its successor's time. All workers have the same, and so have the proxies before and after a reload or a crash: the
//! guard walks along the same chain. Machines of a cluster that tell each other of their keys open each other's tickets;
//! each seals by its own chain. *Invariant:* no key older than two periods is kept anywhere.

use std::{
    fmt,
    sync::{PoisonError, RwLock},
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    hmac,
};
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};

use crate::os::clock::Now;

/// How long one key seals tickets, in seconds.
const PERIOD: u64 = 6 * 3_600;

/// So many periods at most are walked one by one; a clock that is set further than five years begins a new chain.
const MOST_STEPS: u64 = 8_000;

/// Where on the chain one stands. Secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Since the Unix epoch.
    period: u64,
    link: [u8; 32],
    before: Option<[u8; 32]>,
}

impl fmt::Debug for Chain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Chain")
    }
}

impl Chain {
    /// A new chain. `None`: there is no randomness.
    #[must_use]
    pub fn new(now: Now) -> Option<Self> {
        let mut link = [0; 32];
        aws_lc_rs::rand::fill(&mut link).ok()?;
        Some(Self { period: now.unix_seconds() / PERIOD, link, before: None })
    }

    /// Goes on to the period of `now`. A clock that is set back changes nothing.
    pub fn advance(&mut self, now: Now) {
        let period = now.unix_seconds() / PERIOD;
        if period.saturating_sub(self.period) > MOST_STEPS {
            if let Some(new) = Self::new(now) {
                *self = new;
            }
            return;
        }
        self.walk(period);
    }

    /// The same for whoever decides for all others: where the clock was far ahead and is set back, a new chain begins. The
    /// key of the future would seal until the clock is there again. `true`: it is a new chain.
    pub(crate) fn follow(&mut self, now: Now) -> bool {
        let (known, due) = (self.period, now.unix_seconds() / PERIOD);
        if known > due.saturating_add(1)
            && let Some(new) = Self::new(now)
        {
            *self = new;
            return true;
        }
        self.advance(now);
        due.saturating_sub(known) > MOST_STEPS
    }

    fn walk(&mut self, period: u64) {
        while self.period < period {
            self.before = Some(self.link);
            self.link = derive(&self.link, b"gateway tickets: next");
            self.period += 1;
        }
    }

    /// The period of its key.
    pub(crate) const fn period(&self) -> u64 {
        self.period
    }

    /// Whether it is of this time, as far as clocks may differ.
    pub(crate) fn is_of(&self, now: Now) -> bool {
        self.period.abs_diff(now.unix_seconds() / PERIOD) <= 1
    }

    /// Whether both are places on the same chain, at most two periods apart.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (mut one, mut other) = (self.clone(), other.clone());
        if one.period.abs_diff(other.period) > 2 {
            return false;
        }
        let period = one.period.max(other.period);
        one.walk(period);
        other.walk(period);
        one.link == other.link
    }

    /// Forgets what sealed nothing that is still to be opened at `now`. `false`: nothing is left. For a chain that seals no
    /// more.
    pub(crate) fn fade(&mut self, now: Now) -> bool {
        let due = now.unix_seconds() / PERIOD;
        if due > self.period {
            self.before = None;
        }
        due <= self.period.saturating_add(1)
    }
}

/// By which keys sessions are resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketKeys {
    /// It seals new tickets.
    pub own: Chain,
    /// Chains of other machines: what they sealed is opened.
    pub others: Vec<Chain>,
    /// Whoever was told of the chain before is of the cluster no more: nothing that it sealed is opened.
    pub forgets: bool,
}

/// The most chains of other machines: two of each.
const MOST_OTHERS: usize = 2 * crate::settings::cluster::MAX_NODES;

fn derive(link: &[u8; 32], what: &[u8]) -> [u8; 32] {
    let made = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, link), what);
    let mut key = [0; 32];
    key.iter_mut().zip(made.as_ref()).for_each(|(to, from)| *to = *from);
    key
}

/// Seals and opens tickets.
pub struct Tickets {
    state: RwLock<TicketState>,
}

struct TicketState {
    own: Opener,
    /// The chain before: another guard's, which has died.
    former: Option<Opener>,
    others: Vec<Opener>,
}

/// A chain, and the keys that it stands for.
struct Opener {
    chain: Chain,
    current: Key,
    before: Option<Key>,
}

struct Key {
    /// Says to which key a ticket belongs.
    name: [u8; 8],
    aead: RandomizedNonceKey,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Tickets")
    }
}

impl Key {
    fn of(link: &[u8; 32]) -> Option<Self> {
        let mut name = [0; 8];
        let long = derive(link, b"gateway tickets: name");
        name.iter_mut().zip(long).for_each(|(to, from)| *to = from);
        let aead = RandomizedNonceKey::new(&AES_256_GCM, &derive(link, b"gateway tickets: key")).ok()?;
        Some(Self { name, aead })
    }
}

impl Opener {
    fn of(chain: Chain) -> Option<Self> {
        let before = match &chain.before {
            Some(link) => Some(Key::of(link)?),
            None => None,
        };
        Some(Self { current: Key::of(&chain.link)?, before, chain })
    }

    /// The same at `now`.
    fn at(&self, now: Now) -> Option<Self> {
        let mut chain = self.chain.clone();
        chain.advance(now);
        Self::of(chain)
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.current).chain(&self.before)
    }
}

impl TicketState {
    /// The same at `now`.
    fn at(&self, now: Now) -> Option<Self> {
        let former = self.former.as_ref().map(|former| former.chain.clone());
        let former = former.and_then(|mut chain| chain.fade(now).then_some(chain)).and_then(Opener::of);
        let others = self.others.iter().filter_map(|other| other.at(now)).collect();
        Some(Self { own: self.own.at(now)?, former, others })
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        [&self.own].into_iter().chain(&self.former).chain(&self.others).flat_map(Opener::keys)
    }
}

impl Tickets {
    /// Begins at some place of a chain. `None`: the library refuses.
    #[must_use]
    pub fn new(chain: Chain) -> Option<Self> {
        let state = TicketState { own: Opener::of(chain)?, former: None, others: Vec::new() };
        Some(Self { state: RwLock::new(state) })
    }

    /// Goes on by these keys: the guard's. What was sealed before is still opened.
    pub fn adopt(&self, keys: TicketKeys, now: Now) {
        let TicketKeys { own, others, forgets } = keys;
        let others = others.into_iter().take(MOST_OTHERS).filter_map(Opener::of);
        let others: Vec<_> = others.filter_map(|other| other.at(now)).collect();
        let Some(own) = Opener::of(own) else { return };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = !state.own.chain.is_same(&own.chain);
        let before = std::mem::replace(&mut *state, TicketState { own, former: None, others });
        let former = if is_other { Some(before.own) } else { before.former };
        state.former = former.filter(|_| !forgets);
    }

    fn roll(&self, now: Now) {
        let due = now.unix_seconds() / PERIOD;
        if self.state.read().unwrap_or_else(PoisonError::into_inner).own.chain.period >= due {
            return;
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = state.at(now) {
            *state = next;
        }
    }

    fn seal(&self, plain: &[u8], now: Now) -> Option<Vec<u8>> {
        self.roll(now);
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let Key { name, aead } = &state.own.current;
        let mut sealed = plain.to_vec();
        let nonce = aead.seal_in_place_append_tag(Aad::from(*name), &mut sealed).ok()?;
        Some([&name[..], nonce.as_ref(), &sealed].concat())
    }

    fn open(&self, ticket: &[u8], now: Now) -> Option<Vec<u8>> {
        self.roll(now);
        let (name, rest) = ticket.split_first_chunk::<8>()?;
        let (nonce, sealed) = rest.split_first_chunk::<12>()?;
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let key = state.keys().find(|key| key.name == *name)?;
        let mut opened = sealed.to_vec();
        let length = key.aead.open_in_place(Nonce::from(nonce), Aad::from(*name), &mut opened).ok()?.len();
        opened.truncate(length);
        Some(opened)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(PERIOD).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, Now::read())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, Now::read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(period: u64) -> Now {
        Now { monotonic: 0, unix_millis: period * PERIOD * 1_000 }
    }

    #[test]
    fn keys_live_for_two_periods() {
        let chain = Chain::new(at(100)).unwrap();
        let (one, other) = (Tickets::new(chain.clone()).unwrap(), Tickets::new(chain.clone()).unwrap());
        let ticket = one.seal(b"secret", at(100)).unwrap();
        assert!(!ticket.windows(6).any(|window| window == b"secret"));
        assert_eq!(other.open(&ticket, at(100)).as_deref(), Some(&b"secret"[..]), "workers share keys");
        assert_eq!(other.open(&ticket, at(101)).as_deref(), Some(&b"secret"[..]));
        assert_eq!(other.open(&ticket, at(102)), None);
        assert_eq!(other.open(&ticket, at(100)), None, "a clock that is set back brings no key back");

        // Another process, which walked along the same chain, or starts where the guard stands.
        let mut guard = chain;
        guard.advance(at(101));
        let later = Tickets::new(guard.clone()).unwrap();
        assert_eq!(later.open(&ticket, at(101)).as_deref(), Some(&b"secret"[..]));
        let ticket = one.seal(b"more", at(101)).unwrap();
        assert_eq!(later.open(&ticket, at(101)).as_deref(), Some(&b"more"[..]));
        let fresh = Tickets::new(Chain::new(at(101)).unwrap()).unwrap();
        assert_eq!(fresh.open(&ticket, at(101)), None);
        let own = fresh.seal(b"own", at(101)).unwrap();
        fresh.adopt(TicketKeys { own: guard, others: Vec::new(), forgets: false }, at(101));
        assert_eq!(fresh.open(&ticket, at(101)).as_deref(), Some(&b"more"[..]));
        assert_eq!(fresh.open(&own, at(102)).as_deref(), Some(&b"own"[..]), "what it has sealed itself is still good");
        assert_eq!(fresh.open(&own, at(103)), None, "for as long as any other");
        assert!(!format!("{fresh:?}").contains('['), "no key is shown");
    }

    /// Two machines that know each other's keys: each seals by its own, and keys end as if there were one machine.
    #[test]
    fn machines_open_each_others_tickets() {
        let (a, b) = (Chain::new(at(100)).unwrap(), Chain::new(at(100)).unwrap());
        let tickets = |own: &Chain, other: &Chain| {
            let tickets = Tickets::new(own.clone()).unwrap();
            tickets.adopt(TicketKeys { own: own.clone(), others: vec![other.clone()], forgets: false }, at(100));
            tickets
        };
        let (one, other) = (tickets(&a, &b), tickets(&b, &a));
        let ticket = one.seal(b"secret", at(100)).unwrap();
        for (period, expect) in [(100, true), (101, true), (102, false)] {
            assert_eq!(other.open(&ticket, at(period)).is_some(), expect, "{period}");
        }
        let later = one.seal(b"secret", at(200)).unwrap();
        assert!(other.open(&later, at(200)).is_some(), "nobody has to tell of the next key");
        let mut alone = b;
        alone.advance(at(200));
        other.adopt(TicketKeys { own: alone, others: Vec::new(), forgets: true }, at(200));
        assert_eq!(other.open(&later, at(200)), None, "of the cluster no more");
    }

    #[test]
    fn places_on_a_chain() {
        let chain = Chain::new(at(100)).unwrap();
        let mut later = chain.clone();
        later.advance(at(102));
        assert!(chain.is_same(&later) && later.is_same(&chain) && later.period() == 102);
        assert!(!chain.is_same(&Chain::new(at(100)).unwrap()));
        later.advance(at(103));
        assert!(!chain.is_same(&later), "too far apart");
        for (period, expect) in [(101, false), (102, true), (103, true), (104, true), (105, false)] {
            assert_eq!(later.is_of(at(period)), expect, "{period}");
        }
    }

    /// A clock that was ahead leaves no key that seals until the time comes again.
    #[test]
    fn d07_a_clock_that_was_ahead() {
        let mut chain = Chain::new(at(100)).unwrap();
        assert!(!chain.follow(at(100)) && !chain.follow(at(101)) && !chain.follow(at(100)), "an hour or so");
        assert!(!chain.follow(at(1_000)), "a chain is walked");
        let ahead = chain.clone();
        assert!(chain.follow(at(101)) && chain.period() == 101 && !chain.is_same(&ahead));
        assert!(chain.follow(at(20_000)) && !chain.follow(at(20_001)), "too far to walk");
    }

    #[test]
    fn whatever_clients_send() {
        let tickets = Tickets::new(Chain::new(at(1)).unwrap()).unwrap();
        let good = tickets.seal(b"secret", at(1)).unwrap();
        for length in 0..good.len() {
            assert_eq!(tickets.open(&good[..length], at(1)), None);
        }
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            assert_eq!(tickets.open(&bad, at(1)), None, "byte {place}");
        }
        assert_eq!(tickets.open(&[0; 10_000], at(1)), None);
        let far = at(1_000_000);
        assert!(tickets.seal(b"x", far).and_then(|ticket| tickets.open(&ticket, far)).is_some());
    }
}
