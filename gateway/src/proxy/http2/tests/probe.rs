//! A service that answers each request as its path says, with nothing behind it: what a connection of HTTP/2 is tried with.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use http_body::{Frame, SizeHint};
use socket2::{Domain, Socket, Type};
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
};

use super::super::body_buffer::Body;
use crate::{
    client::Trusted,
    proxy::{
        connection::{
            Connection,
            client_io::{self, ClientIo},
        },
        raw_head::RawHead,
        service::{BodyError, RequestLine, SendBody, Service},
    },
    refusal::Refusal,
    settings::{
        proxy::{HeadLimits, Trust},
        timeouts::Timeouts,
    },
};

const LIMITS: HeadLimits = HeadLimits { bytes: 1_000, headers: 30, target: 1_000 };

const LONG: Duration = Duration::from_secs(60);

const TIMEOUTS: Timeouts = Timeouts {
    handshake: LONG,
    headers: LONG,
    idle: LONG,
    body: LONG,
    least_rate: 0,
    connect: LONG,
    response: LONG,
    tunnel_idle: LONG,
    tunnel: LONG,
};

/// A piece of a body, and a body that is more than the windows that there are at first.
static CONTENT: [u8; PIECE] = [b'x'; PIECE];
const PIECE: usize = 20_000;
const MUCH: usize = 5 * PIECE;

/// A connection whose socket nobody reads from or writes to.
pub(super) struct Unconnected {
    pub(super) connection: Rc<Connection>,
    pub(super) io: Rc<ClientIo>,
    _runtime: Runtime,
}

impl Unconnected {
    pub(super) fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let entered = runtime.enter();
        let stream = TcpStream::from_std(socket.into())?;
        drop(entered);
        let client = Trusted::new(&Trust::default(), 64).peer(SocketAddr::from(([192, 0, 2, 1], 1)));
        let connection = Rc::new(Connection::new(client, SocketAddr::from(([192, 0, 2, 2], 443))));
        let io = ClientIo::new(client_io::Stream::Plain(stream.into()), Rc::clone(&connection));
        Ok(Self { connection, io, _runtime: runtime })
    }
}

/// Answers requests, and notes them.
#[derive(Clone, Default)]
pub(super) struct Probe {
    pub(super) seen: Rc<RefCell<Vec<String>>>,
}

/// The body of a request, where it has one.
#[derive(Default)]
pub(super) struct Received(Option<Body>);

impl From<Body> for Received {
    fn from(body: Body) -> Self {
        Self(Some(body))
    }
}

impl Received {
    fn poll_frame(&self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.as_ref().map_or(Poll::Ready(None), |body| body.poll_frame(cx))
    }

    /// Ready at its end, or once it has broken off.
    fn poll_end(&self, cx: &Context<'_>) -> Poll<()> {
        loop {
            match self.poll_frame(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// The body of a response.
pub(super) enum Content {
    /// What comes of the request's body.
    Echo(Received),
    /// So many bytes.
    Pieces(usize, Ending),
}

/// What comes behind the bytes of a body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Broken,
    Plain,
    Trailers,
}

impl Service for Probe {
    type RequestBody = Received;
    type ResponseBody = Content;

    fn head_limits(&self) -> HeadLimits {
        LIMITS
    }

    fn timeouts(&self) -> Timeouts {
        TIMEOUTS
    }

    fn respond(&self, head: Box<Parts>, body: Received) -> impl Future<Output = Response<Content>> + 'static {
        self.seen.borrow_mut().push(format!("{} {} {:?}", head.method, head.uri, head.headers));
        let manner = head.uri.path().as_bytes().get(1).copied().unwrap_or_default();
        let mut body = Some(body);
        std::future::poll_fn(move |cx| {
            let content = match manner {
                b'b' => Content::Pieces(10, Ending::Broken),
                b'e' => Content::Echo(body.take().unwrap_or_default()),
                b'l' => Content::Pieces(MUCH, Ending::Plain),
                b'p' => return Poll::Pending,
                b't' => Content::Pieces(10, Ending::Trailers),
                // Once something has come; the rest is read by nobody.
                b'f' if body.as_ref().is_some_and(|body| body.poll_frame(cx).is_pending()) => return Poll::Pending,
                b'w' if body.as_ref().is_some_and(|body| body.poll_end(cx).is_pending()) => return Poll::Pending,
                _ => Content::Pieces(0, Ending::Plain),
            };
            Poll::Ready(answer(StatusCode::OK, content))
        })
    }

    fn refuse(&self, _line: Option<RequestLine>, refusal: Refusal) -> Response<Content> {
        answer(refusal.reject.row().status, Content::Pieces(3, Ending::Plain))
    }

    fn replace(&self, _broken: &mut Content) -> Option<Response<Content>> {
        None
    }

    fn refuse_tunnel(&self, (): ()) -> Response<Content> {
        answer(StatusCode::BAD_REQUEST, Content::Pieces(0, Ending::Plain))
    }

    fn malformed(&self, detail: &'static str) {
        self.seen.borrow_mut().push(detail.to_owned());
    }

    fn too_slow(&self, _detail: &'static str) {}
}

/// The date is always the same one.
fn answer(status: StatusCode, content: Content) -> Response<Content> {
    let mut response = Response::new(content);
    *response.status_mut() = status;
    response.headers_mut().insert(header::DATE, HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
    response
}

impl http_body::Body for Content {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Echo(received) => received.poll_frame(cx),
            Self::Pieces(0, ending) => Poll::Ready(match std::mem::replace(ending, Ending::Plain) {
                Ending::Broken => Some(Err(BodyError::Broken)),
                Ending::Plain => None,
                Ending::Trailers => {
                    let name = HeaderName::from_static("x-checksum");
                    let trailers: HeaderMap = [(name, HeaderValue::from_static("1"))].into_iter().collect();
                    Some(Ok(Frame::trailers(trailers)))
                }
            }),
            Self::Pieces(left, _) => {
                let piece = CONTENT.get(..*left).unwrap_or(&CONTENT);
                *left -= piece.len();
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Echo(received) => received.0.as_ref().is_none_or(Body::is_end_stream),
            Self::Pieces(left, ending) => *left == 0 && *ending == Ending::Plain,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Echo(received) => received.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint),
            Self::Pieces(left, Ending::Plain) => SizeHint::with_exact(u64::try_from(*left).unwrap_or(u64::MAX)),
            Self::Pieces(..) => SizeHint::new(),
        }
    }
}

impl SendBody for Content {
    type Tunnel = ();

    fn take_tunnel(&mut self) -> Option<()> {
        None
    }

    fn leaves_unread(&self) -> bool {
        false
    }

    fn take_raw_head(&mut self) -> Option<RawHead> {
        None
    }

    fn stall_limits(&self) -> Option<(Duration, u64)> {
        None
    }
}
