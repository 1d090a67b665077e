//! Tells a browser what happens, as server-sent events: how things are, and the points of the last hour.
//!
//! *Invariant:* the guard judges the token again for whatever is told; nobody is waited for: whoever does not read is let
//! go.

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::sleep,
};

use super::places::{OpenConnections, PeerAddress};
use crate::{
    message::observer::{ObserverConfig, relay::Relayed},
    observer::{
        history::{self, History},
        relay::Relay,
    },
};

/// How many events wait for a client that does not read.
pub(super) const PENDING: usize = 4;

/// How often something is told.
pub(super) const EVERY: Duration = Duration::from_secs(5);

/// What the guard is asked, by whoever wants to be told.
pub(super) fn command(peer: PeerAddress, token: String) -> Relayed {
    Relayed { number: 0, address: peer, token, name: "status".to_owned(), arguments: Vec::new() }
}

/// What one client is told.
pub(super) struct Stream {
    pub(super) config: Rc<RefCell<ObserverConfig>>,
    pub(super) connections: Rc<RefCell<OpenConnections>>,
    pub(super) history: Rc<RefCell<History>>,
    pub(super) relay: Rc<Relay>,
    /// Of [`command`].
    pub(super) command: Relayed,
    /// That of its connection.
    pub(super) place: u64,
}

impl Stream {
    /// Tells the client every so often, until it goes, does not read, or may not be told any more. `first`: what the guard
    /// has answered already.
    pub(super) async fn run(self, first: Vec<u8>, sender: mpsc::Sender<Bytes>, every: Duration) {
        let (mut answer, mut told) = (Ok((200, first)), 0);
        loop {
            let (events, is_last) = match answer {
                _ if !self.config.borrow().dashboard => (event("end", &json!({ "status": 404 })), true),
                Ok((200, status)) => ([self.points(&mut told), event_of("status", &status)].concat(), false),
                Ok((status @ (401 | 403), _)) => (event("end", &json!({ "status": status })), true),
                // It is restarting, or busy.
                Ok(_) | Err(_) => (event("gone", &json!({})), false),
            };
            match sender.try_send(Bytes::from(events)) {
                Ok(()) if !is_last => {}
                // Whoever does not read that has its place no longer than a stranger has one.
                Ok(()) => return self.connections.borrow_mut().is_strange(self.place),
                Err(TrySendError::Closed(_)) => return,
                Err(TrySendError::Full(_)) => {
                    tracing::debug!("a client of the dashboard does not read what it is told");
                    return self.connections.borrow_mut().close(self.place);
                }
            }
            tokio::select! {
                () = sleep(every) => {}
                () = sender.closed() => return,
            }
            answer = self.relay.ask(self.command.clone()).await;
        }
    }

    /// The points that were not told yet.
    fn points(&self, told: &mut u64) -> Vec<u8> {
        let history = self.history.borrow();
        let new = history.after(*told);
        let Some(last) = new.last() else { return Vec::new() };
        *told = last.at;
        event("points", &json!({ "step": history::STEP, "points": new }))
    }
}

fn event(name: &str, data: &Value) -> Vec<u8> {
    event_of(name, data.to_string().as_bytes())
}

/// An event with this data, which is JSON in one line.
fn event_of(name: &str, data: &[u8]) -> Vec<u8> {
    [b"event: ", name.as_bytes(), b"\ndata: ", data, b"\n\n"].concat()
}
