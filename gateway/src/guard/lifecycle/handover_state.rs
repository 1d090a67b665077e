//! What is known while a proxy is asked what budgets of rates have spent, and who goes on with it.

use std::time::Duration;

use tokio::time::Instant;

use crate::limit::spent::SpentBudgets;

/// How long a proxy may take to tell what budgets have spent.
pub(super) const HANDED_WITHIN: Duration = Duration::from_secs(1);

/// A proxy is asked what budgets have spent.
pub(super) struct Handover {
    /// Which proxy.
    pub(super) from: u64,
    /// By which number.
    pub(super) number: u64,
    pub(super) until: Instant,
    pub(super) to: Heir,
    pub(super) spent: Vec<SpentBudgets>,
    /// How many budgets.
    pub(super) count: usize,
}

/// Who goes on with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Heir {
    /// The guard after this one, for its first proxy.
    Guard,
    /// A proxy that has compiled its configuration and waits for being told to serve it.
    Proxy(u64),
}
