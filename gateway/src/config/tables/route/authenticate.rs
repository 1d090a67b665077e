//! Reads `route.authenticate`: how the clients of a route may prove who they are.

use toml::{Spanned, de::DeValue};

use super::references::RouteReferences;
use crate::{
    config::{
        table::Table,
        value::{
            self,
            form::{Form as _, described},
            kind,
        },
    },
    diagnostic::Diagnostic,
    settings::{
        auth::{Accepted, Method, Methods},
        authz::Requirement,
    },
};

/// What a route accepts.
pub(super) fn read(table: &Table<'_>, require: &Requirement, known: &RouteReferences<'_>) -> Accepted {
    let methods = of_route(table, require, known);
    let bound_tokens = table.or("certificate_bound", false, value::boolean());
    let wrong = |what: &str, hint: &str| table.report("certificate_bound", Diagnostic::bare(what).hint(hint));
    let asks = !matches!(require, Requirement::Nobody | Requirement::Public);
    if bound_tokens && !(asks && methods.listed().iter().any(|method| method.is_token())) {
        wrong("has no effect: no token is looked at", "write require = [\"authenticated\"], or leave it out");
    } else if bound_tokens && !known.certificates {
        let hint = "add one with `ca` and `hosts`, so that clients are asked for certificates";
        wrong("cannot be met: there is no [client_certificates.NAME]", hint);
    }
    Accepted { methods, bound_tokens }
}

/// The methods; where the route says nothing, any that is configured, but for routes that require certificates.
fn of_route(table: &Table<'_>, require: &Requirement, known: &RouteReferences<'_>) -> Methods {
    let form = described("array of methods, or `{ all = [...] }`", |value| methods(value, known.methods));
    let said = table.optional("authenticate", form);
    let wrong = |what: &str, hint: &str| table.report("authenticate", Diagnostic::bare(what).hint(hint));
    match (require, said) {
        (Requirement::Nobody | Requirement::Public, Some(_)) => {
            wrong(
                "has no effect: the route asks for no identity",
                "write require = [\"authenticated\"], or permissions",
            );
        }
        (Requirement::Certificate, Some(_)) => {
            let hint = "write require = [\"authenticated\"] beside it, or leave it out";
            wrong("cannot be beside require = [\"certificate\"], which says it already", hint);
        }
        (Requirement::Certificate, None) => return Methods::Any(vec![Method::Certificate]),
        (_, Some(methods)) => return methods,
        (_, None) => {}
    }
    Methods::Any(known.methods.to_vec())
}

fn methods(value: &DeValue<'_>, configured: &[Method]) -> Result<Methods, Diagnostic> {
    let hint = "write authenticate = [\"jwt\", \"certificate\"] for any of them, or { all = [...] } for all";
    match value {
        DeValue::Array(elements) => Ok(Methods::Any(list(elements, configured)?)),
        DeValue::Table(table) => {
            let all = table.iter().find(|(name, _)| &**name.get_ref() == "all").map(|(_, value)| value.get_ref());
            match all {
                Some(DeValue::Array(elements)) if table.len() == 1 => {
                    let methods = list(elements, configured)?;
                    one_authorization(&methods)?;
                    Ok(Methods::All(methods))
                }
                _ => Err(Diagnostic::bare("is a table of something else than `all = [...]`").hint(hint)),
            }
        }
        _ => Err(Diagnostic::bare(format!("expected an array, found {}", kind(value))).hint(hint)),
    }
}

fn list(elements: &[Spanned<DeValue<'_>>], configured: &[Method]) -> Result<Vec<Method>, Diagnostic> {
    let words = Method::ALL.map(|method| (method.name(), method));
    let mut methods = Vec::new();
    for element in elements {
        let method = value::choice(&words).read(element.get_ref())?;
        if methods.contains(&method) {
            return Err(Diagnostic::bare(format!("lists {:?} twice", method.name())).hint("name each method once"));
        }
        if !configured.contains(&method) {
            let wrong =
                Diagnostic::bare(format!("{:?} is not configured: nobody could be let in by it", method.name()));
            return Err(wrong.hint(format!("add a {} table, or leave it out", method.table())));
        }
        methods.push(method);
    }
    if methods.is_empty() {
        return Err(Diagnostic::bare("is empty: nobody could be let in").hint("name a method, or leave it out"));
    }
    Ok(methods)
}

/// Nobody can show two credentials in one header.
fn one_authorization(methods: &[Method]) -> Result<(), Diagnostic> {
    let mut readers = methods.iter().filter(|method| method.reads_authorization());
    if let (Some(one), Some(other)) = (readers.next(), readers.next()) {
        let (one, other) = (one.name(), other.name());
        let wrong = format!("{one:?} and {other:?} cannot both be in the one Authorization of a request");
        return Err(Diagnostic::bare(wrong).hint("ask for one of them with \"certificate\" or \"api_key\""));
    }
    Ok(())
}
