//! Remembers which streams of a connection have something to do: one bit each, which whoever wakes a stream sets. All of
//! them are run by the connection's one task, so that answers that come together leave together.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::{Wake, Waker},
};

/// How many streams there can be.
pub(super) const SLOTS: usize = 128;

/// The streams of a connection that were woken. Wakers may be used on other threads: everything here is atomic.
#[derive(Debug, Default)]
pub(super) struct Ready {
    low: AtomicU64,
    high: AtomicU64,
    /// Whether the connection is at it: it looks here once more before it rests.
    busy: AtomicBool,
    task: Mutex<Option<Waker>>,
}

struct Slot {
    ready: Arc<Ready>,
    slot: usize,
}

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        self.ready.set(self.slot);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.set(self.slot);
    }
}

impl Ready {
    /// The waker of one stream.
    pub(super) fn waker(self: &Arc<Self>, slot: usize) -> Waker {
        Waker::from(Arc::new(Slot { ready: Arc::clone(self), slot }))
    }

    /// Notes that a stream has something to do.
    pub(super) fn set(&self, slot: usize) {
        let word = if slot < 64 { &self.low } else { &self.high };
        word.fetch_or(1 << (slot % 64), SeqCst);
        if !self.busy.load(SeqCst) {
            let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(task) = &*task {
                task.wake_by_ref();
            }
        }
    }

    /// The connection is at it, in the task of `waker`.
    pub(super) fn begin(&self, waker: &Waker) {
        self.busy.store(true, SeqCst);
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !task.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }

    /// The streams that were woken; they are not any more.
    pub(super) fn take(&self) -> u128 {
        let take = |word: &AtomicU64| if word.load(SeqCst) == 0 { 0 } else { word.swap(0, SeqCst) };
        u128::from(take(&self.low)) | u128::from(take(&self.high)) << 64
    }

    /// The connection rests. `false`: a stream was woken meanwhile.
    pub(super) fn end(&self) -> bool {
        self.busy.store(false, SeqCst);
        if self.low.load(SeqCst) == 0 && self.high.load(SeqCst) == 0 {
            return true;
        }
        self.busy.store(true, SeqCst);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Counting(AtomicU64);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn whoever_is_woken_is_seen_once() {
        let (ready, count) = (Arc::new(Ready::default()), Arc::new(Counting::default()));
        let task = Waker::from(Arc::clone(&count));
        let wakers: Vec<_> = (0..SLOTS).map(|slot| ready.waker(slot)).collect();
        ready.begin(&task);
        for slot in [0, 63, 64, 127] {
            wakers[slot].wake_by_ref();
        }
        assert_eq!(count.0.load(SeqCst), 0, "it is at it");
        assert!(!ready.end());
        assert_eq!(ready.take(), 1 | 1 << 63 | 1 << 64 | 1 << 127);
        assert_eq!(ready.take(), 0);
        assert!(ready.end());
        wakers[5].wake_by_ref();
        assert_eq!(count.0.load(SeqCst), 1, "it rests");
        assert_eq!(ready.take(), 1 << 5);
    }
}
