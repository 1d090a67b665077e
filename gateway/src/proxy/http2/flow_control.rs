//! Counts what either side may still send on a connection of HTTP/2 (RFC 9113 5.2, 6.9), and what is held in memory for
//! clients whose windows are shut.
//!
//! *Invariant:* a client may send again only what somebody has taken, and makes us hold no more than [`MAX_HELD`] bytes
//! of responses, whatever it does with its windows (H04).

use std::{cell::Cell, rc::Rc};

use super::frame::{ConnectionError, MOST, Reason};

/// How much a client may send of one body, and of all bodies of a connection, before some of it was taken, in bytes.
pub(super) const STREAM_WINDOW: u32 = 256 * 1_024;
pub(super) const CONNECTION_WINDOW: u32 = 1_024 * 1_024;

/// Every window before its owner says otherwise (RFC 9113 6.9.2), in bytes.
const DEFAULT_WINDOW: u32 = 65_535;

/// How much of all responses of a connection may be held for want of windows, in bytes. What is over that is left with
/// the upstreams (H04).
const MAX_HELD: usize = 256 * 1_024;

/// The windows of a connection, and who waits for them. Sets of streams have a bit for each slot.
pub(super) struct FlowControl {
    /// How much more the client may send in all.
    receivable: u32,
    /// How much of what it sent was taken, and may be sent again. Request bodies add to it.
    freed: Rc<Cell<u32>>,
    /// How much more we may send in all, and at first on each stream. A client may make it negative.
    window: i64,
    initial: i64,
    /// How much of all responses is held.
    held: usize,
    /// The streams that wait until the connection's window opens, and until less is held.
    wait_for_window: u128,
    wait_for_memory: u128,
}

impl FlowControl {
    pub(super) fn new() -> Self {
        Self {
            receivable: CONNECTION_WINDOW,
            freed: Rc::default(),
            window: i64::from(DEFAULT_WINDOW),
            initial: i64::from(DEFAULT_WINDOW),
            held: 0,
            wait_for_window: 0,
            wait_for_memory: 0,
        }
    }

    /// What the client is told at first: by how much the connection's window is larger than the default.
    pub(super) const fn first_grant() -> u32 {
        CONNECTION_WINDOW - DEFAULT_WINDOW
    }

    /// Counts DATA that came.
    ///
    /// # Errors
    /// It is more than the client may send.
    #[inline]
    pub(super) fn received(&mut self, length: u32) -> Result<(), ConnectionError> {
        let left = self.receivable.checked_sub(length);
        self.receivable = left.ok_or(ConnectionError(Reason::FlowControl, "more DATA than the connection's window"))?;
        Ok(())
    }

    /// Nobody takes this DATA: the client may send as much again.
    pub(super) fn free(&self, length: u32) {
        self.freed.set(self.freed.get().saturating_add(length));
    }

    /// Where request bodies count what was taken of them.
    pub(super) const fn freed(&self) -> &Rc<Cell<u32>> {
        &self.freed
    }

    /// How much more the client is to be told that it may send, once that is worth a frame.
    #[inline]
    pub(super) fn grant(&mut self) -> Option<u32> {
        let freed = self.freed.get();
        if freed < CONNECTION_WINDOW / 2 {
            return None;
        }
        self.freed.set(0);
        self.receivable = self.receivable.saturating_add(freed);
        Some(freed)
    }

    /// The window of a new stream.
    pub(super) const fn initial(&self) -> i64 {
        self.initial
    }

    /// The client changes the window that streams begin with. By how much those that there are change.
    ///
    /// # Errors
    /// It is larger than any window may be.
    pub(super) fn set_initial(&mut self, value: u32) -> Result<i64, ConnectionError> {
        if value > MOST {
            return Err(ConnectionError(Reason::FlowControl, "SETTINGS_INITIAL_WINDOW_SIZE too large"));
        }
        let change = i64::from(value) - self.initial;
        self.initial = i64::from(value);
        Ok(change)
    }

    /// The client takes more on the connection. The streams that waited for it.
    ///
    /// # Errors
    /// The window would be larger than any may be, or the client opens it by nothing.
    #[inline]
    pub(super) fn opened(&mut self, more: u32) -> Result<u128, ConnectionError> {
        if more == 0 {
            return Err(ConnectionError::protocol("WINDOW_UPDATE by nothing"));
        }
        self.window += i64::from(more);
        if self.window > i64::from(MOST) {
            return Err(ConnectionError(Reason::FlowControl, "window too large"));
        }
        Ok(std::mem::take(&mut self.wait_for_window))
    }

