//! Limits on requests and quotas: how many whoever they count may make, by address, principal, tenant, route and more.
//!
//! Limits are asked at three moments of a request, each as early as what it looks at is known: before the target is read,
//! once the route is found, and once it is known who asks. All that are asked at one moment are judged, and if one of them
//! refuses, none of that moment is charged. What earlier moments have charged stays: it counts what arrives.
//!
//! *Invariant:* the state is bounded (see [`counter`]), is keyed by numbers alone, and outlives configurations: another
//! rate continues the counts. Where no limit is configured there is no [`Limits`].

use std::sync::Arc;

use http::HeaderMap;

use self::{
    budget::{Allowed, Budgets, Judgement},
    charge::{Charge, charges_by_name, moment, weight},
    counter::Over,
    key::{CompiledPart, Hashed, Hasher, Key},
    quota::QuotaCounts,
    report::offenders::Offenders,
    result::{Due, PendingCharge},
    shadow::Mode,
    shared::{Circle, queue},
    tell::rate_limit_headers::RemainingUnits,
};
use crate::{
    identity::claim::ClaimPath,
    refusal::{Refusal, Reject},
    settings::{
        limit::{self, Allowance, Cost, Except, KeyPart, Limit as Configured, Plan, quota::QuotaHeaders},
        route::Route,
    },
    text::digits::decimal,
};

pub mod bandwidth;
pub mod connection;
pub mod quota;
pub mod quotas;
pub mod report;
pub mod spent;

mod budget;
mod charge;
mod counter;
mod in_flight;
mod key;
mod named;
mod plan;
mod result;
mod shadow;
mod shared;
mod tell;

#[cfg(test)]
mod tests;

pub use charge::When;
pub use counter::{BYTES_PER_KEY, Counts};
pub use key::{LimitFacts, route_name};
pub use plan::kernel_plans::KernelPlans;
pub use plan::{PlanMembership, of as plan_of};
pub use result::{LimitResult, RequestUsage};
pub use shadow::{MOST_TOLD, ShadowRefusals};
pub use shared::ask::{BudgetRequest, StoreCall};
pub use shared::lease::Granted;
pub use shared::portion_of;
pub use shared::queue::BudgetQueue;
pub use tell::rate_limit_headers::RateLimitHeaders;

/// How many requests limits may count together for one request: one bit each.
const _: () = assert!(limit::MAX_LIMITS <= 64);

/// Every limit of a configuration, compiled.
#[derive(Debug)]
pub struct Limits {
    limits: Box<[CompiledLimit]>,
    parts: Box<[CompiledPart]>,
    plans: Box<[PlanMembership]>,
    hasher: Hasher,
    /// With whom limits are shared; `None`: no limit is.
    circle: Option<Circle>,
    ipv6_prefix: u8,
    arrived: Box<[Charge]>,
    /// By route, in the order of the configuration; `named` where an operation names the limit.
    routed: Box<[Box<[Charge]>]>,
    authorized: Box<[Box<[Charge]>]>,
    named: Box<[NamedCharges]>,
}

/// What operations of a route that name limits are charged, and when.
type NamedCharges = Box<[(When, Charge)]>;

/// One limit.
#[derive(Debug)]
struct CompiledLimit {
    name: Arc<str>,
    /// Indices into [`Limits::parts`].
    by: Box<[usize]>,
    /// As it is configured.
    by_text: Vec<KeyPart>,
    cost: Cost,
    is_shared: bool,
    except: Except,
    headers: bool,
    quota_headers: QuotaHeaders,
    /// What a quota counts, and until when; `None`: it is a limit.
    quota: Option<Box<str>>,
    /// `hour`, `day`, `week` or `month`.
    per: Option<String>,
    mode: Arc<Mode>,
    offenders: Arc<Offenders>,
    /// What everybody has, then what plans have instead.
    allowed: Box<[Allowed]>,
    /// For each plan, an index into `allowed`.
    by_plan: Box<[usize]>,
}

