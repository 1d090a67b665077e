//! The unprivileged process: everything that touches bytes from the network.

pub mod reject;
pub mod route;
pub mod settings;
pub mod snapshot;
pub mod target;
pub mod tls;
pub mod upstream;

mod body;
pub mod framing;
mod pipeline;
mod server;
mod start;
mod worker;

pub use start::main;
