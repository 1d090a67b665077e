//! The unprivileged process: everything that touches bytes from the network.

pub mod framing;

mod process;
mod worker;

mod connection;

mod cluster;
mod lookup;
mod request;
mod tunnel;
mod upstream;

mod bans;
mod timing;

mod hpack;
mod http1;
mod http2;
mod service;

mod generation;
mod passwords;
mod validators;

mod body;
mod interim;
mod memory;
mod raw_head;
mod tcp;

#[cfg(any(test, fuzzing))]
#[path = "proxy/tests/pieces.rs"]
mod pieces;
#[cfg(any(test, fuzzing))]
#[path = "proxy/tests/reading.rs"]
pub mod reading;

pub use lookup::probe::{Probed, probe};
pub use process::main::main;
