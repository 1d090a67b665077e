//! Reads `[cors.NAME]`: what pages of other origins may do.

use std::time::Duration;

use http::HeaderName;

use crate::{
    config::{
        document::join,
        reader::{Keys, Reader},
        table::Table,
        value::{
            self,
            address::origin,
            form::described,
            word::{header, method, simple_name, unregistered},
        },
    },
    diagnostic::Diagnostic,
    settings::cors::{Cors, HeaderNames, Origins},
};

/// The keys of `[cors.NAME]`.
pub(super) const KEYS: Keys = &[
    ("credentials", "Whether browsers send cookies along. Not allowed beside `\"*\"`."),
    (
        "origins",
        "The origins whose pages may read responses: exact, with one wildcard label, `\"null\"`, or `[\"*\"]`.",
    ),
    ("methods", "The methods that a preflight is told. Empty: the method that it asks for."),
    ("headers", "The request headers that pages may set. `[\"*\"]`: any."),
    ("expose", "The response headers that pages may read besides the usual ones. `[\"*\"]`: all."),
    ("max_age", "How long browsers remember a preflight."),
    ("refuse_others", "`true`: pages of other origins get 403. `false`: they get a response without CORS headers."),
];

/// The group of routes that name none.
pub(super) const DEFAULT: &str = "default";

/// What a route writes that has none.
pub(super) const NONE: &str = "none";

const SECOND: Duration = Duration::from_secs(1);

/// `[cors.NAME]`, in the order of their names.
pub(super) fn read(tables: Vec<(String, Table<'_>)>, reader: &Reader<'_>) -> Vec<Cors> {
    let mut groups = Vec::new();
    for (name, table) in tables {
        if name == NONE {
            let wrong = Diagnostic::bare("is reserved: a route without CORS writes it").hint("choose another name");
            reader.report(wrong.at(table.own_key()));
        } else if let Err(wrong) = simple_name(&name) {
            reader.report(wrong.at(table.own_key()));
        }
        groups.push(group(name, &table, reader));
        table.finish();
    }
    groups
}

fn group(name: String, table: &Table<'_>, reader: &Reader<'_>) -> Cors {
    let credentials = table.or("credentials", false, value::boolean());
    let origins = table.required_list(
        "origins",
        "[\"https://app.example.com\"]",
        described("origin, `\"null\"` or `\"*\"`", |value| match value::text(value)? {
            text @ ("*" | "null") if credentials => {
                let wrong = Diagnostic::bare(format!("{text:?} lets every site act with a visitor's cookies"));
                Err(wrong.hint("name the origins, or write `credentials = false`"))
            }
            text @ ("*" | "null") => Ok(text.to_owned()),
            _ => origin(value),
        }),
    );
    if origins.len() > 1 && origins.iter().any(|(_, origin)| origin == "*") {
        let wrong = Diagnostic::bare("has \"*\" and other origins, which it covers");
        table.report("origins", wrong.hint("write [\"*\"] alone, or the origins alone"));
    }
    let methods = table.list("methods", method);
    methods.iter().filter_map(|(key, method)| unregistered(key, method)).for_each(|warning| reader.warn(warning));
    let methods = methods.into_iter().map(|(_, method)| method).collect();
    let names = |table: &Table<'_>, key, default: &[&'static str]| {
        let default = default.iter().map(|name| Some(HeaderName::from_static(name))).collect();
        let shown = |name: &Option<HeaderName>| format!("\"{}\"", name.as_ref().map_or("*", HeaderName::as_str));
        let read = table.list_or(
            key,
            default,
            described("header name or `\"*\"`", |value| match value::text(value)? {
                "*" if credentials => {
                    let wrong = Diagnostic::bare("\"*\" is not a wildcard where there are credentials");
                    Err(wrong.hint("name the headers, or write `credentials = false`"))
                }
                "*" => Ok(None),
                _ => header(value).map(Some),
            })
            .written(shown),
        );
        if read.len() > 1 && read.iter().any(|(_, name)| name.is_none()) {
            let wrong = Diagnostic::bare("has \"*\" and other names, which it covers");
            table.report(key, wrong.hint("write [\"*\"] alone, or the names alone"));
        }
        let named: Vec<HeaderName> = read.iter().filter_map(|(_, name)| name.clone()).collect();
        if named.len() < read.len() { HeaderNames::Any } else { HeaderNames::These(named) }
    };
    let headers = names(table, "headers", &["authorization", "content-type"]);
    let expose = names(table, "expose", &["retry-after", "x-request-id"]);
    let max_age = table.or("max_age", 600 * SECOND, value::duration_in(Duration::ZERO..=86_400 * SECOND));
    let refuse_others = table.or("refuse_others", false, value::boolean());
    let origins = Origins::new(origins.into_iter().map(|(_, origin)| origin).collect());
    if refuse_others && origins.is_any() {
        let wrong = Diagnostic::bare("has no effect: every origin is allowed");
        table.report("refuse_others", wrong.hint("name the origins, or leave it out"));
    }
    Cors { name, origins, methods, headers, expose, credentials, max_age, refuse_others }
}

/// Warns of groups that no route has.
pub(super) fn warn_of_unused(groups: &[Cors], used: &[bool], reader: &Reader<'_>) {
    for (group, _) in groups.iter().zip(used).filter(|(group, used)| !**used && group.name != DEFAULT) {
        let warning = Diagnostic::new(join("cors", &group.name), "is not used by any route");
        reader.warn(warning.hint("remove it, or name it in a route's `cors`"));
    }
}
