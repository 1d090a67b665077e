//! Checks a condition before any request is judged by it: types, and whether it can ever be true.

use std::{collections::BTreeMap, fmt, ops::Range};

use gateway_common::source::Source;
use http::Method;
use serde_json::Value;

use super::tree::{
    Claim, Comparison, ComparisonKind, ConditionNode, Expression, ExpressionError, IdentityList, Operand,
    PathParameter, Relation,
};

/// What the conditions of a route can name.
#[derive(Clone, Debug)]
pub struct RouteScope<'a> {
    /// Those of the route's path.
    pub parameters: Vec<PathParameter>,
    /// Those of the route; empty: every method.
    pub methods: &'a [Method],
    /// `[sources]`.
    pub sources: &'a BTreeMap<String, Vec<Source>>,
}

impl<'a> RouteScope<'a> {
    /// What a route with this `path` and these `methods` has.
    #[must_use]
    pub fn new(path: &str, methods: &'a [Method], sources: &'a BTreeMap<String, Vec<Source>>) -> Self {
        let segments = path.split('/').skip(1).enumerate();
        let parameters = segments.filter_map(|(position, segment)| {
            let name = segment.strip_prefix('{')?.strip_suffix('}')?;
            let (name, is_rest) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
            Some(PathParameter { name: name.into(), position, is_rest })
        });
        Self { parameters: parameters.collect(), methods, sources }
    }

    /// The networks that a prefix or the name of a set means.
    pub(super) fn networks(&self, text: &str) -> Result<Vec<Source>, String> {
        networks(text, self.sources).map_err(|wrong| wrong.to_string())
    }
}

/// Why a text means no networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoNetworks {
    /// It is no prefix, as the sentence says.
    Malformed(String),
    /// No set has this name.
    Unnamed(String),
}

impl fmt::Display for NoNetworks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => out.write_str(why),
            Self::Unnamed(name) => write!(out, "there is no {name:?} in [sources]"),
        }
    }
}

/// The networks that a prefix or the name of a set in `[sources]` means.
///
/// # Errors
/// It is neither.
pub fn networks(text: &str, sources: &BTreeMap<String, Vec<Source>>) -> Result<Vec<Source>, NoNetworks> {
    if let Some(networks) = sources.get(text) {
        return Ok(networks.clone());
    }
    let looks_like_address = text.contains(['.', ':', '/']);
    match text.parse::<Source>() {
        Ok(network) => Ok(vec![network]),
        Err(error) if looks_like_address => Err(NoNetworks::Malformed(format!("{text:?}: {error}"))),
        Err(_) => Err(NoNetworks::Unnamed(text.to_owned())),
    }
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValueType {
    /// A claim may be anything.
    Any,
    Number,
    Text,
    Truth,
}

impl ValueType {
    const fn name(self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Truth => "true or false",
        }
    }
}

impl Operand {
    const fn kind(&self) -> ValueType {
        match self {
            Self::Claim(_) => ValueType::Any,
            Self::Constant(Value::Number(_)) => ValueType::Number,
            Self::Constant(Value::Bool(_)) => ValueType::Truth,
            Self::Constant(_) | Self::Method | Self::Parameter(_) | Self::Principal => ValueType::Text,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Claim(claim) => format!("claim.{}", claim.path),
            Self::Constant(value) => value.to_string(),
            Self::Method => "method".to_owned(),
            Self::Parameter(parameter) => format!("{{{}}}", parameter.name),
            Self::Principal => "principal".to_owned(),
        }
    }
}

/// Checks every comparison by itself, and that no claim is compared with two types.
pub(super) fn check(root: &ConditionNode, scope: &RouteScope<'_>) -> Result<(), ExpressionError> {
    let mut claims: Vec<(&Claim, ValueType)> = Vec::new();
    let mut waiting = vec![root];
    while let Some(node) = waiting.pop() {
        match node {
            ConditionNode::All(parts) | ConditionNode::Any(parts) => waiting.extend(parts.iter().rev()),
            ConditionNode::Not(inner) => waiting.push(inner),
            ConditionNode::Comparison(comparison) => {
                check_comparison(comparison, scope)?;
                for (claim, kind) in compared(comparison) {
                    let earlier = claims.iter().find(|(earlier, _)| earlier.path == claim.path);
                    if let Some((_, earlier)) = earlier.filter(|(_, earlier)| *earlier != kind) {
                        let message = format!(
                            "claim.{} is compared with {} here, and with {} before",
                            claim.path,
                            kind.name(),
                            earlier.name()
                        );
                        return Err(fault(&comparison.at, message, "a claim has one type: compare it with one"));
                    }
                    claims.push((claim, kind));
                }
            }
        }
    }
    Ok(())
}

