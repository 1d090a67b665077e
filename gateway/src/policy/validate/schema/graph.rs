//! A schema as it is judged by: nodes, one for each subschema, that name each other by their number.

use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap};
use jsonschema::Validator;

use super::{keyword::Keyword, pattern::TextPattern};
use crate::json::{
    decimal::Divisor,
    document::{self, JsonDocument},
    exact::ExactNumber,
};

/// A compiled schema. Its first node is the schema itself.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
}

/// Which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NodeId(pub(super) u32);

/// One subschema.
#[derive(Default)]
pub(super) struct Node {
    /// What must hold, in this order: what is cheap comes first.
    pub(super) checks: Vec<(Keyword, KeywordCheck)>,
    /// Whether its verdicts are remembered, as it may be asked about one value more than once.
    pub(super) remembers: bool,
}

/// Something that must hold for a value. What is said of one type holds for values of others.
pub(super) enum KeywordCheck {
    // Of the value itself.
    Never,
    Types(Types),
    /// One of these, which are in order.
    Among(Constants),
    Bound {
        limit: ExactNumber,
        is_upper: bool,
        is_exclusive: bool,
    },
    /// With the divisor as the schema has it.
    MultipleOf(Divisor, Box<str>),
    /// What the library judges: strings by `format` or their content. With what is expected.
    Text(Arc<Validator>, Box<str>),
    /// The format `regex`.
    Regex,
    /// With the pattern as the schema has it.
    Pattern(Arc<TextPattern>, Box<str>),
    AtLeast(Measure, u64),
    AtMost(Measure, u64),
    Required(Vec<Box<str>>),
    /// Which names are required where one is there.
    Requires(Vec<(Box<str>, Vec<Box<str>>)>),
    Unique,
    // Of what it holds.
    Members(Members),
    Names(NodeId),
    Elements {
        first: Vec<NodeId>,
        rest: Option<(Keyword, NodeId)>,
    },
    Contains {
        node: NodeId,
        least: u64,
        most: u64,
        /// Whether what it finds counts as evaluated (2020-12).
        evaluates: bool,
    },
    UnevaluatedMembers(NodeId),
    UnevaluatedElements(NodeId),
    // Of the value, by other nodes.
    All(Vec<NodeId>),
    Any(Vec<NodeId>),
    One(Vec<NodeId>),
    Not(NodeId),
    If {
        condition: NodeId,
        then: Option<NodeId>,
        otherwise: Option<NodeId>,
    },
    /// What must hold where a member is there.
    Dependent(Vec<(Box<str>, NodeId)>),
    /// A member says which node must hold (OpenAPI).
    Discriminator(Box<Discriminator>),
}

/// What a value is judged by, told by one of its members.
pub(super) struct Discriminator {
    pub(super) member: Box<str>,
    pub(super) branches: HashMap<Box<str>, NodeId, DefaultHashBuilder>,
    /// Where the member is not there, or names none (OpenAPI 3.2).
    pub(super) default: Option<NodeId>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// The characters of a string.
    Characters,
    Elements,
    /// The bytes of the file that a string stands for.
    FileBytes,
    Members,
}

/// Types of values, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Types(pub(super) u8);

impl Types {
    pub(super) const NULL: Self = Self(1);
    pub(super) const BOOLEAN: Self = Self(2);
    pub(super) const NUMBER: Self = Self(4);
    pub(super) const STRING: Self = Self(8);
    pub(super) const ARRAY: Self = Self(16);
    pub(super) const OBJECT: Self = Self(32);
    /// A number without a fraction.
    pub(super) const INTEGER: Self = Self(64);
    /// A number written without one (draft 4).
    pub(super) const WRITTEN_INTEGER: Self = Self(128);

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Values that a schema names.
pub(super) struct Constants {
    pub(super) document: JsonDocument,
    /// By [`document::compare`](crate::json::document::compare).
    pub(super) sorted: Vec<document::Id>,
    /// The values as the schema has them, where they are few.
    pub(super) shown: Box<str>,
}

/// What must hold for the members of an object.
#[derive(Default)]
pub(super) struct Members {
    pub(super) named: HashMap<Box<str>, NodeId, DefaultHashBuilder>,
    pub(super) patterns: Vec<(Arc<TextPattern>, NodeId)>,
    /// Of every other.
    pub(super) others: Option<NodeId>,
}

impl KeywordCheck {
    /// The nodes that are asked about the same value.
    pub(super) fn in_place(&self) -> Vec<NodeId> {
        match self {
            Self::All(nodes) | Self::Any(nodes) | Self::One(nodes) => nodes.clone(),
            Self::Not(node) => vec![*node],
            Self::If { condition, then, otherwise } => {
                [Some(*condition), *then, *otherwise].into_iter().flatten().collect()
            }
            Self::Dependent(dependent) => dependent.iter().map(|(_, node)| *node).collect(),
            Self::Discriminator(it) => it.branches.values().copied().chain(it.default).collect(),
            _ => Vec::new(),
        }
    }

    /// The nodes that are asked about what the value holds.
    fn below(&self) -> Vec<NodeId> {
        match self {
            Self::Members(Members { named, patterns, others }) => {
                let patterns = patterns.iter().map(|(_, node)| *node);
                named.values().copied().chain(patterns).chain(*others).collect()
            }
            Self::Elements { first, rest } => first.iter().copied().chain(rest.map(|(_, node)| node)).collect(),
            Self::Contains { node, .. }
            | Self::Names(node)
            | Self::UnevaluatedMembers(node)
            | Self::UnevaluatedElements(node) => vec![*node],
            _ => Vec::new(),
        }
    }

    const fn is_unevaluated(&self) -> bool {
        matches!(self, Self::UnevaluatedMembers(_) | Self::UnevaluatedElements(_))
    }
}

impl Graph {
    /// Decides which nodes remember: all that could be asked about one value more than once, and that ask others. The
    /// rest is asked as often as the node that asks it, so that the whole costs at most body times schema.
    pub(super) fn settle(&mut self, roots: &[NodeId]) {
        let count = self.nodes.len();
        let mut asked = vec![0_u32; count];
        let mut is_collected = vec![false; count];
        let mut collected = Vec::new();
        for root in roots {
            if let Some(root) = asked.get_mut(root.0 as usize) {
                *root = 1;
            }
        }
        for node in &self.nodes {
            for (_, check) in &node.checks {
                for to in check.in_place().into_iter().chain(check.below()) {
                    if let Some(asked) = asked.get_mut(to.0 as usize) {
                        *asked = asked.saturating_add(1);
                    }
                }
            }
            if node.checks.iter().any(|(_, check)| check.is_unevaluated()) {
                collected.extend(node.checks.iter().flat_map(|(_, check)| check.in_place()));
            }
        }
        // What is evaluated is found by asking again.
        while let Some(node) = collected.pop() {
            let place = node.0 as usize;
            let Some(known) = is_collected.get_mut(place) else { continue };
            if !std::mem::replace(known, true) {
                let checks = self.nodes.get(place).into_iter().flat_map(|node| &node.checks);
                collected.extend(checks.flat_map(|(_, check)| check.in_place()));
            }
        }
        for ((node, asked), is_collected) in self.nodes.iter_mut().zip(asked).zip(is_collected) {
            let asks = node.checks.iter().any(|(_, check)| !check.in_place().is_empty() || !check.below().is_empty());
            node.remembers = asks && (asked > 1 || is_collected);
        }
    }
}
