//! What the tests and the demonstration are driven by: namespaces, the real daemon, keys and tokens, clients that can
//! misbehave, and an upstream that remembers what reached it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "for tests: whatever fails here panics and names its line"
)]

pub mod admin;
pub mod browser;
pub mod child_lines;
pub mod daemon;
pub mod guard_settings;
pub mod kernel_view;
pub mod settings;
pub mod small_disk;
pub mod world;

pub mod flood;
pub mod frame;
pub mod soak;

pub mod fake_issuer;
pub mod http1;
pub mod http2;
pub mod http2_call;
pub mod link;
pub mod name_server;
pub mod provider;
pub mod scripted;
pub mod store;
pub mod tls_upstream;
pub mod upstream;
pub mod upstream_http2;

pub mod authority;
pub mod pki;
pub mod tokens;

pub mod random;
pub mod report;
pub mod wait;
