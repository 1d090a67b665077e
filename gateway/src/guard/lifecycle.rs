//! The guard from its start to its end: it starts, serves events, reloads its configuration, and stops.

pub(crate) mod prepare;
pub(crate) mod state;

mod access_log;
mod admin_tokens;
mod alerts;
mod anchoring;
mod authorize;
mod background;
mod certificate_files;
mod certificate_state;
mod certificates;
mod changed_files;
mod compile;
mod confined;
mod credentials;
mod denials;
mod difference;
mod event_loop;
mod handover;
mod handover_state;
mod keeping;
mod kept;
mod limits;
mod looks;
mod named_files;
mod observation;
mod pace;
mod process_log;
mod processes;
mod proxy_events;
mod quotas;
mod relay;
mod reload;
mod reloading;
mod resolved;
mod restarts;
mod rotation;
mod service;
mod start;
mod ticket_keys;
mod timer;
mod unseen_roles;
mod upgrade;

pub use start::main;
