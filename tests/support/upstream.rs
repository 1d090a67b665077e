//! The server behind the gateway: it answers as the path says and remembers what reached it.
//!
//! | path | answer |
//! |---|---|
//! | `/health` | 200 |
//! | `/items/{id}` | 200, one item |
//! | `POST /items` | 201, the item that was sent |
//! | `/me` | 200, the headers it got; `/me?5`: and a header about quotas that is not the gateway's |
//! | `/echo` | 200, the body it got, as it comes |
//! | `/slow?500` | 200, after 500 ms |
//! | `/stream?5` | 200, in 5 chunks, 50 ms apart |
//! | `/cors/{status}` | that status, with headers of its own about CORS; `/cors/stream`: 200 in 2 chunks |
//! | `/files/broken` | 200, breaks off in the middle |
//! | `/files/{name}` | 200, the path it got |

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot},
};

use crate::{wait::slowly, world::Namespace};

/// A request as it reached the upstream.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its method.
    pub method: String,
    /// Its target.
    pub target: String,
    /// In the order they came.
    pub headers: Vec<(String, String)>,
    /// Which connection it came over, counted from 0.
    pub connection: usize,
}

impl Received {
    /// The values of a header, named in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|header| header.0 == name).map(|header| header.1.as_str()).collect()
    }
}

/// What the upstream received, shared with the threads that serve it.
pub type Record = Arc<Mutex<Vec<Received>>>;

/// A running upstream; ends when dropped.
pub struct Upstream {
    record: Record,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Serves on `address` in `namespace`.
    ///
    /// # Panics
    /// If the address is taken.
    #[must_use]
    pub fn start(namespace: &Namespace, address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let listener = namespace.enter(|| TcpListener::bind(address)).expect("the upstream's address");
        let record = Record::default();
        let (stop, stopped) = oneshot::channel();
        let kept = Arc::clone(&record);
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    result = serve(listener, kept) => result.expect("accepting"),
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

    /// Forgets what was received so far.
    pub fn forget(&self) {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Serves until accepting fails.
///
/// # Errors
/// As accepting.
pub async fn serve(listener: TcpListener, record: Record) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    for connection in 0.. {
        let (stream, _peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let record = Arc::clone(&record);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, connection, Arc::clone(&record)));
            // A client that leaves is its own business.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
    Ok(())
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

async fn answer(request: Request<Incoming>, connection: usize, record: Record) -> Result<Answer, Infallible> {
    let received = Received {
        method: request.method().to_string(),
        target: request.uri().to_string(),
        headers: (request.headers().iter())
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        connection,
    };
    record.lock().unwrap_or_else(PoisonError::into_inner).push(received.clone());

    let number = request.uri().query().and_then(|query| query.parse().ok());
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    Ok(match (request.method(), segments.as_slice()) {
        (_, ["health"]) => json_answer(StatusCode::OK, &json!({"status": "ok"})),
        (&Method::POST, ["items"]) => match request.into_body().collect().await {
            Ok(body) => {
                let item = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
                json_answer(StatusCode::CREATED, &item)
            }
            Err(_gone) => json_answer(StatusCode::BAD_REQUEST, &json!({"error": "body"})),
        },
        (_, ["items", id]) => json_answer(StatusCode::OK, &json!({"id": id, "name": format!("item {id}")})),
        (_, ["me"]) => {
            let mut answer = json_answer(StatusCode::OK, &json!({"headers": received.headers}));
            answer.headers_mut().extend(number.map(|number: u64| (QUOTA_REMAINING, number.into())));
            answer
        }
        (_, ["echo"]) => Response::new(request.into_body().map_err(io::Error::other).boxed()),
        (_, ["slow"]) => {
            slowly(Duration::from_millis(number.unwrap_or(500))).await;
            json_answer(StatusCode::OK, &json!({"slow": true}))
        }
        (_, ["stream"]) => Response::new(pieces(number.unwrap_or(5), false)),
        (_, ["cors", status]) => with_cors(status),
        (_, ["files", "broken"]) => Response::new(pieces(2, true)),
        (_, ["files" | "open" | "trial" | "users", ..]) => {
            json_answer(StatusCode::OK, &json!({"target": received.target}))
        }
        _ => json_answer(StatusCode::NOT_FOUND, &json!({"error": "no such thing"})),
    })
}

const QUOTA_REMAINING: http::HeaderName = http::HeaderName::from_static("x-quota-remaining");

/// An upstream's own word about CORS, which is not the gateway's.
fn with_cors(status: &str) -> Answer {
    let mut answer = match status.parse() {
        Ok(status) => json_answer(status, &json!({})),
        Err(_streamed) => Response::new(pieces(2, false)),
    };
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "1"),
        ("vary", "Accept-Encoding"),
        ("location", "/elsewhere"),
    ] {
        answer.headers_mut().append(name, http::HeaderValue::from_static(value));
    }
    answer
}

fn json_answer(status: StatusCode, value: &serde_json::Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    // Must not reach the client: they speak of this hop only, or of what is behind the gateway.
    response.headers_mut().insert("keep-alive", http::HeaderValue::from_static("timeout=5"));
    response
}

/// `count` pieces, 50 ms apart; then the end, or a broken connection.
fn pieces(count: u64, broken: bool) -> BoxBody<Bytes, io::Error> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for number in 0..count {
            if sender.send(Ok(Bytes::from(format!("piece {number}\n")))).await.is_err() {
                return;
            }
            slowly(Duration::from_millis(50)).await;
        }
        if broken {
            drop(sender.send(Err(io::ErrorKind::BrokenPipe.into())).await);
        }
    });
    Pieces(receiver).boxed()
}

struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
