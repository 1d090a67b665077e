//! Decides what carries a request to its server: a connection of HTTP/1.1, or a stream of HTTP/2.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, response};
use http_body::SizeHint;

use super::{
    client::{Broken, Link},
    dial::Stream,
    http2::strand::Strand,
    request::Outgoing,
};
use crate::proxy::raw_head::{HeadFormat, RawHead};

/// What carries one request. Dropped before its end: given up.
pub(super) enum Carrier {
    // Boxed, they are moved as pointers from hand to hand.
    Http1(Box<Link>),
    Http2(Box<Strand>),
}

impl Carrier {
    /// Sends `request` and waits for the head of its answer, in `form` if that may be.
    pub(super) async fn send(&mut self, request: &mut Outgoing, form: HeadFormat) -> Result<response::Parts, Broken> {
        match self {
            Self::Http1(link) => link.send(request, form).await,
            Self::Http2(strand) => strand.send(request).await,
        }
    }

    /// What is left of the request's body is sent beside the answer. `false`: there is nothing to be sent.
    pub(super) fn go_on(&mut self, request: &mut Outgoing) -> bool {
        match self {
            Self::Http1(link) => link.go_on(request),
            Self::Http2(strand) => strand.go_on(request),
        }
    }

    /// Whether the server takes another request once it has this one.
    pub(super) const fn keeps(&self) -> bool {
        match self {
            Self::Http1(link) => link.keeps(),
            Self::Http2(_) => true,
        }
    }

    /// Waits until the request has been sent. `false`: the server did not take all of it.
    pub(super) async fn finish(&mut self) -> bool {
        match self {
            Self::Http1(link) => link.finish().await,
            Self::Http2(strand) => strand.finish().await,
        }
    }

    /// As [`Link::lines`].
    pub(super) const fn lines(&mut self) -> Option<RawHead> {
        match self {
            Self::Http1(link) => link.lines(),
            Self::Http2(_) => None,
        }
    }

    /// Whether nothing of the answer is left to read.
    pub(super) const fn is_over(&self) -> bool {
        match self {
            Self::Http1(link) => link.is_over(),
            Self::Http2(strand) => strand.is_over(),
        }
    }

    /// How much of the answer's body is left.
    pub(super) fn left(&self) -> SizeHint {
        match self {
            Self::Http1(link) => link.left(),
            Self::Http2(strand) => strand.left(),
        }
    }

    /// The next piece of the answer's body. `None`: it is whole.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        match self {
            Self::Http1(link) => link.poll_piece(cx),
            Self::Http2(strand) => strand.poll_piece(cx),
        }
    }

    /// What came behind the answer's body, once that is over. Those of HTTP/1.1 are passed over.
    pub(super) fn trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(strand) => strand.trailers(),
        }
    }

    /// The stream of a connection that became a tunnel, and what was read of it already. `None`: HTTP/2 has none.
    pub(super) fn switched(&mut self) -> Option<(Rc<RefCell<Stream>>, Bytes)> {
        match self {
            Self::Http1(link) => Some(link.switched()),
            Self::Http2(_) => None,
        }
    }
}
