//! The privileged process: owns the kernel's drop path, the ban store and the audit chain, and supervises the proxy.

pub mod control;
pub mod settings;

pub mod audit;
pub mod bans;
pub mod feeds;
pub mod kernel;
pub mod store;

pub mod doctor;
pub mod offline;

mod certificates;
mod counts;
mod drops;
mod heard;
mod lock;
pub(crate) mod prepare;
mod program;
mod reconcile;
mod run;
mod serve;
mod sockets;
mod state;
mod supervise;
mod upstreams;

pub use run::main;
