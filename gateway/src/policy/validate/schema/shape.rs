//! Which values a schema is about: how the text of a parameter, which has no types, is read before it is judged.

use std::collections::HashSet;

use super::graph::{Graph, KeywordCheck, Measure, Members, NodeId, Types};
use crate::json::document::JsonView;

/// How deep arrays and objects within a parameter are read by their own shapes.
const DEPTH: usize = 4;

/// How many nodes are looked at for one shape.
const MOST_NODES: usize = 512;

/// What a value may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::policy::validate) struct Shape {
    types: Types,
    /// Of elements.
    pub(in crate::policy::validate) element: Option<Box<Self>>,
    /// Of members that have a name in the schema.
    pub(in crate::policy::validate) members: Vec<(Box<str>, Self)>,
    /// Of other members; `None`: there are none.
    pub(in crate::policy::validate) others: Option<Box<Self>>,
}

impl Shape {
    /// A shape of which nothing is known but that it is a string.
    pub(in crate::policy::validate) fn text() -> Self {
        Self { types: Types::STRING, ..Self::default() }
    }

    pub(in crate::policy::validate) const fn takes_arrays(&self) -> bool {
        self.types.has(Types::ARRAY)
    }

    pub(in crate::policy::validate) const fn takes_objects(&self) -> bool {
        self.types.has(Types::OBJECT)
    }

    pub(in crate::policy::validate) const fn takes_texts(&self) -> bool {
        self.types.has(Types::STRING)
    }

    pub(in crate::policy::validate) const fn takes_null(&self) -> bool {
        self.types.has(Types::NULL)
    }

    pub(in crate::policy::validate) const fn takes_numbers(&self) -> bool {
        self.types.has(Types::NUMBER) || self.types.has(Types::INTEGER) || self.types.has(Types::WRITTEN_INTEGER)
    }

    pub(in crate::policy::validate) const fn takes_booleans(&self) -> bool {
        self.types.has(Types::BOOLEAN)
    }

    /// The shape of the member `name`; `None`: there is no such member.
    pub(in crate::policy::validate) fn member(&self, name: &str) -> Option<&Self> {
        let named = self.members.iter().find(|(known, _)| **known == *name).map(|(_, shape)| shape);
        named.or(self.others.as_deref())
    }
}

impl Graph {
    /// The shape of the values that `node` is about.
    pub(super) fn shape(&self, node: NodeId) -> Shape {
        let mut left = MOST_NODES;
        self.shape_of(&[node], DEPTH, &mut left)
    }

    fn shape_of(&self, nodes: &[NodeId], depth: usize, left: &mut usize) -> Shape {
        let Some(depth) = depth.checked_sub(1) else { return Shape::text() };
        let (mut types, mut hinted) = (Types::default(), Types::default());
        let (mut elements, mut others, mut is_closed) = (Vec::new(), Vec::new(), false);
        let mut members: Vec<(&str, Vec<NodeId>)> = Vec::new();
        let (mut pending, mut seen) = (nodes.to_vec(), HashSet::new());
        while let Some(id) = pending.pop() {
            if *left == 0 || !seen.insert(id) {
                continue;
            }
            *left -= 1;
            for (_, check) in self.nodes.get(id.0 as usize).into_iter().flat_map(|node| &node.checks) {
                pending.extend(in_place(check));
                hinted.0 |= hint(check).0;
                match check {
                    KeywordCheck::Types(of) => types.0 |= of.0,
                    KeywordCheck::Elements { first, rest } => {
                        elements.extend(first.iter().copied().chain(rest.map(|(_, node)| node)));
                    }
                    KeywordCheck::Members(Members { named, patterns, others: rest }) => {
                        for (name, node) in named {
                            match members.iter_mut().find(|(known, _)| **known == **name) {
                                Some((_, nodes)) => nodes.push(*node),
                                None => members.push((name, vec![*node])),
                            }
                        }
                        others.extend(patterns.iter().map(|(_, node)| *node));
                        match rest {
                            Some(node) if self.is_never(*node) => is_closed |= patterns.is_empty(),
                            rest => others.extend(*rest),
                        }
                    }
                    _ => {}
                }
            }
        }
        if types.0 & !Types::NULL.0 == 0 {
            types.0 |= hinted.0;
        }
        if types.0 & !Types::NULL.0 == 0 {
            types.0 |= Types::STRING.0;
        }
        let members: Vec<_> =
            members.into_iter().map(|(name, nodes)| (name.into(), self.shape_of(&nodes, depth, left))).collect();
        Shape {
            types,
            element: (!elements.is_empty()).then(|| Box::new(self.shape_of(&elements, depth, left))),
            members,
            others: (!is_closed).then(|| Box::new(self.shape_of(&others, depth, left))),
        }
    }

    fn is_never(&self, node: NodeId) -> bool {
        let checks = self.nodes.get(node.0 as usize).map(|node| &node.checks);
        checks.is_some_and(|checks| checks.iter().any(|(_, check)| matches!(check, KeywordCheck::Never)))
    }
}

/// The nodes that say what the value itself may be.
fn in_place(check: &KeywordCheck) -> Vec<NodeId> {
    match check {
        KeywordCheck::Not(_) => Vec::new(),
        check => check.in_place(),
    }
}

/// The types that a check is about, where nothing names them.
fn hint(check: &KeywordCheck) -> Types {
    match check {
        KeywordCheck::Among(constants) => constants
            .sorted
            .iter()
            .fold(Types::default(), |types, id| Types(types.0 | type_of(constants.document.view(*id)).0)),
        KeywordCheck::Bound { .. } | KeywordCheck::MultipleOf(..) => Types::NUMBER,
        KeywordCheck::AtLeast(measure, _) | KeywordCheck::AtMost(measure, _) => match measure {
            Measure::Characters | Measure::FileBytes => Types::STRING,
            Measure::Elements => Types::ARRAY,
            Measure::Members => Types::OBJECT,
        },
        KeywordCheck::Elements { .. } | KeywordCheck::Contains { .. } | KeywordCheck::Unique => Types::ARRAY,
        KeywordCheck::Members(_) | KeywordCheck::Required(_) => Types::OBJECT,
        _ => Types::default(),
    }
}

const fn type_of(view: JsonView<'_>) -> Types {
    match view {
        JsonView::Null => Types::NULL,
        JsonView::Bool(_) => Types::BOOLEAN,
        JsonView::Number(_) => Types::NUMBER,
        JsonView::Text(_) => Types::STRING,
        JsonView::Array(_) => Types::ARRAY,
        JsonView::Object(_) => Types::OBJECT,
    }
}
