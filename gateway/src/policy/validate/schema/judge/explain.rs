//! What a document breaks of a schema: every place, and what is expected there. Asked only of what is refused.
//!
//! *Invariant:* what is expected is told by the schema alone, and the work is bounded as judging is.

use std::collections::HashSet;

use super::{Judge, JudgeError, KeywordViolation, OutOfWork, WorkLimits};
use crate::{
    json::document::{self, JsonDocument, JsonView},
    policy::validate::schema::{
        graph::{Graph, KeywordCheck, Measure, Members, Node, NodeId, Types},
        keyword::Keyword,
    },
    refusal::violation::MOST_VIOLATIONS,
};

/// One rule that a value breaks.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::policy::validate::schema) struct ExplainedViolation {
    pub(in crate::policy::validate::schema) at: document::Id,
    pub(in crate::policy::validate::schema) keyword: Keyword,
    pub(in crate::policy::validate::schema) expected: String,
}

/// What of `document` is not valid, as far as the limits do.
pub(in crate::policy::validate::schema) fn explain(
    graph: &Graph,
    root: NodeId,
    document: &JsonDocument,
    limits: WorkLimits,
) -> Vec<ExplainedViolation> {
    let mut faults = ExplainedViolations::default();
    // What is found until the work ends is told.
    let _ended: Result<(), OutOfWork> =
        Judge::new(graph, document, limits).explain(root, document::Id::ROOT, &mut faults);
    faults.found
}

/// What was found.
#[derive(Default)]
struct ExplainedViolations {
    found: Vec<ExplainedViolation>,
    /// What was asked for already: a schema may lead back to itself.
    asked: HashSet<(NodeId, document::Id)>,
}

impl ExplainedViolations {
    const fn is_full(&self) -> bool {
        self.found.len() >= MOST_VIOLATIONS
    }

    fn push(&mut self, fault: ExplainedViolation) {
        if !self.is_full() && !self.found.contains(&fault) {
            self.found.push(fault);
        }
    }
}

impl<'a> Judge<'a> {
    fn explain(&mut self, id: NodeId, at: document::Id, faults: &mut ExplainedViolations) -> Result<(), OutOfWork> {
        let graph = self.graph;
        let Some(node) = graph.nodes.get(id.0 as usize) else { return Ok(()) };
        if faults.is_full() || self.holds(id, at)? || !faults.asked.insert((id, at)) {
            return Ok(());
        }
        self.depth = self.depth.checked_sub(1).ok_or(OutOfWork::Steps)?;
        for (keyword, check) in &node.checks {
            if faults.is_full() {
                break;
            }
            self.explain_check(node, (*keyword, check), at, faults)?;
        }
        self.depth += 1;
        Ok(())
    }

