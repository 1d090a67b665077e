//! A request on its way to a server, and what of its body is kept so that it can be sent again.

use std::rc::Rc;

use http::{HeaderMap, Method, Uri, request::Parts};

use super::retry::BodyState;
use crate::proxy::{
    body::{BodyProgress, Upload, WholeBody},
    interim::InterimSink,
    memory::buffer_pool,
    timing::write_batching::WriteBatch,
};

/// A body of more bytes than this takes a server noticeable time to read.
const MUCH: u64 = 64 * 1_024;

/// A request for a server.
pub(in crate::proxy) struct UpstreamRequest {
    head: Box<Parts>,
    body: Upload,
    /// Header lines of HTTP/1.1 that stand beside the headers; none for servers that may speak HTTP/2.
    lines: Vec<u8>,
}

impl UpstreamRequest {
    pub(in crate::proxy) const fn new(head: Box<Parts>, body: Upload, lines: Vec<u8>) -> Self {
        Self { head, body, lines }
    }

    pub(in crate::proxy) const fn method(&self) -> &Method {
        &self.head.method
    }

    pub(in crate::proxy) const fn uri(&self) -> &Uri {
        &self.head.uri
    }

    pub(in crate::proxy) const fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    pub(in crate::proxy) const fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.head.headers
    }

    pub(in crate::proxy) const fn body(&self) -> &Upload {
        &self.body
    }

    pub(in crate::proxy) const fn body_mut(&mut self) -> &mut Upload {
        &mut self.body
    }

    pub(in crate::proxy) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Leaves its memory to the next.
    pub(in crate::proxy) fn recycle(self) {
        buffer_pool::keep_parts(self.head);
        buffer_pool::keep_space(self.lines);
    }
}

/// The client's side of a request, while a server is waited for.
pub(in crate::proxy) struct ClientSide<'a> {
    /// Has its connection write after all have read.
    pub(in crate::proxy) write_batch: &'a WriteBatch,
    /// Who passes interim responses on to it.
    pub(in crate::proxy) interim: &'a dyn InterimSink,
}

/// The request body as it was before the first attempt.
pub(super) enum OriginalBody {
    Empty,
    Streaming(Rc<BodyProgress>),
    Whole(WholeBody),
}

impl OriginalBody {
    pub(super) fn of(body: &Upload) -> Self {
        match body {
            Upload::Empty => Self::Empty,
            Upload::Streaming(request_body) => Self::Streaming(request_body.progress()),
            Upload::Whole(whole) => Self::Whole(whole.clone()),
        }
    }

    pub(super) const fn progress(&self) -> Option<&Rc<BodyProgress>> {
        match self {
            Self::Streaming(progress) => Some(progress),
            Self::Empty | Self::Whole(_) => None,
        }
    }

    /// Whether the time until its response is not the server's alone: the client was waited for, or there was much of it.
    pub(super) fn is_slow(&self) -> bool {
        self.progress().is_some_and(|progress| progress.waited.get() || progress.passed.get() > MUCH)
    }

    /// How much of it there still is.
    pub(super) fn state(&self) -> BodyState {
        match self {
            Self::Empty | Self::Whole(_) => BodyState { is_kept: true, is_coming: false },
            Self::Streaming(progress) => BodyState {
                is_kept: !progress.taken.get() && progress.error.get().is_none(),
                is_coming: !progress.ended.get(),
            },
        }
    }

    /// Gives the request its body back.
    pub(super) fn restore(&self, request: &mut UpstreamRequest) {
        if let Self::Whole(whole) = self {
            *request.body_mut() = Upload::Whole(whole.clone());
        }
    }
}
