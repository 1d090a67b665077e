//! Connections to servers: dialed, secured, pooled, and what carries a request on them.

pub(super) mod dial;
pub(super) mod pool;
pub(in crate::proxy) mod tls;
pub(super) mod transport;
