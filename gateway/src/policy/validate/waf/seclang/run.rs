//! Runs the rules on one request.
//!
//! *Invariant:* what one request costs is bounded: every value that an operator sees takes of a budget, and variables of
//! the transaction are limited in number and length.

use std::{borrow::Cow, collections::HashMap, rc::Rc};

use super::{
    super::{
        body::{self, Format},
        exclusion::Exclusions,
        request::{Collection, Values},
    },
    collect::Items,
    compile::CompiledRules,
    macros::{MacroPart, Template},
    operator::{self, cost, judge},
    rule::{Allowed, ChainedRule, Change, Control, Disruptive, RuleSet, SecRule, Step},
    targets::{RuleTarget, Selector, Variable},
};

/// How many bytes operators may see of one request, all rules together; and what a value costs besides its length.
const WORK: usize = 256 * 1024 * 1024;
const WORK_PER_VALUE: usize = 64;

/// The most variables of a transaction, and the longest value of one.
const MOST_VARIABLES: usize = 2_048;
const LONGEST_VARIABLE: usize = 16 * 1024;

/// What a rule has matched.
#[derive(Debug)]
pub(in crate::policy::validate::waf) struct Hit<'a> {
    pub(in crate::policy::validate::waf) rule: &'a str,
    pub(in crate::policy::validate::waf) place: Collection,
    pub(in crate::policy::validate::waf) parameter: Vec<u8>,
    pub(in crate::policy::validate::waf) score: u32,
}

/// What the rules say of a request.
#[derive(Debug, Default)]
pub(in crate::policy::validate::waf) struct WafOutcome<'a> {
    /// A rule refuses it.
    pub(in crate::policy::validate::waf) is_denied: bool,
    /// What the rules have added up themselves, where they do.
    pub(in crate::policy::validate::waf) score: Option<u32>,
    pub(in crate::policy::validate::waf) hits: Vec<Hit<'a>>,
    /// The budget is spent.
    pub(in crate::policy::validate::waf) is_out_of_work: bool,
}

/// Runs all rules. `fixed`: variables of the transaction that no rule changes.
pub(in crate::policy::validate::waf) fn run<'a>(
    compiled: &'a CompiledRules,
    values: &Values<'_>,
    fixed: &[(&str, String)],
    exclusions: &Exclusions,
) -> WafOutcome<'a> {
    let mut transaction = Transaction {
        items: Items::of_head(values),
        variables: fixed.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into_bytes())).collect(),
        fixed,
        exclusions,
        removed: Vec::new(),
        removed_targets: Vec::new(),
        cache: HashMap::new(),
        matched: Matched::default(),
        left: WORK,
        processor: values.format.map_or_else(String::new, |format| format.name().to_owned()),
        runs: true,
        refuses: true,
        allowed: None,
        outcome: WafOutcome::default(),
    };
    let [head, body] = &compiled.phases;
    if compiled.reads_full_request {
        transaction.items.set_full_request(&values.request, b"");
    }
    transaction.phase(head);
    if transaction.goes_on() {
        transaction.take_body(values, compiled.reads_full_request);
        transaction.phase(body);
    }
    let read = |name: &str| transaction.variables.get(name).map(|value| operator::number(value));
    let score = read("blocking_inbound_anomaly_score").or_else(|| read("anomaly_score"));
    let mut outcome = transaction.outcome;
    outcome.score = score.map(|score| u32::try_from(score.max(0)).unwrap_or(u32::MAX));
    outcome.is_denied |= outcome.is_out_of_work && transaction.refuses;
    outcome
}

/// What the rule at hand has matched so far.
#[derive(Default)]
struct Matched {
    /// The last value, and its name.
    value: Vec<u8>,
    name: Vec<u8>,
    all: Vec<(Vec<u8>, Vec<u8>)>,
    place: Option<(Collection, Vec<u8>)>,
}

struct Transaction<'a, 'e> {
    items: Items,
    variables: HashMap<String, Vec<u8>>,
    fixed: &'e [(&'e str, String)],
    exclusions: &'e Exclusions,
    removed: Vec<&'a RuleSet>,
    removed_targets: Vec<(&'a RuleSet, Variable, Option<&'a str>)>,
    /// Values after transformations, by item and by the number of the chain.
    cache: HashMap<(usize, usize), Rc<[u8]>>,
    matched: Matched,
    left: usize,
    processor: String,
    runs: bool,
    refuses: bool,
    allowed: Option<Allowed>,
    outcome: WafOutcome<'a>,
}

