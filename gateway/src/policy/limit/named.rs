//! Limits that operations of OpenAPI documents name: they count the requests of these besides those of their own routes.

use super::{
    LimitResult, Limits,
    charge::{Charge, When},
    key::LimitFacts,
};
use crate::refusal::Refusal;

impl Limits {
    /// Judges a request by limits that its operation names, as [`Self::judge`] does by those of its route.
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub fn judge_named(
        &self,
        when: When,
        limits: &[usize],
        facts: &LimitFacts<'_>,
        now: u64,
        judged: &mut LimitResult,
    ) -> Result<(), Refusal> {
        let of_route = facts.route.and_then(|route| self.named.get(route)).into_iter().flatten();
        let is_asked = |(moment, charge): &&(When, Charge)| *moment == when && limits.contains(&charge.limit);
        let charges: Vec<Charge> = of_route.filter(is_asked).map(|(_, charge)| *charge).collect();
        if charges.is_empty() { Ok(()) } else { self.judge_all(&charges, facts, now, judged) }
    }
}
