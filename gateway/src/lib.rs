//! The gateway: a privileged guard that owns the kernel's drop path, an unprivileged proxy that owns identity, and an
//! observer that tells.
//!
//! Who may import whom, in floors, never upwards and never in a circle: the vocabulary, [`settings`], [`config`], then
//! the policies and what a configuration is compiled to, [`snapshot`], [`message`], the processes [`guard`],
//! [`proxy`] and [`observer`], [`cli`]. `cargo xtask tidy` proves it.

pub mod cli;

pub mod guard;
pub mod observer;
pub mod proxy;

pub mod message;
pub mod snapshot;

pub mod anchor;
pub mod auth;
pub mod authz;
pub mod client;
pub mod detect;
pub mod limit;
pub mod log;
pub mod route;
pub mod tls;
pub mod validate;

pub mod config;
pub mod settings;

pub mod bounded;
pub mod claim;
pub mod clock;
pub mod diagnostic;
pub mod file;
pub mod header_names;
pub mod header_values;
pub mod json;
mod os;
pub mod path;
pub mod permission;
pub mod refusal;
pub mod request_id;
mod resident;
pub mod sandbox;
pub mod signal;
mod sparse;
pub mod swap;
pub mod text;
pub mod x509;
