//! Reads the actions of a rule.

use super::{
    lines,
    macros::Template,
    rule::{Allowed, ChainedRule, Change, Control, Disruptive, RuleSet, SecRule, SetVar},
    targets::Variable,
    transform::Transform,
};
use crate::text::digits::decimal;

/// What the actions of one directive say.
#[derive(Debug, Default)]
pub(super) struct RuleActions {
    pub(super) rule: SecRule,
    pub(super) link: ChainedRule,
    pub(super) phase: Option<u8>,
    pub(super) disruptive: Option<Disruptive>,
    pub(super) is_chained: bool,
    /// It says `t:none`: no transformation of the defaults applies.
    pub(super) is_reset: bool,
    pub(super) is_logged: Option<bool>,
    /// What has no effect here, and is worth a warning.
    pub(super) ignored: Vec<String>,
}

/// Those that say something about logs, or about rules for people.
const WITHOUT_EFFECT: [&str; 15] = [
    "accuracy",
    "auditlog",
    "expirevar",
    "deprecatevar",
    "logdata",
    "maturity",
    "noauditlog",
    "rev",
    "sanitisearg",
    "sanitisematched",
    "sanitisematchedbytes",
    "sanitiserequestheader",
    "status",
    "ver",
    "xmlns",
];

/// Reads the last argument of a rule.
///
/// # Errors
/// An action that is wrong, or that is not supported.
pub(super) fn actions(text: &str) -> Result<RuleActions, String> {
    let mut actions = RuleActions::default();
    for part in lines::actions(text) {
        let (name, value) = part.split_once(':').map_or((part.as_str(), ""), |(name, value)| (name, value));
        let value = value.trim().trim_matches('\'');
        one(&mut actions, &name.trim().to_ascii_lowercase(), value)?;
    }
    Ok(actions)
}

fn one(actions: &mut RuleActions, name: &str, value: &str) -> Result<(), String> {
    let number = |text: &str| decimal::<u32>(text).ok_or_else(|| format!("{name}:{text} is no number"));
    match name {
        "id" => {
            actions.rule.id = number(value)?;
            actions.rule.name = actions.rule.id.to_string();
        }
        "phase" => {
            actions.phase = Some(match value {
                "request" => 2,
                "response" => 4,
                "logging" => 5,
                _ => decimal(value).filter(|phase| (1..=5).contains(phase)).ok_or(format!("phase:{value} is none"))?,
            });
        }
        "msg" => actions.rule.message = Template::new(value),
        "tag" => actions.rule.tags.push(value.to_owned()),
        "severity" => actions.rule.score = score(value).ok_or_else(|| format!("severity:{value} is none"))?,
        "log" => actions.is_logged = Some(true),
        "nolog" => actions.is_logged = Some(false),
        "chain" => actions.is_chained = true,
        "capture" => actions.link.captures = true,
        "multimatch" => actions.link.is_multi_match = true,
        "skip" => actions.rule.skip = usize::try_from(number(value)?).unwrap_or(0),
        "skipafter" => actions.rule.skip_after = Some(value.to_owned()),
        "t" if value.eq_ignore_ascii_case("none") => {
            actions.link.transforms.clear();
            actions.is_reset = true;
        }
        "t" => {
            let transform =
                Transform::named(value).ok_or_else(|| format!("the transformation t:{value} is not supported"))?;
            actions.link.transforms.push(transform);
        }
        "setvar" => match set_variable(value)? {
            Some(set) => actions.link.sets.push(set),
            None => actions.ignored.push(format!("setvar:{value} (only tx outlives no request here)")),
        },
        "ctl" => control(value, actions)?,
        "block" => actions.disruptive = Some(Disruptive::Block),
        "deny" | "drop" => actions.disruptive = Some(Disruptive::Deny),
        "pass" => actions.disruptive = Some(Disruptive::Pass),
        "allow" => {
            let how = if value == "phase" { Allowed::Phase } else { Allowed::Everything };
            actions.disruptive = Some(Disruptive::Allow(how));
        }
        "initcol" | "setsid" | "setuid" | "setenv" | "setrsc" => actions.ignored.push(format!("{name}:{value}")),
        _ if WITHOUT_EFFECT.contains(&name) => {}
        _ => return Err(format!("the action {name} is not supported")),
    }
    Ok(())
}