impl Limits {
    /// Compiles the limits of a configuration. `kept`: the claims that identities keep. `before`: what was in force until
    /// now; its counts are shared, and nothing of them changes until [`Self::put_in_force`]. `None`: there is no limit.
    #[must_use]
    pub fn new(
        settings: &limit::Settings,
        routes: &[Route],
        kept: &[ClaimPath],
        ipv6_prefix: u8,
        before: Option<&Self>,
    ) -> Option<Self> {
        if settings.limits.is_empty() {
            return None;
        }
        let hasher = before.map_or_else(|| Hasher::new(settings.seed), |before| before.hasher.clone());
        let circle = Circle::new(settings, before.and_then(|before| before.circle.as_ref()));
        let mut parts: Vec<CompiledPart> = Vec::new();
        let mut limits = Vec::new();
        for configured in &settings.limits {
            let by = configured.by.iter().map(|part| {
                parts.iter().position(|known| known.key == *part).unwrap_or_else(|| {
                    parts.push(CompiledPart::new(part, routes, kept));
                    parts.len() - 1
                })
            });
            let by = by.collect();
            let known = before.and_then(|before| before.limits.iter().find(|known| *known.name == *configured.name));
            limits.push(CompiledLimit::new(configured, by, &settings.plans, known, circle.as_ref(), &hasher));
        }
        let charges = |when: When, route: Option<&Route>| -> Box<[Charge]> {
            let all = settings.limits.iter().enumerate().filter(|(_, limit)| moment(limit, &settings.plans) == when);
            all.filter_map(|(at, limit)| Some(Charge { limit: at, weight: weight(limit, route)? })).collect()
        };
        let by_route = |when| routes.iter().map(|route| charges(when, Some(route))).collect();
        Some(Self {
            arrived: charges(When::Arrived, None),
            routed: by_route(When::Routed),
            authorized: by_route(When::Authorized),
            named: routes.iter().map(|route| charges_by_name(settings, route)).collect(),
            plans: settings.plans.iter().map(|plan| PlanMembership::new(plan, kept)).collect(),
            limits: limits.into(),
            parts: parts.into(),
            hasher,
            circle,
            ipv6_prefix,
        })
    }

    /// Goes on with the counts of `before`. `now` is `CLOCK_MONOTONIC` in nanoseconds.
    pub fn put_in_force(&self, settings: &limit::Settings, before: &Self, now: u64) {
        for (limit, configured) in self.limits.iter().zip(&settings.limits) {
            limit.mode.change(configured.shadow);
            let Some(known) = before.limits.iter().find(|known| known.name == limit.name) else { continue };
            if known.by_text != limit.by_text {
                continue;
            }
            if let Some(quota) = limit.counts_of_quota() {
                quota.resize(configured.capacity);
            }
            for allowed in &limit.allowed {
                if let Some(known) = known.allowed.iter().find(|known| known.plan == allowed.plan) {
                    allowed.take_over(known, configured.capacity, now);
                }
            }
        }
    }

    /// Whether any limit looks at requests of `route` at this moment. `None`: it is not known yet, or there is none.
    #[inline]
    #[must_use]
    pub fn is_asked(&self, when: When, route: Option<usize>) -> bool {
        self.charges(when, route).is_some_and(|charges| !charges.is_empty())
    }

    #[inline]
    fn charges(&self, when: When, route: Option<usize>) -> Option<&[Charge]> {
        let by_route = match when {
            When::Arrived => return Some(&self.arrived),
            When::Routed => &self.routed,
            When::Authorized => &self.authorized,
        };
        by_route.get(route?).map(|charges| &**charges)
    }

    /// Judges a request at one moment. `now` is `CLOCK_MONOTONIC` in nanoseconds.
    ///
    /// # Errors
    /// [`Reject::TooManyRequests`], with the limits that refuse and the time to wait; nothing is charged then.
    #[inline]
    pub fn judge(&self, when: When, facts: &LimitFacts<'_>, now: u64, judged: &mut LimitResult) -> Result<(), Refusal> {
        match self.charges(when, facts.route) {
            None | Some([]) => Ok(()),
            Some(charges) => self.judge_all(charges, facts, now, judged),
        }
    }

