//! Deadlines. Each worker has one table of them, which is searched at every [`TICK`]: a deadline is coarse, and costs a
//! request a few stores and no timer.

use std::{
    cell::RefCell,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{os::clock, proxy::memory::slab::Slab};

/// How often the table is searched. A deadline never fires early, and up to twice this late.
pub(in crate::proxy) const TICK: Duration = Duration::from_millis(50);

thread_local! {
    static TABLE: RefCell<Deadlines> = RefCell::new(Deadlines { now: clock::monotonic(), entries: Slab::new() });
}

struct Deadlines {
    /// The time of the last tick.
    now: u64,
    entries: Slab<Deadline>,
}

struct Deadline {
    due: u64,
    /// It was armed since the last tick, so nobody knows when exactly: its time begins with the next one.
    is_fresh: bool,
    waker: Waker,
}

/// The time of the last tick: `CLOCK_MONOTONIC`, nanoseconds.
pub(in crate::proxy) fn now() -> u64 {
    TABLE.with_borrow(|table| table.now)
}

/// Sets the time to `now` and wakes every task whose deadline has passed.
pub(in crate::proxy) fn tick(now: u64) {
    let mut wakers = Vec::new();
    TABLE.with_borrow_mut(|table| {
        let passed = now.saturating_sub(table.now);
        table.now = now;
        for entry in table.entries.iter_mut() {
            // Written only where it is set: most entries are many ticks old, and reading them is enough.
            if entry.is_fresh {
                entry.is_fresh = false;
                entry.due = entry.due.saturating_add(passed);
            }
            if entry.due <= now {
                wakers.push(entry.waker.clone());
            }
        }
    });
    // Outside of the borrow: a task that is woken may arm an alarm.
    wakers.into_iter().for_each(Waker::wake);
}

/// One deadline. Disarmed when dropped.
#[derive(Default)]
pub(in crate::proxy) struct Alarm {
    slot: Option<usize>,
}

impl Alarm {
    /// Ready once `after` has passed since the alarm was armed, which the first call does.
    pub(in crate::proxy) fn poll(&mut self, after: Duration, cx: &Context<'_>) -> Poll<()> {
        TABLE.with_borrow_mut(|table| {
            let now = table.now;
            let Some(entry) = self.slot.and_then(|slot| table.entries.at_mut(slot)) else {
                let entry = Deadline { due: self::after(now, after), is_fresh: true, waker: cx.waker().clone() };
                self.slot = Some(table.entries.insert(entry));
                return Poll::Pending;
            };
            if entry.due <= now {
                return Poll::Ready(());
            }
            if !entry.waker.will_wake(cx.waker()) {
                entry.waker = cx.waker().clone();
            }
            Poll::Pending
        })
    }

    /// Disarms it.
    pub(in crate::proxy) fn rest(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        // The table may be gone already when its thread ends.
        let entry = TABLE.try_with(|table| table.borrow_mut().entries.remove(slot));
        drop(entry);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.rest();
    }
}

/// Whether `limit` has passed at `now` since `since`, which is the time of a tick: what it stands for may have been up to
/// a tick later.
pub(in crate::proxy) const fn has_passed(now: u64, since: u64, limit: Duration) -> bool {
    now.saturating_sub(since) as u128 > limit.as_nanos().saturating_add(TICK.as_nanos())
}

/// The time that is `time` after `now`.
pub(in crate::proxy) fn after(now: u64, time: Duration) -> u64 {
    now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// Runs `future` for at most about `after`. `None`: it took longer.
pub(in crate::proxy) async fn within<F: Future>(after: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut alarm = Alarm::default();
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        alarm.poll(after, cx).map(|()| None)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    /// An alarm of one second that is armed right before a tick has the whole second from there, however late the tick is.
    #[test]
    fn nothing_fires_early() {
        let cx = &Context::from_waker(Waker::noop());
        for late in [0, 50, 700, 5_000] {
            let start = now();
            let mut alarm = Alarm::default();
            assert!(alarm.poll(Duration::from_secs(1), cx).is_pending());
            let armed_by = start + late * MILLI;
            tick(armed_by);
            for (after, expect) in [(0, Poll::Pending), (999, Poll::Pending), (1_000, Poll::Ready(()))] {
                tick(armed_by + after * MILLI);
                assert_eq!(alarm.poll(Duration::from_secs(1), cx), expect, "{late} ms late, after {after} ms");
            }
        }
        assert!(!has_passed(1_050 * MILLI, 0, Duration::from_secs(1)));
        assert!(has_passed(1_051 * MILLI, 0, Duration::from_secs(1)));
    }
}
