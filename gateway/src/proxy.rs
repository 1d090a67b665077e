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
mod client_io;
mod connection;
mod date;
mod deadline;
mod good;
mod hpack;
mod http1;
mod http2;
mod memory;
mod min_rate;
mod proxy_protocol;
mod scheduling;

mod body;
mod buffer_pool;
mod cors;
mod grpc;
mod outgoing;
mod own;
mod pipeline;
mod problem;
mod raw_head;
mod record;
mod tally;
mod tunnel;
mod upgrade;
mod upstream;
mod validators;
mod write_batching;

pub use start::main;
