//! How the client takes what we send: whether it has stopped, and how fast it is.

use std::{cell::Cell, time::Duration};

use crate::proxy::timing::{deadline, min_rate::MinRate};

/// How the client takes what we send.
#[derive(Default)]
pub(super) struct WriteProgress {
    /// When it stopped taking it; 0: it has not.
    stalled: Cell<u64>,
    rate: Cell<MinRate>,
    /// When it last took something of the write buffer.
    taken: Cell<u64>,
}

impl WriteProgress {
    /// The client takes `taken` bytes of what we send. `None`: it takes nothing, and we wait.
    pub(super) fn writing(&self, taken: Option<usize>) {
        match (taken, self.stalled.get()) {
            (None, 0) => {
                self.stalled.set(deadline::now());
                self.rate.update(|mut rate| {
                    rate.waits(deadline::now());
                    rate
                });
            }
            (Some(taken), since) => {
                if since != 0 {
                    self.stalled.set(0);
                }
                self.rate.update(|mut rate| {
                    rate.moved(u64::try_from(taken).unwrap_or(u64::MAX), deadline::now());
                    rate
                });
            }
            _ => {}
        }
    }

    /// The client takes something of the write buffer.
    pub(super) fn takes(&self) {
        self.taken.set(deadline::now());
    }

    /// Since when it takes nothing. `None`: it takes what we send.
    pub(super) const fn stalled(&self) -> Option<u64> {
        match self.stalled.get() {
            0 => None,
            since => Some(since),
        }
    }

    /// When it last took something of the write buffer.
    pub(super) const fn last(&self) -> u64 {
        self.taken.get()
    }

    /// Whether it took less than `least` bytes a second in a window that was waited through.
    pub(super) fn is_too_slow(&self, now: u64, window: Duration, least: u64) -> bool {
        let mut rate = self.rate.get();
        let is_too_slow = rate.is_too_slow(now, window, least);
        self.rate.set(rate);
        is_too_slow
    }
}
