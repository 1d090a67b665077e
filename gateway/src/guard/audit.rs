//! Decides how decisions are written down so that nobody can change the past unseen: one JSON object a line, each
//! holding the hash of the one before and its own, now and then a signed checkpoint.
//!
//! A record is in the file before what it tells of is in the kernel. The file is flushed to the disk about once a
//! second and at the end: a power cut may cost the last second of records, which the store then tells of.
//!
//! *Invariant:* the head of the chain is in the store too, so that a tail that was cut off and an old copy put back are
//! found. Whoever can write both files and the key can forge both; keep the checkpoints elsewhere against that.

mod chain;
mod finding;
mod key;
mod record;
mod redo;
mod verify;

pub(crate) use record::{members, members_of};
pub(crate) use redo::Redo;

pub use chain::{Audit, Mark};
pub use finding::Finding;
pub use verify::{Bad, Verification, verify};

#[cfg(test)]
mod tests;
