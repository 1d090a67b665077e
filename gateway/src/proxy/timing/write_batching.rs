//! Lets everybody who is ready to read go before anybody writes: what a round of the worker comes to leaves in a row, so that
//! the task that sleeps at the other end is woken once for many messages, and not by each.

use std::{cell::Cell, future::poll_fn, task::Poll};

/// How the task of one connection joins a batch of writes: whether it waits for nothing but its turn to write.
#[derive(Debug, Default)]
pub(in crate::proxy) struct WriteBatch(Cell<bool>);

impl WriteBatch {
    /// Whether the task has begun to wait for its turn since this was asked last.
    #[inline]
    pub(in crate::proxy) fn takes_wait(&self) -> bool {
        self.0.take()
    }

    /// Lets every task that is ready to read go first.
    pub(in crate::proxy) async fn after_readers(&self) {
        let mut has_waited = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut has_waited, true) {
                return Poll::Ready(());
            }
            // At the end of the queue, before anything new is looked for.
            cx.waker().wake_by_ref();
            self.0.set(true);
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    #[test]
    fn all_read_before_anybody_sends() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let seen: Rc<RefCell<Vec<&str>>> = Rc::default();
        let tasks = tokio::task::LocalSet::new();
        for _ in 0..3 {
            let seen = Rc::clone(&seen);
            tasks.spawn_local(async move {
                seen.borrow_mut().push("read");
                let batch = WriteBatch::default();
                let mut waiting = std::pin::pin!(batch.after_readers());
                poll_fn(|cx| {
                    let polled = waiting.as_mut().poll(cx);
                    assert_eq!((batch.takes_wait(), batch.takes_wait()), (polled.is_pending(), false));
                    polled
                })
                .await;
                seen.borrow_mut().push("sent");
            });
        }
        runtime.block_on(tasks);
        assert_eq!(*seen.borrow(), ["read", "read", "read", "sent", "sent", "sent"]);
    }
}
