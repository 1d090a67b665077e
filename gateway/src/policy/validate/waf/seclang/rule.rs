//! Rules as they are run.

use std::collections::BTreeSet;

use super::{
    macros::Template,
    operator::{Kind, RuleOperator},
    targets::{RuleTarget, Variable},
    transform::Transform,
};
use crate::text::digits::decimal;

/// One step of a phase.
#[derive(Debug)]
pub(super) enum Step {
    Marker(String),
    Rule(Box<SecRule>),
}

/// A rule: a link, or a chain of them that must all match.
#[derive(Debug, Default)]
pub(super) struct SecRule {
    pub(super) id: u32,
    /// The number as a name.
    pub(super) name: String,
    pub(super) links: Vec<ChainedRule>,
    pub(super) disruptive: Disruptive,
    pub(super) skip_after: Option<String>,
    /// So many rules are skipped.
    pub(super) skip: usize,
    pub(super) is_logged: bool,
    /// What a match counts, by its severity.
    pub(super) score: u32,
    pub(super) message: Template,
    pub(super) tags: Vec<String>,
}

impl SecRule {
    /// Whether it refuses a request that it matches, and can match one in this phase.
    pub(super) fn can_refuse(&self, phase: usize) -> bool {
        let never =
            |link: &ChainedRule| matches!(&link.operator, Some(RuleOperator { is_negated: false, kind: Kind::Never }));
        self.disruptive == Disruptive::Deny && !self.links.iter().any(|link| never(link) || !link.sees_value(phase))
    }

    /// The variables that it looks at and that never have a value in this phase.
    pub(super) fn without_value(&self, phase: usize) -> BTreeSet<&str> {
        let seen = self.links.iter().flat_map(ChainedRule::seen);
        seen.filter(|target| !target.can_have_value(phase)).map(|target| &*target.name).collect()
    }
}

/// What a rule looks at, how, and what it does for each value that matches.
#[derive(Debug, Default)]
pub(super) struct ChainedRule {
    pub(super) targets: Vec<RuleTarget>,
    /// `None`: it always matches.
    pub(super) operator: Option<RuleOperator>,
    pub(super) transforms: Vec<Transform>,
    /// The same transformations have the same number.
    pub(super) chain: usize,
    pub(super) is_multi_match: bool,
    pub(super) captures: bool,
    pub(super) sets: Vec<SetVar>,
    pub(super) controls: Vec<Control>,
}

impl ChainedRule {
    /// What it looks at.
    fn seen(&self) -> impl Iterator<Item = &RuleTarget> {
        self.targets.iter().filter(|target| !target.is_excluded)
    }

    /// Whether its operator ever gets a value to judge in this phase. Without one, no request matches.
    pub(super) fn sees_value(&self, phase: usize) -> bool {
        self.operator.is_none() || self.seen().any(|target| target.can_have_value(phase))
    }
}

/// What becomes of a request that a rule has matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Disruptive {
    Allow(Allowed),
    /// As the default of the phase says.
    Block,
    Deny,
    #[default]
    Pass,
}

/// How far `allow` goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    Everything,
    Phase,
}

/// `setvar`.
#[derive(Debug)]
pub(super) struct SetVar {
    pub(super) name: Template,
    pub(super) change: Change,
}

/// What `setvar` does.
#[derive(Debug)]
pub(super) enum Change {
    Add(Template),
    Set(Template),
    Subtract(Template),
    Unset,
}

/// `ctl`.
#[derive(Clone, Debug)]
pub(super) enum Control {
    /// Whether rules run, and whether they may refuse.
    Engine {
        runs: bool,
        refuses: bool,
    },
    Processor(String),
    RemoveRules(RuleSet),
    RemoveTarget(RuleSet, Variable, Option<String>),
}

/// Which rules are meant.
#[derive(Clone, Debug)]
pub(super) enum RuleSet {
    Ids(u32, u32),
    Message(String),
    Tag(String),
}

impl RuleSet {
    pub(super) fn has(&self, rule: &SecRule) -> bool {
        match self {
            Self::Ids(first, last) => (*first..=*last).contains(&rule.id),
            Self::Message(text) => rule.message.plain() == Some(text),
            Self::Tag(tag) => rule.tags.iter().any(|known| known == tag),
        }
    }

    /// Reads numbers and ranges: `1 2-5`.
    pub(super) fn ids(text: &str) -> Option<Vec<Self>> {
        let one = |word: &str| {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            Some(Self::Ids(decimal(first.trim())?, decimal(last.trim())?))
        };
        text.split([' ', ',']).filter(|word| !word.is_empty()).map(|word| one(word.trim_matches('"'))).collect()
    }
}
