//! Compiles files in SecLang: directives become the rules of two phases, the head and the body of a request.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use super::{
    actions::{RuleActions, actions},
    files::RuleFiles,
    lines::{Directive, directives},
    operator,
    rule::{Disruptive, RuleSet, SecRule, Step},
    targets,
    transform::Transform,
};
use crate::{os::file::NamedFile, text::counted::counted};

/// The most rules.
const MOST_RULES: usize = 20_000;

/// How deep files may include one another.
const DEEPEST: usize = 8;

/// A compiled rule set.
#[derive(Debug, Default)]
pub(in crate::policy::validate::waf) struct CompiledRules {
    /// Of phase 1, then of phase 2.
    pub(super) phases: [Vec<Step>; 2],
    /// What was read and does nothing.
    pub(in crate::policy::validate::waf) warnings: Vec<String>,
    /// How many rules run, and how many of them can refuse a request.
    pub(in crate::policy::validate::waf) rules: usize,
    pub(in crate::policy::validate::waf) refusing: usize,
    /// Whether a rule names `FULL_REQUEST`. It is a copy of the whole request, so nobody else pays for it.
    pub(super) reads_full_request: bool,
    /// The numbers and tags of all rules, also of those that do not run.
    pub(in crate::policy::validate::waf) numbers: BTreeSet<u32>,
    pub(in crate::policy::validate::waf) tags: BTreeSet<String>,
}

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::policy::validate::waf) struct RuleFileError {
    pub(in crate::policy::validate::waf) path: PathBuf,
    pub(in crate::policy::validate::waf) line: usize,
    pub(in crate::policy::validate::waf) message: String,
}

/// Directives that say how another engine logs, or keeps bodies and state: `[waf.NAME]` says it here.
const WITHOUT_EFFECT: [&str; 41] = [
    "secargumentseparator",
    "secargumentslimit",
    "secauditengine",
    "secauditlog",
    "secauditlog2",
    "secauditlogdirmode",
    "secauditlogfilemode",
    "secauditlogformat",
    "secauditlogparts",
    "secauditlogrelevantstatus",
    "secauditlogstoragedir",
    "secauditlogtype",
    "seccollectiontimeout",
    "seccomponentsignature",
    "seccookieformat",
    "secdatadir",
    "secdebuglog",
    "secdebugloglevel",
    "secgeolookupdb",
    "secpcrematchlimit",
    "secpcrematchlimitrecursion",
    "secrequestbodyaccess",
    "secrequestbodyinmemorylimit",
    "secrequestbodyjsondepthlimit",
    "secrequestbodylimit",
    "secrequestbodylimitaction",
    "secrequestbodynofileslimit",
    "secresponsebodyaccess",
    "secresponsebodylimit",
    "secresponsebodylimitaction",
    "secresponsebodymimetype",
    "secruleengine",
    "secstatusengine",
    "sectmpdir",
    "sectmpsaveuploadedfiles",
    "secunicodemapfile",
    "secuploaddir",
    "secuploadfilelimit",
    "secuploadfilemode",
    "secuploadkeepfiles",
    "secxmlexternalentity",
];

/// Compiles the files that `roots` name, each a path whose last part may have a `*`.
pub(in crate::policy::validate::waf) fn compile(
    roots: &[PathBuf],
    files: &[NamedFile],
) -> Result<CompiledRules, Vec<RuleFileError>> {
    let mut compiler = Compiler::new(files);
    for root in roots {
        compiler.include(root, 0);
    }
    compiler.finish()
}

