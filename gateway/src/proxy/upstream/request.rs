//! Decides of what a request consists on its way to a server.

use http::{HeaderMap, Method, Uri, request::Parts};

use crate::proxy::{body::Upload, buffer_pool};

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
