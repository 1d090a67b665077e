//! The HTTP/2 connections of one worker to one server. A request gets a stream of the least busy connection. Another
//! connection is opened once all are full, up to `http2.connections`. Then requests queue for a free stream.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use tokio::sync::Notify;

use super::{H2Connection, StreamSlot};
use crate::{refusal::Refusal, settings::upstream::Http2};

/// The connections of one worker to one server.
pub(in crate::proxy::upstream) struct H2Pool {
    pub(in crate::proxy::upstream) settings: Http2,
    connections: RefCell<Vec<Rc<H2Connection>>>,
    /// Notified when a stream may be free, or an attempt to connect has ended.
    pub(in crate::proxy::upstream) room: Rc<Notify>,
    waiting: Cell<usize>,
    opening: Cell<bool>,
    /// How many attempts to connect have ended, and the error of the last.
    opened: Cell<u64>,
    failed: RefCell<Option<Refusal>>,
}

/// A request in the queue for a free stream, until dropped.
pub(in crate::proxy::upstream) struct Waiter<'a>(&'a H2Pool);

impl H2Pool {
    pub(in crate::proxy::upstream) fn new(settings: Http2) -> Self {
        Self {
            settings,
            connections: RefCell::default(),
            room: Rc::default(),
            waiting: Cell::new(0),
            opening: Cell::new(false),
            opened: Cell::new(0),
            failed: RefCell::default(),
        }
    }

    /// A free stream. Without a place in the queue (`waiting`) only if the queue does not need it.
    pub(in crate::proxy::upstream) fn take(&self, waiting: Option<&Waiter<'_>>) -> Option<StreamSlot> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| connection.is_open());
        if waiting.is_none() && self.waiting.get() > 0 {
            let room = connections.iter().fold(0_usize, |sum, connection| sum.saturating_add(connection.room()));
            if room <= self.waiting.get() {
                return None;
            }
        }
        let free = connections.iter().filter(|connection| connection.room() > 0);
        free.min_by_key(|connection| connection.active.get()).map(StreamSlot::take)
    }

    /// Enters the queue.
    pub(in crate::proxy::upstream) fn wait(&self) -> Waiter<'_> {
        self.waiting.set(self.waiting.get() + 1);
        Waiter(self)
    }

    /// Whether the caller is to open one more connection.
    pub(in crate::proxy::upstream) fn begin(&self) -> bool {
        self.connections.borrow().len() < self.settings.connections && !self.opening.replace(true)
    }

    /// Whether there is no connection.
    pub(in crate::proxy::upstream) fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty()
    }

    /// Whether there are as many connections as there may be.
    pub(in crate::proxy::upstream) fn is_full(&self) -> bool {
        self.connections.borrow().len() >= self.settings.connections
    }

    /// An attempt to connect has ended, with a connection or an error.
    pub(in crate::proxy::upstream) fn end(&self, failed: Option<Refusal>) {
        self.opening.set(false);
        self.opened.set(self.opened.get() + 1);
        self.failed.replace(failed);
        self.room.notify_waiters();
    }

    /// Adds a connection that all requests may use.
    pub(in crate::proxy::upstream) fn add(&self, connection: Rc<H2Connection>) {
        self.connections.borrow_mut().push(connection);
    }

    /// How many connections carry requests.
    pub(in crate::proxy::upstream) fn busy(&self) -> usize {
        self.connections.borrow().iter().filter(|connection| connection.active.get() > 0).count()
    }

    pub(in crate::proxy::upstream) fn openings(&self) -> u64 {
        self.opened.get()
    }

    /// The error of the last attempt to connect, if one ended since there were `before`.
    pub(in crate::proxy::upstream) fn failure(&self, before: u64) -> Option<Refusal> {
        if self.opened.get() == before { None } else { self.failed.borrow().clone() }
    }

    /// Drops connections that `keeps` does not keep. It is told their address, and since when they are idle. They close
    /// once their streams have ended.
    pub(in crate::proxy::upstream) fn sweep(&self, keeps: impl Fn(std::net::SocketAddr, Option<u64>) -> bool) {
        self.connections.borrow_mut().retain(|connection| {
            let idle = (connection.active.get() == 0).then(|| connection.since.get());
            connection.is_open() && keeps(connection.address, idle)
        });
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get().saturating_sub(1));
    }
}
