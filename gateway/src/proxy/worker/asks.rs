//! Requests for bans on their way to the guard. Each is kept until the guard has said that it has heard it, and is said again
//! to the next guard: one that dies takes none with it.
//!
//! *Invariant:* at most [`MOST`] are kept; over that the oldest goes. The guard judges by when an offence was noted, and
//! whatever it has decided already stays as it was.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    collections::swap::Swap,
    message::{ToGuard, channel::Sender},
    policy::detect::BanRequest,
};

/// The most requests that are kept.
pub(in crate::proxy) const MOST: usize = 1_024;

/// The way to the guard for requests for bans, and those that it may not have heard.
pub(in crate::proxy) struct BanRequests {
    /// `None`: there is no guard, or the control thread alone has a way to it.
    way: Swap<Option<Sender>>,
    kept: Mutex<Unacknowledged>,
}

#[derive(Default)]
struct Unacknowledged {
    /// Each with the number of the last answer to a ping before it.
    asks: VecDeque<(u64, BanRequest)>,
    /// The last answer to a ping.
    answered: u64,
    has_guard: bool,
    /// How many went that no guard has heard.
    lost: u64,
}

impl BanRequests {
    pub(in crate::proxy) fn new() -> Self {
        Self { way: Swap::new(None), kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Unacknowledged> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the guard at once. Returns what the control thread has to pass on, as the socket is full.
    pub(in crate::proxy) fn ask(&self, ask: BanRequest) -> Option<BanRequest> {
        let mut kept = self.kept();
        if kept.asks.len() >= MOST {
            kept.asks.pop_front();
            kept.lost += u64::from(!kept.has_guard);
        }
        let answered = kept.answered;
        kept.asks.push_back((answered, ask.clone()));
        let has_guard = kept.has_guard;
        drop(kept);
        if !has_guard {
            return None;
        }
        let message = ToGuard::BanRequest(Box::new(ask));
        if self.way.load().as_ref().as_ref().is_some_and(|way| way.try_send(&message).is_ok()) {
            return None;
        }
        if let ToGuard::BanRequest(ask) = message { Some(*ask) } else { None }
    }

    /// There is a guard. `way` leads to it directly. Returns whatever it may not have heard.
    pub(in crate::proxy) fn begin(&self, way: Option<Sender>) -> Vec<BanRequest> {
        let mut kept = self.kept();
        (kept.answered, kept.has_guard) = (0, true);
        kept.asks.iter_mut().for_each(|(answered, _)| *answered = 0);
        let asks = kept.asks.iter().map(|(_, ask)| ask.clone()).collect();
        self.way.store(way);
        asks
    }

    /// There is no guard any more.
    pub(in crate::proxy) fn end(&self) {
        self.kept().has_guard = false;
        self.way.store(None);
    }

    /// The guard pings, and has heard the answer number `heard`; it is answered with `number`.
    pub(in crate::proxy) fn answer(&self, number: u64, heard: u64) {
        let mut kept = self.kept();
        kept.answered = number;
        // One that was kept just before an answer may have been said just after it.
        kept.asks.retain(|(answered, _)| answered.saturating_add(1) >= heard);
    }

    /// How many no guard will ever hear, since the last call.
    pub(in crate::proxy) fn take_lost(&self) -> u64 {
        std::mem::take(&mut self.kept().lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{message::channel, signal::Signal};

    fn ask(number: u64) -> BanRequest {
        BanRequest {
            source: "192.0.2.1".parse().unwrap(),
            address: "192.0.2.1".parse().unwrap(),
            relay: None,
            rule: "r".to_owned(),
            signal: Signal::ALL[0],
            evidence: Vec::new(),
            seconds: 60,
            shadow: false,
            noted: number,
        }
    }

    fn numbers(asks: &[BanRequest]) -> Vec<u64> {
        asks.iter().map(|ask| ask.noted).collect()
    }

    #[test]
    fn what_a_guard_may_not_have_heard_is_said_again() {
        let asks = BanRequests::new();
        assert!(asks.ask(ask(1)).is_none(), "it waits for a guard");
        let (ours, _theirs) = channel::pair().unwrap();
        assert_eq!(numbers(&asks.begin(Some(Sender::new(ours)))), [1]);
        assert!(asks.ask(ask(2)).is_none());
        // Nothing is confirmed before a whole answer lies between.
        asks.answer(1, 0);
        assert!(asks.ask(ask(3)).is_none());
        asks.answer(2, 1);
        assert!(asks.ask(ask(4)).is_none());
        asks.end();
        assert!(asks.ask(ask(5)).is_none());
        assert_eq!(numbers(&asks.begin(None)), [1, 2, 3, 4, 5]);
        asks.answer(1, 0);
        assert!(asks.ask(ask(6)).is_some_and(|ask| ask.noted == 6), "the control thread has the only way");
        asks.answer(2, 1);
        asks.answer(3, 2);
        asks.end();
        assert_eq!(numbers(&asks.begin(None)), [6], "those before the first answer were heard");
        asks.answer(1, 0);
        asks.answer(2, 1);
        asks.answer(3, 2);
        assert!(asks.begin(None).is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let asks = BanRequests::new();
        let most = u64::try_from(MOST).unwrap();
        (0..most + 7).for_each(|number| drop(asks.ask(ask(number))));
        assert_eq!((asks.take_lost(), asks.take_lost()), (7, 0));
        assert_eq!(numbers(&asks.begin(None)), (7..most + 7).collect::<Vec<_>>());
        // A guard that is there hears them, kept or not.
        drop(asks.ask(ask(0)));
        assert_eq!((asks.take_lost(), asks.kept().asks.len()), (0, MOST));
    }
}
