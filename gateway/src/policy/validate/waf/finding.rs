//! What rules have found in a request, and what it adds up to.

use std::{cmp::Reverse, fmt};

use super::{exclusion::Exclusions, request::Collection, seclang::WafOutcome};

/// The most findings that are told. All of them count.
const MOST: usize = 32;

/// The most findings that one line of the log names.
const MOST_LOGGED: usize = 8;

/// How much of a parameter's name is told, in bytes: it is the client's.
const LONGEST_NAME: usize = 64;

/// A rule that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its name, or its number in the files.
    pub rule: Box<str>,
    /// Where it matched.
    pub place: Collection,
    /// The name of the parameter, as far as it is told.
    pub parameter: Box<str>,
    /// What it adds to the score.
    pub score: u32,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, place, parameter, .. } = self;
        write!(out, "{rule} in {}", place.name())?;
        if parameter.is_empty() { Ok(()) } else { write!(out, " {parameter:?}") }
    }
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WafVerdict {
    /// The sum of all scores.
    pub score: u32,
    /// The threshold that it was held against.
    pub threshold: u32,
    /// Whether it is at the threshold or over it, or a rule refuses by itself.
    pub is_attack: bool,
    /// The rules that matched, the first of them.
    pub findings: Vec<Finding>,
}

impl WafVerdict {
    /// For the log: the first findings, the one that counts most before the others, and the score. An exception is written
    /// for each of them.
    #[must_use]
    pub fn detail(&self) -> String {
        let mut findings: Vec<&Finding> = self.findings.iter().collect();
        // Stable: those that count the same stay in their order.
        findings.sort_by_key(|finding| Reverse(finding.score));
        let mut detail = String::new();
        for finding in findings.iter().take(MOST_LOGGED) {
            detail += &format!("{finding}, ");
        }
        if let Some(more) = findings.len().checked_sub(MOST_LOGGED).filter(|more| *more > 0) {
            detail += &format!("and {more} more, ");
        }
        detail + &format!("score {} of {}", self.score, self.threshold)
    }
}

/// What the score is held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Threshold {
    pub(super) threshold: u32,
    /// A rule refuses by itself.
    pub(super) is_denied: bool,
}

/// Findings while a request is inspected.
pub(super) struct Findings<'a> {
    exclusions: &'a Exclusions,
    found: Vec<Finding>,
    /// Of all rules.
    score: u32,
    /// Of the built-in ones: rules of files refuse by themselves.
    own: u32,
}

impl<'a> Findings<'a> {
    pub(super) const fn new(exclusions: &'a Exclusions) -> Self {
        Self { exclusions, found: Vec::new(), score: 0, own: 0 }
    }

    /// A rule matched. The same rule counts once for a parameter, with its highest score.
    pub(super) fn add(&mut self, rule: &str, tag: &str, place: Collection, name: &[u8], score: u32) {
        if self.exclusions.excludes(rule, &[tag], place, name) {
            return;
        }
        let parameter = told(name);
        let same = self.found.iter_mut();
        let same = same.into_iter().find(|it| &*it.rule == rule && it.place == place && *it.parameter == *parameter);
        if let Some(known) = same {
            let more = score.saturating_sub(known.score);
            known.score += more;
            self.score = self.score.saturating_add(more);
            self.own = self.own.saturating_add(more);
            return;
        }
        self.score = self.score.saturating_add(score);
        self.own = self.own.saturating_add(score);
        if self.found.len() < MOST {
            self.found.push(Finding { rule: rule.into(), place, parameter: parameter.into(), score });
        }
    }

    /// What rules of files have found. Exceptions were minded there.
    pub(super) fn add_all(&mut self, outcome: &WafOutcome<'_>) {
        let sum = outcome.hits.iter().fold(0_u32, |sum, hit| sum.saturating_add(hit.score));
        self.score = self.score.saturating_add(outcome.score.unwrap_or(sum));
        if outcome.is_out_of_work {
            let rule = "too_much_work".into();
            self.found.push(Finding { rule, place: Collection::Other, parameter: Box::default(), score: 0 });
        }
        for hit in &outcome.hits {
            if self.found.len() >= MOST {
                break;
            }
            let parameter = told(&hit.parameter).into();
            self.found.push(Finding { rule: hit.rule.into(), place: hit.place, parameter, score: hit.score });
        }
    }

    pub(super) fn verdict(self, judged: Threshold) -> WafVerdict {
        let is_attack = judged.is_denied || self.own >= judged.threshold && !self.found.is_empty();
        WafVerdict { score: self.score, threshold: judged.threshold, is_attack, findings: self.found }
    }
}

/// What is told of a parameter's name: no control characters, and not all of a long one.
fn told(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name.get(..name.len().min(LONGEST_NAME)).unwrap_or_default());
    name.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_first_findings_and_no_value() {
        let finding = |rule: &str, parameter: &str, score| Finding {
            rule: rule.into(),
            place: Collection::Query,
            parameter: parameter.into(),
            score,
        };
        let verdict = |findings| WafVerdict { score: 9, threshold: 5, is_attack: true, findings };
        let many = (1..=10).map(|number| finding(&number.to_string(), "q", 2)).collect();
        for (findings, expect) in [
            (Vec::new(), "score 9 of 5"),
            (vec![finding("xss", "q", 5)], "xss in query \"q\", score 9 of 5"),
            (
                vec![finding("a", "x", 2), finding("b", "y", 5), finding("c", "", 2)],
                "b in query \"y\", a in query \"x\", c in query, score 9 of 5",
            ),
            (
                many,
                "1 in query \"q\", 2 in query \"q\", 3 in query \"q\", 4 in query \"q\", 5 in query \"q\", 6 in query \"q\", \
                 7 in query \"q\", 8 in query \"q\", and 2 more, score 9 of 5",
            ),
        ] {
            assert_eq!(verdict(findings).detail(), expect);
        }
    }
}