struct Compiler<'a> {
    files: RuleFiles<'a>,
    compiled: CompiledRules,
    wrong: Vec<RuleFileError>,
    /// By phase: what rules do that say nothing, and how they read values.
    defaults: HashMap<u8, (Disruptive, Vec<Transform>)>,
    /// A rule whose chain goes on.
    open: Option<(Box<SecRule>, u8)>,
    chains: HashMap<Vec<Transform>, usize>,
    removed: Vec<RuleSet>,
    updates: Vec<(RuleSet, String)>,
    ids: HashMap<u32, usize>,
    /// Rules whose patterns need an engine that goes back.
    bounded: Vec<u32>,
    /// How many rules look at responses (phases 3 and 4), by file: they do not run.
    of_responses: BTreeMap<String, usize>,
    /// How many are for logs (phase 5), which do not run either.
    of_logs: usize,
    path: PathBuf,
    line: usize,
}

impl<'a> Compiler<'a> {
    fn new(files: &'a [NamedFile]) -> Self {
        Self {
            files: RuleFiles(files),
            compiled: CompiledRules::default(),
            wrong: Vec::new(),
            defaults: HashMap::new(),
            open: None,
            chains: HashMap::from([(Vec::new(), 0)]),
            removed: Vec::new(),
            updates: Vec::new(),
            ids: HashMap::new(),
            bounded: Vec::new(),
            of_responses: BTreeMap::new(),
            of_logs: 0,
            path: PathBuf::new(),
            line: 0,
        }
    }

    fn report(&mut self, message: String) {
        self.wrong.push(RuleFileError { path: self.path.clone(), line: self.line, message });
    }

    fn include(&mut self, pattern: &Path, depth: usize) {
        let named = self.files.named(pattern);
        if named.is_empty() {
            return self.report(format!("no file is {}", pattern.display()));
        }
        if depth > DEEPEST {
            return self.report("files include one another".to_owned());
        }
        for path in named {
            let Some(text) = self.files.text(path) else { continue };
            let before = (std::mem::replace(&mut self.path, path.to_owned()), self.line);
            match directives(&text) {
                Ok(directives) => directives.into_iter().for_each(|directive| self.directive(directive, depth)),
                Err((line, message)) => {
                    self.line = line;
                    self.report(message);
                }
            }
            (self.path, self.line) = before;
        }
    }

    fn directive(&mut self, directive: Directive, depth: usize) {
        self.line = directive.line;
        let Directive { name, arguments, .. } = directive;
        self.compiled.reads_full_request |=
            arguments.iter().any(|argument| argument.to_ascii_uppercase().contains("FULL_REQUEST"));
        let argument = |index: usize| arguments.get(index).map(String::as_str);
        let first = argument(0).unwrap_or_default();
        let read = match &*name.to_ascii_lowercase() {
            "secrule" => match (argument(0), argument(1)) {
                (Some(variables), Some(operator)) => self.rule(Some((variables, operator)), argument(2).unwrap_or("")),
                _ => Err("SecRule has no operator".to_owned()),
            },
            "secaction" => self.rule(None, first),
            "secmarker" => {
                let marker = first.trim_matches('\'');
                self.compiled.phases.iter_mut().for_each(|phase| phase.push(Step::Marker(marker.to_owned())));
                Ok(())
            }
            "secdefaultaction" => actions(first).map(|actions| {
                let disruptive = actions.disruptive.unwrap_or_default();
                self.defaults.insert(actions.phase.unwrap_or(2), (disruptive, actions.link.transforms));
            }),
            "include" | "includeoptional" => {
                let folder = self.path.parent().unwrap_or(Path::new("")).to_owned();
                let pattern = folder.join(first);
                if name.eq_ignore_ascii_case("include") || !self.files.named(&pattern).is_empty() {
                    self.include(&pattern, depth + 1);
                }
                Ok(())
            }
            "secruleremovebyid" => match RuleSet::ids(&arguments.join(" ")) {
                Some(sets) => {
                    self.removed.extend(sets);
                    Ok(())
                }
                None => Err(format!("{first} is no number of a rule")),
            },
            "secruleremovebytag" => {
                self.removed.push(RuleSet::Tag(first.to_owned()));
                Ok(())
            }
            "secruleremovebymsg" => {
                self.removed.push(RuleSet::Message(first.to_owned()));
                Ok(())
            }
            "secruleupdatetargetbyid" => self.update(RuleSet::ids(first), argument(1)),
            "secruleupdatetargetbytag" => self.update(Some(vec![RuleSet::Tag(first.to_owned())]), argument(1)),
            "secruleupdatetargetbymsg" => self.update(Some(vec![RuleSet::Message(first.to_owned())]), argument(1)),
            known if WITHOUT_EFFECT.contains(&known) => Ok(()),
            _ => Err(format!("the directive {name} is not supported")),
        };
        if let Err(message) = read {
            self.report(message);
        }
    }

