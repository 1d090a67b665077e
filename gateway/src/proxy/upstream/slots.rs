//! The limits on requests in flight and pending requests, over all workers. A request holds its slots until it drops
//! them.

use std::{ops::Deref, rc::Rc, sync::Arc};

use super::server::state::UpstreamState;

/// One worker's handle to the state that all workers share. Cloned by `Rc`, as the count of the `Arc` is shared with
/// the other workers.
pub(super) struct StateHandle(pub(super) Arc<UpstreamState>);

impl Deref for StateHandle {
    type Target = UpstreamState;

    fn deref(&self) -> &UpstreamState {
        &self.0
    }
}

/// A request in flight at one server, until dropped.
pub(super) struct InFlight {
    state: Rc<StateHandle>,
    server: usize,
}

/// One of `max_requests`, until dropped.
pub(super) struct RequestSlot(Rc<StateHandle>);

/// One of `max_pending`, until dropped.
pub(super) struct PendingSlot<'a>(&'a UpstreamState);

impl InFlight {
    /// Counts a request at a server.
    pub(super) fn new(state: &Rc<StateHandle>, server: usize) -> Self {
        state.enter(server);
        Self { state: Rc::clone(state), server }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.state.leave(self.server);
    }
}

impl RequestSlot {
    /// `None`: the limit is reached.
    pub(super) fn take(state: &Rc<StateHandle>) -> Option<Self> {
        state.begin().then(|| Self(Rc::clone(state)))
    }
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<'a> PendingSlot<'a> {
    /// `None`: the limit is reached.
    pub(super) fn take(state: &'a UpstreamState) -> Option<Self> {
        state.wait().then_some(Self(state))
    }
}

impl Drop for PendingSlot<'_> {
    fn drop(&mut self) {
        self.0.wait_no_more();
    }
}
