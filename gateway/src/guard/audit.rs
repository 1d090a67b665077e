//! How decisions are written down so that nobody can change the past unseen: one JSON object a line, each holding the hash
//! of the one before and its own, now and then a signed checkpoint, over as many files as it takes.
//!
//! A record is in the file before what it tells of is in the kernel. The file is flushed to the disk about once a
//! second and at the end: a power cut may cost the last second of records, which the store then tells of.
//!
//! *Invariant:* the head of the chain is in the store too, so that a tail that was cut off and an old copy put back are
//! found. Whoever can write all files and the key can forge them; anchors that are kept elsewhere tell even then.

mod chain;
mod exported;
mod files;
mod finding;
mod flush;
mod key;
mod newest;
mod outside;
mod public_keys;
mod record;
mod redo;
mod resume;
mod verify;
mod walk;

pub(crate) use files::has_records;
pub(crate) use flush::{Flush, Unflushed};
pub(crate) use newest::{Recent, newest_first};
pub(crate) use record::{members, members_of};
pub(crate) use redo::{ListChange, Redo};

pub use chain::{AuditChain, ChainPosition};
pub use exported::verify_export;
pub use finding::AuditFinding;
pub use outside::{CheckpointStamp, Outside};
pub use public_keys::{PublicKeys, pem};
pub use verify::{Against, BadRecord, Unjudged, Verification, read_records, verify, verify_against};
pub use walk::ChainLine;

#[cfg(test)]
mod tests;
