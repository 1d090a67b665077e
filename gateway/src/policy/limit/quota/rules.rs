//! By what a quota is enforced.

use std::sync::Arc;

use super::{seen::Cap, shard::QuotaShard};
use crate::{
    policy::limit::shared::queue,
    settings::limit::quota::{Quota as Configured, WhenFull},
};

/// What a quota is enforced by. It changes with the configuration, and plans have one of their own.
#[derive(Clone, Debug)]
pub(in crate::policy::limit) struct QuotaRules {
    pub(in crate::policy::limit) most: u64,
    warn_at: Box<[u8]>,
    pub(super) when_full: WhenFull,
    /// What other machines use up counts as well; `None`: this machine counts alone.
    pub(in crate::policy::limit) shared: Option<Arc<queue::SharedQuota>>,
}

impl QuotaRules {
    pub(in crate::policy::limit) fn new(
        configured: &Configured,
        most: u64,
        shared: Option<Arc<queue::SharedQuota>>,
    ) -> Self {
        Self { most, warn_at: configured.warn_at.as_slice().into(), when_full: configured.when_full, shared }
    }

    /// The highest threshold that is crossed between both counts.
    pub(super) fn crossed(&self, before: u64, after: u64) -> Option<u8> {
        let share = |units: u64| u128::from(units) * 100;
        let is_crossed = |percent: &&u8| {
            let at = u128::from(self.most) * u128::from(**percent);
            share(before) < at && at <= share(after)
        };
        self.warn_at.iter().filter(is_crossed).max().copied()
    }

    /// What a key may use up here.
    pub(super) fn cap(&self, part: &mut QuotaShard, key: u64, now: u64) -> Cap {
        match &self.shared {
            None => Cap { most: self.most, others: 0 },
            Some(shared) => part.cap(shared, key, now),
        }
    }

    /// What those may use up together that there is no room for.
    pub(super) fn of_newcomers(&self) -> u64 {
        self.shared.as_ref().map_or(self.most, |shared| shared.share())
    }
}
