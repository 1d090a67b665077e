//! A server behind the gateway that speaks HTTP/2, with TLS or without, and remembers what reached it.
//!
//! | path ends in | answer |
//! |---|---|
//! | `echo` | 200, the body it got, as it comes, and its trailers |
//! | `big` | 200, 4 MiB |
//! | `middle` | 200, [`MIDDLE`] |
//! | `empty` | 204 |
//! | `fail` | 200 with `grpc-status: 5`, and nothing behind it |
//! | `hold` | none, ever |
//! | `until` | 200 at once, and no end |
//! | `refuse` | REFUSED_STREAM the first time, then 200 |
//! | `reset` | INTERNAL_ERROR |
//! | `fault` | PROTOCOL_ERROR |
//! | `broken` | 200, a piece, then INTERNAL_ERROR |
//! | `leave` | 200, and the connection takes no more (GOAWAY) |
//! | anything else | 200, `hello` |

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    server::{self, SendResponse},
};
use http::{HeaderMap, HeaderValue, Request, Response};
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Builder,
    sync::{mpsc, oneshot},
};
use tokio_rustls::TlsAcceptor;

use crate::{authority::Issued, world::Namespace};

/// A request as it reached the server.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its method.
    pub method: String,
    /// Scheme, authority and path.
    pub target: String,
    /// In the order they came.
    pub headers: HeaderMap,
    /// How much of its body came.
    pub length: usize,
    /// What came behind its body, once it has ended.
    pub trailers: Option<HeaderMap>,
    /// Whether its body has ended.
    pub ended: bool,
    /// Why it was given up.
    pub reset: Option<Reason>,
    /// Which connection it came over, counted from 0.
    pub connection: usize,
}

impl Received {
    /// The value of a header; empty: none, or more than one.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next().and_then(|value| value.to_str().ok());
        if values.next().is_some() { "" } else { first.unwrap_or_default() }
    }
}

/// What a server is.
#[derive(Clone, Default)]
pub struct Kind {
    /// By TLS, as whom; `None`: without.
    pub tls: Option<Issued>,
    /// The most requests at once on one connection; `None`: any number.
    pub streams: Option<u32>,
}

/// A running server; ends when dropped.
pub struct Http2Upstream {
    record: Record,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

type Record = Arc<Mutex<Vec<Received>>>;

impl Http2Upstream {
    /// Serves on `address` in `namespace`.
    ///
    /// # Panics
    /// If the address is taken.
    #[must_use]
    pub fn start(namespace: &Namespace, address: &str, kind: &Kind) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let listener = namespace.enter(|| TcpListener::bind(address)).expect("the upstream's address");
        let (record, kind) = (Record::default(), kind.clone());
        let (stop, stopped) = oneshot::channel();
        let kept = Arc::clone(&record);
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, kind, kept) => {}
                    _dropped = stopped => {}
                }
            });
        });
        Self { record, stop: Some(stop), thread: Some(thread) }
    }

    /// What was received so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was received of requests whose target ends so.
    #[must_use]
    pub fn of(&self, path: &str) -> Vec<Received> {
        self.received().into_iter().filter(|request| request.target.ends_with(path)).collect()
    }
}

impl Drop for Http2Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

async fn serve(listener: TcpListener, kind: Kind, record: Record) {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let acceptor = kind.tls.as_ref().map(acceptor);
    for connection in 0.. {
        let Ok((stream, _peer)) = listener.accept().await else { return };
        stream.set_nodelay(true).unwrap();
        let (record, acceptor, streams) = (Arc::clone(&record), acceptor.clone(), kind.streams);
        tokio::spawn(async move {
            match acceptor {
                None => converse(stream, streams, connection, record).await,
                Some(acceptor) => {
                    // Who does not agree on a protocol is not served.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        converse(stream, streams, connection, record).await;
                    }
                }
            }
        });
    }
}

