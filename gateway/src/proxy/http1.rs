//! A client's HTTP/1 connection: one request at a time, in the order in which they came, each answered before the next is
//! read.
//!
//! It is our own code because every request passes here: nothing is parsed twice, no connection keeps a buffer between
//! requests, and what is refused is refused by the one table of [`refusal`](crate::refusal).

use std::{rc::Rc, task::Poll, time::Duration};

use http::{Method, Response, Version, request::Parts};

use self::{
    head::MalformedHead,
    request_reader::RequestReader,
    response_writer::{Manner, ResponseWriter, SendError},
};
use super::{
    connection::{Connection, client_io::ClientIo},
    service::{SendBody, Service},
    timing::{deadline::within, write_batching::WriteBatch},
};
use crate::refusal::Reject;

mod head;
mod request_reader;
mod response_writer;

#[cfg(any(test, fuzzing))]
#[path = "http1/tests/reading.rs"]
pub(super) mod reading;
#[cfg(any(test, fuzzing))]
#[path = "http1/tests/relaying.rs"]
pub(super) mod relaying;
#[cfg(test)]
mod tests;

pub(super) use self::request_reader::Body;

/// How long a client may take to hear that nothing more comes.
const GOODBYE: Duration = Duration::from_secs(1);

/// How a connection ended.
pub(super) enum Ended<T> {
    /// The client left, or an answer could not be completed: nothing more is to be said.
    Cut,
    /// Nothing more comes; the client is to be told.
    Done,
    /// The same, while the client may be sending what nobody reads.
    Refused,
    /// It is a tunnel from now on. The bytes of it that have been read already come with it.
    Switched(T, bytes::Bytes),
}

/// Answers the requests of a connection.
pub(super) async fn serve<S: Service>(
    service: S,
    connection: &Rc<Connection>,
    io: &Rc<ClientIo>,
) -> Ended<<S::ResponseBody as SendBody>::Tunnel>
where
    S::RequestBody: From<Body>,
{
    let reader = RequestReader::new(io, connection);
    let _open = Open(&reader);
    loop {
        // The limits are those in force when the head comes: the connection may have waited long for it.
        let head = match std::future::poll_fn(|cx| reader.poll_head(service.head_limits(), cx)).await {
            Ok(Some(head)) => head,
            Ok(None) => return Ended::Done,
            Err(malformed) => {
                let is_late = malformed.refusal.reject == Reject::RequestTimeout;
                // Nobody listens to a slow client for longer.
                let ended = || if is_late { Ended::Done } else { Ended::Refused };
                let (response, manner) = refuse(&service, malformed);
                // Nothing is left to be done where it is not taken.
                return deliver(&connection.write_batch, &reader, io, &mut ResponseWriter::new(response, manner))
                    .await
                    .map_or(Ended::Cut, |()| ended());
            }
        };
        let (is_head, version) = (head.parts.method == Method::HEAD, head.parts.version);
        let body = reader.body().map_or_else(Default::default, Into::into);
        let Some(response) = respond(&service, connection, &reader, head.parts, body).await else {
            return Ended::Cut;
        };
        let (response, is_unread) = settle_tunnel(&service, &reader, response);
        let is_untold = reader.answers();
        let keeps = head.keeps && !is_unread && !is_untold && !connection.goes();
        let mut writer = ResponseWriter::new(response, Manner { is_head, version, keeps });
        let mut delivered = deliver(&connection.write_batch, &reader, io, &mut writer).await;
        if matches!(delivered, Err(SendError::Unbegun))
            && let Some(refusal) = service.replace(writer.body())
        {
            writer = ResponseWriter::new(refusal, Manner { is_head, version, keeps: false });
            delivered = deliver(&connection.write_batch, &reader, io, &mut writer).await;
        }
        let (keeps, tunnel) = (writer.keeps, writer.body().take_tunnel());
        drop(writer);
        if delivered.is_err() {
            return Ended::Cut;
        }
        if let Some(tunnel) = tunnel {
            return Ended::Switched(tunnel, reader.take_unread());
        }
        let is_read = reader.is_read_out() || read_out(connection, &reader, io, !keeps && !is_unread).await;
        if !is_read || is_unread {
            return Ended::Refused;
        }
        if !keeps {
            // What came behind the request would be answered by a reset, which takes the answer with it.
            return if reader.has_more() { Ended::Refused } else { Ended::Done };
        }
    }
}

