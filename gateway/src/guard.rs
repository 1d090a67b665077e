//! The privileged process: owns the kernel's drop path, the ban store and the audit chain, and supervises the proxy.

pub(crate) mod lifecycle;
pub mod offline;

pub mod control;

mod anchors;
pub mod audit;
pub mod bans;
pub mod cluster;
pub(crate) mod credentials;
pub mod feeds;
pub mod kernel;
pub mod state_files;
pub mod store;

pub mod doctor;

mod crowdsec;
mod enforcement;
mod key_sets;
mod log_files;
mod operators;
mod processes;
mod quotas;

pub use lifecycle::main;
pub use operators::admin_tokens::LONGEST as LONGEST_ADMIN_TOKEN;
