//! Decides which HTTP/2 connection to a server carries a request: the least busy that has room. Another one is opened
//! once all are full, as long as there are not too many; then requests wait for room, those who came first before
//! others.

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
    /// Told when there may be room, or an opening has come to something.
    pub(in crate::proxy::upstream) room: Rc<Notify>,
    waiting: Cell<usize>,
    opening: Cell<bool>,
    /// How many openings have come to something, and what the last one failed with.
    opened: Cell<u64>,
    failed: RefCell<Option<Refusal>>,
}

/// Somebody who waits for room, until dropped.
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

    /// A place on a connection. Without `waiting` only if nobody who came before needs it.
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

    /// Queues up.
    pub(in crate::proxy::upstream) fn wait(&self) -> Waiter<'_> {
        self.waiting.set(self.waiting.get() + 1);
        Waiter(self)
    }

    /// Whether one more connection is to be opened, which is begun by whoever is told so.
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

    /// An opening has come to something: a connection for others too, or none.
    pub(in crate::proxy::upstream) fn end(&self, failed: Option<Refusal>) {
        self.opening.set(false);
        self.opened.set(self.opened.get() + 1);
        self.failed.replace(failed);
        self.room.notify_waiters();
    }

    /// Lets others have `connection`, too.
    pub(in crate::proxy::upstream) fn add(&self, connection: Rc<H2Connection>) {
        self.connections.borrow_mut().push(connection);
    }

    pub(in crate::proxy::upstream) fn openings(&self) -> u64 {
        self.opened.get()
    }

    /// What the opening that ended last failed with, if one ended since there were `before`.
    pub(in crate::proxy::upstream) fn failure(&self, before: u64) -> Option<Refusal> {
        if self.opened.get() == before { None } else { self.failed.borrow().clone() }
    }

    /// Lets connections go that `keeps` does not keep, told their address and since when they are idle; they close
    /// once their requests are answered.
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
