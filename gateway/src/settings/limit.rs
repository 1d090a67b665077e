//! `[limit.NAME]`, `[quota.NAME]` and `[plan.NAME]`: how many requests whoever they count may make.

use std::{fmt, time::Duration};

use gateway_common::{limit::Pace, source::Source};
use http::HeaderName;

use self::quota::Quota;
use crate::{
    identity::claim::{ClaimCondition, ClaimPath},
    net::geo::Geo,
    os::file::NamedFile,
};

pub mod quota;

/// The most limits and quotas there can be.
pub const MAX_LIMITS: usize = 64;

/// Every limit, and the plans that change them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `[limit.NAME]`, in the order of their names; then `[quota.NAME]`.
    pub limits: Vec<Limit>,
    /// `[plan.NAME]`, the first that fits first.
    pub plans: Vec<Plan>,
    /// With whom limits are shared that say so; `None`: there is no `[cluster]`.
    pub sharing: Option<Sharing>,
    /// What makes keys of counters unguessable, and the same in every process that counts; `None`: a random one.
    pub seed: Option<KeySeed>,
}

/// A secret that keys of counters are made with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeySeed(pub [u8; 16]);

impl fmt::Debug for KeySeed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Seed")
    }
}

/// With whom limits are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// How many machines there are, this one as well.
    pub nodes: u64,
    /// Which of them this machine is, in the order of their names.
    pub place: u64,
    /// `cluster.secret_file`: what keys are hashed by, so that all machines call them the same and the store knows none.
    pub secret: NamedFile,
}

impl Settings {
    /// The limits that count only, as `limit.NAME` or `quota.NAME`.
    pub fn in_shadow(&self) -> impl Iterator<Item = String> {
        self.limits.iter().filter(|limit| limit.shadow).map(|limit| format!("{}.{}", limit.table(), limit.name))
    }

    /// The limits that have clamps.
    pub fn clamps(&self) -> impl Iterator<Item = (String, Clamp)> {
        self.limits.iter().filter_map(|limit| Some((limit.name.clone(), limit.clamp?)))
    }

    /// The plans that give sources a budget of packets.
    pub fn plan_budgets(&self) -> impl Iterator<Item = PlanBudget> {
        let budget = |plan: &Plan| {
            let (per_second, burst) = plan.packets?;
            Some(PlanBudget { plan: plan.name.clone(), per_second, burst })
        };
        self.plans.iter().filter_map(budget)
    }

    /// The claims that they look at.
    pub fn claims(&self) -> impl Iterator<Item = &ClaimPath> {
        let keys = self.limits.iter().flat_map(|limit| &limit.by).filter_map(|part| match part {
            KeyPart::Claim(path) => Some(path),
            _ => None,
        });
        keys.chain(self.plans.iter().flat_map(|plan| &plan.claims).map(|condition| &condition.path))
    }
}

/// One limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// `NAME`.
    pub name: String,
    /// `by`: what requests must have in common to share a counter.
    pub by: Vec<KeyPart>,
    /// How much there is for each of them.
    pub allowance: Allowance,
    /// `cost`: what is counted.
    pub cost: Cost,
    /// `routes`: names and tags of routes; `None`: every request, those without a route as well.
    pub routes: Option<Vec<String>>,
    /// `weights`: how many times as much requests of these routes cost, by name or tag.
    pub weights: Vec<(String, u64)>,
    /// `except`: who is not counted.
    pub except: Except,
    /// `capacity`: how many counters there are at once.
    pub capacity: usize,
    /// `delay`: how long a request may wait for its turn instead of being refused.
    pub delay: Duration,
    /// `clamp`: when the kernel lets a source that goes on over it send less; `None`: never.
    pub clamp: Option<Clamp>,
    /// `headers`: whether answers say how much is left.
    pub headers: bool,
    /// `shadow`: what would have been refused is counted, and served.
    pub shadow: bool,
    /// `shared`: whether all machines of the cluster count together.
    pub shared: bool,
    /// What a quota has besides; `None`: it is none.
    pub quota: Option<Quota>,
}

