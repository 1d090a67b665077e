//! What an upstream is sent of a request's body: none, all of it at once, or as it comes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::{Incoming, RequestBody};
use crate::proxy::service::BodyError;

/// What an upstream is sent.
pub(in crate::proxy) enum Upload {
    Empty,
    Streaming(Box<RequestBody>),
    Whole(WholeBody),
}

/// A body that was read whole.
#[derive(Clone)]
pub(in crate::proxy) struct WholeBody {
    pub(in crate::proxy) bytes: Bytes,
    /// What came behind it, as far as it may pass.
    pub(in crate::proxy) trailers: Option<Box<HeaderMap>>,
}

impl From<Bytes> for WholeBody {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, trailers: None }
    }
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
            Self::Whole(whole) => {
                if let Some(trailers) = whole.trailers.take_if(|_| whole.bytes.is_empty()) {
                    *this = Self::Empty;
                    return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
                }
                let bytes = std::mem::take(&mut whole.bytes);
                if whole.trailers.is_none() {
                    *this = Self::Empty;
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(request_body) => request_body.is_end_stream() && request_body.trailers.is_none(),
            Self::Whole(whole) => whole.bytes.is_empty() && whole.trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(request_body) => request_body.size_hint(),
            Self::Whole(whole) => SizeHint::with_exact(u64::try_from(whole.bytes.len()).unwrap_or(u64::MAX)),
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http::{HeaderName, HeaderValue};

    use super::*;

    /// What a body that was read whole is sent as: pieces, and trailers behind a `|`. A retry sends the same.
    #[track_caller]
    fn check(content: &'static str, trailers: &[(&'static str, &'static str)], expect: &[&str]) {
        let pairs = trailers.iter();
        let map: HeaderMap =
            pairs.map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
        let trailers = (!map.is_empty()).then(|| Box::new(map));
        let whole = WholeBody { bytes: Bytes::from_static(content.as_bytes()), trailers };
        for _ in 0..2 {
            let mut upload = Upload::Whole(whole.clone());
            assert_eq!(upload.size_hint().exact(), Some(u64::try_from(content.len()).unwrap()));
            let mut sent = Vec::new();
            while !upload.is_end_stream() {
                let frame = Pin::new(&mut upload).poll_frame(&mut Context::from_waker(Waker::noop()));
                let Poll::Ready(Some(Ok(frame))) = frame else { panic!("{content:?}: {frame:?}") };
                sent.push(match frame.into_data() {
                    Ok(piece) => String::from_utf8(piece.to_vec()).unwrap(),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap();
                        let fields =
                            trailers.iter().map(|(name, value)| format!("|{name}: {}", value.to_str().unwrap()));
                        fields.collect()
                    }
                });
            }
            assert_eq!(sent, expect, "{content:?}");
            let end = Pin::new(&mut upload).poll_frame(&mut Context::from_waker(Waker::noop()));
            assert!(!matches!(end, Poll::Ready(Some(Ok(frame))) if frame.is_trailers()), "{content:?}");
        }
    }

    #[test]
    fn whole_bodies_keep_their_trailers() {
        check("", &[], &[]);
        check("hello", &[], &["hello"]);
        check("hello", &[("x-checksum", "1")], &["hello", "|x-checksum: 1"]);
        check("", &[("x-checksum", "1"), ("x-b", "2")], &["|x-checksum: 1|x-b: 2"]);
    }
}
