//! What `unevaluatedProperties` and `unevaluatedItems` speak of: the members and elements that no other keyword of the
//! same schema, or of those it applies to the same value, has looked at.

use super::{Judge, JudgeError, KeywordViolation, OutOfWork};
use crate::{
    json::document::{self, JsonView},
    policy::validate::schema::graph::{KeywordCheck, Node, NodeId},
};

/// Which of the members or elements of one value were evaluated.
struct Evaluated<'a> {
    at: document::Id,
    held: &'a [document::Id],
    seen: Vec<bool>,
    /// The nodes that were asked.
    asked: Vec<NodeId>,
}

impl Evaluated<'_> {
    fn mark(&mut self, index: usize) {
        if let Some(seen) = self.seen.get_mut(index) {
            *seen = true;
        }
    }
}

impl<'a> Judge<'a> {
    /// Judges by `rest` those of `held` that the other checks of `node` did not evaluate. They hold by now.
    pub(super) fn unevaluated(
        &mut self,
        node: &'a Node,
        rest: NodeId,
        (view, held): (JsonView<'a>, &'a [document::Id]),
        fault: KeywordViolation,
    ) -> Result<(), JudgeError> {
        self.spend(held.len() as u64)?;
        let mut evaluated = Evaluated { at: fault.at, held, seen: vec![false; held.len()], asked: Vec::new() };
        for (_, check) in &node.checks {
            if !matches!(check, KeywordCheck::UnevaluatedMembers(_) | KeywordCheck::UnevaluatedElements(_)) {
                self.collect(check, view, &mut evaluated)?;
            }
        }
        for (held, seen) in held.iter().zip(evaluated.seen) {
            if !seen {
                self.at_its_holder(rest, *held, fault)?;
            }
        }
        Ok(())
    }

    /// Marks what a check, which holds, has evaluated.
    fn collect(
        &mut self,
        check: &'a KeywordCheck,
        view: JsonView<'a>,
        evaluated: &mut Evaluated<'a>,
    ) -> Result<(), OutOfWork> {
        self.spend(1)?;
        let held = evaluated.held;
        match (check, view) {
            (KeywordCheck::Members(rules), JsonView::Object(_)) => {
                for (index, member) in held.iter().enumerate() {
                    self.spend(1)?;
                    let name = self.document.name(*member);
                    let mut is_known = rules.others.is_some() || rules.named.contains_key(name);
                    for (pattern, _) in &rules.patterns {
                        is_known = is_known || self.matches(pattern, name, member.name())?;
                    }
                    if is_known {
                        evaluated.mark(index);
                    }
                }
            }
            (KeywordCheck::Elements { first, rest }, JsonView::Array(_)) => {
                let count = if rest.is_some() { held.len() } else { first.len() };
                self.spend(count.min(held.len()) as u64)?;
                evaluated.seen.iter_mut().take(count).for_each(|seen| *seen = true);
            }
            (KeywordCheck::Contains { node, evaluates: true, .. }, JsonView::Array(_)) => {
                for (index, element) in held.iter().enumerate() {
                    if self.holds(*node, *element)? {
                        evaluated.mark(index);
                    }
                }
            }
            (KeywordCheck::UnevaluatedMembers(_), JsonView::Object(_))
            | (KeywordCheck::UnevaluatedElements(_), JsonView::Array(_)) => {
                self.spend(held.len() as u64)?;
                evaluated.seen.fill(true);
            }
            (KeywordCheck::All(nodes), _) => {
                for node in nodes {
                    self.collect_from(*node, view, evaluated)?;
                }
            }
            (KeywordCheck::Any(nodes) | KeywordCheck::One(nodes), _) => {
                for node in nodes {
                    if self.holds(*node, evaluated.at)? {
                        self.collect_from(*node, view, evaluated)?;
                    }
                }
            }
            (KeywordCheck::If { condition, then, otherwise }, _) => {
                let branch = if self.holds(*condition, evaluated.at)? {
                    self.collect_from(*condition, view, evaluated)?;
                    then
                } else {
                    otherwise
                };
                if let Some(node) = branch {
                    self.collect_from(*node, view, evaluated)?;
                }
            }
            (KeywordCheck::Discriminator(discriminator), JsonView::Object(_)) => {
                if let Some(node) = self.discriminated(discriminator, view) {
                    self.collect_from(node, view, evaluated)?;
                }
            }
            (KeywordCheck::Dependent(dependent), JsonView::Object(_)) => {
                for (name, node) in dependent {
                    if self.document.member(held, name).is_some() {
                        self.collect_from(*node, view, evaluated)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Marks what the checks of a node, which hold, have evaluated. Each node is asked once.
    fn collect_from(&mut self, id: NodeId, view: JsonView<'a>, evaluated: &mut Evaluated<'a>) -> Result<(), OutOfWork> {
        self.spend(1 + evaluated.asked.len() as u64 / 8)?;
        if evaluated.asked.contains(&id) {
            return Ok(());
        }
        evaluated.asked.push(id);
        self.depth = self.depth.checked_sub(1).ok_or(OutOfWork::Steps)?;
        let graph = self.graph;
        for (_, check) in graph.nodes.get(id.0 as usize).into_iter().flat_map(|node| &node.checks) {
            self.collect(check, view, evaluated)?;
        }
        self.depth += 1;
        Ok(())
    }
}
