//! The process: how it begins and ends, what it and the guard tell each other, and what it may use of the machine.

mod configurations;
pub(super) mod control;
mod credentials;
pub(super) mod guard_link;
mod heartbeat;
mod limits;
pub(super) mod main;
pub(super) mod memory;
mod quotas;
pub(super) mod scheduling;
mod spent;
mod telemetry;
mod worker_thread;