/// A value that a rule looks at.
struct InspectedValue {
    /// Its number, where it does not change.
    item: Option<usize>,
    key: Rc<[u8]>,
    value: Rc<[u8]>,
    place: Collection,
    variable: Variable,
}

impl<'a> Transaction<'a, '_> {
    fn goes_on(&self) -> bool {
        self.runs
            && !self.outcome.is_denied
            && !self.outcome.is_out_of_work
            && self.allowed != Some(Allowed::Everything)
    }

    fn phase(&mut self, steps: &'a [Step]) {
        let (mut until, mut skip): (Option<&str>, usize) = (None, 0);
        for step in steps {
            let rule = match step {
                Step::Marker(name) => {
                    if until == Some(name) {
                        until = None;
                    }
                    continue;
                }
                Step::Rule(rule) => rule,
            };
            if until.is_some() {
                continue;
            }
            if skip > 0 {
                skip -= 1;
                continue;
            }
            if self.removed.iter().any(|set| set.has(rule)) || !self.rule(rule) {
                continue;
            }
            until = rule.skip_after.as_deref();
            skip = rule.skip;
            if !self.goes_on() || self.allowed == Some(Allowed::Phase) {
                break;
            }
        }
        if self.allowed == Some(Allowed::Phase) {
            self.allowed = None;
        }
    }

    fn take_body(&mut self, values: &Values<'_>, reads_full_request: bool) {
        let format = [Format::Form, Format::Json, Format::Multipart, Format::Xml];
        let format = format.into_iter().find(|format| format.name() == self.processor);
        let request = &values.request;
        let read_anew = (format != values.format).then(|| {
            let content_type = String::from_utf8_lossy(request.header("content-type").unwrap_or_default());
            body::read(format, &content_type, request.body)
        });
        let parts = read_anew.as_ref().unwrap_or(&values.parts);
        self.items.add_body(request.body, parts, &self.processor);
        if reads_full_request {
            self.items.set_full_request(request, &parts.text_of(request.body));
        }
    }

    /// Whether all links match; then the rule does what it says.
    fn rule(&mut self, rule: &'a SecRule) -> bool {
        self.matched = Matched::default();
        for link in &rule.links {
            if !self.link(rule, link) {
                return false;
            }
        }
        if rule.is_logged {
            let (place, parameter) = self.matched.place.take().unwrap_or((Collection::Other, Vec::new()));
            self.outcome.hits.push(Hit { rule: &rule.name, place, parameter, score: rule.score });
        }
        match rule.disruptive {
            Disruptive::Deny if self.refuses => self.outcome.is_denied = true,
            Disruptive::Allow(how) => self.allowed = Some(how),
            Disruptive::Block | Disruptive::Deny | Disruptive::Pass => {}
        }
        true
    }

    fn link(&mut self, rule: &'a SecRule, link: &'a ChainedRule) -> bool {
        let Some(operator) = &link.operator else {
            self.act(link);
            return true;
        };
        let mut has_matched = false;
        for seen in self.seen(rule, link) {
            if self.outcome.is_out_of_work {
                break;
            }
            // Each transformation reads the value as well.
            let work = seen.value.len().saturating_mul(link.transforms.len());
            let is_done = seen.item.is_some_and(|item| self.cache.contains_key(&(item, link.chain)));
            if !is_done && !self.spend(work) {
                break;
            }
            for value in self.transformed(&seen, link) {
                if !self.spend(cost(&operator.kind, &value) + WORK_PER_VALUE) {
                    break;
                }
                let captures = link.captures && !operator.is_negated;
                let (is_match, groups) = judge(&operator.kind, &value, captures, |text| self.expand(text));
                // What nobody knows is a match, negated or not: a value is made to take so long.
                if is_match.is_some_and(|is_match| is_match == operator.is_negated) {
                    continue;
                }
                has_matched = true;
                if link.captures {
                    for (index, group) in groups.into_iter().enumerate() {
                        if let Some(group) = group {
                            self.store(&index.to_string(), group);
                        }
                    }
                }
                self.note(&seen, &value);
                self.act(link);
            }
        }
        has_matched
    }

    /// Takes work of the budget; whether there was enough.
    fn spend(&mut self, work: usize) -> bool {
        match self.left.checked_sub(work) {
            Some(left) => self.left = left,
            None => self.outcome.is_out_of_work = true,
        }
        !self.outcome.is_out_of_work
    }

    fn note(&mut self, seen: &InspectedValue, value: &[u8]) {
        let mut name = seen.variable.name().as_bytes().to_vec();
        if !seen.key.is_empty() {
            name.push(b':');
            name.extend(&*seen.key);
        }
        if seen.place != Collection::Other || self.matched.place.is_none() {
            self.matched.place = Some((seen.place, seen.key.to_vec()));
        }
        self.matched.name.clone_from(&name);
        self.matched.value = value.to_vec();
        if self.matched.all.len() < MOST_VARIABLES {
            self.matched.all.push((name, value.to_vec()));
        }
    }

    /// What a link looks at, without what is taken away.
    fn seen(&self, rule: &SecRule, link: &ChainedRule) -> Vec<InspectedValue> {
        let mut all = Vec::new();
        let excluded: Vec<&RuleTarget> = link.targets.iter().filter(|target| target.is_excluded).collect();
        let removed: Vec<_> = self.removed_targets.iter().filter(|(set, ..)| set.has(rule)).collect();
        let has_exclusions = !self.exclusions.is_empty();
        let tags: Vec<&str> = if has_exclusions { rule.tags.iter().map(String::as_str).collect() } else { Vec::new() };
        for target in link.targets.iter().filter(|target| !target.is_excluded) {
            let begin = all.len();
            self.members(target, &mut all);
            let mut index = begin;
            while let Some(seen) = all.get(index) {
                let is_excluded = excluded.iter().any(|other| other.variable == seen.variable && other.has(&seen.key))
                    || removed.iter().any(|(_, variable, member)| {
                        *variable == seen.variable
                            && member.is_none_or(|member| seen.key.eq_ignore_ascii_case(member.as_bytes()))
                    })
                    || has_exclusions
                        && seen.place != Collection::Other
                        && self.exclusions.excludes(&rule.name, &tags, seen.place, &seen.key);
                if is_excluded {
                    all.swap_remove(index);
                } else {
                    index += 1;
                }
            }
            if target.is_count {
                let count = (all.len() - begin).to_string();
                all.truncate(begin);
                all.push(InspectedValue {
                    item: None,
                    key: Rc::default(),
                    value: count.as_bytes().into(),
                    place: Collection::Other,
                    variable: target.variable,
                });
            }
        }
        all
    }

    fn members(&self, target: &RuleTarget, all: &mut Vec<InspectedValue>) {
        let variable = target.variable;
        let mut add = |key: &[u8], value: &[u8]| {
            let (place, parameter) = match (&self.matched.place, variable) {
                (Some((place, name)), Variable::MatchedVar | Variable::MatchedVars) => (*place, name.clone()),
                _ => (Collection::Other, key.to_vec()),
            };
            all.push(InspectedValue { item: None, key: parameter.into(), value: value.into(), place, variable });
        };
        match variable {
            Variable::Tx => match &target.selector {
                Selector::Name(name) => {
                    if let Some(value) = self.variables.get(name) {
                        add(name.as_bytes(), value);
                    }
                }
                Selector::All | Selector::Matches(_) => {
                    let fits = self.variables.iter().filter(|(name, _)| target.has(name.as_bytes()));
                    fits.for_each(|(name, value)| add(name.as_bytes(), value));
                }
            },
            Variable::MatchedVar => add(b"", &self.matched.value),
            Variable::MatchedVarName => add(b"", &self.matched.name),
            Variable::MatchedVars => {
                let fits = self.matched.all.iter().filter(|(name, _)| target.has(name));
                fits.for_each(|(name, value)| add(name, value));
            }
            Variable::MatchedVarsNames => self.matched.all.iter().for_each(|(name, _)| add(name, name)),
            _ => {
                let members = self.items.of(variable).filter(|(_, item)| target.has(&item.key));
                all.extend(members.map(|(index, item)| InspectedValue {
                    item: Some(index),
                    key: Rc::clone(&item.key),
                    value: Rc::clone(&item.value),
                    place: item.place,
                    variable,
                }));
            }
        }
    }

    /// A value after the transformations of a link; with `multiMatch`, after each.
    fn transformed(&mut self, seen: &InspectedValue, link: &ChainedRule) -> Vec<Rc<[u8]>> {
        if link.is_multi_match {
            let mut steps = vec![Rc::clone(&seen.value)];
            for transform in &link.transforms {
                let last = steps.last().map_or(&[][..], |value| value);
                let next = transform.apply(last);
                if next != last {
                    steps.push(next.into());
                }
            }
            return steps;
        }
        if link.transforms.is_empty() {
            return vec![Rc::clone(&seen.value)];
        }
        let apply = || -> Rc<[u8]> {
            let value = link
                .transforms
                .iter()
                .fold(Cow::Borrowed(&*seen.value), |value, transform| Cow::Owned(transform.apply(&value)));
            value.into()
        };
        match seen.item {
            Some(item) => vec![Rc::clone(self.cache.entry((item, link.chain)).or_insert_with(apply))],
            None => vec![apply()],
        }
    }

    /// What a link does for a value that matches.
    fn act(&mut self, link: &'a ChainedRule) {
        for set in &link.sets {
            let name = String::from_utf8_lossy(&self.expand(&set.name)).to_ascii_lowercase();
            let now = || operator::number(self.variables.get(&name).map(Vec::as_slice).unwrap_or_default());
            match &set.change {
                Change::Unset => {
                    if !self.fixed.iter().any(|(fixed, _)| *fixed == name) {
                        self.variables.remove(&name);
                    }
                }
                Change::Set(value) => self.store(&name, self.expand(value)),
                Change::Add(value) => {
                    let sum = now().saturating_add(operator::number(&self.expand(value)));
                    self.store(&name, sum.to_string().into_bytes());
                }
                Change::Subtract(value) => {
                    let sum = now().saturating_sub(operator::number(&self.expand(value)));
                    self.store(&name, sum.to_string().into_bytes());
                }
            }
        }
        for control in &link.controls {
            match control {
                Control::Engine { runs, refuses } => (self.runs, self.refuses) = (*runs, *refuses),
                Control::Processor(name) => self.processor.clone_from(name),
                Control::RemoveRules(set) => self.removed.push(set),
                Control::RemoveTarget(set, variable, member) => {
                    self.removed_targets.push((set, *variable, member.as_deref()));
                }
            }
        }
    }

    fn store(&mut self, name: &str, mut value: Vec<u8>) {
        let is_fixed = self.fixed.iter().any(|(fixed, _)| *fixed == name);
        if is_fixed || self.variables.len() >= MOST_VARIABLES && !self.variables.contains_key(name) {
            return;
        }
        value.truncate(LONGEST_VARIABLE);
        self.variables.insert(name.to_owned(), value);
    }

    /// The text of a template.
    fn expand(&self, template: &Template) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &template.0 {
            match part {
                MacroPart::Text(text) => out.extend(text.bytes()),
                MacroPart::Value(variable, member) => out.extend_from_slice(&self.value(*variable, member.as_deref())),
            }
            out.truncate(LONGEST_VARIABLE);
        }
        out
    }

    fn value(&self, variable: Variable, member: Option<&str>) -> Cow<'_, [u8]> {
        match (variable, member) {
            (Variable::Tx, Some(name)) => {
                Cow::Borrowed(self.variables.get(name).map(Vec::as_slice).unwrap_or_default())
            }
            (Variable::MatchedVar, _) => Cow::Borrowed(&self.matched.value),
            (Variable::MatchedVarName, _) => Cow::Borrowed(&self.matched.name),
            (_, member) => {
                let fits = |key: &[u8]| member.is_none_or(|member| key.eq_ignore_ascii_case(member.as_bytes()));
                let found = self.items.of(variable).find(|(_, item)| fits(&item.key));
                Cow::Borrowed(found.map(|(_, item)| &*item.value).unwrap_or_default())
            }
        }
    }
}
