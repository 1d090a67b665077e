//! Whether and why a connection is to be closed, and the task that is woken for it.

use std::{
    cell::{Cell, RefCell},
    task::{Context, Waker},
};

use crate::proxy::timing::deadline;

/// How a connection is to be closed. It only ever gets more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::proxy) enum Close {
    /// Not at all.
    No,
    /// When the requests in flight are answered.
    Graceful,
    /// At once.
    Now,
}

/// Why a connection is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum CloseReason {
    /// Its source was banned.
    Banned,
    /// The worker stops, or the listener is gone.
    Drain,
    /// It was idle for too long.
    Idle,
    /// Its client certificate has to be verified anew.
    Reverify,
    /// The client was too slow: with the handshake, with a head, or with taking a response.
    Slow,
}

/// Whether and why a connection is to be closed.
pub(super) struct Closing {
    close: Cell<Close>,
    /// Since when it is to be closed.
    since: Cell<u64>,
    why: Cell<Option<CloseReason>>,
    /// Whether the authorities or lists that its client certificate was verified by have changed since.
    stale: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Closing {
    /// A connection that is not to be closed.
    pub(super) const fn new() -> Self {
        Self {
            close: Cell::new(Close::No),
            since: Cell::new(0),
            why: Cell::new(None),
            stale: Cell::new(false),
            waker: RefCell::new(None),
        }
    }

    /// Closes it. The first reason that is given stays.
    pub(super) fn shut(&self, close: Close, why: CloseReason) {
        if self.close.get() >= close {
            return;
        }
        self.close.set(close);
        self.since.set(deadline::now());
        if self.why.get().is_none() {
            self.why.set(Some(why));
        }
        self.wake();
    }

    /// The trust that its client certificate was verified by has changed.
    pub(super) fn grow_stale(&self) {
        self.stale.set(true);
    }

    pub(super) const fn is_stale(&self) -> bool {
        self.stale.get()
    }

    pub(super) const fn close(&self) -> Close {
        self.close.get()
    }

    pub(super) const fn since(&self) -> u64 {
        self.since.get()
    }

    pub(super) const fn why(&self) -> Option<CloseReason> {
        self.why.get()
    }

    /// Wakes the task that drives it.
    pub(super) fn wake(&self) {
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// How it is to be closed. The task that asks is woken when that changes.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Close {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.close.get()
    }
}
