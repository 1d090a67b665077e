//! The responses of the admin listener: kept by nobody, and short, but for those that go on.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::mpsc;

/// The body of a response.
pub(super) enum ResponseBody {
    /// One that goes on until nobody sends any more.
    Stream(mpsc::Receiver<Bytes>),
    /// One that is there.
    Whole(Full<Bytes>),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Stream(receiver) => {
                receiver.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            }
            Self::Whole(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Stream(_) => false,
            Self::Whole(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Stream(_) => SizeHint::default(),
            Self::Whole(body) => body.size_hint(),
        }
    }
}

/// One of a line of text.
pub(super) fn text(status: StatusCode, body: &'static str) -> Response<ResponseBody> {
    response(status, "text/plain; charset=utf-8", Bytes::from_static(body.as_bytes()))
}

/// One of any type.
pub(super) fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<ResponseBody> {
    with_body(status, content_type, ResponseBody::Whole(Full::new(body)))
}

/// One of events (`text/event-stream`), as they come.
pub(super) fn events(receiver: mpsc::Receiver<Bytes>) -> Response<ResponseBody> {
    with_body(StatusCode::OK, "text/event-stream", ResponseBody::Stream(receiver))
}

fn with_body(status: StatusCode, content_type: &'static str, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