    /// How much may be sent now on a stream that has this `window`.
    #[inline]
    pub(super) fn sendable(&self, window: i64) -> usize {
        usize::try_from(window.min(self.window)).unwrap_or(0)
    }

    /// Whether nothing may be sent on any stream.
    pub(super) const fn is_shut(&self) -> bool {
        self.window == 0
    }

    /// Counts what was sent of what is held, on a stream that has this `window`.
    #[inline]
    pub(super) fn sent(&mut self, length: usize, window: &mut i64) {
        self.held = self.held.saturating_sub(length);
        let sent = i64::try_from(length).unwrap_or(i64::MAX);
        (*window, self.window) = (*window - sent, self.window - sent);
    }

    /// Whether no more may be held.
    #[inline]
    pub(super) const fn is_full(&self) -> bool {
        self.held >= MAX_HELD
    }

    /// Counts a piece of a response that is held until it may be sent.
    #[inline]
    pub(super) const fn hold(&mut self, length: usize) {
        self.held += length;
    }

    /// A held piece will not be sent.
    pub(super) const fn drop_held(&mut self, length: usize) {
        self.held = self.held.saturating_sub(length);
    }

    /// The stream at `slot` waits until the connection's window opens.
    pub(super) const fn wait_for_window(&mut self, slot: usize) {
        self.wait_for_window |= 1 << slot;
    }

    /// The stream at `slot` waits until less is held.
    pub(super) const fn wait_for_memory(&mut self, slot: usize) {
        self.wait_for_memory |= 1 << slot;
    }

    /// The streams that waited until less is held, if so much less is.
    #[inline]
    pub(super) fn with_memory(&mut self) -> u128 {
        if self.is_full() { 0 } else { std::mem::take(&mut self.wait_for_memory) }
    }
}

#[cfg(any(test, fuzzing))]
impl FlowControl {
    /// How much the client may send, how much it may be told to send again, and how much is held of responses, in bytes.
    pub(super) fn accounts(&self) -> (u32, u32, usize) {
        (self.receivable, self.freed.get(), self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_sends_again_what_was_taken() {
        let mut flow = FlowControl::new();
        flow.received(CONNECTION_WINDOW).unwrap();
        assert!(flow.received(1).is_err(), "nothing was taken");
        flow.free(CONNECTION_WINDOW / 2 - 1);
        assert_eq!(flow.grant(), None, "not worth a frame");
        flow.freed().set(flow.freed().get() + 1);
        assert_eq!((flow.grant(), flow.grant()), (Some(CONNECTION_WINDOW / 2), None));
        flow.received(CONNECTION_WINDOW / 2).unwrap();
        assert!(flow.received(1).is_err());
    }

    #[test]
    fn windows_open_within_their_limits() {
        let mut flow = FlowControl::new();
        assert_eq!(flow.sendable(10), 10);
        assert_eq!(flow.sendable(i64::from(MOST)), 65_535);
        assert_eq!(flow.sendable(-1), 0);
        let mut window = 70_000;
        flow.hold(65_535);
        flow.sent(65_535, &mut window);
        assert!((window, flow.sendable(window), flow.is_shut()) == (4_465, 0, true));
        flow.wait_for_window(7);
        assert_eq!(flow.opened(MOST), Ok(1 << 7));
        assert_eq!(flow.opened(0), Err(ConnectionError::protocol("WINDOW_UPDATE by nothing")));
        assert_eq!(flow.opened(1), Err(ConnectionError(Reason::FlowControl, "window too large")));
        assert_eq!(flow.set_initial(0), Ok(-65_535));
        assert_eq!(flow.set_initial(MOST), Ok(i64::from(MOST)));
        assert!(flow.set_initial(MOST + 1).is_err());
        assert_eq!(flow.initial(), i64::from(MOST));
    }

    #[test]
    fn h04_streams_wait_until_less_is_held() {
        let mut flow = FlowControl::new();
        flow.hold(MAX_HELD - 1);
        assert!(!flow.is_full());
        flow.hold(2);
        flow.wait_for_memory(127);
        assert!(flow.is_full() && flow.with_memory() == 0);
        flow.drop_held(1);
        assert_eq!(flow.with_memory(), 0);
        flow.drop_held(1);
        assert_eq!((flow.with_memory(), flow.with_memory()), (1 << 127, 0));
    }
}
