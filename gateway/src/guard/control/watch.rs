//! Sends events to watchers as they happen, in order, for as long as they keep up.
//!
//! *Invariant:* the guard never waits for a watcher. So many lines wait for each; one who is further behind is let go,
//! and counted, if it was decisions that he missed, and is told how many he missed if it was packets.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use gateway_common::{
    source::Source,
    trace::{TRACES, Trace},
};
use serde_json::{Map, Value};
use tokio::sync::{
    Notify,
    broadcast::{self, Receiver, error::RecvError},
    oneshot,
};

use crate::os::clock;

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
    traces: Arc<Mutex<Traces>>,
    /// What is traced has changed.
    retraced: Arc<Notify>,
}

/// Which packets those who watch want lines about, and where the lines go.
#[derive(Debug, Default)]
struct Traces {
    /// The id of the youngest.
    last: u32,
    wanted: Vec<(Trace, broadcast::Sender<Arc<str>>)>,
    /// Those who wait until their trace is in force, by its id.
    waiting: Vec<(u32, oneshot::Sender<Begun>)>,
    /// Those who wait until the first sample can be theirs.
    samples: Vec<oneshot::Sender<Begun>>,
}

/// Whether what somebody watches is told from now on; what keeps it from being told.
type Begun = Result<(), String>;

/// What somebody watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchTarget {
    /// Decisions, samples of packets, or both.
    Events {
        /// Decisions.
        decisions: bool,
        /// Samples.
        packets: bool,
    },
    /// Lines of the kernel program.
    Kernel {
        /// About whose packets; `None`: everybody's.
        source: Option<Source>,
        /// Only about those that are dropped or answered.
        drops_only: bool,
    },
}

impl Default for Watchers {
    fn default() -> Self {
        let channel = || broadcast::channel(BACKLOG).0;
        let (decisions, packets) = (channel(), channel());
        Self {
            decisions,
            packets,
            wanted: Arc::default(),
            too_slow: Arc::default(),
            traces: Arc::default(),
            retraced: Arc::default(),
        }
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
    begun: Option<oneshot::Receiver<Begun>>,
    _trace: Option<Tracing>,
}

/// Has packets traced for as long as it lives.
#[derive(Debug)]
struct Tracing {
    id: u32,
    watchers: Watchers,
}

impl Drop for Tracing {
    fn drop(&mut self) {
        let mut traces = self.watchers.traces_mut();
        traces.wanted.retain(|(trace, _)| trace.id != self.id);
        traces.waiting.retain(|(id, _)| *id != self.id);
        drop(traces);
        self.watchers.retrace();
    }
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
    pub(crate) fn join(&self, watched: WatchTarget) -> Option<Watcher> {
        let (decisions, packets) = match watched {
            WatchTarget::Events { decisions, packets } => (decisions, packets),
            WatchTarget::Kernel { source, drops_only } => return self.join_trace(source, drops_only),
        };
        if self.decisions.receiver_count().max(self.packets.receiver_count()) >= MOST {
            return None;
        }
        let mut joined = Watcher {
            decisions: decisions.then(|| self.decisions.subscribe()),
            packets: packets.then(|| self.packets.subscribe()),
            begun: None,
            _trace: None,
        };
        let is_first = packets && self.packets.receiver_count() == 1;
        let mut traces = self.traces_mut();
        if is_first || packets && !traces.samples.is_empty() {
            let (sender, begun) = oneshot::channel();
            traces.samples.push(sender);
            joined.begun = Some(begun);
        }
        drop(traces);
        if is_first {
            self.wanted.notify_one();
        }
        Some(joined)
    }

    /// Decisions from now on, for whoever sends them on as long as the gateway runs.
    pub(crate) fn follow(&self) -> Receiver<Arc<str>> {
        self.decisions.subscribe()
    }

    fn join_trace(&self, source: Option<Source>, drops_only: bool) -> Option<Watcher> {
        let id = self.next_trace();
        let mut traces = self.traces_mut();
        // One is the setting's.
        if traces.wanted.len() + 1 >= TRACES as usize {
            return None;
        }
        let (sender, lines) = broadcast::channel(BACKLOG);
        let (waiting, begun) = oneshot::channel();
        traces.wanted.push((Trace::new(id, source, drops_only), sender));
        traces.waiting.push((id, waiting));
        drop(traces);
        self.retrace();
        let tracing = Tracing { id, watchers: self.clone() };
        Some(Watcher { decisions: None, packets: Some(lines), begun: Some(begun), _trace: Some(tracing) })
    }

    /// Packets are sampled from now on.
    pub(crate) fn samples_begun(&self) {
        let waiting = std::mem::take(&mut self.traces_mut().samples);
        // Who has gone meanwhile waits no more.
        waiting.into_iter().for_each(|one| drop(one.send(Ok(()))));
    }

    /// These are traced from now on, or cannot be, and why.
    pub(crate) fn traces_begun(&self, traces: &[Trace], begun: &Begun) {
        let mut all = self.traces_mut();
        let is_one = |(id, _): &mut (u32, _)| traces.iter().any(|trace| trace.id == *id);
        for (_, one) in all.waiting.extract_if(.., is_one) {
            drop(one.send(begun.clone()));
        }
    }

