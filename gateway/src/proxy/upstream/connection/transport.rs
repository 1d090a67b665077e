//! What carries one request to its server: a connection of HTTP/1.1, or a stream of HTTP/2.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, response};
use http_body::SizeHint;

use super::dial::MaybeTlsStream;
use crate::proxy::{
    raw_head::{HeadFormat, RawHead},
    upstream::{
        error::UpstreamError,
        http1::H1Connection,
        http2::stream::H2Stream,
        request::{ClientSide, UpstreamRequest},
    },
};

/// What carries one request. Dropped before its end: closed or reset.
pub(in crate::proxy::upstream) enum Transport {
    // Boxed, they are moved as pointers from hand to hand.
    Http1(Box<H1Connection>),
    Http2(Box<H2Stream>),
}

impl Transport {
    /// Sends `request` and waits for the head of the response, in `form` if possible.
    pub(in crate::proxy::upstream) async fn send(
        &mut self,
        request: &mut UpstreamRequest,
        form: HeadFormat,
        client: &ClientSide<'_>,
    ) -> Result<response::Parts, UpstreamError> {
        match self {
            Self::Http1(connection) => connection.send(request, form, client).await,
            Self::Http2(stream) => stream.send(request, client.interim).await,
        }
    }

    /// Sends the rest of the request body while the response is read. `false`: there is none.
    pub(in crate::proxy::upstream) fn go_on(&mut self, request: &mut UpstreamRequest) -> bool {
        match self {
            Self::Http1(connection) => connection.go_on(request),
            Self::Http2(stream) => stream.go_on(request),
        }
    }

    /// Whether the server takes another request once it has this one.
    pub(in crate::proxy::upstream) const fn keeps(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.keeps(),
            Self::Http2(_) => true,
        }
    }

    /// Waits until the request has been sent. `false`: the server did not take all of it.
    pub(in crate::proxy::upstream) async fn finish(&mut self) -> bool {
        match self {
            Self::Http1(connection) => connection.finish().await,
            Self::Http2(stream) => stream.finish().await,
        }
    }

    /// As [`H1Connection::lines`].
    pub(in crate::proxy::upstream) const fn lines(&mut self) -> Option<RawHead> {
        match self {
            Self::Http1(connection) => connection.lines(),
            Self::Http2(_) => None,
        }
    }

    /// Whether the response has been read to its end.
    pub(in crate::proxy::upstream) fn is_over(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_over(),
            Self::Http2(stream) => stream.is_over(),
        }
    }

    /// How much of the response body is left.
    pub(in crate::proxy::upstream) fn left(&self) -> SizeHint {
        match self {
            Self::Http1(connection) => connection.left(),
            Self::Http2(stream) => stream.left(),
        }
    }

    /// The next piece of the response body. `None`: it is complete.
    pub(in crate::proxy::upstream) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        match self {
            Self::Http1(connection) => connection.poll_piece(cx),
            Self::Http2(stream) => stream.poll_piece(cx),
        }
    }

    /// The trailers, once the body is over. Those of HTTP/1.1 are dropped.
    pub(in crate::proxy::upstream) fn trailers(&self) -> Option<HeaderMap> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(stream) => stream.trailers(),
        }
    }

    /// The stream of a connection that became a tunnel, and what was read of it already. `None`: HTTP/2 has none.
    pub(in crate::proxy::upstream) fn switched(&mut self) -> Option<(Rc<RefCell<MaybeTlsStream>>, Bytes)> {
        match self {
            Self::Http1(connection) => Some(connection.switched()),
            Self::Http2(_) => None,
        }
    }
}
