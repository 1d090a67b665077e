//! What is done beside the loop, as it may take long: nothing that a disk or a long table is needed for keeps a ban
//! waiting.
//!
//! *Operators.* Who is logged in stands in tables as long as there are connections. Rules' bans do not wait for it: they
//! are judged by what was seen last, at most [`LOOK`] ago, and each is judged again by a look that began after it was
//! made. Such a look begins [`SETTLE`] after the first of them: it takes a core that a burst of bans needs. Whoever
//! logged in meanwhile is let go again some milliseconds later, which TCP makes up for. What an operator asks for waits
//! for a look, which begins at once.
//!
//! *Disks.* The audit chain is flushed, and the store's log brought into its file, by other threads.

use tokio::{sync::mpsc, time::Instant};

use crate::{
    guard::{
        audit::Unflushed,
        bans::{self, ProtectedAddresses},
        control::{ControlRequest, server::Call},
        lifecycle::{
            service::{Done, ObservedAddresses, Ready, Service, in_background},
            timer::instant,
        },
        log_files, store,
    },
    os::{
        self, SchedulingPolicy,
        clock::{self, Now},
    },
};

/// After so many seconds everything around is looked at again.
const LOOK: u64 = 10;

/// So long after a ban of a rule it is looked who is logged in, in nanoseconds: 10 ms.
const SETTLE: u64 = 10_000_000;

/// The store's log is brought into its file every so many seconds.
const CHECKPOINT: u64 = 15;

/// What was refused is recorded every so many seconds.
const MINUTE: u64 = 60;

/// Looks take one part in so many of a core at most.
const SPARE: u32 = 10;

fn look(everything: bool) -> ObservedAddresses {
    let (began, start) = (clock::monotonic(), Instant::now());
    let operators = bans::operators();
    let protected = everything.then(|| ProtectedAddresses::look(&[], false));
    // What could not be read protects as it did before.
    let protected = protected.and_then(|(seen, unknown)| unknown.is_empty().then_some(seen));
    ObservedAddresses { began, took: start.elapsed(), protected, operators }
}

impl Service<'_> {
    /// An operator asks: at once, or once it is known who is logged in.
    pub(super) fn hear_call(&mut self, call: Call, prepared: &mpsc::Sender<Ready>, beside: &mpsc::Sender<Done>) {
        let Some(call) = self.authorize(call) else { return };
        match call.request {
            ControlRequest::BlockAdd { .. } | ControlRequest::BlockImportBegin { .. } => {
                self.call_once_looked(call, beside)
            }
            _ => self.call(call, prepared),
        }
    }

    /// Keeps an operator's request until it is known who is logged in.
    pub(super) fn call_once_looked(&mut self, call: Call, beside: &mpsc::Sender<Done>) {
        self.background.calls.push((call, clock::monotonic()));
        self.look(false, beside);
    }

    /// When it is to be looked who is logged in; `None`: nobody needs to know.
    pub(super) fn look_due(&self) -> Option<Instant> {
        if self.background.is_looking {
            return None;
        }
        if !self.background.calls.is_empty() {
            return Some(Instant::now());
        }
        let settled = instant(self.guard.unproven_since()?.saturating_add(SETTLE));
        Some(self.background.rested.map_or(settled, |rested| rested.max(settled)))
    }

    pub(super) fn look(&mut self, everything: bool, beside: &mpsc::Sender<Done>) {
        if !std::mem::replace(&mut self.background.is_looking, true) {
            in_background(beside, move || Done::Seen(Box::new(look(everything))));
        }
    }

    pub(super) fn seen(&mut self, seen: ObservedAddresses) -> Vec<Call> {
        self.background.is_looking = false;
        self.background.rested = Some(Instant::now() + seen.took * SPARE);
        self.guard.saw(seen.protected, seen.operators, seen.began, Now::read());
        let (over, left) =
            std::mem::take(&mut self.background.calls).into_iter().partition(|(_, came)| *came <= seen.began);
        self.background.calls = left;
        let over: Vec<(Call, u64)> = over;
        over.into_iter().map(|(call, _)| call).collect()
    }

    /// Once a second.
    pub(super) fn tick_background(&mut self, beside: &mpsc::Sender<Done>) {
        self.keep_again();
        if self.ticks.is_multiple_of(LOOK) {
            self.look(true, beside);
        }
        if !self.background.is_flushing
            && let Some(chain) = self.guard.unflushed()
        {
            self.background.is_flushing = true;
            in_background(beside, move || Done::Flushed(chain.run()));
        }
        if self.ticks.is_multiple_of(LOOK)
            && let Some(path) = self.guard.compressible()
        {
            in_background(beside, move || {
                // Nobody waits for it, so it interrupts nobody.
                os::schedule(SchedulingPolicy::Batch).unwrap_or_default();
                let done = log_files::compress(&path);
                os::schedule(SchedulingPolicy::Normal).unwrap_or_default();
                Done::Compressed(path, done)
            });
        }
        if self.ticks.is_multiple_of(MINUTE) {
            self.guard.record_refusals(&self.reports.counts.told().refused, Now::read());
        }
        self.send_anchors(beside);
        if self.ticks.is_multiple_of(CHECKPOINT)
            && !self.background.is_checkpointing
            && let Some(path) = self.guard.store_path()
        {
            self.background.is_checkpointing = true;
            in_background(beside, move || Done::Checkpointed(store::checkpoint(&path)));
        }
    }

    pub(super) fn flushed(&mut self, flushed: Result<(), Unflushed>) {
        self.background.is_flushing = false;
        if let Err(unflushed) = flushed {
            self.guard.not_flushed(unflushed);
        }
    }

    pub(super) fn checkpointed(&mut self, done: Result<(), store::StoreError>) {
        self.background.is_checkpointing = false;
        if let Err(error) = done {
            tracing::debug!(%error, "the store's log is not in its file yet");
        }
    }
}