impl Limit {
    /// One that counts requests by address, and has nothing else.
    #[must_use]
    pub fn plain(name: String, allowance: Allowance, capacity: usize) -> Self {
        Self {
            name,
            by: vec![KeyPart::Address(None)],
            allowance,
            cost: Cost::Requests,
            routes: None,
            weights: Vec::new(),
            except: Except::default(),
            capacity,
            delay: Duration::ZERO,
            clamp: None,
            headers: false,
            shadow: false,
            shared: false,
            quota: None,
        }
    }

    /// The table that it is configured in: `limit` or `quota`.
    #[must_use]
    pub const fn table(&self) -> &'static str {
        if self.quota.is_some() { "quota" } else { "limit" }
    }

    /// What a quota counts, and until when: where another one counts the same, it goes on with its counts.
    #[must_use]
    pub fn counts(&self) -> Option<String> {
        let quota = self.quota.as_ref()?;
        let by: Vec<String> = self.by.iter().map(ToString::to_string).collect();
        Some(format!("{} of {} per {} in {}", self.cost.text(), by.join(" "), quota.period, quota.zone_name))
    }
}

/// `[limit.NAME.clamp]`: a source that goes on over a limit has its budgets in the kernel divided for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clamp {
    /// `after`: so many refused requests clamp the source.
    pub after: u32,
    /// `within`: in so long.
    pub within: Duration,
    /// `divide`: by how much its budgets are divided.
    pub divide: u32,
    /// `for`: how long it lasts.
    pub lasts: Duration,
    /// `shadow`: what would have been dropped is counted, and passes.
    pub shadow: bool,
}

impl Clamp {
    /// What the name of a limit is put behind where clamps are asked for, beside the names of rules.
    pub const PREFIX: &str = "limit.";
}

/// How much a counter lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// `concurrent`: so many requests at once.
    Concurrent(u64),
    /// So many units until the quota begins anew.
    Quota(u64),
    /// `requests` or `units` per `per`.
    Rate(Rate),
}

impl Allowance {
    /// How many units it ever lets through at once.
    #[must_use]
    pub const fn most(self) -> u64 {
        match self {
            Self::Concurrent(most) | Self::Quota(most) => most,
            Self::Rate(rate) => rate.burst,
        }
    }
}

/// A rate as it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// `requests`, or `units`.
    pub units: u64,
    /// `per`.
    pub per: Duration,
    /// `burst`.
    pub burst: u64,
}

impl Rate {
    /// The same, ready for counting; `None`: it takes over a year for a burst to come back.
    #[must_use]
    pub fn pace(&self) -> Option<Pace> {
        Pace::new(self.units, u64::try_from(self.per.as_nanos()).ok()?, self.burst)
    }
}

/// What a request costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cost {
    /// Messages of a gRPC call that the client sent.
    GrpcMessages,
    /// What the upstream says in this header of its answer.
    Header(HeaderName),
    /// Bytes of its body.
    RequestBytes,
    /// One.
    #[default]
    Requests,
    /// Bytes of the response's body.
    ResponseBytes,
}

impl Cost {
    /// As it is configured.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::GrpcMessages => "grpc_messages".to_owned(),
            Self::Header(name) => format!("header:{name}"),
            Self::RequestBytes => "request_bytes".to_owned(),
            Self::Requests => "requests".to_owned(),
            Self::ResponseBytes => "response_bytes".to_owned(),
        }
    }

    /// Whether it is known only once the request is over.
    #[must_use]
    pub const fn is_later(&self) -> bool {
        !matches!(self, Self::Requests)
    }
}

/// Who is not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Except {
    /// `sources`.
    pub sources: Vec<Source>,
    /// `principals`.
    pub principals: Vec<String>,
    /// `roles`.
    pub roles: Vec<String>,
}

impl Except {
    /// Whether it takes to know who asks.
    #[must_use]
    pub const fn needs_identity(&self) -> bool {
        !self.principals.is_empty() || !self.roles.is_empty()
    }
}

