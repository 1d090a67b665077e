//! Decides how a client's HTTP/1 connection goes from request to request: one at a time, in the order in which they
//! came, each answered before the next is read.
//!
//! It is ours because every request passes here: nothing is parsed twice, no connection keeps a buffer between
//! requests, and whatever is refused is refused by the one table of [`reject`](super::reject).

use std::{rc::Rc, task::Poll, time::Duration};

use http::{Method, Response, StatusCode, Version, request::Parts};

use self::{
    answer::{Delivery, Failed, Manner},
    head::Malformed,
    inbox::Inbox,
};
use super::{
    body::{Answer, Received},
    connection::Connection,
    deadline::within,
    pipeline, problem,
    record::Record,
    turn,
    wire::Wire,
    worker::Worker,
};
use crate::clock::Now;

mod answer;
mod head;
mod inbox;

#[cfg(test)]
mod tests;

pub(super) use inbox::Body;

/// How long a client may take to hear that nothing more comes.
const GOODBYE: Duration = Duration::from_secs(1);

/// How a connection ended.
pub(super) enum Ended {
    /// The client left, or an answer could not be completed: nothing more is to be said.
    Cut,
    /// Nothing more comes; the client is to be told.
    Done,
    /// The same, while the client may be sending what nobody reads.
    Refused,
    /// It is a tunnel from now on, of which so much has been read already.
    Switched(bytes::Bytes),
}

/// Answers the requests of a connection.
pub(super) async fn serve(worker: &Rc<Worker>, connection: &Rc<Connection>, wire: &Rc<Wire>) -> Ended {
    let inbox = Inbox::new(wire, connection);
    let _open = Open(&inbox);
    let limits = worker.shared.snapshot.settings.head;
    loop {
        let head = match std::future::poll_fn(|cx| inbox.poll_head(limits, cx)).await {
            Ok(Some(head)) => head,
            Ok(None) => return Ended::Done,
            Err(malformed) => {
                let (answer, manner) = refuse(worker, connection, malformed);
                // Nothing is left to be done where it is not taken.
                return deliver(&inbox, wire, &mut Delivery::new(answer, manner))
                    .await
                    .map_or(Ended::Cut, |()| Ended::Refused);
            }
        };
        let (is_head, version) = (head.parts.method == Method::HEAD, head.parts.version);
        let body = inbox.body().map_or(Received::None, Received::Http1);
        let Some(answer) = answer(worker, connection, &inbox, head.parts, body).await else { return Ended::Cut };
        let switches = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        inbox.answers();
        let keeps = head.keeps && !connection.unread.get() && !connection.goes();
        let mut delivery = Delivery::new(answer, Manner { is_head, version, keeps });
        let mut delivered = deliver(&inbox, wire, &mut delivery).await;
        if matches!(delivered, Err(Failed::Unbegun))
            && let Some(refusal) = delivery.refuse()
        {
            delivery = Delivery::new(refusal, Manner { is_head, version, keeps: false });
            delivered = deliver(&inbox, wire, &mut delivery).await;
        }
        let keeps = delivery.keeps;
        drop(delivery);
        if delivered.is_err() {
            return Ended::Cut;
        }
        if switches {
            return Ended::Switched(inbox.take_unread());
        }
        let is_read = inbox.is_read_out() || read_out(connection, &inbox, wire, keeps).await;
        if !is_read || connection.unread.get() {
            return Ended::Refused;
        }
        if !keeps {
            // What came behind the request would be answered by a reset, which takes the answer with it.
            return if inbox.has_more() { Ended::Refused } else { Ended::Done };
        }
    }
}

/// A connection whose bodies may be read.
struct Open<'a>(&'a Inbox);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Waits until a body was read whose request is answered already. `false`: nobody reads it to its end.
async fn read_out(connection: &Connection, inbox: &Inbox, wire: &Wire, keeps: bool) -> bool {
    connection.lingers();
    if !keeps && !connection.unread.get() {
        // The client may wait for nothing but this. What it does not take now leaves in the end.
        let _told = within(GOODBYE, std::future::poll_fn(|cx| wire.poll_goodbye(cx))).await;
    }
    let is_read = std::future::poll_fn(|_cx| inbox.poll_read_out()).await;
    connection.rests_again();
    is_read
}

/// What becomes of a request. `None`: its client left.
async fn answer(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    inbox: &Inbox,
    head: Box<Parts>,
    body: Received,
) -> Option<Response<Answer>> {
    // Boxed, it takes no room in a connection that is between requests.
    let mut answering = Box::pin(pipeline::serve(Rc::clone(worker), Rc::clone(connection), head, body));
    std::future::poll_fn(|cx| {
        // What others have left.
        turn::lets_others();
        if let Poll::Ready(answer) = answering.as_mut().poll(cx) {
            let Ok(answer) = answer;
            return Poll::Ready(Some(answer));
        }
        if turn::lets_others() {
            return Poll::Pending;
        }
        inbox.poll_left(cx).map(|()| None)
    })
    .await
}

/// Sends an answer, and looks after the client meanwhile.
async fn deliver(inbox: &Inbox, wire: &Wire, delivery: &mut Delivery) -> Result<(), Failed> {
    turn::others_first().await;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(sent) = delivery.poll(wire, cx) {
            if matches!(sent, Err(Failed::Body | Failed::Client)) && delivery.ends_with_the_connection() {
                wire.reset_on_close();
            }
            return Poll::Ready(sent);
        }
        inbox.poll_left(cx).map(|()| Err(Failed::Client))
    })
    .await
}

/// The answer to what is no request.
fn refuse(worker: &Rc<Worker>, connection: &Rc<Connection>, malformed: Malformed) -> (Response<Answer>, Manner) {
    let Malformed { refusal, line } = malformed;
    let version = line.as_ref().map_or(Version::HTTP_11, |line| line.1);
    let is_head = line.as_ref().is_some_and(|line| line.0 == Method::HEAD);
    connection.unread.set(true);
    let record = Record::begin(worker, connection, line.map(|line| *line), Now::read());
    (problem::refuse(record, refusal, true), Manner { is_head, version, keeps: false })
}
