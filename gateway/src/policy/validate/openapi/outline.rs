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
    policy::validate::body::{Content, media::MediaRange},
    refusal::violation::RequestPart,
};

/// What of a contract protects its API.
#[derive(Debug, Default)]
pub struct Outline {
    /// By method, path and conditions. Where there are several, a request passes that keeps the contract of one of them.
    operations: BTreeMap<String, Vec<OperationOutline>>,
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
        let mut operations: BTreeMap<String, Vec<OperationOutline>> = BTreeMap::new();
        for template in &self.templates {
            for (method, number, names) in &template.operations {
                let Some(operation) = self.operations.get(*number) else { continue };
                let Some(rule) = self.rules.get(operation.rule) else { continue };
                let key = format!("{method} {} {:?}", template.path, operation.conditions);
                operations.entry(key).or_default().push(self.asked(operation, rule, names));
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
                Content::File(_) | Content::Unsupported => true,
                Content::Json(Some(schema))
                | Content::JsonLines(schema)
                | Content::JsonSequence(schema)
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
            let new = new.operations.get(key).map_or(&[][..], Vec::as_slice);
            if new.len() < old.len() {
                let gone = old.iter().filter(|old| new.iter().all(|new| new.name != old.name));
                losses.extend(gone.map(|old| format!("{} is not declared any more", old.name)));
            }
            // One that has another name may take the requests of each that there was.
            for new in new {
                let same = old.iter().find(|old| old.name == new.name);
                let before = same.map_or(old.as_slice(), std::slice::from_ref);
                let mut of_each = before.iter().map(|old| old.losses(new, is_followed));
                losses.extend(of_each.find(|losses| !losses.is_empty()).unwrap_or_default());
            }
        }
        losses
    }
}

impl OperationOutline {
    /// What `new` takes away of this one.
    fn losses(&self, new: &Self, is_followed: bool) -> Vec<String> {
        let name = &self.name;
        let mut losses = Vec::new();
        if is_followed {
            losses.extend(new.rule.loss(&self.rule).map(|loss| format!("{name} {loss}")));
        }
        let lost = self.limits.iter().filter(|limit| !new.limits.contains(limit));
        losses.extend(lost.map(|limit| format!("{name} is not counted by limit.{limit} any more")));
        losses.extend(self.unjudged(new).map(|what| format!("{name}: not judged any more: {what}")));
        losses
    }

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
