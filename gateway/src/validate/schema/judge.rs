//! Judges a body by a compiled schema.
//!
//! *Invariant:* every verdict that could be asked for twice is remembered, so the work is at most in proportion to
//! body times schema; every step is paid for, and who runs out of steps, or goes too deep, is not judged at all.

use std::collections::{HashMap, hash_map::Entry};

use super::{
    graph::{Check, Graph, Measure, Members, Node, NodeId, Types},
    keyword::Keyword,
};
use crate::json::document::{self, Document, Id, View};

mod evaluated;

/// How much work a body is worth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The most steps: a check, an element, 64 bytes of text.
    pub(super) steps: u64,
    /// The most subschemas that wait for one another.
    pub(super) depth: u32,
}

/// What a body breaks, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) keyword: Keyword,
    pub(super) at: Id,
}

/// Why a body is not valid, or not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Invalid(Fault),
    /// Over a limit.
    Spent(Spent),
}

/// The limits were reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent;

impl From<Spent> for Stop {
    fn from(spent: Spent) -> Self {
        Self::Spent(spent)
    }
}

#[derive(Clone, Copy)]
enum Verdict {
    /// Asked for and not answered: who asks again is told that it holds, as for a schema that names only itself.
    Asked,
    Valid,
    Invalid(Fault),
}

/// One body that is being judged.
pub(super) struct Judge<'a> {
    graph: &'a Graph,
    document: &'a Document,
    verdicts: HashMap<(NodeId, Id), Verdict, foldhash::fast::RandomState>,
    /// How many verdicts are remembered at most. What is not remembered costs steps again.
    most_verdicts: usize,
    steps: u64,
    depth: u32,
}

/// Judges `document`.
///
/// # Errors
/// The first fault, or that the limits did not do.
pub(super) fn judge(graph: &Graph, document: &Document, limits: Limits) -> Result<(), Stop> {
    let mut judge = Judge {
        graph,
        document,
        verdicts: HashMap::default(),
        most_verdicts: 1_024 + 4 * document.len(),
        steps: limits.steps,
        depth: limits.depth,
    };
    judge.judge(NodeId(0), Id::ROOT)
}

impl<'a> Judge<'a> {
    /// Judges one value by one node.
    fn judge(&mut self, id: NodeId, at: Id) -> Result<(), Stop> {
        self.spend(1)?;
        let graph = self.graph;
        let Some(node) = graph.nodes.get(id.0 as usize) else { return Ok(()) };
        if !node.remembers {
            return self.deeper(node, at);
        }
        let may_grow = self.verdicts.len() < self.most_verdicts;
        match self.verdicts.entry((id, at)) {
            Entry::Occupied(known) => {
                return match known.get() {
                    Verdict::Invalid(fault) => Err(Stop::Invalid(*fault)),
                    Verdict::Asked | Verdict::Valid => Ok(()),
                };
            }
            Entry::Vacant(place) if may_grow => {
                place.insert(Verdict::Asked);
            }
            Entry::Vacant(_) => return self.deeper(node, at),
        }
        let verdict = self.deeper(node, at);
        let remembered = match verdict {
            Ok(()) => Verdict::Valid,
            Err(Stop::Invalid(fault)) => Verdict::Invalid(fault),
            // Nothing is judged any more.
            Err(Stop::Spent(_)) => return verdict,
        };
        self.verdicts.insert((id, at), remembered);
        verdict
    }

    fn deeper(&mut self, node: &'a Node, at: Id) -> Result<(), Stop> {
        self.depth = self.depth.checked_sub(1).ok_or(Spent)?;
        let verdict = self.checks(node, at);
        self.depth += 1;
        verdict
    }

    fn checks(&mut self, node: &'a Node, at: Id) -> Result<(), Stop> {
        let view = self.document.view(at);
        for (keyword, check) in &node.checks {
            self.spend(1)?;
            let fault = Fault { keyword: *keyword, at };
            let holds = match check {
                Check::Members(members) => {
                    self.members(members, view, fault)?;
                    true
                }
                Check::Names(node) => self.names(*node, view)?,
                Check::Elements { first, rest } => {
                    self.elements(first, *rest, view, at)?;
                    true
                }
                Check::Contains { node, least, most, .. } => self.contains(*node, *least, *most, view)?,
                Check::UnevaluatedMembers(rest) => {
                    if let View::Object(held) = view {
                        self.unevaluated(node, *rest, (view, held), fault)?;
                    }
                    true
                }
                Check::UnevaluatedElements(rest) => {
                    if let View::Array(held) = view {
                        self.unevaluated(node, *rest, (view, held), fault)?;
                    }
                    true
                }
                Check::All(nodes) => {
                    nodes.iter().try_for_each(|node| self.judge(*node, at))?;
                    true
                }
                Check::Any(nodes) => self.any(nodes, at)?,
                Check::One(nodes) => self.one(nodes, at)?,
                Check::Not(node) => !self.holds(*node, at)?,
                Check::If { condition, then, otherwise } => {
                    self.branch(*condition, *then, *otherwise, at)?;
                    true
                }
                Check::Dependent(dependent) => {
                    self.dependent(dependent, view, at)?;
                    true
                }
                check => self.assert(check, view, at)?,
            };
            if !holds {
                return Err(Stop::Invalid(fault));
            }
        }
        Ok(())
    }

