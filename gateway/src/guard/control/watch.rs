//! Decides who is told of decisions as they are made: whoever asked, in order, for as long as they keep up.
//!
//! *Invariant:* the guard never waits for a watcher. So many events wait for each; one who is further behind is let go,
//! and counted.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde_json::{Map, Value};
use tokio::sync::broadcast;

use crate::guard::audit::time;

/// Events that wait for a watcher.
const BACKLOG: usize = 1_024;

/// How many may watch at once.
pub(crate) const MOST: usize = 8;

/// Everybody who watches.
#[derive(Clone, Debug)]
pub(crate) struct Watchers {
    events: broadcast::Sender<Arc<str>>,
    too_slow: Arc<AtomicU64>,
}

impl Default for Watchers {
    fn default() -> Self {
        Self { events: broadcast::channel(BACKLOG).0, too_slow: Arc::default() }
    }
}

impl Watchers {
    /// Whether there is anybody to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.receiver_count() == 0
    }

    /// One more; `None`: there are too many.
    pub(crate) fn join(&self) -> Option<broadcast::Receiver<Arc<str>>> {
        (self.events.receiver_count() < MOST).then(|| self.events.subscribe())
    }

    /// Tells all.
    pub(crate) fn tell(&self, line: &str) {
        // Nobody may be left since it was asked.
        drop(self.events.send(line.into()));
    }

    /// One was let go because it did not keep up.
    pub(crate) fn let_go(&self) {
        self.too_slow.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were let go.
    pub(crate) fn too_slow(&self) -> u64 {
        self.too_slow.load(Ordering::Relaxed)
    }
}

/// A decision as watchers see it: what the audit chain records of it, without the chain.
pub(crate) fn line(event: &str, unix_millis: u64, members: &Map<String, Value>) -> String {
    let mut shown = members.clone();
    shown.insert("event".to_owned(), event.into());
    shown.insert("time".to_owned(), time(unix_millis).into());
    Value::Object(shown).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_waited_for() {
        let watchers = Watchers::default();
        assert!(watchers.is_empty());
        let mut all: Vec<_> = std::iter::from_fn(|| watchers.join()).collect();
        assert_eq!(all.len(), MOST, "bounded");
        for number in 0..=BACKLOG {
            watchers.tell(&line("ban", 0, &Map::from_iter([("number".to_owned(), number.into())])));
            if number == 0 {
                assert!(all[0].try_recv().unwrap().contains("\"event\":\"ban\""));
            }
        }
        assert!(all[0].try_recv().is_ok(), "it kept up");
        assert!(matches!(all[1].try_recv(), Err(broadcast::error::TryRecvError::Lagged(1))), "it did not");
        watchers.let_go();
        assert_eq!(watchers.too_slow(), 1);
    }
}
