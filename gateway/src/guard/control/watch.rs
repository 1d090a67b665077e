//! Decides who is told of what happens as it happens: whoever asked, in order, for as long as they keep up.
//!
//! *Invariant:* the guard never waits for a watcher. So many lines wait for each; one who is further behind is let go,
//! and counted, if it was decisions that he missed, and is told how many he missed if it was packets.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde_json::{Map, Value};
use tokio::sync::{
    Notify,
    broadcast::{self, Receiver, error::RecvError},
};

use crate::clock;

/// Lines of each kind that wait for a watcher.
const BACKLOG: usize = 1_024;

/// How many may watch at once.
pub(crate) const MOST: usize = 8;

/// Everybody who watches.
#[derive(Clone, Debug)]
pub(crate) struct Watchers {
    decisions: broadcast::Sender<Arc<str>>,
    packets: broadcast::Sender<Arc<str>>,
    /// Somebody wants packets, and nobody did before.
    wanted: Arc<Notify>,
    too_slow: Arc<AtomicU64>,
}

impl Default for Watchers {
    fn default() -> Self {
        let channel = || broadcast::channel(BACKLOG).0;
        let (decisions, packets) = (channel(), channel());
        Self { decisions, packets, wanted: Arc::default(), too_slow: Arc::default() }
    }
}

/// What a watcher hears next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WatchEvent {
    /// A line.
    Line(Arc<str>),
    /// So many lines about packets were missed.
    Skipped(u64),
    /// A decision was missed.
    TooSlow,
    /// There is nothing more to hear.
    Ended,
}

/// One who watches.
#[derive(Debug)]
pub(crate) struct Watcher {
    decisions: Option<Receiver<Arc<str>>>,
    packets: Option<Receiver<Arc<str>>>,
}

impl Watchers {
    /// Whether there is nobody to tell of decisions.
    pub(crate) fn is_empty(&self) -> bool {
        self.decisions.receiver_count() == 0
    }

    /// Whether there is anybody to tell of packets.
    pub(crate) fn want_packets(&self) -> bool {
        self.packets.receiver_count() > 0
    }

    /// Waits until somebody wants packets whom nobody has told of any.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// One more; `None`: there are too many.
    pub(crate) fn join(&self, decisions: bool, packets: bool) -> Option<Watcher> {
        if self.decisions.receiver_count().max(self.packets.receiver_count()) >= MOST {
            return None;
        }
        let joined = Watcher {
            decisions: decisions.then(|| self.decisions.subscribe()),
            packets: packets.then(|| self.packets.subscribe()),
        };
        if packets && self.packets.receiver_count() == 1 {
            self.wanted.notify_one();
        }
        Some(joined)
    }

    /// Tells all who want to hear of decisions.
    pub(crate) fn tell(&self, line: &str) {
        // Nobody may be left since it was asked.
        drop(self.decisions.send(line.into()));
    }

    /// Tells all who want to hear of packets.
    pub(crate) fn tell_packet(&self, line: &str) {
        drop(self.packets.send(line.into()));
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

impl Watcher {
    /// What comes next. Nothing is lost if this is given up before it is there.
    pub(crate) async fn hear(&mut self) -> WatchEvent {
        tokio::select! {
            decision = next(&mut self.decisions) => match decision {
                Ok(line) => WatchEvent::Line(line),
                Err(RecvError::Lagged(_)) => WatchEvent::TooSlow,
                Err(RecvError::Closed) => WatchEvent::Ended,
            },
            packet = next(&mut self.packets) => match packet {
                Ok(line) => WatchEvent::Line(line),
                Err(RecvError::Lagged(missed)) => WatchEvent::Skipped(missed),
                Err(RecvError::Closed) => WatchEvent::Ended,
            },
        }
    }
}

async fn next(lines: &mut Option<Receiver<Arc<str>>>) -> Result<Arc<str>, RecvError> {
    match lines {
        Some(lines) => lines.recv().await,
        None => std::future::pending().await,
    }
}

/// A decision as watchers see it: what the audit chain records of it, without the chain.
pub(crate) fn line(event: &str, unix_millis: u64, members: &Map<String, Value>) -> String {
    let mut shown = members.clone();
    shown.insert("event".to_owned(), event.into());
    shown.insert("time".to_owned(), clock::rfc3339(unix_millis).into());
    Value::Object(shown).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let hear = |watcher: &mut Watcher| runtime.block_on(watcher.hear());
        let watchers = Watchers::default();
        assert!(watchers.is_empty() && !watchers.want_packets());
        let mut all: Vec<_> = std::iter::from_fn(|| watchers.join(true, false)).collect();
        assert_eq!(all.len(), MOST, "bounded");
        assert!(!watchers.want_packets());
        let number = |number: usize| line("ban", 0, &Map::from_iter([("number".to_owned(), number.into())]));
        for at in 0..=BACKLOG {
            watchers.tell(&number(at));
            if at == 0 {
                assert!(matches!(hear(&mut all[0]), WatchEvent::Line(line) if line.contains("\"event\":\"ban\"")));
            }
        }
        assert!(matches!(hear(&mut all[0]), WatchEvent::Line(_)), "it kept up");
        assert_eq!(hear(&mut all[1]), WatchEvent::TooSlow);
        watchers.let_go();
        assert_eq!(watchers.too_slow(), 1);

        all.clear();
        let mut packets = watchers.join(false, true).unwrap();
        assert!(watchers.is_empty() && watchers.want_packets());
        watchers.tell("a decision");
        (0..BACKLOG + 7).for_each(|_| watchers.tell_packet("a packet"));
        assert_eq!(hear(&mut packets), WatchEvent::Skipped(7));
        assert_eq!(hear(&mut packets), WatchEvent::Line("a packet".into()));
    }
}