    /// Whether a value is valid by a node.
    fn holds(&mut self, node: NodeId, at: Id) -> Result<bool, Spent> {
        match self.judge(node, at) {
            Ok(()) => Ok(true),
            Err(Stop::Invalid(_)) => Ok(false),
            Err(Stop::Spent(spent)) => Err(spent),
        }
    }

    fn any(&mut self, nodes: &[NodeId], at: Id) -> Result<bool, Spent> {
        for node in nodes {
            if self.holds(*node, at)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn one(&mut self, nodes: &[NodeId], at: Id) -> Result<bool, Spent> {
        let mut found = false;
        for node in nodes {
            if self.holds(*node, at)? && std::mem::replace(&mut found, true) {
                return Ok(false);
            }
        }
        Ok(found)
    }

    fn branch(
        &mut self,
        condition: NodeId,
        then: Option<NodeId>,
        otherwise: Option<NodeId>,
        at: Id,
    ) -> Result<(), Stop> {
        if then.is_none() && otherwise.is_none() {
            return Ok(());
        }
        let branch = if self.holds(condition, at)? { then } else { otherwise };
        branch.map_or(Ok(()), |node| self.judge(node, at))
    }

    fn dependent(&mut self, dependent: &[(Box<str>, NodeId)], view: View<'a>, at: Id) -> Result<(), Stop> {
        let View::Object(members) = view else { return Ok(()) };
        for (name, node) in dependent {
            self.spend(1)?;
            if self.document.member(members, name).is_some() {
                self.judge(*node, at)?;
            }
        }
        Ok(())
    }

    fn members(&mut self, rules: &'a Members, view: View<'a>, fault: Fault) -> Result<(), Stop> {
        let View::Object(members) = view else { return Ok(()) };
        for member in members {
            self.spend(1)?;
            let name = self.document.name(*member);
            let named = rules.named.get(name);
            if let Some(node) = named {
                self.judge(*node, *member)?;
            }
            let mut is_other = named.is_none();
            for (pattern, node) in &rules.patterns {
                self.spend(pattern.price(name))?;
                if pattern.is_match(name) {
                    is_other = false;
                    self.judge(*node, *member)?;
                }
            }
            if is_other && let Some(node) = rules.others {
                self.at_its_holder(node, *member, fault)?;
            }
        }
        Ok(())
    }

    /// Judges something held. Where it may not be there at all, that is a fault of what holds it.
    fn at_its_holder(&mut self, node: NodeId, held: Id, fault: Fault) -> Result<(), Stop> {
        match self.judge(node, held) {
            Err(Stop::Invalid(Fault { keyword: Keyword::FalseSchema, at })) if at == held => Err(Stop::Invalid(fault)),
            verdict => verdict,
        }
    }

    fn names(&mut self, node: NodeId, view: View<'a>) -> Result<bool, Spent> {
        let View::Object(members) = view else { return Ok(true) };
        for member in members {
            if !self.holds(node, member.name())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn elements(
        &mut self,
        first: &[NodeId],
        rest: Option<(Keyword, NodeId)>,
        view: View<'a>,
        at: Id,
    ) -> Result<(), Stop> {
        let View::Array(elements) = view else { return Ok(()) };
        for (element, node) in elements.iter().zip(first) {
            self.judge(*node, *element)?;
        }
        let Some((keyword, node)) = rest else { return Ok(()) };
        for element in elements.iter().skip(first.len()) {
            self.at_its_holder(node, *element, Fault { keyword, at })?;
        }
        Ok(())
    }

    fn contains(&mut self, node: NodeId, least: u64, most: u64, view: View<'a>) -> Result<bool, Spent> {
        let View::Array(elements) = view else { return Ok(true) };
        let mut found = 0;
        for element in elements {
            if self.holds(node, *element)? {
                found += 1;
                if found > most {
                    return Ok(false);
                }
                if found >= least && most == u64::MAX {
                    return Ok(true);
                }
            }
        }
        Ok(found >= least)
    }

    /// Whether what is said of the value itself is so.
    fn assert(&mut self, check: &'a Check, view: View<'a>, at: Id) -> Result<bool, Spent> {
        Ok(match (check, view) {
            (Check::Never, _) => false,
            (Check::Types(types), view) => is_of(*types, view),
            (Check::Among(constants), _) => {
                let mut work = 0;
                let found = constants.sorted.binary_search_by(|constant| {
                    document::compare((&constants.document, *constant), (self.document, at), &mut work)
                });
                self.spend(work)?;
                found.is_ok()
            }
            (Check::Bound { limit, is_upper, is_exclusive }, View::Number(number)) => {
                let order = document::compare_numbers(number, limit);
                if *is_exclusive && order.is_eq() {
                    false
                } else if *is_upper {
                    order.is_le()
                } else {
                    order.is_ge()
                }
            }
            (Check::Number(library), View::Number(number)) => {
                self.spend(16)?;
                library.is_valid(&serde_json::Value::Number(number.clone()))
            }
            (Check::Text(library), View::Text(text)) => {
                self.spend(16 + text.len() as u64)?;
                library.is_valid(&serde_json::Value::String(text.to_owned()))
            }
            (Check::Regex, View::Text(text)) => {
                self.spend(1 + text.len() as u64)?;
                jsonschema_regex::is_valid_ecma_regex(text)
            }
            (Check::Pattern(pattern), View::Text(text)) => {
                self.spend(pattern.price(text))?;
                pattern.is_match(text)
            }
            (Check::AtLeast(measure, least), view) => self.measure(*measure, view)?.is_none_or(|count| count >= *least),
            (Check::AtMost(measure, most), view) => self.measure(*measure, view)?.is_none_or(|count| count <= *most),
            (Check::Required(required), View::Object(members)) => self.has(members, required)?,
            (Check::Requires(dependent), View::Object(members)) => {
                for (name, required) in dependent {
                    self.spend(1)?;
                    if self.document.member(members, name).is_some() && !self.has(members, required)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Check::Unique, View::Array(elements)) => self.is_unique(elements)?,
            _ => true,
        })
    }

    fn has(&mut self, members: &[Id], names: &[Box<str>]) -> Result<bool, Spent> {
        self.spend(names.len() as u64)?;
        Ok(names.iter().all(|name| self.document.member(members, name).is_some()))
    }

    fn measure(&mut self, measure: Measure, view: View<'a>) -> Result<Option<u64>, Spent> {
        Ok(match (measure, view) {
            (Measure::Characters, View::Text(text)) => {
                self.spend(text.len() as u64 / 64)?;
                Some(text.chars().count() as u64)
            }
            (Measure::Elements, View::Array(held)) | (Measure::Members, View::Object(held)) => Some(held.len() as u64),
            _ => None,
        })
    }

    /// Whether no two elements are equal: sorted, two that are would be neighbours.
    fn is_unique(&mut self, elements: &[Id]) -> Result<bool, Spent> {
        let document = self.document;
        let mut sorted = elements.to_vec();
        let mut work = 0;
        sorted.sort_unstable_by(|one, other| document::compare((document, *one), (document, *other), &mut work));
        let is_unique = !sorted.windows(2).any(|pair| {
            matches!(pair, [one, other] if document::compare((document, *one), (document, *other), &mut work).is_eq())
        });
        self.spend(work)?;
        Ok(is_unique)
    }

    fn spend(&mut self, steps: u64) -> Result<(), Spent> {
        self.steps = self.steps.checked_sub(steps).ok_or(Spent)?;
        Ok(())
    }
}

fn is_of(types: Types, view: View<'_>) -> bool {
    match view {
        View::Null => types.has(Types::NULL),
        View::Bool(_) => types.has(Types::BOOLEAN),
        View::Text(_) => types.has(Types::STRING),
        View::Array(_) => types.has(Types::ARRAY),
        View::Object(_) => types.has(Types::OBJECT),
        View::Number(number) => {
            let is_whole = || !number.is_f64() || number.as_f64().is_some_and(|value| value.fract() == 0.0);
            types.has(Types::NUMBER)
                || types.has(Types::INTEGER) && is_whole()
                || types.has(Types::WRITTEN_INTEGER) && !number.is_f64()
        }
    }
}
