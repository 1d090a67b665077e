//! What an upstream is sent of a request's body: none, all of it at once, or as it comes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{Incoming, RequestBody};
use crate::proxy::service::BodyError;

/// What an upstream is sent.
pub(in crate::proxy) enum Upload {
    Empty,
    Streaming(Box<RequestBody>),
    Whole(Bytes),
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(request_body) => {
                let piece = ready!(request_body.poll_piece(cx));
                Poll::Ready(match piece {
                    Some(piece) => Some(piece.map(Frame::data)),
                    None => request_body.trailers.take().map(|trailers| {
                        request_body.progress.taken.set(true);
                        Ok(Frame::trailers(trailers))
                    }),
                })
            }
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(request_body) => request_body.is_end_stream() && request_body.trailers.is_none(),
            Self::Whole(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(request_body) => request_body.size_hint(),
            Self::Whole(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
        }
    }
}

/// Reads what is left of a request's body and forgets it, so that the connection of a client that was told of no end can
/// carry the next request. A stream of HTTP/2 ends by itself.
pub(in crate::proxy) async fn drain(upload: Upload) {
    if let Upload::Streaming(mut request_body) = upload
        && matches!(request_body.incoming, Incoming::Http1(_))
    {
        while let Some(Ok(_)) = std::future::poll_fn(|cx| request_body.poll_piece(cx)).await {}
    }
}
