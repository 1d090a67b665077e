//! Asks a server by HTTP: one request, one answer, both bounded. The server is hostile as far as anybody knows.
//!
//! *Invariant:* the address that is connected to is one that was judged (see [`address`](super::address)); a redirect is
//! an error; nothing takes longer than the server's `timeout`, and no answer is larger than was asked for.

use std::{
    borrow::Cow,
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::Semaphore,
    task::spawn_blocking,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Server;
use crate::{
    net::reach::{Reach, reach},
    tls::describe,
    web::url::Url,
};

/// The most names that one client has resolved at once: one that hangs must not keep others from it. Each has a thread.
pub(crate) const RESOLVERS: usize = 8;

/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// How long connecting to one of several addresses may take before the next is tried.
const CONNECT: Duration = Duration::from_secs(2);

/// The longest head of an answer, in bytes. The least that the library takes.
const MAX_HEAD: usize = 16 * 1024;

/// The most header lines of an answer.
const MAX_HEADERS: usize = 100;

/// A request to a server outside of the gateway.
#[derive(Clone, Debug)]
pub(crate) struct OutboundRequest {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Besides `Host`, `User-Agent` and what says how the connection is used.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The largest body of the answer, in bytes.
    pub(crate) most: usize,
}

impl OutboundRequest {
    /// Asks for what is there, as JSON.
    pub(crate) fn get(url: Url, most: usize) -> Self {
        let headers = [(header::ACCEPT, HeaderValue::from_static("application/json"))].into_iter().collect();
        Self { method: Method::GET, url, headers, body: Bytes::new(), most }
    }
}

/// Its response, with any status but that of a redirect.
#[derive(Clone, Debug)]
pub(crate) struct OutboundResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Which way asking failed: the label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// Its address is one that is not connected to.
    Address,
    /// Too much is being asked.
    Busy,
    /// No connection, or it broke.
    Connection,
    /// What was answered is not what was asked for.
    Content,
    /// It points elsewhere.
    Redirect,
    /// Its name has no address.
    Resolve,
    /// A status that says that it failed.
    Status,
    /// It took too long.
    Timeout,
    /// No safe connection.
    Tls,
    /// Larger than it may be.
    TooLarge,
}

impl FailureKind {
    /// The label of metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Busy => "busy",
            Self::Connection => "connection",
            Self::Content => "content",
            Self::Redirect => "redirect",
            Self::Resolve => "resolve",
            Self::Status => "status",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::TooLarge => "too_large",
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutboundFailure {
    pub(crate) kind: FailureKind,
    /// For the log: holds nothing that was asked or answered.
    pub(crate) why: Cow<'static, str>,
}

impl OutboundFailure {
    pub(crate) fn new(kind: FailureKind, why: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, why: why.into() }
    }

    fn connection(error: &io::Error) -> Self {
        let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        Self::new(if is_tls { FailureKind::Tls } else { FailureKind::Connection }, describe(error).into_owned())
    }

    fn http(error: &hyper::Error) -> Self {
        if error.is_parse_too_large() {
            return Self::new(FailureKind::TooLarge, format!("the head of its answer is over {MAX_HEAD} bytes"));
        }
        Self::new(FailureKind::Connection, format!("its answer broke off or is no HTTP: {error}"))
    }
}

impl fmt::Display for OutboundFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.why)
    }
}

/// Asks servers. What one has no room for does not keep another from asking.
#[derive(Clone)]
pub(crate) struct OutboundClient {
    in_flight: Arc<Semaphore>,
    resolving: Arc<Semaphore>,
}

impl OutboundClient {
    /// Asks so many requests at once, to all servers.
    pub(crate) fn new(in_flight: usize) -> Self {
        Self::with_resolvers(in_flight, RESOLVERS)
    }

    /// The same, with so many names resolved at once.
    pub(crate) fn with_resolvers(in_flight: usize, resolvers: usize) -> Self {
        Self { in_flight: Arc::new(Semaphore::new(in_flight)), resolving: Arc::new(Semaphore::new(resolvers)) }
    }