    fn judge_all(
        &self,
        charges: &[Charge],
        facts: &LimitFacts<'_>,
        now: u64,
        judged: &mut LimitResult,
    ) -> Result<(), Refusal> {
        let plan = facts.identity.and_then(|identity| plan::of(&self.plans, identity));
        let facts = LimitFacts { plan: plan.and_then(|plan| self.plans.get(plan)).map(|plan| &*plan.name), ..*facts };
        let mut hashed = Hashed::default();
        let (first_owed, mut taken, mut refusal) = (judged.owed.len(), 0_u64, None);
        let (quota_before, mut is_over_quota) = (judged.told.quota, false);
        for (at, charge) in charges.iter().enumerate() {
            let Some(limit) = self.limits.get(charge.limit).filter(|limit| !limit.excepts(&facts)) else { continue };
            let Some((place, allowed)) = limit.allowed(plan) else { continue };
            let key = self.key(limit, &facts, &mut hashed);
            let over = if limit.mode.enforces() { Over::Refused } else { Over::Shadow };
            match allowed.judge(key, charge.weight, limit.cost.is_later(), now, over) {
                Judgement::Admitted { left, reset, wait, entered, is_new } => {
                    taken |= 1 << at;
                    if let Some(quota) = limit.counts_of_quota().filter(|_| is_new) {
                        quota.name(key.own, key::shown(&self.hasher.tell(&limit.by, &self.parts, &facts)), now);
                    }
                    let mut owe = |due| judged.owed.push(PendingCharge { limit: charge.limit, allowed: place, due });
                    if let Some(entered) = entered {
                        owe(Due::Leave(entered));
                    } else if limit.cost.is_later() {
                        owe(Due::Units { key, weight: charge.weight, units: None });
                    }
                    if over == Over::Refused {
                        judged.wait = judged.wait.max(wait);
                    }
                    if over == Over::Refused && refusal.is_none() {
                        let left = RemainingUnits { limit: charge.limit, allowed: place, left, reset };
                        judged.told.admitted(left, limit.headers, limit.quota_headers.is_sent());
                    }
                }
                Judgement::Over { left, reset } => {
                    limit.offenders.note(key.own, now, || self.hasher.tell(&limit.by, &self.parts, &facts));
                    // Fails open while the limit is in shadow mode.
                    if over == Over::Shadow {
                        limit.mode.note(facts.source);
                        continue;
                    }
                    let wait = reset.unwrap_or(1).max(1);
                    is_over_quota |= limit.quota.is_some();
                    if refuse(&mut refusal, limit, wait) {
                        // Whatever is left is too few. What other machines hold may make it look like more.
                        let left = left.min(charge.weight.max(1) - 1);
                        let reset = reset.map(|_| wait);
                        let left = RemainingUnits { limit: charge.limit, allowed: place, left, reset };
                        judged.told.refused(left, limit.headers, limit.quota_headers.is_sent());
                    }
                }
            }
        }
        let Some(refusal) = refusal else { return Ok(()) };
        if !is_over_quota {
            judged.told.quota = quota_before;
        }
        self.give_back(charges, taken, plan, &facts, &mut hashed, now);
        for owed in judged.owed.drain(first_owed..) {
            if let (Due::Leave(entered), Some(allowed)) = (owed.due, self.allowed(owed.limit, owed.allowed)) {
                allowed.budgets.refund_entered(entered);
            }
        }
        Err(refusal)
    }

    /// Gives back what was taken of rates: of the charges whose bits are set in `taken`.
    fn give_back(
        &self,
        charges: &[Charge],
        taken: u64,
        plan: Option<usize>,
        facts: &LimitFacts<'_>,
        hashed: &mut Hashed,
        now: u64,
    ) {
        for (at, charge) in charges.iter().enumerate().filter(|(at, _)| taken & (1 << at) != 0) {
            debug_assert!(at < 64, "there are no more limits");
            let Some(limit) = self.limits.get(charge.limit) else { continue };
            let Some((_, allowed)) = limit.allowed(plan) else { continue };
            let key = self.key(limit, facts, hashed);
            allowed.refund(key, charge.weight, limit.cost.is_later(), now);
        }
    }

