//! Letters between guards that wait in the proxy: for the store, and for the guard. What they say is none of the proxy's
//! business: it cannot read them.
//!
//! *Invariant:* whatever waits is bounded. What there is no room for stays in the store; what is lost is counted, and comes
//! with the next whole.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use crate::message::cluster::{LETTERS_BYTES, LONGEST_LETTER, MAX_LETTERS};

/// The most changes that wait for the store.
const MOST_OUT: usize = 512;

/// The most letters that wait for the guard, and the most bytes of them: several wholes.
const MOST_IN: usize = 4_096;
const MOST_IN_BYTES: usize = 16 * 1_024 * 1_024;

/// The largest whole, in bytes.
const MOST_WHOLE: usize = 3 * 1_024 * 1_024;

/// What waits, either way.
#[derive(Default)]
pub(in crate::proxy) struct PeerQueues {
    out: Mutex<Outbox>,
    /// Something waits for the store.
    arrived: Notify,
    heard: Mutex<Inbox>,
    /// Letters that were thrown away.
    lost: AtomicU64,
}

#[derive(Default)]
struct Inbox {
    letters: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// What waits for the store.
#[derive(Default)]
struct Outbox {
    changes: VecDeque<Vec<u8>>,
    /// The parts of a whole, until all have come.
    parts: Vec<Vec<u8>>,
    whole: Option<Vec<u8>>,
}

impl PeerQueues {
    /// The guard has a letter.
    pub(in crate::proxy) fn change(&self, letter: Vec<u8>) {
        let mut out = lock(&self.out);
        if out.changes.len() < MOST_OUT {
            out.changes.push_back(letter);
        } else {
            self.count_lost(1);
        }
        drop(out);
        self.arrived.notify_one();
    }

    /// The guard has a part of a whole.
    pub(in crate::proxy) fn part(&self, part: u16, of: u16, letter: Vec<u8>) {
        let mut out = lock(&self.out);
        if part == 0 {
            out.parts.clear();
        }
        if out.parts.len() != usize::from(part) {
            return;
        }
        out.parts.push(letter);
        if out.parts.len() < usize::from(of) {
            return;
        }
        let parts = std::mem::take(&mut out.parts);
        let mut whole = Vec::new();
        for letter in parts {
            whole.extend_from_slice(&u32::try_from(letter.len()).unwrap_or(0).to_le_bytes());
            whole.extend_from_slice(&letter);
        }
        if whole.len() > MOST_WHOLE {
            tracing::warn!(bytes = whole.len(), "all that the guard has decided is too much for the store");
            self.count_lost(u64::from(of));
            return;
        }
        out.whole = Some(whole);
        drop(out);
        self.arrived.notify_one();
    }

    /// Waits until something waits for the store.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Takes what waits for the store.
    pub(super) fn take_out(&self) -> (VecDeque<Vec<u8>>, Option<Vec<u8>>) {
        let mut out = lock(&self.out);
        (std::mem::take(&mut out.changes), out.whole.take())
    }

    /// Letters of others, as many as a message has room for; none: there are none.
    pub(in crate::proxy) fn take_heard(&self) -> Vec<Vec<u8>> {
        let mut heard = lock(&self.heard);
        let (mut letters, mut bytes) = (Vec::new(), 0);
        while letters.len() < MAX_LETTERS
            && let Some(letter) = heard.letters.front()
            && bytes + letter.len() <= LETTERS_BYTES
        {
            bytes += letter.len();
            letters.extend(heard.letters.pop_front());
        }
        heard.bytes -= bytes;
        letters
    }

    /// Letters of another machine have come: all of them are kept for the guard, or none. `false`: there is no room yet.
    /// What no guard would read is thrown away.
    pub(super) fn hear(&self, letters: &[&[u8]]) -> bool {
        let fits = |letter: &&&[u8]| letter.len() <= LONGEST_LETTER;
        let count = letters.iter().filter(fits).count();
        let bytes: usize = letters.iter().filter(fits).map(|letter| letter.len()).sum();
        let lost = if count > MOST_IN || bytes > MOST_IN_BYTES {
            letters.len()
        } else {
            let mut heard = lock(&self.heard);
            if heard.letters.len() + count > MOST_IN || heard.bytes + bytes > MOST_IN_BYTES {
                return false;
            }
            heard.letters.extend(letters.iter().filter(fits).map(|letter| letter.to_vec()));
            heard.bytes += bytes;
            letters.len() - count
        };
        self.count_lost(u64::try_from(lost).unwrap_or(u64::MAX));
        true
    }

    pub(super) fn count_lost(&self, letters: u64) {
        self.lost.fetch_add(letters, Ordering::Relaxed);
    }

    /// How many letters were thrown away.
    pub(in crate::proxy) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_goes_out_once_all_parts_are_there() {
        let peer_queues = PeerQueues::default();
        for (part, of, letter) in [(1, 2, "lost"), (0, 2, "a"), (0, 2, "one"), (1, 2, "two")] {
            peer_queues.part(part, of, letter.as_bytes().to_vec());
        }
        assert_eq!(peer_queues.take_out().1.unwrap(), b"\x03\0\0\0one\x03\0\0\0two");
        assert_eq!(peer_queues.take_out().1, None);
    }

    #[test]
    fn whatever_waits_is_bounded_and_what_is_lost_is_counted() {
        let peer_queues = PeerQueues::default();
        (0..2_000).for_each(|_| peer_queues.change(vec![1]));
        assert_eq!(peer_queues.take_out().0.len(), MOST_OUT);
        let mut lost = 2_000 - u64::try_from(MOST_OUT).unwrap();
        assert_eq!(peer_queues.lost(), lost);

        let long = vec![1; LONGEST_LETTER + 1];
        assert!(peer_queues.hear(&[&[1], &long]), "what nobody would read stays nowhere");
        lost += 1;
        let many: Vec<&[u8]> = vec![&[1]; MOST_IN];
        assert!(!peer_queues.hear(&many), "all of them, or none");
        assert_eq!(peer_queues.take_heard().len(), 1);
        assert!(peer_queues.hear(&many));
        assert!(!peer_queues.hear(&[&[1]]), "there is no room: it stays in the store");
        assert_eq!(peer_queues.lost(), lost);
        let too_many: Vec<&[u8]> = vec![&[1]; MOST_IN + 1];
        assert!(peer_queues.hear(&too_many), "there never is room for it");
        lost += u64::try_from(MOST_IN).unwrap() + 1;
        assert_eq!(peer_queues.lost(), lost);

        let mut heard = 0;
        while let taken @ 1.. = peer_queues.take_heard().len() {
            assert!(taken <= MAX_LETTERS);
            heard += taken;
        }
        assert_eq!((heard, lock(&peer_queues.heard).bytes), (MOST_IN, 0));
        let large = vec![1; LONGEST_LETTER];
        let of_size: Vec<&[u8]> = vec![&large; MOST_IN_BYTES / LONGEST_LETTER];
        assert!(peer_queues.hear(&of_size) && !peer_queues.hear(&[&[1]]), "bytes are bounded as well");
    }
}
