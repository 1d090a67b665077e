//! Decides where bodies are judged that take longer than a worker may be held: on a few threads of their own, so that
//! nobody else's request waits for them.

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
    os::{self, Policy},
    refusal::{Refusal, Reject},
    validate::schema::{STACK, Schema},
};

/// How many bodies wait at most.
const QUEUE: usize = 256;

/// The threads that judge bodies.
pub(in crate::proxy) struct Validators {
    /// `None`: no route has a schema.
    jobs: Option<SyncSender<Job>>,
}

struct Job {
    schema: Arc<Schema>,
    body: Bytes,
    verdict: oneshot::Sender<Result<(), Refusal>>,
}

impl Validators {
    /// Of a proxy that judges no bodies.
    pub(in crate::proxy) const fn none() -> Self {
        Self { jobs: None }
    }

    /// Starts `threads`, which end with this.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(in crate::proxy) fn start(threads: usize) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for index in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            let thread = std::thread::Builder::new().name(format!("validator-{index}")).stack_size(STACK);
            thread.spawn(move || judge_all(&queue))?;
        }
        Ok(Self { jobs: Some(jobs) })
    }

    /// Judges a body.
    ///
    /// # Errors
    /// It is refused, or there are too many.
    pub(in crate::proxy) async fn validate(&self, schema: Arc<Schema>, body: Bytes) -> Result<(), Refusal> {
        let busy = |why| Refusal { retry_after: Some(1), ..Refusal::new(Reject::Unavailable, why) };
        let (verdict, judged) = oneshot::channel();
        let Some(jobs) = &self.jobs else { return Err(busy("nobody judges bodies")) };
        jobs.try_send(Job { schema, body, verdict }).map_err(|error| match error {
            TrySendError::Full(_) => busy("too many bodies wait to be judged"),
            TrySendError::Disconnected(_) => busy("nobody judges bodies"),
        })?;
        judged.await.unwrap_or_else(|_dropped| Err(busy("nobody judges bodies")))
    }
}

fn judge_all(queue: &Mutex<Receiver<Job>>) {
    // Whoever answers many at once goes first.
    if let Err(error) = os::schedule(Policy::Batch) {
        tracing::debug!("scheduling is refused: {error}");
    }
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { schema, body, verdict }) = job else { return };
        // Its client may have left meanwhile.
        if !verdict.is_closed() {
            verdict.send(schema.validate(&body)).unwrap_or_default();
        }
    }
}
