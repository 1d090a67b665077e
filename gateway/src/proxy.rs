//! The unprivileged process: everything that touches bytes from the network.

pub mod framing;
pub mod reject;
pub mod route;
pub mod settings;
pub mod snapshot;
pub mod target;
pub mod tls;

mod control;
mod start;

mod server;
mod worker;

mod banned;
mod client;
mod connection;
mod date;
mod deadline;
mod good;
mod http1;
mod http2;
mod memory;
mod proxy_protocol;
mod scheduling;
mod wire;

mod body;
mod cors;
mod grpc;
mod lines;
mod outgoing;
mod own;
mod pace;
mod pipeline;
mod problem;
mod record;
mod spare;
mod tally;
mod tunnel;
mod turn;
mod upgrade;
mod upstream;
mod validators;

pub use start::main;
