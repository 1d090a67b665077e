//! What a connection is doing, and since when.

use std::cell::Cell;

use crate::proxy::timing::deadline;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Handshake,
    /// Nothing has come yet.
    Fresh,
    /// A head is arriving.
    Head,
    /// Between requests.
    Idle,
    /// A request is in flight.
    Busy,
    /// We send nothing more, and the client may still be sending. The code that reads from it has a deadline.
    Lingering,
}

/// What a connection is doing, and how many requests it has.
pub(super) struct Activity {
    /// Whether it speaks HTTP/2.
    multiplexed: Cell<bool>,
    phase: Cell<Phase>,
    since: Cell<u64>,
    /// Whether it has been idle for a while.
    silent: Cell<bool>,
    in_flight: Cell<u32>,
    /// How many requests have begun on it.
    begun: Cell<u64>,
}

impl Activity {
    /// A connection that was just accepted.
    pub(super) fn new() -> Self {
        Self {
            multiplexed: Cell::new(false),
            phase: Cell::new(Phase::Handshake),
            since: Cell::new(deadline::now()),
            silent: Cell::new(false),
            in_flight: Cell::new(0),
            begun: Cell::new(0),
        }
    }

    /// The handshake is done, or there is none.
    pub(super) fn established(&self, multiplexed: bool) {
        self.multiplexed.set(multiplexed);
        self.enter(if multiplexed { Phase::Idle } else { Phase::Fresh });
    }

    /// Bytes came in.
    pub(super) fn received(&self) {
        if matches!(self.phase.get(), Phase::Fresh | Phase::Idle) && !self.multiplexed.get() {
            self.enter(Phase::Head);
        }
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.begun.set(self.begun.get() + 1);
        self.phase.set(Phase::Busy);
        self.silent.set(false);
    }

    /// A request is answered, to the last byte or not.
    pub(super) fn end(&self) {
        let left = self.in_flight.get().saturating_sub(1);
        self.in_flight.set(left);
        if left == 0 {
            self.enter(Phase::Idle);
        }
    }

    /// We wait for what the client still sends.
    pub(super) fn lingers(&self) {
        if self.phase.get() != Phase::Busy {
            self.enter(Phase::Lingering);
        }
    }

    /// We wait for that no more.
    pub(super) fn rests_again(&self) {
        if self.phase.get() == Phase::Lingering {
            self.enter(Phase::Idle);
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(deadline::now());
        self.silent.set(false);
    }

    /// Whether it speaks HTTP/2.
    pub(super) const fn is_multiplexed(&self) -> bool {
        self.multiplexed.get()
    }

    /// What it is doing, and since when.
    pub(super) const fn phase(&self) -> (Phase, u64) {
        (self.phase.get(), self.since.get())
    }

    /// How many requests are in flight.
    pub(super) const fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Whether a request has begun on it.
    pub(super) const fn has_begun(&self) -> bool {
        self.begun.get() > 0
    }

    /// Whether it has been idle for a while.
    pub(super) const fn is_silent(&self) -> bool {
        self.silent.get()
    }

    /// It has been idle for a while.
    pub(super) fn fall_silent(&self) {
        self.silent.set(true);
    }
}
