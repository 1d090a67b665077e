//! What `[traces]` holds once it is valid: which requests are traced, and where their spans are sent.

use super::otlp::OtlpCollector;

/// `[traces]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where spans are sent.
    pub collector: OtlpCollector,
    /// Of a million requests, so many are traced whatever becomes of them. `traces.sample`.
    pub sample: u32,
    /// `traces.accept`.
    pub accept: Accept,
}

/// Whose `traceparent` is continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Of every client.
    Everybody,
    /// Of nobody: each request begins a trace.
    Nobody,
    /// Of `proxy.trusted_proxies`.
    Trusted,
}

impl Accept {
    /// All of them, as they are written.
    pub const NAMES: [(&'static str, Self); 3] =
        [("trusted", Self::Trusted), ("everybody", Self::Everybody), ("nobody", Self::Nobody)];
}
