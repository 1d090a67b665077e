//! Threads that compare passwords with their hashes, which takes long on purpose: no worker does it itself.
//!
//! *Invariant:* the sources take turns, and each has a bounded number of comparisons waiting: whoever tries passwords
//! keeps nobody else's waiting for longer than one comparison of its own. A comparison that many requests wait for is
//! made once.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use gateway_common::source::Source;
use tokio::sync::oneshot;

use crate::{
    os::{self, SchedulingPolicy},
    policy::auth::PasswordCheck,
    refusal::{Refusal, Reject},
    settings::basic,
};

/// The threads that compare passwords.
pub(super) struct Passwords(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Something was put into the queue, or it was closed.
    changed: Condvar,
}

/// The comparisons that wait, and who waits for them.
#[derive(Default)]
struct Queue {
    /// By source, the oldest first. No source is there without any.
    waiting: HashMap<Source, VecDeque<Box<PasswordCheck>>>,
    /// The sources, the next one first.
    turns: VecDeque<Source>,
    /// How many comparisons wait, of all sources.
    count: usize,
    /// Who is told of a comparison that waits or is made.
    told: HashMap<[u8; 32], Vec<oneshot::Sender<bool>>>,
    /// Nobody waits any more: the threads end.
    is_closed: bool,
}

impl Passwords {
    /// Starts `threads` threads, which end when this is dropped.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let passwords = Self(Arc::default());
        for index in 0..threads.max(1) {
            let shared = Arc::clone(&passwords.0);
            let thread = std::thread::Builder::new().name(format!("password-{index}"));
            thread.spawn(move || compare_all(&shared))?;
        }
        Ok(passwords)
    }

    /// Compares a password for a request of `source`.
    ///
    /// # Errors
    /// [`Reject::TooManyRequests`]: too many comparisons of the source wait. [`Reject::Unavailable`]: too many of all.
    pub(super) async fn compare(
        &self,
        check: Box<PasswordCheck>,
        source: Source,
        settings: &basic::Settings,
    ) -> Result<bool, Refusal> {
        let (teller, told) = oneshot::channel();
        self.0.lock().enter(check, source, settings, teller)?;
        self.0.changed.notify_one();
        told.await.map_err(|_gone| later(Reject::Unavailable, "no thread compares passwords"))
    }
}

impl Drop for Passwords {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next comparison; `None`: there will be none any more.
    fn next(&self) -> Option<Box<PasswordCheck>> {
        let mut queue = self.lock();
        while !queue.is_closed {
            if let Some(check) = queue.next() {
                return Some(check);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }
}

impl Queue {
    fn enter(
        &mut self,
        check: Box<PasswordCheck>,
        source: Source,
        settings: &basic::Settings,
        teller: oneshot::Sender<bool>,
    ) -> Result<(), Refusal> {
        if let Some(others) = self.told.get_mut(check.key()) {
            others.retain(|other| !other.is_closed());
            others.push(teller);
            return Ok(());
        }
        let of_source = self.waiting.get(&source).map_or(0, VecDeque::len);
        if of_source >= settings.max_waiting_per_source {
            return Err(later(Reject::TooManyRequests, "over basic.max_waiting_per_source"));
        }
        if self.count >= settings.max_waiting {
            return Err(later(Reject::Unavailable, "over basic.max_waiting"));
        }
        self.told.insert(*check.key(), vec![teller]);
        if of_source == 0 {
            self.turns.push_back(source);
        }
        self.waiting.entry(source).or_default().push_back(check);
        self.count += 1;
        Ok(())
    }

    /// The next comparison that somebody still waits for.
    fn next(&mut self) -> Option<Box<PasswordCheck>> {
        while let Some(source) = self.turns.pop_front() {
            let waiting = self.waiting.get_mut(&source)?;
            let check = waiting.pop_front();
            if waiting.is_empty() {
                self.waiting.remove(&source);
            } else {
                self.turns.push_back(source);
            }
            let check = check?;
            self.count = self.count.saturating_sub(1);
            // Their clients may have left.
            if self.told.get(check.key()).is_some_and(|told| told.iter().any(|teller| !teller.is_closed())) {
                return Some(check);
            }
            self.told.remove(check.key());
        }
        None
    }
}

fn compare_all(shared: &Shared) {
    // The workers go first.
    if let Err(error) = os::schedule(SchedulingPolicy::Batch) {
        tracing::debug!("the kernel refuses batch scheduling: {error}");
    }
    while let Some(check) = shared.next() {
        let is_right = check.compare();
        let told = shared.lock().told.remove(check.key());
        for teller in told.into_iter().flatten() {
            teller.send(is_right).unwrap_or_default();
        }
    }
}

fn later(reject: Reject, why: &'static str) -> Refusal {
    Refusal { retry_after: Some(1), ..Refusal::new(reject, why) }
}
