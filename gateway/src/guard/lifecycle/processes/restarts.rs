//! How often processes of the gateway were started again, and what those that run began with: a guard goes on where the one
//! before it died.

use serde::{Deserialize, Serialize};

use crate::guard::lifecycle::files::resolver_files::ResolverFiles;

/// How often processes had to be started again, since the launcher began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::guard::lifecycle) struct Restarts {
    pub(in crate::guard::lifecycle) proxy: u64,
    /// Those of a proxy that came to a standstill.
    pub(in crate::guard::lifecycle) standstills: u64,
    pub(in crate::guard::lifecycle) observer: u64,
    /// By which files the proxies resolve names; `None`: no guard was before.
    pub(in crate::guard::lifecycle) proxies_resolve: Option<ResolverFiles>,
    /// By which files the observer does.
    pub(in crate::guard::lifecycle) observer_resolves: Option<ResolverFiles>,
}
