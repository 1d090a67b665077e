//! What of a contract protects its API, and what of that another version of the document takes away: a file that was
//! written half is often a good document that asks for less.
//!
//! *Invariant:* pure. It errs on the side of telling: whoever means the change reloads.

use std::collections::BTreeMap;

use super::{
    Contract,
    operation::Operation,
    security::{Known, SecurityRule},
};
use crate::{
    validate::body::{Content, media::MediaRange},
    violation::RequestPart,
};

/// What of a contract protects its API.
#[derive(Debug, Default)]
pub struct Outline {
    /// By method, path and what else tells operations apart.
    operations: BTreeMap<String, OperationOutline>,
    schemes: Known,
}

/// What one operation asks for.
#[derive(Debug)]
struct OperationOutline {
    name: Box<str>,
    rule: SecurityRule,
    /// The parameters that are judged. Those of the path have no names, but places.
    parameters: Vec<(RequestPart, Box<str>)>,
    refuses_unknown: bool,
    limits: Vec<Box<str>>,
    /// The media types of its bodies, and whether they are judged.
    bodies: Vec<(MediaRange, bool)>,
}

impl Contract {
    /// What of it protects the API.
    #[must_use]
    pub fn outline(&self) -> Outline {
        let mut operations = BTreeMap::new();
        for template in &self.templates {
            for (method, number, names) in &template.operations {
                let Some(operation) = self.operations.get(*number) else { continue };
                let Some(rule) = self.rules.get(operation.rule) else { continue };
                let key = format!("{method} {} {:?}", template.path, operation.conditions);
                operations.insert(key, self.asked(operation, rule, names));
            }
        }
        Outline { operations, schemes: self.schemes.known().clone() }
    }

    fn asked(&self, operation: &Operation, rule: &SecurityRule, names: &[Box<str>]) -> OperationOutline {
        let judged = operation.parameters.all.iter().filter(|it| it.schema.is_some_and(|it| self.schemas.checks(it)));
        let parameters = judged.filter_map(|it| match it.part {
            RequestPart::Path => {
                let place = names.iter().position(|name| *name == it.name)?;
                Some((it.part, (place + 1).to_string().into()))
            }
            part => Some((part, it.name.clone())),
        });
        let bodies = operation.body.contents.iter().map(|(range, content)| {
            let is_judged = match content {
                Content::Opaque | Content::Json(None) => false,
                Content::Unsupported => true,
                Content::Json(Some(schema))
                | Content::JsonLines(schema)
                | Content::Text(schema)
                | Content::Form { schema, .. }
                | Content::Multipart { schema, .. } => self.schemas.checks(*schema),
            };
            (range.clone(), is_judged)
        });
        OperationOutline {
            name: operation.name.clone(),
            rule: rule.clone(),
            parameters: parameters.collect(),
            refuses_unknown: operation.parameters.refuses_unknown,
            limits: operation.limits.iter().map(|limit| limit.name.clone()).collect(),
            bodies: bodies.collect(),
        }
    }
}

impl Outline {
    /// What `new` takes away, a sentence each. `is_followed`: whether the document says who is let through.
    #[must_use]
    pub fn losses(&self, new: &Self, is_followed: bool) -> Vec<String> {
        let mut losses = Vec::new();
        for (name, scheme) in self.schemes.iter().filter(|_| is_followed) {
            if new.schemes.get(name).is_some_and(|other| other != scheme) {
                losses.push(format!("the security scheme {name:?} is another one"));
            }
        }
        for (key, old) in &self.operations {
            let name = &old.name;
            let Some(new) = new.operations.get(key) else {
                losses.push(format!("{name} is not declared any more"));
                continue;
            };
            if is_followed {
                losses.extend(new.rule.loss(&old.rule).map(|loss| format!("{name} {loss}")));
            }
            let lost = old.limits.iter().filter(|limit| !new.limits.contains(limit));
            losses.extend(lost.map(|limit| format!("{name} is not counted by limit.{limit} any more")));
            losses.extend(old.unjudged(new).map(|what| format!("{name}: not judged any more: {what}")));
        }
        losses
    }
}

impl OperationOutline {
    /// What is judged here, and passes there as it comes.
    fn unjudged(&self, new: &Self) -> Option<String> {
        let mut what = Vec::new();
        let passes = |(part, _): &&(RequestPart, Box<str>)| *part != RequestPart::Query || !new.refuses_unknown;
        let is_lost = |it: &&(RequestPart, Box<str>)| !new.parameters.contains(it);
        // What is declared without a schema passes, whatever becomes of what is not declared.
        let lost = self.parameters.iter().filter(is_lost).filter(passes);
        what.extend(lost.map(|(part, name)| match part {
            RequestPart::Path => format!("parameter {name} of the path"),
            part => format!("{} {name}", part.name()),
        }));
        let loses = |(range, is_judged): &&(MediaRange, bool)| {
            let now = new.bodies.iter().find(|(other, _)| other.covers(range));
            *is_judged && now.is_some_and(|(_, is_judged)| !is_judged)
        };
        let has_lost = self.bodies.iter().any(|body| loses(&body));
        what.extend(has_lost.then(|| "bodies".to_owned()));
        (!what.is_empty()).then(|| what.join(", "))
    }
}
