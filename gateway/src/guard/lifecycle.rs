//! The guard from its start to its end: it starts, serves events, reloads its configuration, and stops.

mod anchoring;
mod background;
mod brought;
mod certificates;
mod credentials;
mod event_loop;
mod files;
mod operators;
mod processes;
mod quotas;
mod relay;
pub(crate) mod reload;
mod service;
pub(crate) mod start;
mod timer;
mod unseen_roles;

pub use start::main;
