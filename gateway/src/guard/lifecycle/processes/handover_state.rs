//! What is known while a proxy is asked what budgets of rates have spent, and who goes on with it.

use std::time::Duration;

use tokio::time::Instant;

use crate::policy::limit::spent::SpentBudgets;

/// How long a proxy may take to tell what budgets have spent.
pub(in crate::guard::lifecycle) const HANDED_WITHIN: Duration = Duration::from_secs(1);

/// A proxy is asked what budgets have spent.
pub(in crate::guard::lifecycle) struct Handover {
    /// Which proxy.
    pub(in crate::guard::lifecycle) from: u64,
    /// By which number.
    pub(in crate::guard::lifecycle) number: u64,
    pub(in crate::guard::lifecycle) until: Instant,
    pub(in crate::guard::lifecycle) to: Heir,
    pub(in crate::guard::lifecycle) spent: Vec<SpentBudgets>,
    /// How many budgets.
    pub(in crate::guard::lifecycle) count: usize,
}

/// Who goes on with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::guard::lifecycle) enum Heir {
    /// The guard after this one, for its first proxy.
    Guard,
    /// A proxy that has compiled its configuration and waits for being told to serve it.
    Proxy(u64),
}