/// The claims of a comparison whose type it tells.
fn compared(comparison: &Comparison) -> Vec<(&Claim, ValueType)> {
    match &comparison.kind {
        ComparisonKind::Compare(Operand::Claim(claim), relation, other)
        | ComparisonKind::Compare(other, relation, Operand::Claim(claim)) => match (other, relation) {
            (Operand::Constant(_), _) => vec![(claim, other.kind())],
            (_, Relation::Equal | Relation::NotEqual) => Vec::new(),
            _ => vec![(claim, ValueType::Number)],
        },
        ComparisonKind::OneOf(Operand::Claim(claim), constants) => {
            let constants = constants.iter().map(|constant| Operand::Constant(constant.clone()).kind());
            constants.map(|kind| (claim, kind)).collect()
        }
        ComparisonKind::Compare(..)
        | ComparisonKind::OneOf(..)
        | ComparisonKind::Among(..)
        | ComparisonKind::From(_) => Vec::new(),
    }
}

fn check_comparison(comparison: &Comparison, scope: &RouteScope<'_>) -> Result<(), ExpressionError> {
    match &comparison.kind {
        ComparisonKind::Compare(left, relation, right) => check_pair(&comparison.at, left, *relation, right, scope),
        ComparisonKind::OneOf(value, constants) => constants.iter().try_for_each(|constant| {
            check_pair(&comparison.at, value, Relation::Equal, &Operand::Constant(constant.clone()), scope)
        }),
        ComparisonKind::Among(value, list) => match (value.kind(), list) {
            (ValueType::Number | ValueType::Truth, IdentityList::Roles | IdentityList::Scopes) => {
                let message = format!("{} is {}, and roles and scopes are texts", value.name(), value.kind().name());
                Err(fault(&comparison.at, message, "put it in quotation marks"))
            }
            _ => Ok(()),
        },
        ComparisonKind::From(_) => Ok(()),
    }
}

fn check_pair(
    at: &Range<usize>,
    left: &Operand,
    relation: Relation,
    right: &Operand,
    scope: &RouteScope<'_>,
) -> Result<(), ExpressionError> {
    let is_constant = |operand| matches!(operand, &Operand::Constant(_));
    if is_constant(left) && is_constant(right) {
        let hint = "compare it with {parameter}, claim.NAME, principal or method";
        return Err(fault(at, "compares two constants", hint));
    }
    if left == right {
        return Err(fault(at, format!("compares {} with itself", left.name()), "compare it with something else"));
    }
    if !matches!(relation, Relation::Equal | Relation::NotEqual) {
        let unordered =
            [left, right].into_iter().find(|side| matches!(side.kind(), ValueType::Text | ValueType::Truth));
        if let Some(side) = unordered {
            let message = format!("{} is {}, and only numbers have an order", side.name(), side.kind().name());
            return Err(fault(at, message, "compare it by == or !="));
        }
    }
    if left.kind() != right.kind() && left.kind() != ValueType::Any && right.kind() != ValueType::Any {
        let told = |side: &Operand| format!("{} is {}", side.name(), side.kind().name());
        let hint = match (left, right) {
            (Operand::Constant(constant), _) | (_, Operand::Constant(constant)) => format!("write '{constant}'"),
            _ => "compare it with something of its type".to_owned(),
        };
        return Err(fault(at, format!("{}, and {}", told(left), told(right)), hint));
    }
    match (left, right) {
        (Operand::Method, Operand::Constant(Value::String(text)))
        | (Operand::Constant(Value::String(text)), Operand::Method) => check_method(at, text, scope),
        (Operand::Parameter(parameter), Operand::Constant(Value::String(text)))
        | (Operand::Constant(Value::String(text)), Operand::Parameter(parameter)) => check_text(at, parameter, text),
        _ => Ok(()),
    }
}

fn check_method(at: &Range<usize>, text: &str, scope: &RouteScope<'_>) -> Result<(), ExpressionError> {
    let capitals = text.to_ascii_uppercase();
    if text.is_empty() || text != capitals {
        return Err(fault(at, format!("{text:?} is not a method"), format!("write '{capitals}'")));
    }
    if !scope.methods.is_empty() && !scope.methods.iter().any(|method| method == text) {
        let methods: Vec<&str> = scope.methods.iter().map(Method::as_str).collect();
        let hint = format!("`methods` has {}", methods.join(", "));
        return Err(fault(at, format!("the route takes no {text}"), hint));
    }
    Ok(())
}

