//! What all clients of a soak have in common.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::request_counts::RequestCounts;
use crate::{
    http1::Client,
    random::Random,
    world::{GOOD_V4, GOOD_V6, World},
};

/// `proxy.drain`.
pub(super) const DRAIN: Duration = Duration::from_secs(8);

/// What all clients have.
pub(super) struct Stage<'run> {
    pub(super) world: &'run World,
    pub(super) request_counts: &'run RequestCounts,
    pub(super) over: &'run AtomicBool,
    pub(super) token: &'run str,
}

impl<'run> Stage<'run> {
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(super) fn client(&self, random: &mut Random) -> Client<'run> {
        Client::new(self.world, if random.below(4) == 0 { GOOD_V6 } else { GOOD_V4 })
    }

    pub(super) fn tell(&self, client: &'static str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.request_counts.served(client),
            Err(how) => self.request_counts.failed(client, &how),
        }
    }
}