/// A connection whose bodies may be read.
struct Open<'a>(&'a RequestReader);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Waits until a body was read whose request is answered already. `false`: nobody reads it to its end.
/// `tells`: the client is told first that nothing more comes.
async fn read_out(connection: &Connection, reader: &RequestReader, io: &ClientIo, tells: bool) -> bool {
    connection.lingers();
    if tells {
        // The client may wait for nothing but this. What it does not take now leaves in the end.
        let _told = within(GOODBYE, std::future::poll_fn(|cx| io.poll_goodbye(cx))).await;
    }
    let is_read = std::future::poll_fn(|_cx| reader.poll_read_out()).await;
    connection.rests_again();
    is_read
}

/// The response to a request. `None`: its client left.
async fn respond<S: Service>(
    service: &S,
    connection: &Connection,
    reader: &RequestReader,
    head: Box<Parts>,
    body: S::RequestBody,
) -> Option<Response<S::ResponseBody>> {
    // Boxed, it takes no room in a connection that is between requests.
    let mut responding = Box::pin(service.respond(head, body));
    let write_batch = &connection.write_batch;
    std::future::poll_fn(|cx| {
        // What others have left.
        write_batch.takes_wait();
        let response = responding.as_mut().poll(cx);
        if !connection.interim.is_empty() {
            reader.tell(&connection.interim.take());
        }
        if let Poll::Ready(response) = response {
            return Poll::Ready(Some(response));
        }
        if write_batch.takes_wait() {
            return Poll::Pending;
        }
        if let Poll::Ready(Err(_gone)) = reader.poll_told(cx) {
            return Poll::Ready(None);
        }
        reader.poll_left(cx).map(|()| None)
    })
    .await
}

/// The response, and whether its request's body was left unread. Bytes that a client sent before it knew of a tunnel are
/// not part of it (F12).
fn settle_tunnel<S: Service>(
    service: &S,
    reader: &RequestReader,
    mut response: Response<S::ResponseBody>,
) -> (Response<S::ResponseBody>, bool) {
    if reader.has_early()
        && let Some(tunnel) = response.body_mut().take_tunnel()
    {
        return (service.refuse_tunnel(tunnel), true);
    }
    let is_unread = response.body().leaves_unread();
    (response, is_unread)
}

/// Sends a response behind what the client was told before it, and looks after the client meanwhile.
async fn deliver<B: SendBody>(
    write_batch: &WriteBatch,
    reader: &RequestReader,
    io: &ClientIo,
    writer: &mut ResponseWriter<B>,
) -> Result<(), SendError> {
    write_batch.after_readers().await;
    std::future::poll_fn(|cx| {
        let sent = match reader.poll_told(cx) {
            Poll::Ready(Ok(())) => writer.poll(io, cx),
            Poll::Ready(Err(_gone)) => Poll::Ready(Err(SendError::Client)),
            Poll::Pending => Poll::Pending,
        };
        if let Poll::Ready(sent) = sent {
            if matches!(sent, Err(SendError::Body | SendError::Client)) && writer.ends_with_the_connection() {
                io.reset_on_close();
            }
            return Poll::Ready(sent);
        }
        reader.poll_left_response(writer.is_silent(), cx).map(|()| Err(SendError::Client))
    })
    .await
}

/// The response to what is no request.
fn refuse<S: Service>(service: &S, malformed: MalformedHead) -> (Response<S::ResponseBody>, Manner) {
    let MalformedHead { refusal, line } = malformed;
    let version = line.as_ref().map_or(Version::HTTP_11, |line| line.1);
    let is_head = line.as_ref().is_some_and(|line| line.0 == Method::HEAD);
    (service.refuse(line.map(|line| *line), refusal), Manner { is_head, version, keeps: false })
}
