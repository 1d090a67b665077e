//! API keys and revocations: kept in a store of their own, by a thread of their own, so that no ban waits for them, and
//! handed to every proxy.
//!
//! *Invariant:* what is granted or revoked is in the store before any proxy knows it, together with the record that the
//! audit chain is to have of it; a record that a crash kept from the chain is written at the next start. Where it cannot
//! be known which keys there are, no key is good, and proxies say so.

pub(crate) mod behind;
pub(crate) mod handed;
pub(crate) mod revoked_file;
pub(crate) mod state;
pub(crate) mod store;
pub(crate) mod unconfirmed;
pub(crate) mod work;
pub(crate) mod writer;

mod pepper;
mod redo;
mod rows;
mod steady;
