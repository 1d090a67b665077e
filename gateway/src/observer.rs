//! The process that tells: it serves metrics and health on the admin listener, and hands operators' commands to the guard.
//!
//! The guard starts it, and hands it what it needs: its part of the configuration, the listening socket, and one socket
//! for each proxy. *Invariant:* nobody waits for it. It may be stopped or killed at any moment: then nothing is told, and
//! nothing else happens.

pub use baseline::{BaselineAnomaly, BaselineNumber, BaselineTrial};
pub use main::main;
pub use reference::reference;

mod main;

mod admin;
mod alert;
mod baseline;
mod crowdsec;
mod deliver;
mod export;
mod exposition;
mod fetch;
mod history;
mod protobuf;
mod reference;
mod relay;
mod report;
mod retry_after;
mod store;
