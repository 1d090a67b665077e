//! The ban store: bans, allowances and feeds in one SQLite file.
//!
//! *Invariant:* every change and the audit record that tells of it are one transaction, whose last statement anchors
//! the audit chain's head. Ids only ever grow, also over removals and restarts.

mod database;
mod error;
mod place;
mod record;
mod row;
mod safety;
mod salvage;
mod schema;
mod source_filter;
mod unread;
mod unread_rows;

pub(crate) mod feeds;
pub(crate) mod good;

pub use database::{BanStore, HISTORY, StoreChange, checkpoint, read_anchor};
pub use error::StoreError;
pub use record::{AllowanceRecord, BanDeadline, BanEnd, BanRecord, CommittedHead};
pub use safety::{Offence, Pardon, Promotion};
pub(crate) use salvage::Salvage;

#[cfg(test)]
mod tests;