    /// Notes what the upstream says a request costs, where a limit looks at a header of its answer. Returns the name of a
    /// limit whose header is there and no whole number.
    pub fn note_response(&self, headers: &HeaderMap, judged: &mut LimitResult) -> Option<&str> {
        let mut wrong = None;
        for owed in &mut judged.owed {
            if let Due::Units { units, .. } = &mut owed.due
                && let Some(limit) = self.limits.get(owed.limit)
                && let Cost::Header(name) = &limit.cost
                && let Some(value) = headers.get(name)
            {
                *units = value.to_str().ok().and_then(|value| decimal(value.trim()));
                if units.is_none() {
                    wrong = Some(&*limit.name);
                }
            }
        }
        wrong
    }

    /// Whether the headers of answers have to be read: for what a request costs, or as ours take the place of the upstream's.
    #[must_use]
    pub fn reads_responses(&self) -> bool {
        self.limits.iter().any(|limit| matches!(limit.cost, Cost::Header(_)) || limit.quota_headers.is_sent())
    }

    /// Charges what was known only once the request was over, and lets others have its place. What the upstream does not
    /// say costs one unit.
    pub fn settle(&self, judged: &mut LimitResult, spent: &RequestUsage, now: u64) {
        for owed in judged.owed.drain(..) {
            let Some(allowed) = self.allowed(owed.limit, owed.allowed) else { continue };
            match owed.due {
                Due::Leave(entered) => allowed.budgets.leave(entered),
                Due::Units { key, weight, units } => {
                    let cost = self.limits.get(owed.limit).map(|limit| &limit.cost);
                    let units = match cost {
                        // A request without any message is one request.
                        Some(Cost::GrpcMessages) => spent.grpc_messages.max(1),
                        // One wrong number must not shut anybody out for longer than a spent budget takes.
                        Some(Cost::Header(_)) => units.unwrap_or(1).min(allowed.burst()),
                        Some(Cost::RequestBytes) => spent.request_bytes,
                        Some(Cost::ResponseBytes) => spent.response_bytes,
                        Some(Cost::Requests) | None => 0,
                    };
                    allowed.charge(key, units.saturating_mul(weight), now);
                }
            }
        }
    }

    /// Lets others have its place, where nothing is to be charged: connections owe no more than that.
    fn leave(&self, judged: &mut LimitResult) {
        for owed in judged.owed.drain(..) {
            if let (Due::Leave(entered), Some(allowed)) = (owed.due, self.allowed(owed.limit, owed.allowed)) {
                allowed.budgets.leave(entered);
            }
        }
    }

    /// The key that a request has in a limit.
    #[inline]
    fn key(&self, limit: &CompiledLimit, facts: &LimitFacts<'_>, hashed: &mut Hashed) -> Key {
        let mut own = || self.hasher.key(&limit.by, &self.parts, facts, hashed);
        match &self.circle {
            Some(circle) if limit.is_shared => {
                let common = circle.hasher.key(&limit.by, &self.parts, facts, &mut Hashed::default());
                Key { own: if limit.quota.is_some() { common } else { own() }, common }
            }
            _ => Key::of(own()),
        }
    }

    fn allowed(&self, limit: usize, allowed: usize) -> Option<&Allowed> {
        self.limits.get(limit)?.allowed.get(allowed)
    }
}

