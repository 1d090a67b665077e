//! What a condition says, as a tree.

use std::ops::Range;

use serde_json::Value;

use crate::{identity::claim::ClaimPath, net::source_set::SourceSet};

/// The longest text, in bytes.
pub const MAX_LENGTH: usize = 2_048;

/// The most comparisons in one condition.
pub const MAX_COMPARISONS: usize = 64;

/// How deep brackets and `not` may be nested.
pub const MAX_DEPTH: usize = 16;

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    /// As the configuration has it.
    pub text: Box<str>,
    /// What it says.
    pub root: ConditionNode,
}

/// A part of a condition.
#[derive(Clone, Debug, PartialEq)]
pub enum ConditionNode {
    /// `a and b`.
    All(Box<[Self]>),
    /// `a or b`.
    Any(Box<[Self]>),
    /// `not a`.
    Not(Box<Self>),
    /// What is looked at.
    Comparison(Comparison),
}

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Its bytes in the text.
    pub at: Range<usize>,
    /// What is compared.
    pub kind: ComparisonKind,
}

/// What is compared.
#[derive(Clone, Debug, PartialEq)]
pub enum ComparisonKind {
    /// `==`, `<` and the like.
    Compare(Operand, Relation, Operand),
    /// `{id} in ["a", "b"]`: constants.
    OneOf(Operand, Box<[Value]>),
    /// `"billing" in claim.groups`.
    Among(Operand, IdentityList),
    /// `source in office`.
    From(SourceSet),
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// `claim.tenant`.
    Claim(Claim),
    /// A text, a number or a truth.
    Constant(Value),
    /// `method`.
    Method,
    /// `{id}`.
    Parameter(PathParameter),
    /// `principal`.
    Principal,
}

/// Several values of an identity.
#[derive(Clone, Debug, PartialEq)]
pub enum IdentityList {
    /// An array, or a text of words with blanks between them.
    Claim(Claim),
    /// `roles`.
    Roles,
    /// `scopes`.
    Scopes,
}

/// A claim of a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Which one.
    pub path: ClaimPath,
    /// Its place among the claims that are kept of a token; `usize::MAX`: it is not kept.
    pub place: usize,
}

/// A parameter of the route's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathParameter {
    /// Without its braces.
    pub name: Box<str>,
    /// The number of its segment, from 0.
    pub position: usize,
    /// It takes everything from there on: `{*rest}`.
    pub is_rest: bool,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `==`.
    Equal,
    /// `>`.
    Greater,
    /// `>=`.
    GreaterOrEqual,
    /// `<`.
    Less,
    /// `<=`.
    LessOrEqual,
    /// `!=`.
    NotEqual,
}

/// What is wrong with a condition, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    /// The bytes of the text that it is about.
    pub at: Range<usize>,
    /// As a sentence without a full stop.
    pub message: String,
    /// What would be right.
    pub hint: String,
}

impl ExpressionError {
    pub(super) fn new(at: Range<usize>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { at, message: message.into(), hint: hint.into() }
    }
}

impl Expression {
    /// Every comparison, from left to right.
    pub fn comparisons(&self) -> impl Iterator<Item = &Comparison> {
        let mut waiting = vec![&self.root];
        std::iter::from_fn(move || {
            loop {
                match waiting.pop()? {
                    ConditionNode::Comparison(comparison) => return Some(comparison),
                    ConditionNode::Not(inner) => waiting.push(inner),
                    ConditionNode::All(parts) | ConditionNode::Any(parts) => waiting.extend(parts.iter().rev()),
                }
            }
        })
    }

    /// The claims that it looks at.
    pub fn claims(&self) -> impl Iterator<Item = &ClaimPath> {
        self.comparisons().flat_map(Comparison::claims).map(|claim| &claim.path)
    }

    /// Whether it looks at an identity: claims, principal, roles or scopes.
    #[must_use]
    pub fn needs_identity(&self) -> bool {
        self.comparisons().any(Comparison::needs_identity)
    }

    /// The same, with the place of every claim among those that are `kept` of a token.
    #[must_use]
    pub fn placed(&self, kept: &[ClaimPath]) -> Self {
        let mut placed = self.clone();
        placed.root.place(kept);
        placed
    }
}

impl ConditionNode {
    fn place(&mut self, kept: &[ClaimPath]) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter_mut().for_each(|part| part.place(kept)),
            Self::Not(inner) => inner.place(kept),
            Self::Comparison(comparison) => {
                for claim in comparison.claims_mut() {
                    claim.place = kept.iter().position(|kept| *kept == claim.path).unwrap_or(usize::MAX);
                }
            }
        }
    }
}

impl Comparison {
    fn operands(&self) -> impl Iterator<Item = &Operand> {
        let (first, second) = match &self.kind {
            ComparisonKind::Compare(left, _, right) => (Some(left), Some(right)),
            ComparisonKind::OneOf(value, _) | ComparisonKind::Among(value, _) => (Some(value), None),
            ComparisonKind::From(_) => (None, None),
        };
        first.into_iter().chain(second)
    }

    fn list(&self) -> Option<&IdentityList> {
        if let ComparisonKind::Among(_, list) = &self.kind { Some(list) } else { None }
    }

    fn claims(&self) -> impl Iterator<Item = &Claim> {
        let of_list =
            self.list().and_then(|list| if let IdentityList::Claim(claim) = list { Some(claim) } else { None });
        let of_operands =
            self.operands().filter_map(|it| if let Operand::Claim(claim) = it { Some(claim) } else { None });
        of_operands.chain(of_list)
    }

    fn claims_mut(&mut self) -> impl Iterator<Item = &mut Claim> {
        let (operands, list) = match &mut self.kind {
            ComparisonKind::Compare(left, _, right) => ([Some(left), Some(right)], None),
            ComparisonKind::OneOf(value, _) => ([Some(value), None], None),
            ComparisonKind::Among(value, list) => ([Some(value), None], Some(list)),
            ComparisonKind::From(_) => ([None, None], None),
        };
        let of_operands = operands.into_iter().flatten().filter_map(|operand| match operand {
            Operand::Claim(claim) => Some(claim),
            _ => None,
        });
        let of_list = list.and_then(|list| if let IdentityList::Claim(claim) = list { Some(claim) } else { None });
        of_operands.chain(of_list)
    }

    /// Whether it looks at the principal.
    #[must_use]
    pub fn looks_at_principal(&self) -> bool {
        self.operands().any(|it| *it == Operand::Principal)
    }

    /// Whether it looks at an identity.
    #[must_use]
    pub fn needs_identity(&self) -> bool {
        self.list().is_some() || self.operands().any(|it| matches!(it, Operand::Claim(_) | Operand::Principal))
    }

    /// The parameters of the path that it looks at.
    pub fn parameters(&self) -> impl Iterator<Item = &PathParameter> {
        self.operands().filter_map(|it| if let Operand::Parameter(parameter) = it { Some(parameter) } else { None })
    }
}