fn check_text(at: &Range<usize>, parameter: &PathParameter, text: &str) -> Result<(), ExpressionError> {
    let name = &parameter.name;
    if text.is_empty() {
        let hint = "an empty parameter is never compared: leave the comparison out";
        return Err(fault(at, format!("{{{name}}} is never empty here"), hint));
    }
    if !parameter.is_rest && text.contains('/') {
        let hint = "compare it with one segment of a path";
        return Err(fault(at, format!("{{{name}}} is one segment, which has no slash"), hint));
    }
    if text.contains(';') {
        let hint = "a segment with `;` is never compared: leave the comparison out";
        return Err(fault(at, format!("{{{name}}} with a `;` can be read in two ways"), hint));
    }
    Ok(())
}

/// Finds two comparisons that cannot both be true, where all of these conditions must be: the number of the condition
/// with the later one, and the fault.
#[must_use]
pub fn contradiction(expressions: &[Expression]) -> Option<(usize, ExpressionError)> {
    let mut earlier: Vec<Bound<'_>> = Vec::new();
    for (index, expression) in expressions.iter().enumerate() {
        let mut waiting = vec![&expression.root];
        while let Some(node) = waiting.pop() {
            match node {
                ConditionNode::All(parts) => waiting.extend(parts.iter().rev()),
                ConditionNode::Comparison(comparison) => {
                    let Some(bound) = Bound::of(comparison) else { continue };
                    if let Some(other) = earlier.iter().find(|other| other.excludes(&bound)) {
                        let message = format!("{} cannot be this and also {}", bound.subject.name(), other.told());
                        return Some((index, fault(&comparison.at, message, "join them by `or`, or leave one out")));
                    }
                    earlier.push(bound);
                }
                ConditionNode::Any(_) | ConditionNode::Not(_) => {}
            }
        }
    }
    None
}

/// What a comparison with a constant says of its subject.
struct Bound<'e> {
    subject: &'e Operand,
    relation: Relation,
    constant: &'e Value,
}

impl<'e> Bound<'e> {
    fn of(comparison: &'e Comparison) -> Option<Self> {
        match &comparison.kind {
            ComparisonKind::Compare(Operand::Constant(constant), relation, subject) => {
                Some(Self { subject, relation: relation.turned(), constant })
            }
            ComparisonKind::Compare(subject, relation, Operand::Constant(constant)) => {
                Some(Self { subject, relation: *relation, constant })
            }
            _ => None,
        }
    }

    fn excludes(&self, other: &Self) -> bool {
        use Relation as O;
        if self.subject != other.subject {
            return false;
        }
        match (self.relation, other.relation) {
            (O::Equal, _) => !other.takes(self.constant),
            (_, O::Equal) => !self.takes(other.constant),
            (O::Greater | O::GreaterOrEqual, O::Less | O::LessOrEqual) => self.is_above(other),
            (O::Less | O::LessOrEqual, O::Greater | O::GreaterOrEqual) => other.is_above(self),
            _ => false,
        }
    }

    fn takes(&self, value: &Value) -> bool {
        let order = value.as_f64().zip(self.constant.as_f64()).and_then(|(one, two)| one.partial_cmp(&two));
        match self.relation {
            Relation::Equal => value == self.constant,
            Relation::NotEqual => value != self.constant,
            Relation::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
            Relation::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
            Relation::Less => order.is_some_and(std::cmp::Ordering::is_lt),
            Relation::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        }
    }

    /// Whether everything from this lower bound on is over that upper bound.
    fn is_above(&self, upper: &Self) -> bool {
        let touch = self.relation == Relation::GreaterOrEqual && upper.relation == Relation::LessOrEqual;
        let bounds = self.constant.as_f64().zip(upper.constant.as_f64());
        bounds.is_some_and(|(lower, upper)| lower > upper || lower >= upper && !touch)
    }

    fn told(&self) -> String {
        let sign = match self.relation {
            Relation::Equal => "==",
            Relation::NotEqual => "!=",
            Relation::Greater => ">",
            Relation::GreaterOrEqual => ">=",
            Relation::Less => "<",
            Relation::LessOrEqual => "<=",
        };
        format!("{sign} {}", self.constant)
    }
}

impl Relation {
    /// The same with its sides changed.
    const fn turned(self) -> Self {
        match self {
            Self::Equal | Self::NotEqual => self,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
        }
    }
}

fn fault(at: &Range<usize>, message: impl Into<String>, hint: impl Into<String>) -> ExpressionError {
    ExpressionError::new(at.clone(), message, hint)
}