    fn explain_check(
        &mut self,
        node: &'a Node,
        (keyword, check): (Keyword, &'a KeywordCheck),
        at: document::Id,
        faults: &mut ExplainedViolations,
    ) -> Result<(), OutOfWork> {
        let view = self.document.view(at);
        match (check, view) {
            (KeywordCheck::All(nodes), _) => nodes.iter().try_for_each(|node| self.explain(*node, at, faults)),
            (KeywordCheck::If { condition, then, otherwise }, _) => {
                let branch = if self.holds(*condition, at)? { then } else { otherwise };
                branch.map_or(Ok(()), |node| self.explain(node, at, faults))
            }
            (KeywordCheck::Dependent(dependent), JsonView::Object(members)) => {
                for (name, node) in dependent {
                    if self.document.member(members, name).is_some() {
                        self.explain(*node, at, faults)?;
                    }
                }
                Ok(())
            }
            (KeywordCheck::Discriminator(discriminator), _) => match self.discriminated(discriminator, view) {
                Some(node) => self.explain(node, at, faults),
                None => {
                    let expected = format!("must have a known value in the member {:?}", discriminator.member);
                    faults.push(ExplainedViolation { at, keyword, expected });
                    Ok(())
                }
            },
            (KeywordCheck::Members(rules), JsonView::Object(members)) => {
                members.iter().try_for_each(|member| self.explain_member(rules, *member, faults))
            }
            (KeywordCheck::Elements { first, rest }, JsonView::Array(elements)) => {
                let rest = std::iter::repeat(rest.map(|(_, node)| node));
                let nodes = first.iter().copied().map(Some).chain(rest);
                for (element, node) in elements.iter().zip(nodes) {
                    if let Some(node) = node {
                        self.explain(node, *element, faults)?;
                    }
                }
                Ok(())
            }
            (KeywordCheck::Required(names), JsonView::Object(members)) => {
                for name in names {
                    self.spend(1)?;
                    if self.document.member(members, name).is_none() {
                        faults.push(ExplainedViolation {
                            at,
                            keyword,
                            expected: format!("must have the member {name:?}"),
                        });
                    }
                }
                Ok(())
            }
            _ => match self.check(node, check, view, KeywordViolation { keyword, at }) {
                Ok(true) => Ok(()),
                Ok(false) => {
                    faults.push(ExplainedViolation { at, keyword, expected: expected(check) });
                    Ok(())
                }
                Err(JudgeError::Invalid(below)) => {
                    let expected = expected(check);
                    faults.push(ExplainedViolation { at: below.at, keyword, expected });
                    Ok(())
                }
                Err(JudgeError::OutOfWork(spent)) => Err(spent),
            },
        }
    }

    fn explain_member(
        &mut self,
        rules: &'a Members,
        member: document::Id,
        faults: &mut ExplainedViolations,
    ) -> Result<(), OutOfWork> {
        self.spend(1)?;
        let name = self.document.name(member);
        let named = rules.named.get(name);
        if let Some(node) = named {
            self.explain(*node, member, faults)?;
        }
        let mut is_other = named.is_none();
        for (pattern, node) in &rules.patterns {
            if self.matches(pattern, name, member.name())? {
                is_other = false;
                self.explain(*node, member, faults)?;
            }
        }
        match rules.others {
            Some(node) if is_other => {
                let before = faults.found.len();
                self.explain(node, member, faults)?;
                for fault in faults.found.iter_mut().skip(before).filter(|fault| fault.keyword == Keyword::FalseSchema)
                {
                    fault.keyword = Keyword::AdditionalProperties;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// What a check asks of a value.
fn expected(check: &KeywordCheck) -> String {
    match check {
        KeywordCheck::Never => "must not be there".to_owned(),
        KeywordCheck::Types(types) => format!("must be {}", types.named().join(" or ")),
        KeywordCheck::Among(constants) if constants.shown.is_empty() => "must be a value of the list".to_owned(),
        KeywordCheck::Among(constants) => format!("must be one of {}", constants.shown),
        KeywordCheck::Bound { limit, is_upper, is_exclusive } => {
            let than = match (is_upper, is_exclusive) {
                (true, true) => "less than",
                (true, false) => "at most",
                (false, true) => "more than",
                (false, false) => "at least",
            };
            format!("must be {than} {limit}")
        }
        KeywordCheck::MultipleOf(_, divisor) => format!("must be a multiple of {divisor}"),
        KeywordCheck::Text(_, expected) => format!("must be {expected}"),
        KeywordCheck::Regex => "must be a regular expression".to_owned(),
        KeywordCheck::Pattern(_, pattern) => format!("must match the pattern {pattern}"),
        KeywordCheck::AtLeast(measure, count) => format!("must have at least {count} {}", measure.unit()),
        KeywordCheck::AtMost(measure, count) => format!("must have at most {count} {}", measure.unit()),
        KeywordCheck::Requires(_) => "must have the members that another one requires".to_owned(),
        KeywordCheck::Unique => "must have no element twice".to_owned(),
        KeywordCheck::Names(_) => "must have names of members that are valid".to_owned(),
        KeywordCheck::Contains { least, most, .. } if *most == u64::MAX => {
            format!("must have at least {least} elements that are valid")
        }
        KeywordCheck::Contains { least, most, .. } => format!("must have {least} to {most} elements that are valid"),
        KeywordCheck::UnevaluatedMembers(_) => "must not have members that are not declared".to_owned(),
        KeywordCheck::UnevaluatedElements(_) => "must not have elements that are not declared".to_owned(),
        KeywordCheck::Any(_) => "must match one of the schemas of anyOf".to_owned(),
        KeywordCheck::One(_) => "must match exactly one of the schemas of oneOf".to_owned(),
        KeywordCheck::Not(_) => "must not match the schema of not".to_owned(),
        _ => "must be valid".to_owned(),
    }
}

impl Measure {
    const fn unit(self) -> &'static str {
        match self {
            Self::Characters => "characters",
            Self::Elements => "elements",
            Self::FileBytes => "bytes",
            Self::Members => "members",
        }
    }
}

impl Types {
    fn named(self) -> Vec<&'static str> {
        let names = [
            (Self::NULL, "null"),
            (Self::BOOLEAN, "a boolean"),
            (Self::NUMBER, "a number"),
            (Self::STRING, "a string"),
            (Self::ARRAY, "an array"),
            (Self::OBJECT, "an object"),
            (Self::INTEGER, "an integer"),
            (Self::WRITTEN_INTEGER, "an integer"),
        ];
        names.into_iter().filter(|(kind, _)| self.has(*kind)).map(|(_, name)| name).collect()
    }
}
