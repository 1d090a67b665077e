//! What the thread that looks things up tells the control thread.

use std::sync::Arc;

use super::job::Requester;
use crate::policy::auth::jwt::KeySet;

/// What became of the keys of an issuer.
#[derive(Debug)]
pub(in crate::proxy) struct News {
    pub(in crate::proxy) set: Arc<KeySet>,
    /// How the fetch ended: a label of metrics.
    pub(in crate::proxy) result: &'static str,
    /// Since when fetching fails, and why: milliseconds since the Unix epoch.
    pub(in crate::proxy) failing: Option<(u64, String)>,
    /// What was fetched, where it is not what was fetched before.
    pub(in crate::proxy) document: Option<Vec<u8>>,
    /// How many tokens came by keys that were not there, since the last news.
    pub(in crate::proxy) asked: u64,
    /// Requests by nobody's keys whose clients were told that nothing can be said yet.
    pub(in crate::proxy) unknown: Vec<Requester>,
    /// Requests that were refused because of keys that turn out to be good.
    pub(in crate::proxy) wronged: Vec<Requester>,
}
