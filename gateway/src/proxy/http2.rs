//! Decides how a client's HTTP/2 connection goes (RFC 9113): many requests at once, all in the connection's one task,
//! answers that come together leaving together.
//!
//! It is ours for what it costs: no task, no queue and no lock for a request, answers of HTTP/1.1 servers packed line by
//! line as they are read, and one write for all that a turn came to. It is strict as HTTP/1 is: whatever is refused is
//! refused by the one table of [`reject`](crate::refusal), and what breaks HTTP/2 gets the error that the RFC names.

use std::{future::poll_fn, rc::Rc};

use self::session::Session;
use super::{client_io::ClientIo, connection::Connection, worker::Worker};

mod body_buffer;
mod flood;
mod frame;
mod head;
mod ready;
mod recv;
mod send;
mod session;
mod stream;

pub(super) use body_buffer::Body;

/// How a connection ended.
pub(super) enum Ended {
    /// The client left, or was too slow: nothing more is to be said.
    Cut,
    /// All is said.
    Done,
    /// The client broke HTTP/2, and was told so.
    Broken(&'static str),
    /// It sent what only cost us work, and was told so.
    Flood(&'static str),
}

/// Answers the requests of a connection.
pub(super) async fn serve(worker: &Rc<Worker>, connection: &Rc<Connection>, io: &Rc<ClientIo>) -> Ended {
    // Boxed, it takes no room in connections of HTTP/1.
    let mut session = Box::new(Session::new(worker, connection, io));
    // A turn is bounded by what it reads and writes, not by how often it asks.
    tokio::task::coop::unconstrained(poll_fn(|cx| session.poll(cx))).await
}
