//! Decides that sending waits for everybody who is ready to read: what a turn comes to leaves in a row, so that whoever
//! sleeps at the other end is woken once for many messages, and not by each.

use std::{cell::Cell, future::poll_fn, task::Poll};

thread_local! {
    static LETS: Cell<bool> = const { Cell::new(false) };
}

/// Whether somebody has let others go first since this was asked last: whoever did waits for nothing else.
pub(super) fn lets_others() -> bool {
    LETS.take()
}

/// Lets every task that is ready go first.
pub(super) async fn others_first() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        // At the end of the queue, before anything new is looked for.
        cx.waker().wake_by_ref();
        LETS.set(true);
        Poll::Pending
    })
    .await;
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
                let mut waiting = std::pin::pin!(others_first());
                poll_fn(|cx| {
                    let polled = waiting.as_mut().poll(cx);
                    assert_eq!((lets_others(), lets_others()), (polled.is_pending(), false));
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