    /// Asks `server`.
    ///
    /// # Errors
    /// There is no answer in time, or it is one that is refused.
    pub(crate) async fn ask(
        &self,
        server: &Server,
        request: OutboundRequest,
    ) -> Result<OutboundResponse, OutboundFailure> {
        let late = || {
            let seconds = server.settings.timeout.as_secs_f64();
            OutboundFailure::new(FailureKind::Timeout, format!("no answer within {seconds} s"))
        };
        let deadline = Instant::now() + server.settings.timeout;
        let _permit = self
            .in_flight
            .try_acquire()
            .map_err(|_none_left| OutboundFailure::new(FailureKind::Busy, "too many requests are in flight"))?;
        timeout_at(deadline, self.ask_in_time(server, request)).await.map_err(|_late| late())?
    }

    async fn ask_in_time(
        &self,
        server: &Server,
        request: OutboundRequest,
    ) -> Result<OutboundResponse, OutboundFailure> {
        let url = &request.url;
        if !url.is_https() && !server.settings.allow_http {
            return Err(OutboundFailure::new(FailureKind::Address, format!("{url} is not https")));
        }
        let socket = self.connect(server, url).await?;
        if !url.is_https() {
            return exchange(socket, request).await;
        }
        let stream = encrypt(server, url, socket, vec![b"http/1.1".to_vec()]).await?;
        exchange(stream, request).await
    }

    /// Connects to the server of a URL, at an address that may be connected to.
    ///
    /// # Errors
    /// It has no such address, or takes no connection.
    pub(crate) async fn connect(&self, server: &Server, url: &Url) -> Result<TcpStream, OutboundFailure> {
        let addresses = self.resolve(url).await?;
        connect(&judge(server, url, &addresses)?).await
    }

    /// The addresses of a server, as its name is resolved now.
    async fn resolve(&self, url: &Url) -> Result<Vec<SocketAddr>, OutboundFailure> {
        if let Some(address) = url.address() {
            return Ok(vec![SocketAddr::new(address, url.port())]);
        }
        let failed = |error: &dyn fmt::Display| {
            OutboundFailure::new(FailureKind::Resolve, format!("{} has no address: {error}", url.host()))
        };
        let permit = Arc::clone(&self.resolving).acquire_owned().await.map_err(|error| failed(&error))?;
        let (host, port) = (url.host().to_owned(), url.port());
        // The thread goes on when nobody waits any more: it keeps its permit until then.
        let resolving = spawn_blocking(move || {
            let found = (host.as_str(), port).to_socket_addrs();
            drop(permit);
            found
        });
        let found: Vec<_> = resolving
            .await
            .map_err(|error| failed(&error))?
            .map_err(|error| failed(&error))?
            .take(MAX_ADDRESSES)
            .collect();
        if found.is_empty() {
            return Err(OutboundFailure::new(FailureKind::Resolve, format!("{} has no address", url.host())));
        }
        Ok(found)
    }
}

/// The TLS handshake with the server of a URL, which is offered these protocols.
///
/// # Errors
/// It fails.
pub(crate) async fn encrypt(
    server: &Server,
    url: &Url,
    socket: TcpStream,
    protocols: Vec<Vec<u8>>,
) -> Result<TlsStream<TcpStream>, OutboundFailure> {
    let name = match (&server.settings.tls.server_name, url.address()) {
        (Some(name), _) => ServerName::try_from(name.clone()).ok(),
        (None, Some(address)) => Some(ServerName::from(address)),
        (None, None) => ServerName::try_from(url.host().to_owned()).ok(),
    };
    let name = name.ok_or_else(|| OutboundFailure::new(FailureKind::Tls, "no certificate can have its name"))?;
    let connector = TlsConnector::from(Arc::clone(&server.tls));
    connector.with_alpn(protocols).connect(name, socket).await.map_err(|error| OutboundFailure::connection(&error))
}

