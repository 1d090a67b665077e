//! An HTTP/1.1 client that is in charge of every byte: blocking, over TLS, from a chosen address, so that a test sees
//! exactly what came back, or that nothing did.

use std::{
    fmt::Write as _,
    io::{self, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use socket2::Socket;

use crate::{
    pki::{HOST, PKI},
    wait,
    world::{GATEWAY_V4, GATEWAY_V6, World},
};

mod response;

/// How long a client waits for an answer that should come.
pub const TIMEOUT: Duration = Duration::from_secs(10);

static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| PKI.client(rustls::ALL_VERSIONS, &[b"http/1.1"]));

/// How clients speak TLS unless a test wants something else.
#[must_use]
pub fn tls() -> Arc<ClientConfig> {
    Arc::clone(&TLS)
}

/// A client at one address of the outside world.
#[derive(Clone, Copy)]
pub struct Client<'world> {
    /// Where.
    pub world: &'world World,
    /// Which address it sends from.
    pub source: IpAddr,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// In the order they came; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The content, without chunk framing.
    pub body: Vec<u8>,
}

/// A connection to the gateway.
pub struct Connection {
    stream: Stream,
    received: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl<'world> Client<'world> {
    /// A client of `world` at `source`.
    #[must_use]
    pub const fn new(world: &'world World, source: IpAddr) -> Self {
        Self { world, source }
    }

    /// The gateway's TLS listener in this client's family.
    #[must_use]
    pub fn target(&self) -> SocketAddr {
        SocketAddr::new(if self.source.is_ipv4() { GATEWAY_V4 } else { GATEWAY_V6 }, 443)
    }

    /// A TCP connection, nothing sent.
    ///
    /// # Errors
    /// `TimedOut` if nothing answered within `timeout`.
    pub fn tcp(&self, timeout: Duration) -> io::Result<TcpStream> {
        let stream = self.world.outside.connect(self.source, self.target(), timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(stream)
    }

    /// Sends a SYN and waits for nothing. Dropping the socket sends nothing more, as long as nothing has come back.
    ///
    /// # Errors
    /// As making a socket.
    pub fn knock(&self) -> io::Result<Socket> {
        self.world.outside.knock(self.source, self.target())
    }

    /// A connection with its TLS handshake done.
    ///
    /// # Errors
    /// As connecting or the handshake.
    pub fn connect(&self) -> io::Result<Connection> {
        self.connect_with(tls(), TIMEOUT)
    }

    /// As [`Self::connect`], with other TLS settings.
    ///
    /// # Errors
    /// As connecting or the handshake.
    pub fn connect_with(&self, config: Arc<ClientConfig>, timeout: Duration) -> io::Result<Connection> {
        self.connect_to(HOST, config, timeout)
    }

    /// As [`Self::connect_with`], asking for another name, or for none where it is an address.
    ///
    /// # Errors
    /// As connecting or the handshake.
    pub fn connect_to(&self, name: &str, config: Arc<ClientConfig>, timeout: Duration) -> io::Result<Connection> {
        let tcp = self.tcp(timeout)?;
        tcp.set_read_timeout(Some(timeout))?;
        Connection::secure(tcp, name, config)
    }

    /// One request on its own connection.
    ///
    /// # Errors
    /// As the connection.
    pub fn send(&self, request: &Request) -> io::Result<Response> {
        self.connect()?.exchange(request)
    }

    /// `GET path` with `token` on its own connection.
    ///
    /// # Errors
    /// As the connection.
    pub fn get(&self, path: &str, token: &str) -> io::Result<Response> {
        self.send(&Request::new("GET", path).token(token))
    }

    /// Whether nothing at all comes back when this client tries to connect: no answer, no refusal.
    #[must_use]
    pub fn is_ignored(&self, timeout: Duration) -> bool {
        self.tcp(timeout).is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
    }

    /// Whether anything comes back when this client tries to connect. On a busy machine that may be late.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        !self.is_ignored(wait::SOON)
    }
}

impl Request {
    /// A request to [`HOST`] without a body.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        let headers = vec![("Host".to_owned(), HOST.to_owned())];
        Self { method: method.to_owned(), target: target.to_owned(), headers, body: Vec::new() }
    }

    /// Sends it to another host.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.headers[0].1);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a bearer token.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Sets the body and its length.
    #[must_use]
    pub fn body(mut self, media_type: &str, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self.header("Content-Type", media_type).header("Content-Length", &body.len().to_string())
    }

    /// As it goes over the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}

impl Connection {
    /// Does the TLS handshake on a connection to whatever listener.
    ///
    /// # Errors
    /// As the handshake.
    pub fn secure(mut tcp: TcpStream, name: &str, config: Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        Ok(Self { stream: Stream::Tls(Box::new(StreamOwned::new(tls, tcp))), received: Vec::new() })
    }

