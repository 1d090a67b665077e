//! The gateway: a privileged guard that owns the kernel's drop path, an unprivileged proxy that owns identity, and an
//! observer that tells.
//!
//! Who may import whom, in floors, never upwards and never in a circle: the vocabulary, [`settings`], [`config`], then
//! the policies and what a configuration is compiled to, [`snapshot`], [`message`], the processes [`launcher`],
//! [`guard`], [`proxy`] and [`observer`], [`cli`]. `cargo xtask tidy` proves it.

// `json!` counts each member of a route's table.
#![recursion_limit = "256"]

pub mod cli;

pub mod guard;
pub mod launcher;
pub mod observer;
pub mod proxy;

pub mod message;
pub mod snapshot;

pub mod anchor;
pub mod client;
pub mod log;
pub mod outbound;
pub mod policy;
pub mod route;
pub mod tls;

mod compiler;
pub mod config;
pub mod lists;
pub mod settings;

pub mod collections;
pub mod diagnostic;
pub mod identity;
pub mod json;
pub mod metric;
pub mod net;
pub mod os;
pub mod refusal;
pub mod signal;
pub mod text;
pub mod web;
pub mod x509;
