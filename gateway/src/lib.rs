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

pub mod admission;
pub mod anchor;
pub mod auth;
pub mod authz;
pub mod client;
pub mod detect;
pub mod limit;
pub mod log;
pub mod outbound;
pub mod route;
pub mod tls;
pub mod validate;

mod compiler;
pub mod config;
pub mod lists;
pub mod settings;

pub mod bounded;
pub mod claim;
pub mod clock;
mod counted;
pub mod diagnostic;
pub mod digits;
pub mod expression;
pub mod file;
pub mod geo;
pub mod header_names;
pub mod header_values;
pub mod json;
mod keep;
pub mod launch;
pub mod metric;
mod mix;
mod os;
pub mod path;
pub mod permission;
mod program_log;
mod reach;
pub mod refusal;
pub mod request_id;
mod resident;
pub mod sandbox;
pub mod seqpacket;
pub mod signal;
pub mod source_set;
mod sparse;
pub mod swap;
mod syslog;
pub mod terminal;
pub mod text;
mod trace_context;
pub mod url;
pub mod violation;
mod wildcard;
pub mod x509;
