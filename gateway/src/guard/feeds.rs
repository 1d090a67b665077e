//! Lists of sources to ban: what is known of them, and whether they have changed. Their formats are in
//! [`lists`](crate::lists).

pub use crate::lists::{LineError, Listed, MAX_BYTES, read, read_services};

pub(crate) mod content;
pub(crate) mod fetched;
pub(crate) mod fetches;
pub(crate) mod list;
pub(crate) mod schedule;
pub(crate) mod watch;
