//! TLS session tickets and their keys: the key of the current six hours, and the one before.
//!
//! Keys form a chain: each is made from the one before by a function that cannot be turned back, and is forgotten after
//! its successor's time. All workers have the same, and so have the proxies before and after a reload or a crash: the
//! guard walks along the same chain. *Invariant:* no key older than two periods is kept anywhere.

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

use crate::clock::Now;

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
        while self.period < period {
            self.before = Some(self.link);
            self.link = derive(&self.link, b"gateway tickets: next");
            self.period += 1;
        }
    }
}

fn derive(link: &[u8; 32], what: &[u8]) -> [u8; 32] {
    let made = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, link), what);
    let mut key = [0; 32];
    key.iter_mut().zip(made.as_ref()).for_each(|(to, from)| *to = *from);
    key
}

/// Seals and opens tickets.
pub struct Tickets {
    state: RwLock<State>,
}

struct State {
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

impl State {
    fn of(chain: Chain) -> Option<Self> {
        let before = match &chain.before {
            Some(link) => Some(Key::of(link)?),
            None => None,
        };
        Some(Self { current: Key::of(&chain.link)?, before, chain })
    }
}

impl Tickets {
    /// Begins at some place of a chain. `None`: the library refuses.
    #[must_use]
    pub fn new(chain: Chain) -> Option<Self> {
        Some(Self { state: RwLock::new(State::of(chain)?) })
    }

    /// Goes on from another chain: the guard's.
    pub fn adopt(&self, chain: Chain) {
        if let Some(state) = State::of(chain) {
            *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        }
    }

    fn roll(&self, now: Now) {
        let due = now.unix_seconds() / PERIOD;
        if self.state.read().unwrap_or_else(PoisonError::into_inner).chain.period >= due {
            return;
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut chain = state.chain.clone();
        chain.advance(now);
        if let Some(next) = State::of(chain) {
            *state = next;
        }
    }

    fn seal(&self, plain: &[u8], now: Now) -> Option<Vec<u8>> {
        self.roll(now);
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let Key { name, aead } = &state.current;
        let mut sealed = plain.to_vec();
        let nonce = aead.seal_in_place_append_tag(Aad::from(*name), &mut sealed).ok()?;
        Some([&name[..], nonce.as_ref(), &sealed].concat())
    }

    fn open(&self, ticket: &[u8], now: Now) -> Option<Vec<u8>> {
        self.roll(now);
        let (name, rest) = ticket.split_first_chunk::<8>()?;
        let (nonce, sealed) = rest.split_first_chunk::<12>()?;
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let key = [Some(&state.current), state.before.as_ref()].into_iter().flatten().find(|key| key.name == *name)?;
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
        fresh.adopt(guard);
        assert_eq!(fresh.open(&ticket, at(101)).as_deref(), Some(&b"more"[..]));
        assert!(!format!("{fresh:?}").contains('['), "no key is shown");
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
