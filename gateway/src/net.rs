//! Addresses: sets of them, where they are, and which of them the gateway connects to.

pub mod geo;
pub(crate) mod reach;
pub mod source_set;
