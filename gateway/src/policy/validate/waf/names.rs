//! Which rules and tags there are. Exceptions are held against them, as a misspelled one leaves out nothing.

use std::collections::BTreeSet;

use super::{builtin, patterns, seclang::CompiledRules};
use crate::{
    config::value::closest,
    diagnostic::Diagnostic,
    settings::waf::{self, RuleMatch},
};

/// What is found whichever rules apply.
const ALWAYS: [&str; 2] = ["too_many_values", "unreadable_body"];

/// The names of one table.
struct Names<'a> {
    rules: BTreeSet<&'a str>,
    numbers: BTreeSet<u32>,
    tags: BTreeSet<&'a str>,
}

/// Every exception for a rule that there is not.
pub(super) fn judge(settings: &waf::Settings, compiled: Option<&CompiledRules>) -> Vec<Diagnostic> {
    if settings.exclude.is_empty() {
        return Vec::new();
    }
    let names = Names::of(settings, compiled);
    let all = settings.exclude.iter().enumerate().flat_map(|(at, exclusion)| {
        let rules = exclusion.rules.iter().enumerate();
        rules.map(move |(index, rule)| (format!("exclude[{at}].rules[{index}]"), rule))
    });
    all.filter_map(|(key, rule)| Some(names.miss(rule)?.at(key))).collect()
}

