//! The process: how it begins and ends, what it and the guard tell each other, and what it may use of the machine.

mod configurations;
pub(super) mod control;
pub(super) mod main;
pub(super) mod memory;
pub(super) mod scheduling;
mod telemetry;
mod worker_thread;
