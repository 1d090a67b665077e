//! A reverse proxy as one would write it with hyper, so that our own HTTP code has something to be measured against:
//! `bench-hyper FOLDER UPSTREAM PLAIN TLS` serves HTTP/1.1 without TLS on one port, and HTTP/1.1 and HTTP/2 with TLS on
//! another.
//!
//! It does what every proxy has to do, and what the gateway does on a public route: one thread per core, kept upstream
//! connections, timeouts, no headers of one connection, headers that tell who the client is, a request id. It does none
//! of the gateway's checks. So the gateway does more in the time that is compared.
#![allow(clippy::expect_used, reason = "a measurement may stop at once")]

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{Either, Empty};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1::{SendRequest, handshake},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// Threads, as the gateway has workers in its own measurement.
const THREADS: usize = 2;

/// How long a client may take for a head, and the upstream for its response: the gateway's defaults.
const HEAD: Duration = Duration::from_secs(10);
const RESPONSE: Duration = Duration::from_secs(60);

/// What belongs to one connection (RFC 9110 7.6.1).
const OF_A_CONNECTION: [header::HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, upstream, plain, tls] = arguments.as_slice() else {
        eprintln!("usage: bench-hyper FOLDER UPSTREAM PLAIN TLS");
        std::process::exit(2);
    };
    let port = |text: &String| SocketAddr::from((Ipv4Addr::LOCALHOST, text.parse().expect("a port")));
    let (upstream, plain, tls) = (port(upstream), port(plain), port(tls));
    let acceptor = acceptor(Path::new(folder));
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let acceptor = acceptor.clone();
            thread::spawn(move || work(number, upstream, plain, tls, acceptor))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a worker"));
}

fn acceptor(folder: &Path) -> TlsAcceptor {
    let chain = fs::read(folder.join("server.crt")).expect("the certificate");
    let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).expect("the key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_protocol_versions(rustls::ALL_VERSIONS);
    let builder = builder.expect("versions").with_no_client_auth();
    let mut config = builder.with_single_cert(chain, key).expect("a certificate and its key");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn work(number: usize, upstream: SocketAddr, plain: SocketAddr, tls: SocketAddr, acceptor: TlsAcceptor) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let worker = Rc::new(Worker { upstream, idle: RefCell::default(), next: Cell::new((number as u128) << 120) });
    LocalSet::new().block_on(&runtime, async move {
        spawn_local(accept(Rc::clone(&worker), listen(plain), None));
        accept(worker, listen(tls), Some(acceptor)).await;
    });
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_reuse_port(true).expect("SO_REUSEPORT");
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    socket.set_nonblocking(true).expect("O_NONBLOCK");
    socket.bind(&address.into()).expect("the address is free");
    socket.listen(4_096).expect("listening");
    TcpListener::from_std(socket.into()).expect("a listener")
}

/// What a thread owns.
struct Worker {
    upstream: SocketAddr,
    idle: RefCell<Vec<SendRequest<Incoming>>>,
    next: Cell<u128>,
}

async fn accept(worker: Rc<Worker>, listener: TcpListener, acceptor: Option<TlsAcceptor>) {
    loop {
        let Ok((socket, client)) = listener.accept().await else { continue };
        socket.set_nodelay(true).unwrap_or_default();
        let (worker, acceptor) = (Rc::clone(&worker), acceptor.clone());
        spawn_local(async move {
            let Some(acceptor) = acceptor else { return serve_http1(worker, client, "http", socket).await };
            let Ok(Ok(stream)) = timeout(HEAD, acceptor.accept(socket)).await else { return };
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                return serve_http1(worker, client, "https", stream).await;
            }
            let service = service_fn(move |request| forward(Rc::clone(&worker), client, "https", request));
            drop(
                http2::Builder::new(Local)
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

async fn serve_http1<S>(worker: Rc<Worker>, client: SocketAddr, scheme: &'static str, stream: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let service = service_fn(move |request| forward(Rc::clone(&worker), client, scheme, request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    drop(builder.serve_connection(TokioIo::new(stream), service).await);
}

/// Spawns on the thread's own queue.
#[derive(Clone)]
struct Local;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

type Answer = Response<Either<Relayed, Empty<Bytes>>>;

async fn forward(
    worker: Rc<Worker>,
    client: SocketAddr,
    scheme: &'static str,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    Ok(match timeout(RESPONSE, send(&worker, client, scheme, request)).await {
        Ok(Some(response)) => response.map(Either::Left),
        Ok(None) => refuse(StatusCode::BAD_GATEWAY),
        Err(_late) => refuse(StatusCode::GATEWAY_TIMEOUT),
    })
}

fn refuse(status: StatusCode) -> Answer {
    let mut response = Response::new(Either::Right(Empty::new()));
    *response.status_mut() = status;
    response
}

async fn send(
    worker: &Rc<Worker>,
    client: SocketAddr,
    scheme: &'static str,
    mut request: Request<Incoming>,
) -> Option<Response<Relayed>> {
    let id = worker.next.replace(worker.next.get().wrapping_add(1));
    let host = request.uri().authority().map(|authority| HeaderValue::try_from(authority.as_str())).transpose().ok()?;
    let host = host.or_else(|| request.headers().get(header::HOST).cloned())?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = Uri::try_from(path).ok()?;
    *request.version_mut() = http::Version::HTTP_11;
    let headers = request.headers_mut();
    remove_hop_by_hop(headers);
    headers.insert("x-forwarded-for", HeaderValue::try_from(client.ip().to_string()).ok()?);
    headers.insert("x-forwarded-host", host.clone());
    headers.insert("x-forwarded-proto", HeaderValue::from_static(scheme));
    headers.insert("x-request-id", HeaderValue::try_from(format!("{id:032x}")).ok()?);
    headers.insert(header::HOST, host);
    let mut sender = connection(worker).await?;
    let mut response = sender.send_request(request).await.ok()?;
    remove_hop_by_hop(response.headers_mut());
    Some(response.map(|body| Relayed { body, sender: Some(sender), worker: Rc::clone(worker) }))
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<_> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse::<header::HeaderName>().ok())
        .collect();
    named.iter().chain(&OF_A_CONNECTION).for_each(|name| drop(headers.remove(name)));
    headers.remove("keep-alive");
}

/// A connection to the upstream: a kept one, if there is one.
async fn connection(worker: &Rc<Worker>) -> Option<SendRequest<Incoming>> {
    loop {
        let Some(mut sender) = worker.idle.borrow_mut().pop() else { break };
        if sender.ready().await.is_ok() {
            return Some(sender);
        }
    }
    let socket = TcpStream::connect(worker.upstream).await.ok()?;
    socket.set_nodelay(true).unwrap_or_default();
    let (sender, connection) = handshake(TokioIo::new(socket)).await.ok()?;
    spawn_local(connection);
    Some(sender)
}

/// A response's body. Its connection is kept once it has been read to its end.
struct Relayed {
    body: Incoming,
    sender: Option<SendRequest<Incoming>>,
    worker: Rc<Worker>,
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if this.body.is_end_stream()
            && let Some(sender) = this.sender.take()
        {
            this.worker.idle.borrow_mut().push(sender);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