    /// An id for a trace, which no other one has.
    pub(crate) fn next_trace(&self) -> u32 {
        let mut traces = self.traces_mut();
        // 0 is none.
        traces.last = traces.last.wrapping_add(1).max(1);
        traces.last
    }

    /// What is to be traced for those who watch.
    pub(crate) fn traces(&self) -> Vec<Trace> {
        self.traces_mut().wanted.iter().map(|(trace, _)| *trace).collect()
    }

    /// What is to be traced has changed.
    pub(crate) fn retrace(&self) {
        self.retraced.notify_one();
    }

    /// Waits until what is to be traced has changed.
    pub(crate) async fn retraced(&self) {
        self.retraced.notified().await;
    }

    /// Tells the one who wanted this traced.
    pub(crate) fn tell_traced(&self, id: u32, line: &str) {
        if let Some((_, sender)) = self.traces_mut().wanted.iter().find(|(trace, _)| trace.id == id) {
            drop(sender.send(line.into()));
        }
    }

    fn traces_mut(&self) -> MutexGuard<'_, Traces> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Waits until nothing that happens from now on is missed; what keeps it from being told.
    pub(crate) async fn begun(&mut self) -> Begun {
        match self.begun.take() {
            Some(begun) => begun.await.unwrap_or_else(|_dropped| Err("the guard is stopping".to_owned())),
            None => Ok(()),
        }
    }

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

    const fn events(decisions: bool, packets: bool) -> WatchTarget {
        WatchTarget::Events { decisions, packets }
    }

    #[test]
    fn lines_go_to_whom_they_are_for_until_he_goes() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let watchers = Watchers::default();
        let kernel = |source: &str| WatchTarget::Kernel { source: Some(source.parse().unwrap()), drops_only: false };
        let (mut one, two) = (watchers.join(kernel("192.0.2.1")).unwrap(), watchers.join(kernel("192.0.2.2")).unwrap());
        let ids: Vec<u32> = watchers.traces().iter().map(|trace| trace.id).collect();
        assert_eq!(ids, [1, 2]);
        watchers.tell_traced(2, "two");
        watchers.tell_traced(9, "nobody's");
        watchers.tell_traced(1, "one");
        assert_eq!(runtime.block_on(one.hear()), WatchEvent::Line("one".into()));
        drop(two);
        assert_eq!(watchers.traces().len(), 1);
        let more: Vec<_> = std::iter::from_fn(|| watchers.join(kernel("192.0.2.3"))).collect();
        assert_eq!(more.len() + 2, TRACES as usize, "bounded, and one is left for the setting");
        drop((one, more));
        assert!(watchers.traces().is_empty());
    }

    #[test]
    fn who_watches_is_told_once_nothing_is_missed() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let begun = |watcher: &mut Watcher| {
            let soon = tokio::time::Duration::from_millis(1);
            runtime.block_on(async { tokio::time::timeout(soon, watcher.begun()).await.ok() })
        };
        let (watchers, kernel) = (Watchers::default(), WatchTarget::Kernel { source: None, drops_only: false });
        let mut traced = watchers.join(kernel).unwrap();
        watchers.traces_begun(&[], &Ok(()));
        watchers.samples_begun();
        assert_eq!(begun(&mut traced), None, "its trace is not in force");
        let (mut traced, mut refused) = (watchers.join(kernel).unwrap(), watchers.join(kernel).unwrap());
        let traces = watchers.traces();
        let [.., first, second] = traces.as_slice() else { panic!("two are wanted: {traces:?}") };
        watchers.traces_begun(&[*first], &Ok(()));
        watchers.traces_begun(&[*second], &Err("no memory".to_owned()));
        assert_eq!(begun(&mut traced), Some(Ok(())));
        assert_eq!(begun(&mut refused), Some(Err("no memory".to_owned())));
        let mut sampled = watchers.join(events(false, true)).unwrap();
        let mut second = watchers.join(events(false, true)).unwrap();
        watchers.samples_begun();
        assert_eq!(begun(&mut sampled), Some(Ok(())));
        assert_eq!(begun(&mut second), Some(Ok(())));
        let mut third = watchers.join(events(false, true)).unwrap();
        assert_eq!(begun(&mut third), Some(Ok(())), "packets are sampled already");
        assert_eq!(begun(&mut watchers.join(events(true, false)).unwrap()), Some(Ok(())));
    }

    #[test]
    fn nobody_is_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let hear = |watcher: &mut Watcher| runtime.block_on(watcher.hear());
        let watchers = Watchers::default();
        assert!(watchers.is_empty() && !watchers.want_packets());
        let mut all: Vec<_> = std::iter::from_fn(|| watchers.join(events(true, false))).collect();
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
        let mut packets = watchers.join(events(false, true)).unwrap();
        assert!(watchers.is_empty() && watchers.want_packets());
        watchers.tell("a decision");
        (0..BACKLOG + 7).for_each(|_| watchers.tell_packet("a packet"));
        assert_eq!(hear(&mut packets), WatchEvent::Skipped(7));
        assert_eq!(hear(&mut packets), WatchEvent::Line("a packet".into()));
    }
}
