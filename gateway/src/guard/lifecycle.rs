//! The guard from its start to its end: it starts, serves events, reloads its configuration, and stops.

pub(crate) mod prepare;
pub(crate) mod state;

mod access_log;
mod anchoring;
mod authorize;
mod background;
mod certificate_files;
mod certificates;
mod denials;
mod difference;
mod event_loop;
mod observation;
mod reload;
mod rotation;
mod service;
mod start;
mod timer;

pub use start::main;
