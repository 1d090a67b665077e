//! Explains a decision: what each requirement of a route says of a request, whatever the ones before it say.

use super::{Access, AccessRule, Judge, RequestFacts, listed};
use crate::{
    identity::expression::ComparisonKind, policy::auth::Identity, refusal::Refusal, settings::authz::RequirementPart,
};

/// What one requirement says.
#[derive(Clone, Debug)]
pub struct RequirementExplanation {
    /// Its key in the route: `require`, `allow_if[1]`.
    pub key: String,
    /// What it asks for, or what meets it.
    pub asks: String,
    /// Whether it is met, and why not.
    pub verdict: Result<(), Refusal>,
    /// It only counts.
    pub in_shadow: bool,
    /// It looks at where the client is.
    pub asks_source: bool,
}

impl Access {
    /// What every requirement says, in the order in which they are judged. Nobody gets a permit by it.
    #[must_use]
    pub fn explain(&self, identity: Option<&Identity>, facts: &RequestFacts<'_>) -> Vec<RequirementExplanation> {
        let mut steps = Vec::new();
        let mut step = |part: RequirementPart, key: String, asks: String, verdict, asks_source| {
            let in_shadow = self.shadow.as_ref().is_some_and(|shadow| shadow.has(part));
            steps.push(RequirementExplanation { key, asks, verdict, in_shadow, asks_source });
        };
        let key = |part: RequirementPart| part.name().to_owned();
        if self.sources.is_some() {
            let asks = "a client within them".to_owned();
            step(
                RequirementPart::Sources,
                key(RequirementPart::Sources),
                asks,
                self.judge_sources(facts.address),
                true,
            );
        }
        step(
            RequirementPart::Require,
            key(RequirementPart::Require),
            self.rule.told(identity),
            self.judge_rule(identity),
            false,
        );
        if !self.scopes.is_empty() {
            step(
                RequirementPart::Scopes,
                key(RequirementPart::Scopes),
                self.scopes.join(", "),
                self.judge_scopes(identity),
                false,
            );
        }
        if !self.claims.is_empty() {
            let claims: Vec<String> = self.claims.iter().map(|(_, claim)| claim.path.to_string()).collect();
            step(
                RequirementPart::Claims,
                key(RequirementPart::Claims),
                claims.join(", "),
                self.judge_claims(identity),
                false,
            );
        }
        let judge = Judge { facts, identity };
        for (index, condition) in self.conditions.iter().enumerate() {
            let asks = condition.text.to_string();
            let asks_source = condition.comparisons().any(|part| matches!(part.kind, ComparisonKind::From(_)));
            step(RequirementPart::AllowIf, format!("allow_if[{index}]"), asks, judge.demand(condition), asks_source);
        }
        steps
    }
}

impl AccessRule {
    /// What it asks for, and which roles give it.
    fn told(&self, identity: Option<&Identity>) -> String {
        match self {
            Self::Nobody => "lets nobody through".to_owned(),
            Self::Public => "public: everybody".to_owned(),
            Self::Authenticated => "authenticated: everybody with an identity".to_owned(),
            Self::Certificate => "certificate: everybody with a client certificate".to_owned(),
            Self::Roles { asked, gives, .. } => {
                let permission = |(at, asked): (usize, &str)| {
                    let has = |role: &str| gives.iter().any(|(name, bits)| **name == *role && bits >> at & 1 == 1);
                    let by = identity.map(|identity| listed("roles", identity.roles().filter(|role| has(role))));
                    match by {
                        Some(by) => format!("{asked} (given by {by})"),
                        None => asked.to_owned(),
                    }
                };
                asked.iter().map(|asked| &**asked).enumerate().map(permission).collect::<Vec<_>>().join(", ")
            }
        }
    }
}
