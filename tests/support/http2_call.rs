//! An HTTP/2 client that sends piece by piece: bodies and trailers, both ways at once, as gRPC does.

use std::{
    future::{Future, poll_fn},
    io,
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{self, ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request, response};
use rustls_pki_types::ServerName;
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    http1::{Client, TIMEOUT},
    pki::{HOST, PKI},
};

/// A connection to the gateway.
pub struct Caller {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
}

/// One request on it, while it lasts.
pub struct Call<'a> {
    runtime: &'a Runtime,
    sent: SendStream<Bytes>,
    head: Option<ResponseFuture>,
    body: Option<RecvStream>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status and headers.
    pub head: response::Parts,
    /// Its content.
    pub body: Vec<u8>,
    /// What came behind that.
    pub trailers: Option<HeaderMap>,
}

/// A `POST` to `path` of this media type.
///
/// # Panics
/// If `path` is no path.
#[must_use]
pub fn post(path: &str, media_type: &str) -> Request<()> {
    Request::post(format!("https://{HOST}{path}")).header("content-type", media_type).body(()).unwrap()
}

impl Client<'_> {
    /// A connection of HTTP/2.
    ///
    /// # Errors
    /// As connecting or the handshake.
    pub fn caller(&self) -> io::Result<Caller> {
        let tcp = self.tcp(TIMEOUT)?;
        tcp.set_nonblocking(true)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let sender = runtime.block_on(async {
            let connector = TlsConnector::from(PKI.client(rustls::ALL_VERSIONS, &[b"h2"]));
            let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
            let tls = connector.connect(name, TcpStream::from_std(tcp)?).await?;
            let (sender, driven) = client::handshake(tls).await.map_err(io::Error::other)?;
            tokio::spawn(driven);
            Ok::<_, io::Error>(sender)
        })?;
        Ok(Caller { runtime, sender })
    }
}

impl Caller {
    /// Begins a request; `ends`: it has no body.
    ///
    /// # Errors
    /// As the connection.
    pub fn begin(&self, request: Request<()>, ends: bool) -> io::Result<Call<'_>> {
        let mut sender = self.sender.clone();
        let (head, sent) = sender.send_request(request, ends).map_err(io::Error::other)?;
        Ok(Call { runtime: &self.runtime, sent, head: Some(head), body: None })
    }

    /// Sends a whole request, and waits for the whole answer.
    ///
    /// # Errors
    /// As the connection, or the request.
    pub fn call(&self, request: Request<()>, body: &[u8], trailers: Option<HeaderMap>) -> io::Result<Answer> {
        let mut call = self.begin(request, false)?;
        call.send(body)?;
        call.end(trailers)?;
        call.answer()
    }
}

impl Call<'_> {
    fn wait<T>(&self, what: impl Future<Output = Result<T, h2::Error>>) -> io::Result<T> {
        self.runtime.block_on(async { timeout(TIMEOUT, what).await })?.map_err(io::Error::other)
    }

    /// Sends a piece of the body.
    ///
    /// # Errors
    /// As the connection.
    pub fn send(&mut self, piece: &[u8]) -> io::Result<()> {
        self.sent.send_data(Bytes::copy_from_slice(piece), false).map_err(io::Error::other)
    }

    /// Sends a piece of the body, at most so long, as far as the other end has room for it within this time. How much that is.
    ///
    /// # Errors
    /// As the connection.
    pub fn send_what_fits(&mut self, most: usize, time_limit: Duration) -> io::Result<usize> {
        self.sent.reserve_capacity(most);
        if self.sent.capacity() == 0 {
            let room = poll_fn(|context| self.sent.poll_capacity(context));
            self.runtime.block_on(async { timeout(time_limit, room).await }).unwrap_or_default();
        }
        let fits = self.sent.capacity().min(most);
        if fits > 0 {
            self.send(&vec![b'y'; fits])?;
        }
        Ok(fits)
    }

    /// Ends the body.
    ///
    /// # Errors
    /// As the connection.
    pub fn end(&mut self, trailers: Option<HeaderMap>) -> io::Result<()> {
        match trailers {
            Some(trailers) => self.sent.send_trailers(trailers).map_err(io::Error::other),
            None => self.sent.send_data(Bytes::new(), true).map_err(io::Error::other),
        }
    }

    /// Gives the request up.
    pub fn cancel(mut self) {
        self.sent.send_reset(Reason::CANCEL);
        self.runtime.block_on(tokio::task::yield_now());
    }

    /// The head of the answer.
    ///
    /// # Errors
    /// As the request.
    pub fn head(&mut self) -> io::Result<response::Parts> {
        let head = self.head.take().ok_or(io::ErrorKind::NotFound)?;
        let (head, body) = self.wait(head)?.into_parts();
        self.body = Some(body);
        Ok(head)
    }

    /// The next interim response. `None`: the head of the answer has come.
    ///
    /// # Errors
    /// As the request.
    pub fn interim(&mut self) -> io::Result<Option<response::Parts>> {
        let head = self.head.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let next = poll_fn(|cx| head.poll_informational(cx).map(Option::transpose));
        let next = self.runtime.block_on(async { timeout(TIMEOUT, next).await })?.map_err(io::Error::other)?;
        Ok(next.map(|next| next.into_parts().0))
    }

    /// The head of the answer, if it comes so soon.
    pub fn head_within(&mut self, time_limit: Duration) -> Option<response::Parts> {
        let head = self.head.as_mut()?;
        let head = self.runtime.block_on(async { timeout(time_limit, head).await }).ok()?;
        let (head, body) = head.ok()?.into_parts();
        (self.head, self.body) = (None, Some(body));
        Some(head)
    }

    /// The next piece of the answer; `None`: that was all.
    ///
    /// # Errors
    /// As the request.
    pub fn piece(&mut self) -> io::Result<Option<Bytes>> {
        let Some(mut body) = self.body.take() else { return Ok(None) };
        let piece = self.wait(async { body.data().await.transpose() })?;
        if let Some(piece) = &piece {
            body.flow_control().release_capacity(piece.len()).map_err(io::Error::other)?;
        }
        self.body = Some(body);
        Ok(piece)
    }

    /// The rest of the answer, and all of it where nothing was read.
    ///
    /// # Errors
    /// As the request.
    pub fn answer(mut self) -> io::Result<Answer> {
        let head = self.head()?;
        let mut whole = Vec::new();
        while let Some(piece) = self.piece()? {
            whole.extend_from_slice(&piece);
        }
        let trailers = self.trailers()?;
        Ok(Answer { head, body: whole, trailers })
    }

    /// What comes behind the answer, once all of that was read.
    ///
    /// # Errors
    /// As the request.
    pub fn trailers(&mut self) -> io::Result<Option<HeaderMap>> {
        let Some(mut body) = self.body.take() else { return Ok(None) };
        self.wait(body.trailers())
    }
}
