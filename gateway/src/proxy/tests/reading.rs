//! What it means to read what clients and upstreams send safely, for all bytes there are: what a
//! fuzzer asks of the private code of the proxy.

use super::{http1, http2};

/// What is wrong with how `bytes` are read, as what a client or a server sends by HTTP/1; `None`: nothing is.
#[must_use]
pub fn http1(bytes: &[u8]) -> Option<String> {
    http1::reading::fault(bytes).or_else(|| http1::relaying::fault(bytes))
}

/// What is wrong with how `bytes` are read, as what a client sends by HTTP/2 behind its first settings; `None`: nothing is.
#[must_use]
pub fn http2(bytes: &[u8]) -> Option<String> {
    http2::reading::fault_behind(bytes)
}
