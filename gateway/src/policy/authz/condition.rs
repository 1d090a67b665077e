//! Judges a route's conditions: `{id} == claim.sub`. A condition is true, false or unknown, and only true lets through.
//!
//! What is not there is unknown: a claim that the token lacks, one of another type, a client that a trusted proxy does
//! not name, a parameter that two programs could read differently. `not` of it and `!=` to it are unknown, too: nobody
//! gets anything for what is missing. *Invariant:* nothing is allocated. A parameter is compared as the bytes that it
//! stands for, so that all spellings of a path are one.

use std::{cmp::Ordering, io::Write as _, net::IpAddr};

use http::Method;
use serde_json::{Number, Value};

use crate::{
    identity::expression::{
        Claim, Comparison, ComparisonKind, ConditionNode, Expression, IdentityList, Operand, PathParameter, Relation,
    },
    policy::auth::Identity,
    refusal::{Refusal, Reject},
    web::path,
};

#[cfg(test)]
mod tests;

/// Whole numbers up to this are doubles one by one: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What conditions look at besides the identity.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// The canonical path.
    pub path: &'a str,
    /// It holds what programs read in different ways: its parameters are unknown.
    pub is_odd: bool,
    /// The method.
    pub method: &'a Method,
    /// The client's; `None`: a trusted proxy does not name it.
    pub address: Option<IpAddr>,
}

/// A request: what is judged.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) facts: &'a RequestFacts<'a>,
    pub(super) identity: Option<&'a Identity>,
}

