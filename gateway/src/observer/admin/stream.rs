//! Tells a browser what happens, as server-sent events: how things are, and the points of the last hour.
//!
//! *Invariant:* the guard judges the token again for whatever is told; nobody is waited for: whoever does not read is let
//! go.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::sleep,
};

use super::{Admin, places::PeerAddress};
use crate::{message::relay::Relayed, observer::history};

/// How many events wait for a client that does not read.
pub(super) const PENDING: usize = 4;

/// How often something is told.
pub(super) const EVERY: Duration = Duration::from_secs(5);

/// What the guard is asked, by whoever wants to be told.
pub(super) fn command(peer: PeerAddress, token: String) -> Relayed {
    Relayed { number: 0, address: peer, token, name: "status".to_owned(), arguments: Vec::new() }
}

/// Tells a client every so often, until it goes, does not read, or may not be told any more. `first`: what the guard has
/// answered already.
pub(super) async fn run(
    admin: Rc<Admin>,
    command: Relayed,
    place: u64,
    first: Vec<u8>,
    (sender, every): (mpsc::Sender<Bytes>, Duration),
) {
    let (mut answer, mut told) = (Ok((200, first)), 0);
    loop {
        let (events, is_last) = match answer {
            _ if !admin.config.borrow().dashboard => (event("end", &json!({ "status": 404 })), true),
            Ok((200, status)) => {
                let points = points(&admin, &mut told);
                ([points, event_of("status", &status)].concat(), false)
            }
            Ok((status @ (401 | 403), _)) => (event("end", &json!({ "status": status })), true),
            // It is restarting, or busy.
            Ok(_) | Err(_) => (event("gone", &json!({})), false),
        };
        match sender.try_send(Bytes::from(events)) {
            Ok(()) if !is_last => {}
            Ok(()) | Err(TrySendError::Closed(_)) => return,
            Err(TrySendError::Full(_)) => {
                tracing::debug!("a client of the dashboard does not read what it is told");
                return admin.connections.borrow_mut().close(place);
            }
        }
        tokio::select! {
            () = sleep(every) => {}
            () = sender.closed() => return,
        }
        answer = admin.relay.ask(command.clone()).await;
    }
}

/// The points that were not told yet.
fn points(admin: &Admin, told: &mut u64) -> Vec<u8> {
    let history = admin.history.borrow();
    let new = history.after(*told);
    let Some(last) = new.last() else { return Vec::new() };
    *told = last.at;
    event("points", &json!({ "step": history::STEP, "points": new }))
}

fn event(name: &str, data: &Value) -> Vec<u8> {
    event_of(name, data.to_string().as_bytes())
}

/// An event with this data, which is JSON in one line.
fn event_of(name: &str, data: &[u8]) -> Vec<u8> {
    [b"event: ", name.as_bytes(), b"\ndata: ", data, b"\n\n"].concat()
}
