//! A client's HTTP/2 connection (RFC 9113): many requests at once, all in the connection's one task, and responses that come
//! together leave together.
//!
//! It is our own code for what it costs: no task, no queue and no lock for a request, heads of HTTP/1.1 servers packed line
//! by line as they are read, and one write for all that a turn came to. It is strict as HTTP/1 is: what is refused is refused
//! by the one table of [`refusal`](crate::refusal), and what breaks HTTP/2 gets the error that the RFC names.
//!
//! From bytes to requests and back: [`frame_reader`] puts frames together, [`recv`] reads them into [`streams`], the
//! [`Service`] answers, [`send`] writes the responses as [`flow_control`] allows, and [`drive`] gives all of them their turn.

use std::{future::poll_fn, rc::Rc};

use self::session::Session;
use super::{
    connection::{Connection, client_io::ClientIo},
    service::Service,
};

mod frame;
mod frame_reader;
mod head;

mod body_buffer;
mod flood;
mod flow_control;
mod goaway;
mod keep_alive;
mod ready;
mod stream;
mod streams;

mod drive;
mod recv;
mod send;
mod session;

#[cfg(any(test, fuzzing))]
#[path = "http2/tests/reading.rs"]
pub(super) mod reading;

pub(super) use self::{body_buffer::Body, session::Ended};

/// Answers the requests of a connection.
pub(super) async fn serve<S: Service>(service: S, connection: &Rc<Connection>, io: &Rc<ClientIo>) -> Ended
where
    S::RequestBody: From<Body>,
{
    // Boxed, it takes no room in connections of HTTP/1.
    let mut session = Box::new(Session::new(service, connection, io));
    // A turn is bounded by what it reads and writes, not by how often it asks.
    tokio::task::coop::unconstrained(poll_fn(|cx| session.poll(cx))).await
}
