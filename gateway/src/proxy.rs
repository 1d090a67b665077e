//! The unprivileged process: everything that touches bytes from the network.

pub mod framing;
pub mod reject;
pub mod route;
pub mod settings;
pub mod snapshot;
pub mod target;
pub mod tls;

mod process;
mod worker;

mod client;
mod connection;

mod cors;
mod request;
mod tunnel;
mod upstream;

mod bans;
mod timing;

mod client_io;
mod hpack;
mod http1;
mod http2;
mod min_rate;

mod body;
mod buffer_pool;
mod raw_head;
mod write_batching;

pub use process::main::main;