fn acceptor(issued: &Issued) -> TlsAcceptor {
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let chain = CertificateDer::pem_slice_iter(issued.certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    streams: Option<u32>,
    connection: usize,
    record: Record,
) {
    let mut builder = server::Builder::new();
    if let Some(streams) = streams {
        builder.max_concurrent_streams(streams);
    }
    let Ok(mut served) = builder.handshake::<_, Bytes>(stream).await else { return };
    let (leave, mut left) = mpsc::unbounded_channel();
    loop {
        tokio::select! {
            accepted = served.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    tokio::spawn(answer(request, respond, connection, Arc::clone(&record), leave.clone()));
                }
                _ => return,
            },
            Some(()) = left.recv() => served.graceful_shutdown(),
        }
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: usize,
    record: Record,
    leave: mpsc::UnboundedSender<()>,
) {
    let (head, mut body) = request.into_parts();
    let path = head.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    let place = {
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        record.push(Received {
            method: head.method.to_string(),
            target: head.uri.to_string(),
            headers: head.headers,
            length: 0,
            trailers: None,
            ended: body.is_end_stream(),
            reset: None,
            connection,
        });
        record.len() - 1
    };
    let note = |what: &dyn Fn(&mut Received)| {
        what(&mut record.lock().unwrap_or_else(PoisonError::into_inner)[place]);
    };
    let before =
        record.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|it| it.target.ends_with("refuse")).count();
    let good = || Response::new(());
    let said = match path.as_str() {
        "hold" => {
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            return note(&|it| it.reset = reason.as_ref().ok().copied());
        }
        "refuse" if before == 1 => return respond.send_reset(Reason::REFUSED_STREAM),
        "reset" => return respond.send_reset(Reason::INTERNAL_ERROR),
        "fault" => return respond.send_reset(Reason::PROTOCOL_ERROR),
        "fail" => {
            let mut failed = good();
            failed.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            failed.headers_mut().insert("grpc-status", HeaderValue::from_static("5"));
            failed.headers_mut().insert("grpc-message", HeaderValue::from_static("no such thing"));
            return drop(respond.send_response(failed, true));
        }
        "empty" => {
            let mut empty = good();
            *empty.status_mut() = http::StatusCode::NO_CONTENT;
            return drop(respond.send_response(empty, true));
        }
        "broken" => {
            let Ok(mut sent) = respond.send_response(good(), false) else { return };
            drop(sent.send_data(Bytes::from_static(b"some"), false));
            tokio::task::yield_now().await;
            return sent.send_reset(Reason::INTERNAL_ERROR);
        }
        "until" => {
            let Ok(mut sent) = respond.send_response(good(), false) else { return };
            drop(sent.send_data(Bytes::from_static(b"some"), false));
            let reason = std::future::poll_fn(|cx| sent.poll_reset(cx)).await;
            return note(&|it| it.reset = reason.as_ref().ok().copied());
        }
        "big" => BIG.clone(),
        "middle" => BIG.slice(..MIDDLE),
        "echo" => {
            let Ok(mut sent) = respond.send_response(good(), false) else { return };
            while let Some(piece) = body.data().await {
                let Ok(piece) = piece else { return note(&|it| it.reset = Some(Reason::CANCEL)) };
                note(&|it| it.length += piece.len());
                let length = piece.len();
                if send(&mut sent, piece).await.is_none() {
                    return;
                }
                drop(body.flow_control().release_capacity(length));
            }
            let trailers = body.trailers().await.unwrap_or_default();
            note(&|it| (it.trailers, it.ended) = (trailers.clone(), true));
            return match trailers {
                Some(trailers) => drop(sent.send_trailers(trailers)),
                None => drop(sent.send_data(Bytes::new(), true)),
            };
        }
        _ => Bytes::from_static(b"hello"),
    };
    if path == "leave" {
        leave.send(()).unwrap_or_default();
    }
    while let Some(piece) = body.data().await {
        let Ok(piece) = piece else { return note(&|it| it.reset = Some(Reason::CANCEL)) };
        note(&|it| it.length += piece.len());
        drop(body.flow_control().release_capacity(piece.len()));
    }
    let trailers = body.trailers().await.unwrap_or_default();
    note(&|it| (it.trailers, it.ended) = (trailers.clone(), true));
    let mut head = good();
    head.headers_mut().insert("content-length", said.len().into());
    let Ok(mut sent) = respond.send_response(head, false) else { return };
    if send(&mut sent, said).await.is_some() {
        drop(sent.send_data(Bytes::new(), true));
    }
}

/// How long the answer of `middle` is: four windows of a stream.
pub const MIDDLE: usize = 256 << 10;

/// One for all requests: sixty of them would keep the server busy before it sends the first head.
static BIG: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(vec![b'x'; 4 << 20]));

/// Sends as the other side takes it. `None`: it takes no more.
async fn send(sent: &mut SendStream<Bytes>, mut bytes: Bytes) -> Option<()> {
    while !bytes.is_empty() {
        sent.reserve_capacity(bytes.len());
        let room = std::future::poll_fn(|cx| sent.poll_capacity(cx)).await?.ok()?;
        sent.send_data(bytes.split_to(room.min(bytes.len())), false).ok()?;
    }
    Some(())
}
