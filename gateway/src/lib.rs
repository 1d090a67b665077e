//! The gateway: a privileged guard that owns the kernel's drop path, and an unprivileged proxy that owns identity.
//!
//! Who may import whom: `main -> cli -> {config, guard, proxy}`; `proxy::request -> {auth, authz, limit, validate,
//! detect, observe, upstream, reject}`; policies import `reject` and their own settings, never each other's insides,
//! never sockets. `guard` and `proxy` share [`message`] and `gateway-common`.

pub mod cli;
pub mod config;

pub mod guard;
pub mod proxy;

pub mod auth;
pub mod authz;
pub mod detect;
pub mod limit;
pub mod validate;

pub mod observe;

pub mod bounded;
pub mod clock;
pub mod fault;
pub mod json;
pub mod message;
mod os;
pub mod sandbox;
mod sparse;
pub mod text;
pub mod x509;