/// Those of the addresses that may be connected to.
fn judge(server: &Server, url: &Url, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>, OutboundFailure> {
    let mut refused = None;
    let mut may = |address: &&SocketAddr| {
        let judged = may_connect(server, url.is_https(), address.ip());
        judged.map_err(|why| refused = Some((address.ip(), why))).is_ok()
    };
    let allowed: Vec<_> = addresses.iter().filter(|address| may(address)).copied().collect();
    match refused {
        Some((address, why)) if allowed.is_empty() => {
            let host = url.host();
            Err(OutboundFailure::new(
                FailureKind::Address,
                format!("the address {address} of {host} {why}: not connected to"),
            ))
        }
        _ => Ok(allowed),
    }
}

fn may_connect(server: &Server, is_https: bool, address: IpAddr) -> Result<(), &'static str> {
    match reach(address) {
        Reach::Never(why) => Err(why),
        Reach::Loopback if server.settings.allow_private || !is_https && server.settings.allow_http => Ok(()),
        Reach::Loopback => Err("is this host (allow_private is not set)"),
        _ if !is_https => Err("is another host, which is asked by https alone"),
        Reach::Global => Ok(()),
        Reach::Private(_) if server.settings.allow_private => Ok(()),
        Reach::Private(why) => Err(why),
    }
}

/// Connects to the first that takes the connection.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, OutboundFailure> {
    let mut failed = OutboundFailure::new(FailureKind::Resolve, "it has no address");
    for address in addresses {
        // The last, or the only one, has all the time that is left.
        let is_last = addresses.last() == Some(address);
        let connecting = TcpStream::connect(address);
        let connected = if is_last {
            connecting.await
        } else {
            timeout(CONNECT, connecting).await.unwrap_or_else(|_late| Err(io::ErrorKind::TimedOut.into()))
        };
        match connected {
            Ok(socket) => {
                // Without it an answer comes later, and that is all.
                socket.set_nodelay(true).unwrap_or_default();
                return Ok(socket);
            }
            Err(error) => failed = OutboundFailure::new(FailureKind::Connection, format!("{address}: {error}")),
        }
    }
    Err(failed)
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    outbound: OutboundRequest,
) -> Result<OutboundResponse, OutboundFailure> {
    let OutboundRequest { method, url, headers, body, most } = outbound;
    let malformed = |error: http::Error| OutboundFailure::new(FailureKind::Content, error.to_string());
    let mut request = Request::builder()
        .method(method)
        .uri(url.path())
        .header(header::HOST, url.authority())
        // CrowdSec begins a session for nobody whose agent is not `NAME/VERSION`.
        .header(header::USER_AGENT, concat!("gateway/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::CONNECTION, "close")
        .body(Full::new(body))
        .map_err(malformed)?;
    request.headers_mut().extend(headers);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|error| OutboundFailure::http(&error))?;
    let answered = async {
        let answer = sender.send_request(request).await.map_err(|error| OutboundFailure::http(&error))?;
        read(answer, most).await
    };
    // The connection is driven by this task, and ends with it.
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        ended = connection => match ended {
            // What has come is still to be read.
            Ok(()) => answered.await,
            Err(error) => Err(OutboundFailure::http(&error)),
        },
    }
}

async fn read(answer: http::Response<Incoming>, most: usize) -> Result<OutboundResponse, OutboundFailure> {
    let (head, mut body) = answer.into_parts();
    if head.status.is_redirection() && head.status != StatusCode::NOT_MODIFIED {
        return Err(OutboundFailure::new(
            FailureKind::Redirect,
            format!("it redirects elsewhere: status {}", head.status),
        ));
    }
    let is_plain = |encoding: &HeaderValue| encoding.as_bytes().eq_ignore_ascii_case(b"identity");
    if !head.headers.get_all(header::CONTENT_ENCODING).iter().all(is_plain) {
        return Err(OutboundFailure::new(FailureKind::Content, "its answer is compressed, which was not asked for"));
    }
    let too_large = || OutboundFailure::new(FailureKind::TooLarge, format!("its answer is over {most} bytes"));
    let declared = http_body::Body::size_hint(&body).lower();
    if usize::try_from(declared).map_or(true, |declared| declared > most) {
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| OutboundFailure::http(&error))?;
        if let Some(data) = frame.data_ref() {
            if bytes.len().saturating_add(data.len()) > most {
                return Err(too_large());
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(OutboundResponse { status: head.status, headers: head.headers, body: bytes.freeze() })
}

#[cfg(test)]
mod tests;
