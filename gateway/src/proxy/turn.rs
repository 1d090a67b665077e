//! Decides that sending waits for everybody who is ready to read: what a turn comes to leaves in a row, so that whoever
//! sleeps at the other end is woken once for many messages, and not by each.

use std::{future::poll_fn, task::Poll};

/// Lets every task that is ready go first.
pub(super) async fn others_first() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        // At the end of the queue, before anything new is looked for.
        cx.waker().wake_by_ref();
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
                others_first().await;
                seen.borrow_mut().push("sent");
            });
        }
        runtime.block_on(tasks);
        assert_eq!(*seen.borrow(), ["read", "read", "read", "sent", "sent", "sent"]);
    }
}