/// A value that is there.
#[derive(Clone, Copy)]
enum Scalar<'a> {
    /// A part of a canonical path, percent-encoded.
    Encoded(&'a str),
    Number(&'a Number),
    Text(&'a str),
    Truth(bool),
}

impl<'a> Judge<'a> {
    /// Whether a condition is true; `None`: unknown.
    pub(super) fn expression(self, expression: &'a Expression) -> Option<bool> {
        self.node(&expression.root)
    }

    /// # Errors
    /// [`Reject::Forbidden`]: the condition is not true.
    pub(super) fn demand(self, condition: &'a Expression) -> Result<(), Refusal> {
        match self.expression(condition) {
            Some(true) => Ok(()),
            Some(false) => Err(Refusal::new(Reject::Forbidden, format!("the condition is false: {}", condition.text))),
            None => Err(Refusal::new(Reject::Forbidden, self.told_unknown(condition))),
        }
    }

    /// What is said of a condition that is unknown: which part of it nothing is known about.
    fn told_unknown(self, condition: &'a Expression) -> String {
        let part = condition.comparisons().find(|part| self.comparison(part).is_none());
        let part = part.and_then(|part| condition.text.get(part.at.clone())).unwrap_or_default();
        format!("the condition is unknown, as something in `{part}` is missing or of another type: {}", condition.text)
    }

    fn node(self, node: &'a ConditionNode) -> Option<bool> {
        match node {
            ConditionNode::All(parts) => {
                any(parts.iter().map(|part| negated(self.node(part)))).map(|is_false| !is_false)
            }
            ConditionNode::Any(parts) => any(parts.iter().map(|part| self.node(part))),
            ConditionNode::Not(inner) => negated(self.node(inner)),
            ConditionNode::Comparison(comparison) => self.comparison(comparison),
        }
    }

    /// Whether one comparison is true; `None`: unknown.
    pub(super) fn comparison(self, comparison: &'a Comparison) -> Option<bool> {
        match &comparison.kind {
            ComparisonKind::Compare(left, relation, right) => compare(self.find(left)?, *relation, self.find(right)?),
            ComparisonKind::OneOf(value, constants) => {
                let value = self.find(value)?;
                any(constants.iter().map(|constant| equal(value, of_json(constant)?)))
            }
            ComparisonKind::Among(value, list) => self.among(self.find(value)?, list),
            ComparisonKind::From(networks) => self.facts.address.map(|address| networks.contains(address)),
        }
    }

    fn among(self, value: Scalar<'_>, list: &IdentityList) -> Option<bool> {
        let identity = self.identity?;
        match list {
            IdentityList::Roles => any(identity.roles().map(|role| equal(value, Scalar::Text(role)))),
            IdentityList::Scopes => any(identity.scopes().map(|scope| equal(value, Scalar::Text(scope)))),
            IdentityList::Claim(claim) => match identity.claim(claim.place)? {
                Value::Array(elements) => any(elements.iter().map(|element| equal(value, of_json(element)?))),
                Value::String(words) => {
                    any(words.split_ascii_whitespace().map(|word| equal(value, Scalar::Text(word))))
                }
                _ => None,
            },
        }
    }

    fn find(self, operand: &'a Operand) -> Option<Scalar<'a>> {
        match operand {
            Operand::Claim(Claim { place, .. }) => of_json(self.identity?.claim(*place)?),
            Operand::Constant(value) => of_json(value),
            Operand::Method => Some(Scalar::Text(self.facts.method.as_str())),
            Operand::Parameter(parameter) => parameter_of(self.facts, parameter).map(Scalar::Encoded),
            Operand::Principal => Some(Scalar::Text(self.identity?.principal())),
        }
    }
}

fn negated(verdict: Option<bool>) -> Option<bool> {
    verdict.map(|is_true| !is_true)
}

/// Whether one is true; unknown where none is and one is unknown.
fn any(verdicts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut any = Some(false);
    for verdict in verdicts {
        match verdict {
            Some(true) => return Some(true),
            Some(false) => {}
            None => any = None,
        }
    }
    any
}

fn of_json(value: &Value) -> Option<Scalar<'_>> {
    match value {
        Value::Bool(truth) => Some(Scalar::Truth(*truth)),
        Value::Number(number) => Some(Scalar::Number(number)),
        Value::String(text) => Some(Scalar::Text(text)),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The part of the path that a parameter took, encoded as it is there.
fn parameter_of<'a>(facts: &RequestFacts<'a>, parameter: &PathParameter) -> Option<&'a str> {
    if facts.is_odd {
        return None;
    }
    let slash = facts.path.match_indices('/').nth(parameter.position)?.0;
    let behind = facts.path.get(slash + 1..)?;
    let part = if parameter.is_rest { behind } else { behind.split('/').next()? };
    // Some programs drop an encoded `;` and what follows it.
    let is_plain = !part.is_empty() && memchr::memmem::find(part.as_bytes(), b"%3B").is_none();
    is_plain.then_some(part)
}

fn compare(left: Scalar<'_>, relation: Relation, right: Scalar<'_>) -> Option<bool> {
    match relation {
        Relation::Equal => return equal(left, right),
        Relation::NotEqual => return negated(equal(left, right)),
        Relation::Greater | Relation::GreaterOrEqual | Relation::Less | Relation::LessOrEqual => {}
    }
    let (Scalar::Number(left), Scalar::Number(right)) = (left, right) else { return None };
    let order = order(left, right)?;
    Some(match relation {
        Relation::Greater => order.is_gt(),
        Relation::GreaterOrEqual => order.is_ge(),
        Relation::Less => order.is_lt(),
        _ => order.is_le(),
    })
}

/// Whether two values are the same; `None`: they are of different types, which says nothing.
fn equal(left: Scalar<'_>, right: Scalar<'_>) -> Option<bool> {
    match (left, right) {
        (Scalar::Encoded(part), Scalar::Text(text)) | (Scalar::Text(text), Scalar::Encoded(part)) => {
            Some(decoded(part).eq(text.bytes()))
        }
        (Scalar::Encoded(one), Scalar::Encoded(other)) => Some(decoded(one).eq(decoded(other))),
        (Scalar::Encoded(part), Scalar::Number(number)) | (Scalar::Number(number), Scalar::Encoded(part)) => {
            integer(number).map(|number| is_written(part, number))
        }
        (Scalar::Number(one), Scalar::Number(other)) => order(one, other).map(Ordering::is_eq),
        (Scalar::Text(one), Scalar::Text(other)) => Some(one == other),
        (Scalar::Truth(one), Scalar::Truth(other)) => Some(one == other),
        _ => None,
    }
}

/// Which number is larger; `None`: a double is too coarse to tell.
fn order(one: &Number, other: &Number) -> Option<Ordering> {
    if let (Some(one), Some(other)) = (integer(one), integer(other)) {
        return Some(one.cmp(&other));
    }
    let exact = |number: &Number| number.as_f64().filter(|number| number.abs() < EXACT);
    exact(one)?.partial_cmp(&exact(other)?)
}

fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// Whether a part of a path is a whole number in its one decimal form: `7` is, `07` and `7.0` are not.
fn is_written(part: &str, number: i128) -> bool {
    let mut written = [0; 40];
    let mut rest = &mut written[..];
    if write!(rest, "{number}").is_err() {
        return false;
    }
    let unused = rest.len();
    let length = written.len() - unused;
    decoded(part).eq(written.into_iter().take(length))
}

/// The bytes that a part of a canonical path stands for.
fn decoded(part: &str) -> impl Iterator<Item = u8> {
    let mut rest = part.bytes();
    std::iter::from_fn(move || {
        Some(match rest.next()? {
            b'%' => path::escape(&mut rest).unwrap_or(b'%'),
            byte => byte,
        })
    })
}