impl<'a> Names<'a> {
    fn of(settings: &waf::Settings, compiled: Option<&'a CompiledRules>) -> Self {
        let mut names =
            Self { rules: ALWAYS.into(), numbers: BTreeSet::new(), tags: BTreeSet::from(["attack-protocol"]) };
        if settings.has_builtin {
            names.rules.extend(builtin::rule_names().map(|name| -> &'a str { name }));
            names.tags.extend(["sqli", "xss"].into_iter().chain(patterns::all().map(|pattern| pattern.tag)));
        }
        if let Some(compiled) = compiled {
            names.numbers.extend(&compiled.numbers);
            names.tags.extend(compiled.tags.iter().map(String::as_str));
        }
        names
    }

    /// What is wrong with the rules that an exception names, if something is.
    fn miss(&self, rule: &RuleMatch) -> Option<Diagnostic> {
        match rule {
            RuleMatch::All => None,
            RuleMatch::Name(name) => match name.parse::<u32>() {
                Ok(number) => {
                    (!self.numbers.contains(&number)).then(|| self.no_number(&format!("the number {number}"), number))
                }
                Err(_) => (!self.rules.contains(&**name)).then(|| {
                    let wrong = Diagnostic::bare(format!("there is no rule {name:?}"));
                    match closest(name, self.rules.iter().copied()) {
                        Some(near) => wrong.hint(format!("did you mean {near:?}?")),
                        None => wrong.hint("`gateway waf rules` lists the built-in rules; those of files have numbers"),
                    }
                }),
            },
            RuleMatch::Range(first, last) => {
                let is_there = self.numbers.range(first..=last).next().is_some();
                (!is_there).then(|| self.no_number(&format!("a number from {first} to {last}"), *first))
            }
            RuleMatch::Tag(tag) => {
                let is_there = self.tags.iter().any(|known| short(known) == short(tag));
                (!is_there).then(|| {
                    let wrong = Diagnostic::bare(format!("no rule has the tag {tag:?}"));
                    match closest(short(tag), self.tags.iter().map(|known| short(known))) {
                        Some(near) => wrong.hint(format!("did you mean \"tag:attack-{near}\"?")),
                        None => wrong.hint("docs/waf.md lists the tags of the built-in rules"),
                    }
                })
            }
        }
    }

    fn no_number(&self, shown: &str, number: u32) -> Diagnostic {
        let wrong = Diagnostic::bare(format!("no rule has {shown}"));
        match self.numbers.iter().min_by_key(|known| known.abs_diff(number)) {
            Some(near) => wrong.hint(format!("the nearest is {near}")),
            None => wrong.hint("only the rules of files have numbers: name files in `rules`, or a built-in rule"),
        }
    }
}

fn short(tag: &str) -> &str {
    tag.strip_prefix("attack-").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{
        os::file::NamedFile,
        policy::validate::waf::WafRules,
        settings::waf::{Exclusion, WafMode},
    };

    fn settings(has_builtin: bool, file: Option<&str>, rules: Vec<RuleMatch>) -> waf::Settings {
        let path = PathBuf::from("/r/a.conf");
        waf::Settings {
            name: "test".to_owned(),
            mode: WafMode::Enforce,
            has_builtin,
            roots: file.iter().map(|_| path.clone()).collect(),
            files: file.iter().map(|text| NamedFile { path: path.clone(), bytes: text.as_bytes().into() }).collect(),
            threshold: 5,
            paranoia: 1,
            inspect_body: None,
            exclude: vec![Exclusion { rules, parameters: Vec::new(), routes: Vec::new() }],
        }
    }

    const FILE: &str = "SecRule ARGS \"@rx a\" \"id:100,phase:2,deny,tag:'attack-sqli',tag:'mine'\"\n\
        SecRule ARGS \"@rx a\" \"id:200,phase:4,deny\"\n";

    #[track_caller]
    fn check(has_builtin: bool, file: Option<&str>, rule: RuleMatch, expect: &[&str]) {
        let shown = format!("{rule:?}");
        let faults = WafRules::new(&settings(has_builtin, file, vec![rule]), None).err().unwrap_or_default();
        let told: Vec<String> =
            faults.iter().map(|it| format!("{it}; {}", it.hint.as_deref().unwrap_or_default())).collect();
        let expect: Vec<String> = expect.iter().map(|text| format!("exclude[0].rules[0]: {text}")).collect();
        assert_eq!(told, expect, "{shown}");
    }

    #[test]
    fn exceptions_name_rules_that_there_are() {
        let name = |name: &str| RuleMatch::Name(name.to_owned());
        let tag = |tag: &str| RuleMatch::Tag(tag.to_owned());
        for rule in [name("xss"), name("unreadable_body"), tag("attack-sqli"), tag("xss"), RuleMatch::All] {
            check(true, None, rule, &[]);
        }
        for rule in [name("100"), name("200"), RuleMatch::Range(90, 150), tag("mine"), tag("sqli")] {
            check(false, Some(FILE), rule, &[]);
        }
        let none = "only the rules of files have numbers: name files in `rules`, or a built-in rule";
        let list = "`gateway waf rules` lists the built-in rules; those of files have numbers";
        for (has_builtin, file, rule, told) in [
            (true, None, name("sql_injektion"), "there is no rule \"sql_injektion\"; did you mean \"sql_injection\"?"),
            (true, None, name("zzz"), &format!("there is no rule \"zzz\"; {list}")),
            (true, None, name("942100"), &format!("no rule has the number 942100; {none}")),
            (true, None, RuleMatch::Range(1, 9), &format!("no rule has a number from 1 to 9; {none}")),
            (true, None, tag("attack-sqly"), "no rule has the tag \"attack-sqly\"; did you mean \"tag:attack-sqli\"?"),
            (true, Some(FILE), name("101"), "no rule has the number 101; the nearest is 100"),
            (false, Some(FILE), RuleMatch::Range(101, 199), "no rule has a number from 101 to 199; the nearest is 100"),
            (false, Some(FILE), name("xss"), &format!("there is no rule \"xss\"; {list}")),
        ] {
            check(has_builtin, file, rule, &[told]);
        }
    }

    #[test]
    fn files_without_a_rule_that_refuses_are_no_firewall() {
        let without = "no rule in these files can refuse a request";
        let torn = "SecRule ARGS \"@rx a\" \\\n";
        for (has_builtin, file, expect, warns) in [
            (false, FILE, None, false),
            (false, "", Some(without), false),
            (false, "# SecRule\n", Some(without), false),
            (false, "SecRule ARGS \"@rx a\" \"id:1,phase:2,pass\"\n", Some(without), false),
            (false, "SecRule ARGS \"@rx a\" \"id:1,phase:4,deny\"\n", Some(without), false),
            (false, "SecRule ARGS \"@rbl a\" \"id:1,phase:2,deny\"\n", Some(without), false),
            (false, "SecAction \"id:1,phase:2,deny\"\nSecRuleRemoveById 1\n", Some(without), false),
            (false, "SecDefaultAction \"phase:2,deny\"\nSecRule ARGS \"a\" \"id:1,phase:2,block\"\n", None, false),
            (false, torn, Some("the last line ends with a backslash"), false),
            (true, torn, Some("the last line ends with a backslash"), false),
            (true, "", None, true),
            (true, FILE, None, false),
        ] {
            let rules = WafRules::new(&settings(has_builtin, Some(file), vec![RuleMatch::All]), None);
            let told = rules.as_ref().err().map(|faults| faults.iter().map(ToString::to_string).collect::<String>());
            match (&told, expect) {
                (None, None) => {}
                (Some(told), Some(expect)) => assert!(told.contains(expect), "{file:?}: {told}"),
                _ => panic!("{file:?}: {told:?}"),
            }
            let warned = rules.is_ok_and(|rules| rules.warnings().iter().any(|one| one.contains(without)));
            assert_eq!(warned, warns, "{file:?}");
        }
    }

    #[test]
    fn far_fewer_rules_than_before_are_told() {
        let file = |count: usize| -> String {
            (1..=count).map(|id| format!("SecAction \"id:{id},phase:2,deny\"\n")).collect()
        };
        let rules = |count: usize, before: Option<&WafRules>| {
            WafRules::new(&settings(false, Some(&file(count)), vec![RuleMatch::All]), before).unwrap()
        };
        let before = rules(10, None);
        assert_eq!(before.fewer(), None);
        for (count, is_told) in [(10, false), (12, false), (6, false), (4, true)] {
            assert_eq!(rules(count, Some(&before)).fewer().is_some(), is_told, "{count}");
        }
        let fewer = rules(4, Some(&before));
        assert_eq!(rules(4, Some(&fewer)).fewer(), None, "once");
    }
}
