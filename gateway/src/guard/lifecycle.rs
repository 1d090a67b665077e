//! The guard from its start to its end: it starts, serves events, reloads its configuration, and stops.

pub(crate) mod state;

mod anchoring;
mod background;
mod brought;
mod certificates;
mod credentials;
mod crowdsec;
mod event_loop;
mod fetching;
mod files;
mod first_pins;
mod operators;
mod processes;
mod quotas;
mod relay;
pub(crate) mod reload;
mod service;
mod settling;
mod start;
mod timer;
mod unseen_roles;

pub use start::main;
