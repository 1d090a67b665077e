//! Hands commands of operators to the guard, and its answers back to whoever waits for them. Nothing is judged here.
//!
//! *Invariant:* however many commands one token gives at once, others have room.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    rc::Rc,
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use crate::message::{
    channel::{Channel, sealed::unseal},
    observer::relay::{AT_ONCE, Answered, Relayed},
};

/// How long the guard may take. A reload takes until a proxy serves it.
const TIMEOUT: Duration = Duration::from_secs(25);

/// How many of [`AT_ONCE`] one token may have.
const OF_ONE: usize = 6;

/// What the guard answers: the status of the response, and its body.
pub(super) type RelayedAnswer = (u16, Vec<u8>);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// Many wait already.
    Busy,
    /// The guard is not there.
    Gone,
    /// The guard takes too long. What was asked may be done all the same.
    Late,
}

/// The way to the guard.
#[derive(Default)]
pub(super) struct Relay {
    channel: RefCell<Option<Rc<Channel>>>,
    waiting: RefCell<HashMap<u64, PendingCommand>>,
    last: Cell<u64>,
}

/// A command whose answer somebody waits for.
struct PendingCommand {
    token: String,
    sender: oneshot::Sender<RelayedAnswer>,
}

impl Relay {
    /// Goes on by this socket.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn connect(self: &Rc<Self>, socket: OwnedFd) -> io::Result<()> {
        let channel = Rc::new(Channel::new(socket)?);
        *self.channel.borrow_mut() = Some(Rc::clone(&channel));
        tokio::task::spawn_local(Rc::clone(self).receive(channel));
        Ok(())
    }

    /// Has the guard answer a command.
    ///
    /// # Errors
    /// There is no answer.
    pub(super) async fn ask(&self, command: Relayed) -> Result<RelayedAnswer, NoAnswer> {
        let channel = self.channel.borrow().clone().ok_or(NoAnswer::Gone)?;
        if !self.has_room(&command.token) {
            return Err(NoAnswer::Busy);
        }
        let number = self.last.get() + 1;
        self.last.set(number);
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(number, PendingCommand { token: command.token.clone(), sender });
        // Whoever does not wait any more takes no place.
        let _place = PendingAnswer(self, number);
        let answered = timeout(TIMEOUT, async {
            channel.send(&Relayed { number, ..command }, &[]).await.map_err(|_gone| NoAnswer::Gone)?;
            receiver.await.map_err(|_gone| NoAnswer::Gone)
        });
        answered.await.map_err(|_late| NoAnswer::Late)?
    }

    fn has_room(&self, token: &str) -> bool {
        let waiting = self.waiting.borrow();
        waiting.len() < AT_ONCE && waiting.values().filter(|waiting| waiting.token == token).count() < OF_ONE
    }

    /// Takes answers until the guard is gone.
    async fn receive(self: Rc<Self>, channel: Rc<Channel>) {
        loop {
            let (Answered { number, status }, text) = match channel.receive::<Answered>().await {
                Ok(Some((answered, sent))) => match sent.into_iter().next().map(unseal::<Vec<u8>>) {
                    Some(Ok(text)) => (answered, text),
                    other => {
                        tracing::error!(?other, "the guard's answer to a command cannot be read");
                        continue;
                    }
                },
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "the guard's answer to a command is none");
                    break;
                }
            };
            let waits = self.waiting.borrow_mut().remove(&number);
            if waits.is_none_or(|waits| waits.sender.send((status, text)).is_err()) {
                tracing::debug!(number, "nobody waits for the answer to a command any more");
            }
        }
        // Another may have come meanwhile.
        let is_current = self.channel.borrow().as_ref().is_some_and(|current| Rc::ptr_eq(current, &channel));
        if is_current {
            *self.channel.borrow_mut() = None;
            self.waiting.borrow_mut().clear();
        }
    }
}

struct PendingAnswer<'relay>(&'relay Relay, u64);

impl Drop for PendingAnswer<'_> {
    fn drop(&mut self) {
        self.0.waiting.borrow_mut().remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_leaves_room_for_others() {
        let relay = Relay::default();
        let wait = |number: u64, token: &str| {
            let has_room = relay.has_room(token);
            if has_room {
                let waiting = PendingCommand { token: token.to_owned(), sender: oneshot::channel().0 };
                relay.waiting.borrow_mut().insert(number, waiting);
            }
            has_room
        };
        let of_one = (0..20).filter(|number| wait(*number, "ada")).count();
        let of_others = (20..40).filter(|number| wait(*number, &format!("token {number}"))).count();
        assert_eq!((of_one, of_others), (OF_ONE, AT_ONCE - OF_ONE));
        relay.waiting.borrow_mut().remove(&0);
        assert!(wait(40, "ada"), "whoever is answered makes room");
    }
}
