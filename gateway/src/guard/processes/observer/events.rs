//! Tells the observer what the guard decides, where that is sent on to a collector.
//!
//! *Invariant:* nobody waits for the observer. What finds its socket full is counted, and the next one tells how many.

use std::{io, sync::Arc};

use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::message::{
    channel::Sender,
    observer::event::{Event, LONGEST},
};

/// Tells every line of `lines`, until the observer is gone or nothing more is decided.
pub(super) async fn tell(mut lines: Receiver<Arc<str>>, observer: Sender) {
    let mut missed = 0;
    loop {
        let line = match lines.recv().await {
            Ok(line) => line,
            Err(RecvError::Lagged(more)) => {
                missed += more;
                continue;
            }
            Err(RecvError::Closed) => break,
        };
        if line.len() > LONGEST {
            missed += 1;
            continue;
        }
        match observer.try_send(&Event { line: line.to_string(), missed }) {
            Ok(()) => missed = 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => missed += 1,
            Err(_gone) => break,
        }
    }
    observer.close();
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;

    use super::*;
    use crate::message::channel::{self, Channel};

    #[test]
    fn nobody_waits_and_nothing_is_lost_in_silence() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, theirs) = channel::pair().unwrap();
            let (sender, lines) = broadcast::channel::<Arc<str>>(4_096);
            let task = tokio::spawn(tell(lines, Sender::new(ours)));
            let observer = Channel::new(theirs).unwrap();
            // More than any socket holds, and one that is too long for it.
            for number in 0..2_000 {
                sender.send(format!("{number} {}", "x".repeat(1_000)).into()).unwrap();
            }
            sender.send("x".repeat(LONGEST + 1).into()).unwrap();
            while !sender.is_empty() {
                tokio::task::yield_now().await;
            }
            // Room for one again.
            let (first, _) = observer.receive::<Event>().await.unwrap().unwrap();
            assert!(first.line.starts_with("0 ") && first.missed == 0, "{first:?}");
            sender.send("last".into()).unwrap();
            drop(sender);
            task.await.unwrap();
            let (mut heard, mut missed) = (1, 0);
            while let Some((event, _)) = observer.receive::<Event>().await.unwrap() {
                (heard, missed) = (heard + 1, missed + event.missed);
            }
            assert_eq!((heard + missed, missed > 0), (2_002, true), "{heard} {missed}");
        });
    }
}
