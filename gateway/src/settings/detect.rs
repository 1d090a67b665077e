//! `[detect]` and `[[rule]]`: when signals about a source add up to a ban.

use std::{collections::BTreeMap, time::Duration};

use crate::signal::Signal;

/// The most requests that a ban names as its evidence.
pub const MAX_EVIDENCE: usize = 64;

/// `[detect]` and `[[rule]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `detect.capacity`: how many buckets (source and rule) are kept at once.
    pub capacity: usize,
    /// `detect.profiles`: of how many sources and principals it is kept what they do; 0: of none.
    pub profiles: usize,
    /// `anomalies.capacity`: of how many sources and principals, each on one route, requests are counted; 0: of none.
    pub contributors: usize,
    /// `detect.unusual_after`: how long a principal is known before anything of it is unusual.
    pub unusual_after: Duration,
    /// `detect.defaults`: whether the default rules are in force.
    pub defaults: Defaults,
    /// `[[rule]]`, and the default rules.
    pub rules: Vec<Rule>,
    /// What asks for clamps, one for each limit that has some: named as the limit, and counting its refusals alone.
    pub clamps: Vec<Rule>,
}

/// What is done with the default rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Defaults {
    /// They ban, but for those that stay in shadow mode until they are named.
    Enforce,
    /// There are none.
    #[default]
    Off,
    /// They count and report.
    Shadow,
}

impl Defaults {
    /// Their names in the configuration.
    pub const NAMES: [(&str, Self); 3] = [("off", Self::Off), ("shadow", Self::Shadow), ("enforce", Self::Enforce)];
}

/// One leaky bucket: signals that weigh `count` within `within` ask for a ban.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// `rule.name`: unique.
    pub name: String,
    /// `rule.signals`: which signals fill it.
    pub signals: Vec<Signal>,
    /// `rule.count`: how many make it overflow, at most [`MAX_EVIDENCE`].
    pub count: u32,
    /// `rule.weights`: how much each counts; [`Signal::weight`] where nothing is said.
    pub weights: BTreeMap<Signal, u32>,
    /// `rule.distinct`: what is counted in the place of signals.
    pub distinct: Option<Distinct>,
    /// `rule.by`: whose signals are added up.
    pub by: GroupBy,
    /// `rule.share`: how many percent of a source's requests they must be.
    pub share: Option<u8>,
    /// `rule.after`: signals count only after one of these.
    pub after: Vec<Signal>,
    /// `rule.within`: how long a full bucket takes to leak empty.
    pub within: Duration,
    /// `rule.ban`: how long the ban lasts.
    pub ban: Duration,
    /// `rule.shadow`: record and count only.
    pub shadow: bool,
}

/// What a rule counts in the place of signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distinct {
    /// Different `User-Agent` headers: one source plays many programs.
    Agents,
    /// Different paths, each as it is: one source tries many objects.
    Objects,
    /// Different paths, where ids count as one: one source looks for what there is.
    Paths,
    /// Different principals that signals of one source are about: one source tries many accounts.
    Principals,
    /// Different sources that signals about one principal come from: many sources try one account.
    Sources,
}

impl Distinct {
    /// Their names in the configuration.
    pub const NAMES: [(&str, Self); 5] = [
        ("principals", Self::Principals),
        ("sources", Self::Sources),
        ("paths", Self::Paths),
        ("objects", Self::Objects),
        ("agents", Self::Agents),
    ];

    /// What is counted, for people.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Agents => "user agents",
            Self::Objects => "objects",
            Self::Paths => "paths",
            Self::Principals => "principals",
            Self::Sources => "sources",
        }
    }

    /// Whether it counts only what is about somebody.
    #[must_use]
    pub const fn needs_principal(self) -> bool {
        matches!(self, Self::Principals | Self::Sources)
    }
}

/// Whose signals a rule adds up. It always bans sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupBy {
    /// The fingerprint of a TLS hello.
    Ja4,
    /// A network: IPv4 /24, IPv6 /48.
    Prefix,
    /// Who the client is, or says it is.
    Principal,
    /// One token or key of a principal.
    Session,
    /// The source itself.
    #[default]
    Source,
}

impl GroupBy {
    /// Their names in the configuration.
    pub const NAMES: [(&str, Self); 5] = [
        ("source", Self::Source),
        ("prefix", Self::Prefix),
        ("principal", Self::Principal),
        ("ja4", Self::Ja4),
        ("session", Self::Session),
    ];

    /// What is added to what is counted, for people.
    #[must_use]
    pub const fn of_one(self) -> &'static str {
        match self {
            Self::Ja4 => " of one JA4",
            Self::Prefix => " of one network",
            Self::Principal => " of one principal",
            Self::Session => " of one session",
            Self::Source => "",
        }
    }
}

impl Rule {
    /// How much one signal counts.
    #[must_use]
    pub fn weight(&self, signal: Signal) -> u32 {
        self.weights.get(&signal).copied().unwrap_or(signal.weight())
    }

    /// What it counts, for people.
    #[must_use]
    pub fn of(&self) -> String {
        let signals: Vec<&str> = self.signals.iter().map(|signal| signal.plural()).collect();
        let signals = signals.join(" or ");
        let by = self.by.of_one();
        let counted = match self.distinct {
            None => format!("{signals}{by}"),
            Some(Distinct::Sources) => format!("different sources of {signals} of one principal"),
            Some(distinct) => format!("different {} of {signals}{by}", distinct.plural()),
        };
        format!("{counted}{}", self.conditions())
    }

    /// Under which conditions it counts, for people; empty: always.
    #[must_use]
    pub fn conditions(&self) -> String {
        let after: Vec<&str> = self.after.iter().map(|signal| signal.plural()).collect();
        let after = if after.is_empty() { String::new() } else { format!(" after {}", after.join(" or ")) };
        let share = self.share.map(|share| format!(", {share} % of its requests or more")).unwrap_or_default();
        format!("{after}{share}")
    }
}