    /// A connection without TLS.
    #[must_use]
    pub const fn plain(stream: TcpStream) -> Self {
        Self { stream: Stream::Plain(stream), received: Vec::new() }
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// As the connection.
    pub fn exchange(&mut self, request: &Request) -> io::Result<Response> {
        self.write_and_read(&request.bytes())?;
        self.response(&request.method)
    }

    /// Sends these bytes and keeps what comes meanwhile: a server may answer while it reads, and one whose answer
    /// nobody takes is right to read no further. Stops early where the other side ends the connection.
    fn write_and_read(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tcp().set_nonblocking(true)?;
        let done = self.write_and_read_now(bytes);
        self.tcp().set_nonblocking(false)?;
        done
    }

    fn write_and_read_now(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut written, mut progress) = (0, Instant::now());
        loop {
            let wrote = match &mut self.stream {
                _ if written == bytes.len() => self.flush(),
                Stream::Plain(stream) => stream.write(&bytes[written..]),
                Stream::Tls(stream) => stream.write(&bytes[written..]),
            };
            match wrote {
                Ok(0) if written == bytes.len() => return Ok(()),
                Ok(count) => (written, progress) = (written + count, Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            match self.fill() {
                Ok(0) => return Ok(()),
                Ok(_) => progress = Instant::now(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_reset) => return Ok(()),
            }
            if progress.elapsed() > TIMEOUT {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if !matches!(progress.elapsed().as_micros(), 0..200) {
                wait::pause(Duration::from_millis(1));
            }
        }
    }

    /// Sends what is still in buffers; 0 once all is.
    fn flush(&mut self) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
        .map(|()| 0)
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// As the connection.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Ends this side alone: nothing more will be sent, and what comes is still read.
    ///
    /// # Errors
    /// As the connection.
    pub fn end_sending(&mut self) -> io::Result<()> {
        let Stream::Tls(stream) = &mut self.stream else { return self.tcp().shutdown(Shutdown::Write) };
        stream.conn.send_close_notify();
        stream.flush()
    }

    /// How long reads wait.
    ///
    /// # Errors
    /// As the socket.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.tcp().set_read_timeout(Some(timeout))
    }

    /// The socket below.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &stream.sock,
        }
    }

    /// The TLS version in use.
    #[must_use]
    pub fn tls_version(&self) -> Option<rustls::ProtocolVersion> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => stream.conn.protocol_version(),
        }
    }

    /// The session, if there is one.
    #[must_use]
    pub fn session(&self) -> Option<&ClientConnection> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => Some(&stream.conn),
        }
    }

    /// Whether the other side ends the connection within the read timeout, by closing or resetting it.
    pub fn ends(&mut self) -> bool {
        loop {
            match self.fill() {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => {
                    return !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                }
            }
        }
    }

    /// Reads more into the buffer; 0 at the end.
    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read(&mut piece),
            Stream::Tls(stream) => stream.read(&mut piece),
        };
        // A peer that leaves without close_notify: for HTTP/1.1 the framing tells whether something is missing.
        let read = match read {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            other => other?,
        };
        self.received.extend_from_slice(&piece[..read]);
        Ok(read)
    }

    /// At least `count` bytes, taken out of the buffer.
    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.received.len() < count {
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.received.drain(..count).collect())
    }

    /// Up to and without `end`, which is taken too.
    fn take_until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|window| window == end) {
                let mut taken: Vec<u8> = self.received.drain(..at + end.len()).collect();
                taken.truncate(at);
                return Ok(taken);
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Whether the other side has closed by now. What it sent before is kept.
    pub fn has_ended(&mut self) -> bool {
        if self.tcp().set_nonblocking(true).is_err() {
            return true;
        }
        let filled = self.fill();
        let ended = match filled {
            Ok(read) => read == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        ended || self.tcp().set_nonblocking(false).is_err()
    }

    /// Waits for the first byte of an answer. `false`: the other side has closed instead.
    ///
    /// # Errors
    /// As the connection.
    pub fn begins(&mut self) -> io::Result<bool> {
        Ok(!self.received.is_empty() || self.fill()? > 0)
    }

    /// So many bytes, whatever they mean.
    ///
    /// # Errors
    /// As the connection; `UnexpectedEof` if it ends first.
    pub fn raw(&mut self, count: usize) -> io::Result<Vec<u8>> {
        self.take(count)
    }

    /// The head of the next answer, as status and headers.
    ///
    /// # Errors
    /// As the connection; `UnexpectedEof` if it ends first.
    pub fn head(&mut self) -> io::Result<Response> {
        let head = String::from_utf8_lossy(&self.take_until(b"\r\n\r\n")?).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {head:?}")))?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Ok(Response { status, headers, body: Vec::new() })
    }

    /// The next final answer, to a request with `method`.
    ///
    /// # Errors
    /// As the connection; `UnexpectedEof` if it ends first.
    pub fn response(&mut self, method: &str) -> io::Result<Response> {
        let mut response = self.head()?;
        while response.status < 200 {
            response = self.head()?;
        }
        if method == "HEAD" || matches!(response.status, 204 | 304) {
            return Ok(response);
        }
        if response.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            while let Some(chunk) = self.chunk()? {
                response.body.extend(chunk);
            }
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse().map_err(io::Error::other)?;
            response.body = self.take(length)?;
        } else {
            while self.fill()? > 0 {}
            response.body = std::mem::take(&mut self.received);
        }
        Ok(response)
    }

    /// The next chunk (RFC 9112 7.1); `None` at the last one.
    ///
    /// # Errors
    /// As the connection; `UnexpectedEof` if it ends first.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = String::from_utf8_lossy(&self.take_until(b"\r\n")?).into_owned();
        let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        if size == 0 {
            while !self.take_until(b"\r\n")?.is_empty() {}
            return Ok(None);
        }
        let chunk = self.take(size)?;
        self.take(2)?;
        Ok(Some(chunk))
    }
}
