//! Validates a body by a compiled schema.
//!
//! *Invariant:* every verdict that could be asked for twice is remembered, so the work is at most in proportion to
//! body times schema; every step is paid for, and who runs out of steps, or goes too deep, is not judged at all.

use std::collections::{HashMap, hash_map::Entry};

use super::{
    graph::{Discriminator, Graph, KeywordCheck, Measure, Members, Node, NodeId, Types},
    keyword::Keyword,
    pattern::TextPattern,
    stand_in::file_bytes,
};
use crate::json::{
    decimal::{Valued, compare_numbers},
    document::{self, JsonDocument, JsonView},
};

mod evaluated;
mod explain;

pub(super) use explain::{ExplainedViolation, explain};

/// How much work a body is worth.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy::validate) struct WorkLimits {
    /// The most steps: a check, an element, 64 bytes of text.
    pub(in crate::policy::validate) steps: u64,
    /// The most subschemas that wait for one another.
    pub(in crate::policy::validate) depth: u32,
}

/// What a body breaks, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeywordViolation {
    pub(super) keyword: Keyword,
    pub(super) at: document::Id,
}

/// Why a body is not valid, or not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JudgeError {
    Invalid(KeywordViolation),
    /// Over a limit.
    OutOfWork(OutOfWork),
}

/// The limits were reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutOfWork {
    /// Those of one text, for its pattern.
    Pattern(document::Id),
    /// Those of the body.
    Steps,
}

impl From<OutOfWork> for JudgeError {
    fn from(spent: OutOfWork) -> Self {
        Self::OutOfWork(spent)
    }
}

#[derive(Clone, Copy)]
enum Judgement {
    /// Asked for and not answered: who asks again is told that it holds, as for a schema that names only itself.
    Asked,
    Valid,
    Invalid(KeywordViolation),
}

/// One body that is being judged.
pub(super) struct Judge<'a> {
    graph: &'a Graph,
    document: &'a JsonDocument,
    verdicts: HashMap<(NodeId, document::Id), Judgement, foldhash::fast::RandomState>,
    /// How many verdicts are remembered at most. What is not remembered costs steps again.
    most_verdicts: usize,
    steps: u64,
    depth: u32,
}

/// Judges `document` by the node of the whole schema.
///
/// # Errors
/// The first fault, or that the limits did not do.
pub(super) fn judge(
    graph: &Graph,
    root: NodeId,
    document: &JsonDocument,
    mut limits: WorkLimits,
) -> Result<(), JudgeError> {
    judge_within(graph, root, document, &mut limits)
}

/// The same, and takes the steps from the limits.
///
/// # Errors
/// As [`judge`].
pub(super) fn judge_within(
    graph: &Graph,
    root: NodeId,
    document: &JsonDocument,
    limits: &mut WorkLimits,
) -> Result<(), JudgeError> {
    let mut judge = Judge::new(graph, document, *limits);
    let judged = judge.judge(root, document::Id::ROOT);
    limits.steps = judge.steps;
    judged
}

impl<'a> Judge<'a> {
    fn new(graph: &'a Graph, document: &'a JsonDocument, limits: WorkLimits) -> Self {
        Self {
            graph,
            document,
            verdicts: HashMap::default(),
            most_verdicts: 1_024 + 4 * document.len(),
            steps: limits.steps,
            depth: limits.depth,
        }
    }

