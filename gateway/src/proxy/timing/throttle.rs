//! Holds a body back to its bandwidth: the next piece waits until those before are paid for. Whoever sends it is held back in
//! turn, as nobody reads meanwhile.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use crate::{os::clock, policy::limit::bandwidth::Pacers};

/// Holds one body back, or one direction of a tunnel.
pub(in crate::proxy) struct Throttle {
    pacers: Pacers,
    sleep: Pin<Box<Sleep>>,
    waits: bool,
}

impl Throttle {
    /// What others have passed is to be paid for, too.
    pub(in crate::proxy) fn new(pacers: Pacers) -> Self {
        let mut throttle = Self { pacers, sleep: Box::pin(sleep(Duration::ZERO)), waits: false };
        throttle.pass(0);
        throttle
    }

    /// Ready once more may pass.
    pub(in crate::proxy) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waits {
            ready!(self.sleep.as_mut().poll(cx));
            self.waits = false;
        }
        Poll::Ready(())
    }

    /// So many bytes have passed.
    pub(in crate::proxy) fn pass(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let wait = self.pacers.pass(bytes, clock::monotonic());
        if wait > 0 {
            self.sleep.as_mut().reset(Instant::now() + Duration::from_nanos(wait));
            self.waits = true;
        }
    }
}
