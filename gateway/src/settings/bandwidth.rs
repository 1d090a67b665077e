//! `[bandwidth.NAME]`: how many bytes of bodies pass in a second.

use super::limit::{self, Allowance, Plan};

/// Limits by direction, in bytes. What is over them waits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// From clients.
    pub upload: limit::Settings,
    /// To clients.
    pub download: limit::Settings,
}

impl Settings {
    /// Takes over what plans say of bandwidths.
    pub fn follow(&mut self, plans: &[Plan]) {
        let with = |speed: fn(&limit::Speed) -> Option<limit::Rate>| {
            let plan = |plan: &Plan| {
                let limits =
                    plan.bandwidth.iter().filter_map(|(name, it)| Some((name.clone(), Allowance::Rate(speed(it)?))));
                Plan { limits: limits.collect(), bandwidth: Vec::new(), ..plan.clone() }
            };
            plans.iter().map(plan).collect()
        };
        (self.upload.plans, self.download.plans) = (with(|it| it.upload), with(|it| it.download));
    }

    /// Whether there is one of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.upload.limits.iter().chain(&self.download.limits).any(|limit| limit.name == name)
    }
}
