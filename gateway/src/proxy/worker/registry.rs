//! The live connections of a worker.

use std::rc::Rc;

use crate::proxy::connection::Connection;

/// The live connections of a worker, each at its place.
#[derive(Default)]
pub(super) struct Registry {
    live: Vec<Option<Rc<Connection>>>,
    free: Vec<usize>,
}

impl Registry {
    /// Adds a connection. Its place.
    pub(super) fn insert(&mut self, connection: Rc<Connection>) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.live.push(None);
            self.live.len() - 1
        });
        if let Some(free) = self.live.get_mut(place) {
            *free = Some(connection);
        }
        place
    }

    /// Removes the connection at `place`.
    pub(super) fn remove(&mut self, place: usize) {
        if let Some(place) = self.live.get_mut(place) {
            *place = None;
        }
        self.free.push(place);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Rc<Connection>> {
        self.live.iter().flatten()
    }
}