/// What a match counts, as the Core Rule Set has it.
fn score(severity: &str) -> Option<u32> {
    Some(match &*severity.to_ascii_uppercase() {
        "EMERGENCY" | "ALERT" | "CRITICAL" | "0" | "1" | "2" => 5,
        "ERROR" | "3" => 4,
        "WARNING" | "4" => 3,
        "NOTICE" | "5" => 2,
        "INFO" | "DEBUG" | "6" | "7" => 0,
        _ => return None,
    })
}

/// `tx.name=value`, `tx.name=+1`, `!tx.name`. `None`: of a collection that nobody keeps here.
fn set_variable(text: &str) -> Result<Option<SetVar>, String> {
    let (is_unset, rest) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
    let (collection, rest) = rest.split_once('.').ok_or_else(|| format!("setvar:{text} names no variable"))?;
    let (name, value) = rest.split_once('=').map_or((rest, None), |(name, value)| (name, Some(value)));
    if !collection.eq_ignore_ascii_case("tx") {
        return match Variable::named(collection) {
            Some(Variable::Empty) => Ok(None),
            _ => Err(format!("setvar:{text} sets a variable of {collection}, which is not supported")),
        };
    }
    let change = match value {
        _ if is_unset => Change::Unset,
        None => Change::Set(Template::new("1")),
        Some(value) => match value.as_bytes().first() {
            Some(b'+') => Change::Add(Template::new(value.get(1..).unwrap_or_default())),
            Some(b'-') => Change::Subtract(Template::new(value.get(1..).unwrap_or_default())),
            _ => Change::Set(Template::new(value)),
        },
    };
    Ok(Some(SetVar { name: Template::new(name.trim()), change }))
}

fn control(text: &str, actions: &mut RuleActions) -> Result<(), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("ctl:{text} says nothing"))?;
    let controls = &mut actions.link.controls;
    let wrong = || format!("ctl:{text} cannot be read");
    let target = |value: &str| -> Result<(String, Variable, Option<String>), String> {
        let (rules, target) = value.split_once(';').ok_or_else(wrong)?;
        let (variable, member) = target.split_once(':').map_or((target, None), |(name, member)| (name, Some(member)));
        let variable = Variable::named(variable.trim()).ok_or_else(wrong)?;
        Ok((rules.to_owned(), variable, member.map(str::to_ascii_lowercase)))
    };
    match &*name.to_ascii_lowercase() {
        "ruleengine" => controls.push(match &*value.to_ascii_lowercase() {
            "on" => Control::Engine { runs: true, refuses: true },
            "off" => Control::Engine { runs: false, refuses: false },
            "detectiononly" => Control::Engine { runs: true, refuses: false },
            _ => return Err(wrong()),
        }),
        "requestbodyprocessor" => controls.push(Control::Processor(value.to_ascii_uppercase())),
        "ruleremovebyid" => {
            let sets = RuleSet::ids(value).ok_or_else(wrong)?;
            controls.extend(sets.into_iter().map(Control::RemoveRules));
        }
        "ruleremovebytag" => controls.push(Control::RemoveRules(RuleSet::Tag(value.to_owned()))),
        "ruleremovebymsg" => controls.push(Control::RemoveRules(RuleSet::Message(value.to_owned()))),
        "ruleremovetargetbyid" => {
            let (rules, variable, member) = target(value)?;
            for set in RuleSet::ids(&rules).ok_or_else(wrong)? {
                controls.push(Control::RemoveTarget(set, variable, member.clone()));
            }
        }
        "ruleremovetargetbytag" => {
            let (tag, variable, member) = target(value)?;
            controls.push(Control::RemoveTarget(RuleSet::Tag(tag), variable, member));
        }
        // Bodies are read where `inspect_body` says so; logs are the gateway's own.
        "auditengine"
        | "auditlogparts"
        | "debugloglevel"
        | "forcerequestbodyvariable"
        | "requestbodyaccess"
        | "responsebodyaccess" => {}
        _ => return Err(format!("ctl:{name} is not supported")),
    }
    Ok(())
}
