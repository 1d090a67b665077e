//! Threads that validate large requests, so that no other request of a worker waits for them.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    os::{self, SchedulingPolicy},
    policy::validate::schema::STACK,
    refusal::{Refusal, Reject},
};

/// The most bodies that wait.
const QUEUE: usize = 256;

/// The threads that validate bodies.
pub(super) struct Validators {
    /// `None`: no route asks for it.
    jobs: Option<SyncSender<Job>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Validators {
    /// For a proxy that validates no bodies.
    pub(super) const fn none() -> Self {
        Self { jobs: None }
    }

    /// Starts `threads` threads, which end when this is dropped.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for index in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            let thread = std::thread::Builder::new().name(format!("validator-{index}")).stack_size(STACK);
            thread.spawn(move || judge_all(&queue))?;
        }
        Ok(Self { jobs: Some(jobs) })
    }

    /// Whether there are threads.
    pub(super) const fn are_started(&self) -> bool {
        self.jobs.is_some()
    }

    /// Has a body judged.
    ///
    /// # Errors
    /// The body is invalid, or too many bodies wait.
    pub(super) async fn validate(
        &self,
        body: Bytes,
        judge: impl FnOnce(&[u8]) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<(), Refusal> {
        self.run(move || judge(&body)).await?
    }

    /// Judges something on one of the threads.
    ///
    /// # Errors
    /// Too much waits.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        judge: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let busy = |why| Refusal { retry_after: Some(1), ..Refusal::new(Reject::Unavailable, why) };
        let (verdict, judged) = oneshot::channel();
        let job = move || {
            // Its client may have left meanwhile.
            if !verdict.is_closed() {
                drop(verdict.send(judge()));
            }
        };
        let Some(jobs) = &self.jobs else { return Err(busy("no thread validates bodies")) };
        jobs.try_send(Box::new(job)).map_err(|error| match error {
            TrySendError::Full(_) => busy("too many bodies wait for validation"),
            TrySendError::Disconnected(_) => busy("no thread validates bodies"),
        })?;
        judged.await.map_err(|_dropped| busy("no thread validates bodies"))
    }
}

fn judge_all(queue: &Mutex<Receiver<Job>>) {
    // The workers go first.
    if let Err(error) = os::schedule(SchedulingPolicy::Batch) {
        tracing::debug!("the kernel refuses batch scheduling: {error}");
    }
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        job();
    }
}
