//! Waits for what the kernel program tells in a ring: not for each packet, but for some that came together.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use tokio::io::{Interest, unix::AsyncFd};

/// Packets are gathered for so long before they are told, so that a flood does not wake the guard for each.
const GATHER: Duration = Duration::from_millis(100);

/// A ring of the kernel program, and when to read it.
pub(super) struct Ring {
    ring: Option<AsyncFd<OwnedFd>>,
    due: Option<Instant>,
}

impl Ring {
    /// Over a ring, where there is one; `what` shows nothing without. Inside the runtime alone.
    pub(super) fn new(ring: Option<OwnedFd>, what: &str) -> Self {
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that may change their descriptor; ours owns it"
        )]
        let ring = ring.map(|ring| AsyncFd::with_interest(ring, Interest::READABLE));
        let ring = ring.transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "packets cannot be waited for: `{what}` shows none");
            None
        });
        Self { ring, due: None }
    }

    /// Waits until there is something to read, and some more. Nothing is lost if it is given up.
    pub(super) async fn wait(&mut self) {
        let due = match self.due {
            Some(due) => due,
            None => {
                let Some(ring) = &self.ring else { return std::future::pending().await };
                match ring.readable().await {
                    Ok(mut ready) => ready.clear_ready(),
                    Err(_shut_down) => return std::future::pending().await,
                }
                *self.due.insert(Instant::now() + GATHER)
            }
        };
        tokio::time::sleep_until(due.into()).await;
    }

    /// It was read; whether something was left in it.
    pub(super) fn is_read(&mut self, is_left: bool) {
        self.due = is_left.then(|| Instant::now() + GATHER);
    }
}
