//! What was used up of quotas: the guard adds up what all proxies say, hands it to those that start, and has it written by
//! a thread of its own, so that no ban waits for it.
//!
//! *Invariant:* what is counted does not depend on the disk. Where it cannot be written, that is told, the counts stay in
//! memory, and all of them are written once the disk can be used again.

pub(crate) mod book;
pub(crate) mod seed;
pub(crate) mod state;
pub(crate) mod writer;

mod store;

#[cfg(test)]
mod tests;
