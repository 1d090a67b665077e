//! The servers behind the gateway in a soak: they answer at once, stream what is asked for, become tunnels,
//! and can be killed in the middle of all that.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    task::{Context, Poll},
    thread::{self, JoinHandle},
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
use tokio::{runtime::Builder, sync::oneshot};

use crate::world::Namespace;

/// The key that tunnels are asked for with, and what it is answered (RFC 6455 1.3).
pub(super) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A running server. Dropped, it is gone in the middle of whatever it does.
pub(super) struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves on `port` of the loopback in `namespace`.
    pub(super) fn start(namespace: &Namespace, port: u16) -> Self {
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        let listener = namespace.enter(|| TcpListener::bind(address)).expect("the server's address");
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener) => {}
                    _dropped = stopped => {}
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn serve(listener: TcpListener) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _peer)) = listener.accept().await {
        drop(stream.set_nodelay(true));
        tokio::spawn(async move {
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            // A client that leaves is its own business.
            drop(served.with_upgrades().await);
        });
    }
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

async fn answer(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let path = request.uri().path().to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    Ok(match (request.method(), segments.as_slice()) {
        (_, ["health"]) => whole(StatusCode::OK, "up".into()),
        (&Method::GET, ["items", id]) => whole(StatusCode::OK, format!("item {id}").into()),
        (&Method::GET, ["big", bytes]) => Response::new(Big { from: 0, left: bytes.parse().unwrap_or(0) }.boxed()),
        (&Method::POST, ["orders"]) => match request.into_body().collect().await {
            Ok(body) => whole(StatusCode::CREATED, body.to_bytes()),
            Err(_gone) => whole(StatusCode::BAD_REQUEST, Bytes::new()),
        },
        (&Method::POST, ["echo"]) => Response::new(request.into_body().map_err(io::Error::other).boxed()),
        (&Method::GET, ["chat"]) => switch(request),
        _ => whole(StatusCode::NOT_FOUND, Bytes::new()),
    })
}

fn whole(status: StatusCode, body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

/// Says what it is told, from now on.
fn switch(request: Request<Incoming>) -> Answer {
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
            drop(tokio::io::copy(&mut from, &mut to).await);
        }
    });
    let mut response = whole(StatusCode::SWITCHING_PROTOCOLS, Bytes::new());
    for (name, value) in [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", ACCEPT)] {
        response.headers_mut().insert(name, http::HeaderValue::from_static(value));
    }
    response
}

/// The byte at a position of what `/big` answers.
pub(super) fn big(position: usize) -> u8 {
    u8::try_from(position % 251).unwrap()
}

/// So many bytes, made as they are taken.
struct Big {
    from: usize,
    left: usize,
}

impl Body for Big {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let (from, length) = (self.from, self.left.min(16 * 1_024));
        self.from += length;
        self.left -= length;
        Poll::Ready(Some(Ok(Frame::data((from..from + length).map(big).collect()))))
    }
}