/// What some principals may do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// `NAME`.
    pub name: String,
    /// `rank`: of several plans that fit, the one with the highest counts.
    pub rank: i64,
    /// `claims`: whoever has a token that says all of this.
    pub claims: Vec<ClaimCondition>,
    /// `roles`: whoever has one of these.
    pub roles: Vec<String>,
    /// `principals`: these, those of API keys as well.
    pub principals: Vec<String>,
    /// `packets` and `packet_burst`: what the kernel lets a source send per second and at once where a member has a
    /// connection; `None`: what it lets everybody.
    pub packets: Option<(u64, u64)>,
    /// `limits`: what limits allow whoever has this plan, by their names.
    pub limits: Vec<(String, Allowance)>,
    /// `bandwidth`: how many bytes pass for whoever has this plan, by the names of bandwidths.
    pub bandwidth: Vec<(String, Speed)>,
}

/// How many bytes of bodies pass in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    /// From clients; `None`: any number.
    pub upload: Option<Rate>,
    /// To clients; `None`: any number.
    pub download: Option<Rate>,
}

/// `[plan.NAME]`: what the kernel lets a source send where a member has a connection, in the place of
/// `guard.packet_limit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanBudget {
    /// The plan's name.
    pub plan: String,
    /// `packets`, per second.
    pub per_second: u64,
    /// `packet_burst`.
    pub burst: u64,
}

impl PlanBudget {
    /// The most `packets` and `packet_burst`: a member must not be a flood that the machine cannot stand.
    pub const MOST: u64 = 1_000_000;
}

/// One thing that requests have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// `address`: the client's address, or its IPv6 prefix; with a length (`address/48`) the prefix of that length.
    Address(Option<u8>),
    /// `api_key`.
    ApiKey,
    /// `asn`: the autonomous system of the client's address, by these databases.
    Asn(Geo),
    /// `claim:PATH`.
    Claim(ClaimPath),
    /// `country`: the country of the client's address, by these databases.
    Country(Geo),
    /// `header:NAME`.
    Header(HeaderName),
    /// `host`.
    Host,
    /// `ja4`.
    Ja4,
    /// `path:NAME`: a parameter of the route's path.
    PathParameter(String),
    /// `plan`.
    Plan,
    /// `principal`.
    Principal,
    /// `roles`: all of them together.
    Roles,
    /// `route`.
    Route,
}

impl KeyPart {
    /// Whether it takes to know who asks.
    #[must_use]
    pub const fn needs_identity(&self) -> bool {
        matches!(self, Self::ApiKey | Self::Claim(_) | Self::Plan | Self::Principal | Self::Roles)
    }

    /// Whether it takes to know the request's target and route.
    #[must_use]
    pub const fn needs_route(&self) -> bool {
        matches!(self, Self::Host | Self::PathParameter(_) | Self::Route)
    }

    /// Whether a client can have as many of it as it likes.
    #[must_use]
    pub const fn is_of_choice(&self) -> bool {
        matches!(self, Self::Header(_) | Self::Host | Self::Ja4 | Self::PathParameter(_) | Self::Route)
    }
}

/// As it is configured.
impl fmt::Display for KeyPart {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(None) => out.write_str("address"),
            Self::Address(Some(length)) => write!(out, "address/{length}"),
            Self::ApiKey => out.write_str("api_key"),
            Self::Asn(_) => out.write_str("asn"),
            Self::Country(_) => out.write_str("country"),
            Self::Claim(path) => write!(out, "claim:{path}"),
            Self::Header(name) => write!(out, "header:{name}"),
            Self::Host => out.write_str("host"),
            Self::Ja4 => out.write_str("ja4"),
            Self::PathParameter(name) => write!(out, "path:{name}"),
            Self::Plan => out.write_str("plan"),
            Self::Principal => out.write_str("principal"),
            Self::Roles => out.write_str("roles"),
            Self::Route => out.write_str("route"),
        }
    }
}
