//! Finds out for requests what only others know: the keys of issuers, the names of crawlers. On a thread of its own, so
//! that no worker waits and no document that somebody else wrote keeps anybody from serving.
//!
//! *Invariant:* a worker hands over what it needs and goes on. Everything is bounded: how much waits, how long, how large
//! an answer is. Whoever asks for the same gets the same answer.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::policy::{
    auth::{Authenticators, Lookup, LookupAnswer, jwt::KeySet},
    detect::HostQuestion,
};

mod crawlers;
mod dns;
pub(in crate::proxy) mod flights;
mod introspection;
mod job;
mod keepers;
mod keys;
mod metadata;
pub(in crate::proxy) mod news;
pub(super) mod probe;
mod thread;

pub(in crate::proxy) use self::job::Requester;
use self::{job::LookupJob, news::News};
pub(in crate::proxy) use crate::outbound::client;

/// The most lookups that wait for the thread.
const QUEUE: usize = 1_024;

/// The most news that wait for the control thread.
const NEWS: usize = 256;

/// Why there is no answer: for the log.
const BUSY: &str = "too many lookups wait";
const LATE: &str = "it could not be looked up in time";

/// The way to the thread. It is started once there is something to look up.
pub(in crate::proxy) struct Lookups {
    jobs: mpsc::Sender<LookupJob>,
    /// What the thread is started with.
    unstarted: Mutex<Option<(mpsc::Receiver<LookupJob>, mpsc::Sender<News>)>>,
    news: Mutex<Option<mpsc::Receiver<News>>>,
    /// How many requests wait.
    waiting: AtomicU64,
    /// How many got no answer in time, or no place to wait.
    unanswered: AtomicU64,
}

impl Default for Lookups {
    fn default() -> Self {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (tell, news) = mpsc::channel(NEWS);
        Self {
            jobs,
            unstarted: Mutex::new(Some((queue, tell))),
            news: Mutex::new(Some(news)),
            waiting: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
        }
    }
}

impl Lookups {
    /// Starts the thread, unless it runs.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub(in crate::proxy) fn start(&self) -> std::io::Result<()> {
        let unstarted = self.unstarted.lock().unwrap_or_else(PoisonError::into_inner).take();
        match unstarted {
            Some((jobs, news)) => thread::start(jobs, news),
            None => Ok(()),
        }
    }

    /// Keeps the keys up to date from now on that these authenticators need, and no others, and answers what they ask.
    pub(in crate::proxy) async fn serve(&self, authenticators: &Authenticators) {
        let sets: Vec<Arc<KeySet>> = authenticators.key_sets().cloned().collect();
        let is_started = self.unstarted.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        if sets.is_empty() && !authenticators.asks_servers() && !is_started {
            return;
        }
        match self.start() {
            Ok(()) => self.jobs.send(LookupJob::Keep(sets)).await.unwrap_or_default(),
            Err(error) => tracing::error!("nothing can be looked up: there is no thread for it: {error}"),
        }
    }

    /// Looks crawlers up from now on.
    pub(in crate::proxy) fn serve_crawlers(&self) {
        if let Err(error) = self.start() {
            tracing::error!("no crawler can be verified: there is no thread for it: {error}");
        }
    }

    /// Looks a crawler up. Nobody waits for it; where there is no room it is asked again later.
    pub(in crate::proxy) fn verify(&self, question: HostQuestion) {
        drop(self.jobs.try_send(LookupJob::Verify(question)));
    }

    /// What becomes of what is kept up to date. To be called once.
    pub(in crate::proxy) fn take_news(&self) -> Option<mpsc::Receiver<News>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How many requests wait, and how many got no answer in time or no place to wait.
    pub(in crate::proxy) fn counts(&self) -> (u64, u64) {
        (self.waiting.load(Ordering::Relaxed), self.unanswered.load(Ordering::Relaxed))
    }

    /// Finds something out, within `wait`.
    ///
    /// # Errors
    /// There is no room to wait, or no answer in time.
    pub(in crate::proxy) async fn find(
        &self,
        lookup: Lookup,
        asker: Requester,
        wait: Duration,
    ) -> Result<LookupAnswer, &'static str> {
        let (answer, answered) = oneshot::channel();
        let asked = self.jobs.try_send(LookupJob::Find(lookup, asker, answer)).map_err(|_full| BUSY);
        let answer = match asked {
            Ok(()) => {
                let _waiting = WaiterGuard::new(&self.waiting);
                match timeout(wait, answered).await {
                    // The thread drops what it has no room for.
                    Ok(answer) => answer.map_err(|_dropped| BUSY),
                    Err(_late) => Err(LATE),
                }
            }
            Err(busy) => Err(busy),
        };
        if answer.is_err() {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}

/// One more waits, until this is dropped: clients leave.
struct WaiterGuard<'a>(&'a AtomicU64);

impl<'a> WaiterGuard<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