    /// Judges one value by one node.
    fn judge(&mut self, id: NodeId, at: document::Id) -> Result<(), JudgeError> {
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
                    Judgement::Invalid(fault) => Err(JudgeError::Invalid(*fault)),
                    Judgement::Asked | Judgement::Valid => Ok(()),
                };
            }
            Entry::Vacant(place) if may_grow => {
                place.insert(Judgement::Asked);
            }
            Entry::Vacant(_) => return self.deeper(node, at),
        }
        let verdict = self.deeper(node, at);
        let remembered = match verdict {
            Ok(()) => Judgement::Valid,
            Err(JudgeError::Invalid(fault)) => Judgement::Invalid(fault),
            // Nothing is judged any more.
            Err(JudgeError::OutOfWork(_)) => return verdict,
        };
        self.verdicts.insert((id, at), remembered);
        verdict
    }

    fn deeper(&mut self, node: &'a Node, at: document::Id) -> Result<(), JudgeError> {
        self.depth = self.depth.checked_sub(1).ok_or(OutOfWork::Steps)?;
        let verdict = self.checks(node, at);
        self.depth += 1;
        verdict
    }

    fn checks(&mut self, node: &'a Node, at: document::Id) -> Result<(), JudgeError> {
        let view = self.document.view(at);
        for (keyword, check) in &node.checks {
            let fault = KeywordViolation { keyword: *keyword, at };
            if !self.check(node, check, view, fault)? {
                return Err(JudgeError::Invalid(fault));
            }
        }
        Ok(())
    }

    /// Whether one check of a node holds. What is invalid below the value is an error of its own.
    fn check(
        &mut self,
        node: &'a Node,
        check: &'a KeywordCheck,
        view: JsonView<'a>,
        fault: KeywordViolation,
    ) -> Result<bool, JudgeError> {
        self.spend(1)?;
        let at = fault.at;
        match check {
            KeywordCheck::Members(members) => self.members(members, view, fault)?,
            KeywordCheck::Names(node) => return Ok(self.names(*node, view)?),
            KeywordCheck::Elements { first, rest } => self.elements(first, *rest, view, at)?,
            KeywordCheck::Contains { node, least, most, .. } => return Ok(self.contains(*node, *least, *most, view)?),
            KeywordCheck::UnevaluatedMembers(rest) => {
                if let JsonView::Object(held) = view {
                    self.unevaluated(node, *rest, (view, held), fault)?;
                }
            }
            KeywordCheck::UnevaluatedElements(rest) => {
                if let JsonView::Array(held) = view {
                    self.unevaluated(node, *rest, (view, held), fault)?;
                }
            }
            KeywordCheck::All(nodes) => nodes.iter().try_for_each(|node| self.judge(*node, at))?,
            KeywordCheck::Any(nodes) => return Ok(self.any(nodes, at)?),
            KeywordCheck::One(nodes) => return Ok(self.one(nodes, at)?),
            KeywordCheck::Not(node) => return Ok(!self.holds(*node, at)?),
            KeywordCheck::If { condition, then, otherwise } => self.branch(*condition, *then, *otherwise, at)?,
            KeywordCheck::Dependent(dependent) => self.dependent(dependent, view, at)?,
            KeywordCheck::Discriminator(discriminator) => match self.discriminated(discriminator, view) {
                Some(node) => self.judge(node, at)?,
                None => return Ok(false),
            },
            check => return Ok(self.assert(check, view, at)?),
        }
        Ok(true)
    }

    /// The node that a member of the value names.
    fn discriminated(&self, discriminator: &Discriminator, view: JsonView<'a>) -> Option<NodeId> {
        let JsonView::Object(members) = view else { return None };
        let named = self.document.member(members, &discriminator.member).map(|member| self.document.view(member));
        let branch = match named {
            Some(JsonView::Text(name)) => discriminator.branches.get(name).copied(),
            _ => None,
        };
        branch.or(discriminator.default)
    }

    /// Whether a value is valid by a node.
    fn holds(&mut self, node: NodeId, at: document::Id) -> Result<bool, OutOfWork> {
        match self.judge(node, at) {
            Ok(()) => Ok(true),
            Err(JudgeError::Invalid(_)) => Ok(false),
            Err(JudgeError::OutOfWork(spent)) => Err(spent),
        }
    }

    fn any(&mut self, nodes: &[NodeId], at: document::Id) -> Result<bool, OutOfWork> {
        for node in nodes {
            if self.holds(*node, at)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn one(&mut self, nodes: &[NodeId], at: document::Id) -> Result<bool, OutOfWork> {
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
        at: document::Id,
    ) -> Result<(), JudgeError> {
        if then.is_none() && otherwise.is_none() {
            return Ok(());
        }
        let branch = if self.holds(condition, at)? { then } else { otherwise };
        branch.map_or(Ok(()), |node| self.judge(node, at))
    }

    fn dependent(
        &mut self,
        dependent: &[(Box<str>, NodeId)],
        view: JsonView<'a>,
        at: document::Id,
    ) -> Result<(), JudgeError> {
        let JsonView::Object(members) = view else { return Ok(()) };
        for (name, node) in dependent {
            self.spend(1)?;
            if self.document.member(members, name).is_some() {
                self.judge(*node, at)?;
            }
        }
        Ok(())
    }

    fn members(&mut self, rules: &'a Members, view: JsonView<'a>, fault: KeywordViolation) -> Result<(), JudgeError> {
        let JsonView::Object(members) = view else { return Ok(()) };
        for member in members {
            self.spend(1)?;
            let name = self.document.name(*member);
            let named = rules.named.get(name);
            if let Some(node) = named {
                self.judge(*node, *member)?;
            }
            let mut is_other = named.is_none();
            for (pattern, node) in &rules.patterns {
                if self.matches(pattern, name, member.name())? {
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
    fn at_its_holder(&mut self, node: NodeId, held: document::Id, fault: KeywordViolation) -> Result<(), JudgeError> {
        match self.judge(node, held) {
            Err(JudgeError::Invalid(KeywordViolation { keyword: Keyword::FalseSchema, at })) if at == held => {
                Err(JudgeError::Invalid(fault))
            }
            verdict => verdict,
        }
    }

    fn names(&mut self, node: NodeId, view: JsonView<'a>) -> Result<bool, OutOfWork> {
        let JsonView::Object(members) = view else { return Ok(true) };
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
        view: JsonView<'a>,
        at: document::Id,
    ) -> Result<(), JudgeError> {
        let JsonView::Array(elements) = view else { return Ok(()) };
        for (element, node) in elements.iter().zip(first) {
            self.judge(*node, *element)?;
        }
        let Some((keyword, node)) = rest else { return Ok(()) };
        for element in elements.iter().skip(first.len()) {
            self.at_its_holder(node, *element, KeywordViolation { keyword, at })?;
        }
        Ok(())
    }

    fn contains(&mut self, node: NodeId, least: u64, most: u64, view: JsonView<'a>) -> Result<bool, OutOfWork> {
        let JsonView::Array(elements) = view else { return Ok(true) };
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
    fn assert(&mut self, check: &'a KeywordCheck, view: JsonView<'a>, at: document::Id) -> Result<bool, OutOfWork> {
        Ok(match (check, view) {
            (KeywordCheck::Never, _) => false,
            (KeywordCheck::Types(types), view) => self.is_of(*types, view, at),
            (KeywordCheck::Among(constants), _) => {
                let mut work = 0;
                let found = constants.sorted.binary_search_by(|constant| {
                    document::compare((&constants.document, *constant), (self.document, at), &mut work)
                });
                self.spend(work)?;
                found.is_ok()
            }
            (KeywordCheck::Bound { limit, is_upper, is_exclusive }, JsonView::Number(_)) => {
                let Some(number) = self.number(at)? else { return Ok(true) };
                let order = compare_numbers(number, limit.valued());
                if *is_exclusive && order.is_eq() {
                    false
                } else if *is_upper {
                    order.is_le()
                } else {
                    order.is_ge()
                }
            }
            (KeywordCheck::MultipleOf(divisor, _), JsonView::Number(_)) => {
                self.number(at)?.is_none_or(|number| divisor.divides(number))
            }
            (KeywordCheck::Text(library, _), JsonView::Text(text)) => {
                self.spend(16 + text.len() as u64)?;
                library.is_valid(&serde_json::Value::String(text.to_owned()))
            }
            (KeywordCheck::Regex, JsonView::Text(text)) => {
                self.spend(1 + text.len() as u64)?;
                jsonschema_regex::is_valid_ecma_regex(text)
            }
            (KeywordCheck::Pattern(pattern, _), JsonView::Text(text)) => self.matches(pattern, text, at)?,
            (KeywordCheck::AtLeast(measure, least), view) => {
                self.measure(*measure, view)?.is_none_or(|count| count >= *least)
            }
            (KeywordCheck::AtMost(measure, most), view) => {
                self.measure(*measure, view)?.is_none_or(|count| count <= *most)
            }
            (KeywordCheck::Required(required), JsonView::Object(members)) => self.has(members, required)?,
            (KeywordCheck::Requires(dependent), JsonView::Object(members)) => {
                for (name, required) in dependent {
                    self.spend(1)?;
                    if self.document.member(members, name).is_some() && !self.has(members, required)? {
                        return Ok(false);
                    }
                }
                true
            }
            (KeywordCheck::Unique, JsonView::Array(elements)) => self.is_unique(elements)?,
            _ => true,
        })
    }

    /// A number, paid for by its digits.
    fn number(&mut self, at: document::Id) -> Result<Option<Valued<'a>>, OutOfWork> {
        let number = self.document.number(at);
        if let Some((_, Some(decimal))) = number {
            self.spend(decimal.len() as u64 / 16)?;
        }
        Ok(number)
    }

    fn is_of(&self, types: Types, view: JsonView<'_>, at: document::Id) -> bool {
        match view {
            JsonView::Null => types.has(Types::NULL),
            JsonView::Bool(_) => types.has(Types::BOOLEAN),
            JsonView::Text(_) => types.has(Types::STRING),
            JsonView::Array(_) => types.has(Types::ARRAY),
            JsonView::Object(_) => types.has(Types::OBJECT),
            JsonView::Number(_) => {
                types.has(Types::NUMBER)
                    || types.has(Types::INTEGER) && self.document.is_whole(at)
                    || types.has(Types::WRITTEN_INTEGER) && self.document.is_integer(at)
            }
        }
    }

    /// Whether the text at a place matches. What nobody knows is not taken for either, so that no schema lets it pass.
    fn matches(&mut self, pattern: &TextPattern, text: &str, at: document::Id) -> Result<bool, OutOfWork> {
        self.spend(pattern.price(text))?;
        pattern.is_match(text).map_err(|_unmatched| OutOfWork::Pattern(at))
    }

    fn has(&mut self, members: &[document::Id], names: &[Box<str>]) -> Result<bool, OutOfWork> {
        self.spend(names.len() as u64)?;
        Ok(names.iter().all(|name| self.document.member(members, name).is_some()))
    }

    fn measure(&mut self, measure: Measure, view: JsonView<'a>) -> Result<Option<u64>, OutOfWork> {
        Ok(match (measure, view) {
            (Measure::Characters, JsonView::Text(text)) => {
                self.spend(text.len() as u64 / 64)?;
                Some(text.chars().count() as u64)
            }
            (Measure::FileBytes, JsonView::Text(text)) => file_bytes(text),
            (Measure::Elements, JsonView::Array(held)) | (Measure::Members, JsonView::Object(held)) => {
                Some(held.len() as u64)
            }
            _ => None,
        })
    }

    /// Whether no two elements are equal: sorted, two that are would be neighbours.
    fn is_unique(&mut self, elements: &[document::Id]) -> Result<bool, OutOfWork> {
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

    fn spend(&mut self, steps: u64) -> Result<(), OutOfWork> {
        self.steps = self.steps.checked_sub(steps).ok_or(OutOfWork::Steps)?;
        Ok(())
    }
}
