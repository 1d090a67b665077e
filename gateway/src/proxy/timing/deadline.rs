//! Deadlines. Each worker has one table of them, which is searched at every [`TICK`]: a deadline is coarse, and costs a
//! request a few stores and no timer.

use std::{
    cell::RefCell,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{clock, proxy::memory::slab::Slab};

/// How often the table is searched: how late a deadline may fire.
pub(in crate::proxy) const TICK: Duration = Duration::from_millis(50);

thread_local! {
    static TABLE: RefCell<Table> = RefCell::new(Table { now: clock::monotonic(), entries: Slab::new() });
}

struct Table {
    /// The time of the last tick.
    now: u64,
    entries: Slab<Entry>,
}

struct Entry {
    due: u64,
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
        table.now = now;
        for entry in table.entries.iter().filter(|entry| entry.due <= now) {
            wakers.push(entry.waker.clone());
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
                let entry = Entry { due: after_now(now, after), waker: cx.waker().clone() };
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

fn after_now(now: u64, after: Duration) -> u64 {
    now.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
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
