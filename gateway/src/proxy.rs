//! The unprivileged process: everything that touches bytes from the network.

pub mod framing;

mod process;
mod worker;

mod connection;

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
mod service;

mod body;
mod buffer_pool;
mod raw_head;
mod slab;
mod write_batching;

pub use process::main::main;
