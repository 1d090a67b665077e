//! Decides what an upstream is sent of a request's body: none, all of it at once, or as it comes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{Arriving, Cut, Received};

/// What an upstream is sent.
pub(in crate::proxy) enum Upload {
    Empty,
    Streaming(Box<Arriving>),
    Whole(Bytes),
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(arriving) => {
                let piece = ready!(arriving.poll_piece(cx));
                Poll::Ready(match piece {
                    Some(piece) => Some(piece.map(Frame::data)),
                    None => arriving.trailers.take().map(|trailers| {
                        arriving.flow.taken.set(true);
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
            Self::Streaming(arriving) => arriving.incoming.is_end_stream() && arriving.trailers.is_none(),
            Self::Whole(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(arriving) => arriving.incoming.size_hint(),
            Self::Whole(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
        }
    }
}

/// Reads what is left of a request's body and forgets it, so that the connection of a client that was told of no end can
/// carry the next request. A stream of HTTP/2 ends by itself.
pub(in crate::proxy) async fn drain(upload: Upload) {
    if let Upload::Streaming(mut arriving) = upload
        && matches!(arriving.incoming, Received::Http1(_))
    {
        while let Some(Ok(_)) = std::future::poll_fn(|cx| arriving.poll_piece(cx)).await {}
    }
}
