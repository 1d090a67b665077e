//! Interim responses (1xx) of an upstream on their way from the code that reads them to the code that writes them.
//!
//! *Invariant:* they are left here only while the response of their own request is being polled. Whoever polls takes them
//! before anything else is polled, so they need no stream number and wake nobody.

use std::cell::RefCell;

use http::response::Parts;

/// Who gets the interim responses of an upstream.
pub(super) trait InterimSink {
    /// Takes one, which says nothing about the final response.
    fn pass(&self, head: Parts);
}

/// The interim responses of one request that its client has not been sent.
#[derive(Default)]
pub(super) struct InterimQueue(RefCell<Vec<Parts>>);

impl InterimQueue {
    pub(super) fn push(&self, head: Parts) {
        self.0.borrow_mut().push(head);
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    pub(super) fn take(&self) -> Vec<Parts> {
        self.0.take()
    }
}