impl CompiledLimit {
    fn new(
        configured: &Configured,
        by: Box<[usize]>,
        plans: &[Plan],
        known: Option<&Self>,
        circle: Option<&Circle>,
        hasher: &Hasher,
    ) -> Self {
        let counted = known.filter(|known| known.by_text == configured.by);
        let quota_of = configured.counts().map(Into::into);
        let quota = configured.quota.as_ref().map(|quota| {
            let same = known.filter(|known| known.quota == quota_of).and_then(Self::counts_of_quota).map(Arc::clone);
            same.unwrap_or_else(|| Arc::new(QuotaCounts::new(quota, configured.capacity, hasher.seed())))
        });
        let allowed = |allowance: &Allowance, plan: Option<&str>| {
            let known = counted.and_then(|known| known.allowed.iter().find(|known| known.plan.as_deref() == plan));
            Allowed::new(configured, allowance, plan, known, circle, quota.as_ref(), hasher.seed())
        };
        let mut all = vec![allowed(&configured.allowance, None)];
        let mut by_plan = Vec::new();
        for plan in plans {
            let own = plan.limits.iter().find(|(name, _)| *name == configured.name);
            by_plan.push(own.map_or(0, |(_, allowance)| {
                all.push(allowed(allowance, Some(&plan.name)));
                all.len() - 1
            }));
        }
        Self {
            name: configured.name.as_str().into(),
            by,
            by_text: configured.by.clone(),
            cost: configured.cost.clone(),
            is_shared: configured.shared,
            except: configured.except.clone(),
            headers: configured.headers,
            quota_headers: configured.quota.as_ref().map(|quota| quota.headers.clone()).unwrap_or_default(),
            quota: quota_of,
            per: configured.quota.as_ref().map(|quota| quota.period.to_string()),
            mode: known.map_or_else(|| Arc::new(Mode::new(configured.shadow)), |known| Arc::clone(&known.mode)),
            offenders: counted.map(|known| Arc::clone(&known.offenders)).unwrap_or_default(),
            allowed: all.into(),
            by_plan: by_plan.into(),
        }
    }

    /// The table that it is configured in.
    const fn table(&self) -> &'static str {
        if self.quota.is_some() { "quota" } else { "limit" }
    }

    /// The counts of a quota, which are those of every plan.
    fn counts_of_quota(&self) -> Option<&Arc<QuotaCounts>> {
        match &self.allowed.first()?.budgets {
            Budgets::Quota(counts, _) => Some(counts),
            Budgets::InFlight(_) | Budgets::Rate(..) => None,
        }
    }

    /// A quota as all machines share it; `None`: this machine counts alone.
    fn shared_quota(&self) -> Option<&Arc<queue::SharedQuota>> {
        match &self.allowed.first()?.budgets {
            Budgets::Quota(_, rules) => rules.shared.as_ref(),
            Budgets::InFlight(_) | Budgets::Rate(..) => None,
        }
    }

    /// What has counts of its own: of a quota, what everybody has, as plans count in the same table.
    fn counted(&self) -> impl Iterator<Item = &Allowed> {
        self.allowed.iter().take(if self.quota.is_some() { 1 } else { usize::MAX })
    }

    fn allowed(&self, plan: Option<usize>) -> Option<(usize, &Allowed)> {
        let place = plan.and_then(|plan| self.by_plan.get(plan)).copied().unwrap_or(0);
        self.allowed.get(place).map(|allowed| (place, allowed))
    }

    /// Whether it does not count whoever asks.
    fn excepts(&self, facts: &LimitFacts<'_>) -> bool {
        let Except { sources, principals, roles } = &self.except;
        if sources.iter().any(|source| source.contains(facts.address)) {
            return true;
        }
        facts.identity.is_some_and(|identity| {
            principals.iter().any(|principal| principal == identity.principal())
                || identity.roles().any(|role| roles.iter().any(|excepted| excepted == role))
        })
    }
}

/// One more limit refuses. `true`: it is the one that makes the client wait longest.
fn refuse(refusal: &mut Option<Refusal>, limit: &CompiledLimit, wait: u64) -> bool {
    let refusal = refusal.get_or_insert_with(|| Refusal::new(Reject::TooManyRequests, ""));
    let mut policies = std::mem::take(&mut refusal.policies).into_vec();
    policies.push(Arc::clone(&limit.name));
    refusal.policies = policies.into();
    let separator = if refusal.detail.is_empty() { "over " } else { ", " };
    [separator, limit.table(), ".", &limit.name].iter().for_each(|text| refusal.detail.to_mut().push_str(text));
    let is_longest = refusal.retry_after.is_none_or(|longest| wait > longest);
    if is_longest {
        refusal.retry_after = Some(wait);
    }
    is_longest
}
