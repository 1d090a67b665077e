//! The privileged process: owns the kernel's drop path, the ban store and the audit chain, and supervises the proxy.

pub(crate) mod lifecycle;
pub mod offline;

pub mod control;

mod anchors;
pub mod audit;
pub mod bans;
pub mod feeds;
pub mod kernel;
pub mod state_files;
pub mod store;

pub mod doctor;

mod enforcement;
mod log_files;
mod observer;
mod operators;
mod proxies;

pub use lifecycle::main;