    fn update(&mut self, rules: Option<Vec<RuleSet>>, text: Option<&str>) -> Result<(), String> {
        let rules = rules.ok_or("no number of a rule")?;
        let text = text.ok_or("no variables")?;
        targets::targets(text)?;
        self.updates.extend(rules.into_iter().map(|rule| (rule, text.to_owned())));
        Ok(())
    }

    /// A rule, or a link of one whose chain goes on.
    fn rule(&mut self, looks: Option<(&str, &str)>, text: &str) -> Result<(), String> {
        let open = self.open.take();
        let RuleActions { mut rule, mut link, phase, disruptive, is_chained, is_reset, is_logged, ignored } =
            actions(text)?;
        let phase = open.as_ref().map_or_else(|| phase.unwrap_or(2), |(_, phase)| *phase);
        let default = self.defaults.get(&phase);
        if !is_reset && let Some((_, transforms)) = default {
            link.transforms.splice(0..0, transforms.iter().copied());
        }
        let id = open.as_ref().map_or(rule.id, |(rule, _)| rule.id);
        self.compiled.numbers.extend(open.is_none().then_some(id));
        self.compiled.tags.extend(rule.tags.iter().cloned());
        if !matches!(phase, 1 | 2) {
            match phase {
                _ if open.is_some() => {}
                5 => self.of_logs += 1,
                _ => {
                    let file = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    *self.of_responses.entry(file).or_default() += 1;
                }
            }
            if is_chained {
                self.open = Some((open.map_or_else(|| Box::new(rule), |(rule, _)| rule), phase));
            }
            return Ok(());
        }
        let mut is_unsupported = None;
        if let Some((variables, operator)) = looks {
            link.targets = targets::targets(variables)?;
            let folder = self.path.parent().unwrap_or(Path::new("")).to_owned();
            let text = operator;
            match operator::operator(text, &self.files, &folder) {
                Ok(operator) => {
                    if matches!(&operator.kind, operator::Kind::Rx(pattern) if !pattern.is_linear()) {
                        self.bounded.push(id);
                    }
                    if matches!(operator.kind, operator::Kind::Never) && !text.to_ascii_lowercase().contains("@nomatch")
                    {
                        let never = if operator.is_negated { "always matches" } else { "never matches" };
                        self.compiled.warnings.push(format!("rule {id} {never}: its list is empty"));
                    }
                    link.operator = Some(operator);
                }
                // The Core Rule Set has a few rules that ask other servers. They never match.
                Err(message) if message.ends_with("is not supported") => is_unsupported = Some(message),
                Err(message) => return Err(format!("rule {id}: {message}")),
            }
        }
        if let Some(message) = is_unsupported {
            self.compiled.warnings.push(format!("rule {id} never matches: {message}"));
            link.operator = Some(operator::RuleOperator { is_negated: false, kind: operator::Kind::Never });
        }
        for what in ignored {
            self.compiled.warnings.push(format!("rule {id}: {what} has no effect"));
        }
        let next = self.chains.len();
        link.chain = *self.chains.entry(link.transforms.clone()).or_insert(next);
        let rule = match open {
            Some((mut rule, _)) => {
                rule.links.push(link);
                rule
            }
            None => {
                if rule.id == 0 {
                    return Err("a rule has no id".to_owned());
                }
                if let Some(before) = self.ids.insert(rule.id, self.line) {
                    return Err(format!("rule {id} is there twice, first in line {before}"));
                }
                let own = disruptive.unwrap_or(Disruptive::Block);
                let of_phase = default.map(|(disruptive, _)| *disruptive).unwrap_or_default();
                rule.disruptive = if own == Disruptive::Block { of_phase } else { own };
                rule.is_logged = is_logged.unwrap_or(looks.is_some());
                rule.links.push(link);
                Box::new(rule)
            }
        };
        if is_chained {
            self.open = Some((rule, phase));
        } else if let Some(steps) = self.compiled.phases.get_mut(usize::from(phase - 1)) {
            steps.push(Step::Rule(rule));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<CompiledRules, Vec<RuleFileError>> {
        if self.open.is_some() {
            self.report("a chain has no last rule".to_owned());
        }
        if self.ids.len() > MOST_RULES {
            self.report(format!("there are more than {MOST_RULES} rules"));
        }
        if !self.wrong.is_empty() {
            return Err(self.wrong);
        }
        for steps in &mut self.compiled.phases {
            let is_removed = |rule: &SecRule| self.removed.iter().any(|set| set.has(rule));
            steps.retain(|step| !matches!(step, Step::Rule(rule) if is_removed(rule)));
        }
        let rules = self.compiled.phases.iter_mut().flatten().filter_map(|step| match step {
            Step::Rule(rule) => Some(rule),
            Step::Marker(_) => None,
        });
        for rule in rules {
            let texts: Vec<&String> =
                self.updates.iter().filter(|(set, _)| set.has(rule)).map(|(_, text)| text).collect();
            for text in texts {
                // It was read before.
                let more = targets::targets(text).unwrap_or_default();
                if let Some(link) = rule.links.first_mut() {
                    link.targets.extend(more);
                }
            }
        }
        self.count();
        if !self.bounded.is_empty() {
            let ids: Vec<String> = self.bounded.iter().map(ToString::to_string).collect();
            let message = "have a pattern with lookarounds or backreferences, which looks at 2 KiB in 20,000 steps";
            self.compiled.warnings.push(format!("rules {} {message}", ids.join(", ")));
        }
        if !self.of_responses.is_empty() {
            let files = self.of_responses.iter().map(|(file, count)| format!("{file} ({count})"));
            let files = files.collect::<Vec<_>>().join(", ");
            self.compiled.warnings.push(format!("rules for responses (phases 3 and 4) do not run: {files}"));
        }
        if self.of_logs > 0 {
            self.compiled.warnings.push(counted(
                self.of_logs,
                "rule for logs (phase 5) does not run",
                "rules for logs (phase 5) do not run",
            ));
        }
        Ok(self.compiled)
    }

    /// Counts the rules that run, and tells those that look at what never has a value.
    fn count(&mut self) {
        let CompiledRules { phases, rules, refusing, warnings, .. } = &mut self.compiled;
        // By what has no value, the phase, and whether another variable has one.
        let mut blind: BTreeMap<(String, usize, bool), Vec<String>> = BTreeMap::new();
        for (steps, phase) in phases.iter().zip(1..) {
            for step in steps {
                let Step::Rule(rule) = step else { continue };
                *rules += 1;
                *refusing += usize::from(rule.can_refuse(phase));
                let without: Vec<&str> = rule.without_value(phase).into_iter().collect();
                if !without.is_empty() {
                    let can_match = rule.links.iter().all(|link| link.sees_value(phase));
                    let ids = blind.entry((without.join(", "), phase, can_match)).or_default();
                    ids.push(rule.name.clone());
                }
            }
        }
        for ((names, phase, can_match), ids) in blind {
            let (rules, never) = match ids.len() {
                1 => ("rule", " never matches"),
                _ => ("rules", " never match"),
            };
            let never = if can_match { "" } else { never };
            let have = if names.contains(", ") { "have" } else { "has" };
            let ids = ids.join(", ");
            warnings.push(format!("{rules} {ids}{never}: {names} {have} no value in phase {phase}"));
        }
    }
}
