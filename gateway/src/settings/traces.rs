//! What `[traces]` holds once it is valid: which requests are traced, and where their spans are sent.

use serde::{Deserialize, Serialize};

/// `[traces]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `traces.endpoint`.
    pub endpoint: Endpoint,
    /// Of a million requests, so many are traced whatever becomes of them. `traces.sample`.
    pub sample: u32,
    /// `traces.accept`.
    pub accept: Accept,
    /// How the gateway calls itself. `traces.service`.
    pub service: String,
}

/// Where spans are sent: OTLP over plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path, `/v1/traces`.
    pub path: String,
}

/// Whose `traceparent` is continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
