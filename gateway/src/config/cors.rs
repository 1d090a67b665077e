//! Reads what pages of other origins may do, `[cors.NAME]`, and what an origin is.

use std::time::Duration;

use http::HeaderName;
use toml::de::DeValue;

use super::{
    route,
    service::simple_name,
    table::{Reader, Table},
    value::{self, Wrong, closest},
};
use crate::{
    fault::Fault,
    settings::cors::{Cors, Names, Origins},
};

/// The group of routes that name none.
pub(super) const DEFAULT: &str = "default";

/// What a route writes that has none.
pub(super) const NONE: &str = "none";

const SECOND: Duration = Duration::from_secs(1);

/// `[cors.NAME]`, in the order of their names.
pub(super) fn groups(tables: Vec<(String, Table<'_>)>, reader: &Reader<'_>) -> Vec<Cors> {
    let mut groups = Vec::new();
    for (name, mut table) in tables {
        if name == NONE {
            let wrong = Wrong::new("is what a route without CORS writes").hint("choose another name");
            reader.report(wrong.at(table.own_key()));
        } else if let Err(wrong) = simple_name(&name) {
            reader.report(wrong.at(table.own_key()));
        }
        groups.push(group(name, &mut table));
        table.finish();
    }
    groups
}

fn group(name: String, table: &mut Table<'_>) -> Cors {
    let credentials = table.or("credentials", false, value::boolean);
    let origins = table.required_list("origins", "[\"https://app.example.com\"]", |value| match value::text(value)? {
        text @ ("*" | "null") if credentials => {
            let wrong = Wrong::new(format!("{text:?} lets every site act with a visitor's cookies"));
            Err(wrong.hint("name the origins, or write `credentials = false`"))
        }
        text @ ("*" | "null") => Ok(text.to_owned()),
        _ => origin(value),
    });
    if origins.len() > 1 && origins.iter().any(|(_, origin)| origin == "*") {
        let wrong = Wrong::new("has \"*\" beside other origins, which it covers");
        table.report("origins", wrong.hint("write [\"*\"] alone, or the origins alone"));
    }
    let methods = table.list("methods", route::method).into_iter().map(|(_, method)| method).collect();
    let names = |table: &mut Table<'_>, key, default: &[&'static str]| {
        let read = table.list(key, |value| match value::text(value)? {
            "*" if credentials => {
                let wrong = Wrong::new("\"*\" means the header named `*` where there are credentials");
                Err(wrong.hint("name the headers, or write `credentials = false`"))
            }
            "*" => Ok(None),
            _ => header(value).map(Some),
        });
        if !table.has(key) {
            return Names::These(default.iter().copied().map(HeaderName::from_static).collect());
        }
        if read.len() > 1 && read.iter().any(|(_, name)| name.is_none()) {
            let wrong = Wrong::new("has \"*\" beside other names, which it covers");
            table.report(key, wrong.hint("write [\"*\"] alone, or the names alone"));
        }
        let named: Vec<HeaderName> = read.iter().filter_map(|(_, name)| name.clone()).collect();
        if named.len() < read.len() { Names::Any } else { Names::These(named) }
    };
    let headers = names(table, "headers", &["authorization", "content-type"]);
    let expose = names(table, "expose", &["retry-after", "x-request-id"]);
    let max_age = table.or("max_age", 600 * SECOND, value::duration_in(Duration::ZERO..=86_400 * SECOND));
    let refuse_others = table.or("refuse_others", false, value::boolean);
    let origins = Origins::new(origins.into_iter().map(|(_, origin)| origin).collect());
    if refuse_others && origins.is_any() {
        let wrong = Wrong::new("refuses nobody: every origin is allowed");
        table.report("refuse_others", wrong.hint("name the origins, or leave it out"));
    }
    Cors { name, origins, methods, headers, expose, credentials, max_age, refuse_others }
}

fn header(value: &DeValue<'_>) -> Result<HeaderName, Wrong> {
    let text = value::line(value)?;
    let wrong = || Wrong::new(format!("{text:?} is no header")).hint("write its name alone, as in \"x-version\"");
    HeaderName::from_bytes(text.as_bytes()).map_err(|_no_name| wrong())
}

/// `route.cors`: which group.
pub(super) fn of_route(table: &mut Table<'_>, groups: &[Cors]) -> Option<usize> {
    let find = |name: &str| groups.iter().position(|group| group.name == name);
    if !table.has("cors") {
        table.optional("cors", |_absent| Ok(()));
        return find(DEFAULT);
    }
    let named = table.optional("cors", |value| {
        let name = value::text(value)?;
        if name == NONE {
            return Ok(None);
        }
        find(name).map(Some).ok_or_else(|| {
            let wrong = Wrong::new(format!("there is no [cors.{name}]"));
            let names = groups.iter().map(|group| group.name.as_str()).chain([NONE]);
            match closest(name, names) {
                Some(near) => wrong.hint(format!("did you mean {near:?}?")),
                None => wrong.hint(format!("add `[cors.{name}]` with `origins`, or write {NONE:?}")),
            }
        })
    });
    named.flatten()
}

/// Warns of groups that no route has.
pub(super) fn unused(groups: &[Cors], used: &[bool], reader: &Reader<'_>) {
    for (group, _) in groups.iter().zip(used).filter(|(group, used)| !**used && group.name != DEFAULT) {
        let warning = Fault::new(super::document::join("cors", &group.name), "no route has it");
        reader.warn(warning.hint("remove it, or name it in a route's `cors`"));
    }
}

/// What a browser sends as `Origin` (RFC 6454 6.2), or a wildcard for one label of it; in lower case.
pub(super) fn origin(value: &DeValue<'_>) -> Result<String, Wrong> {
    const HINT: &str = "write scheme and host, and the port if it is not the usual one: \"https://app.example.com\", \
                        \"https://*.example.com\"";
    let text = value::text(value)?;
    let wrong = |why: &str| Wrong::new(format!("{text:?} is no origin{why}"));
    let Some((scheme, authority)) = text.split_once("://") else { return Err(wrong("").hint(HINT)) };
    let is_of_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(is_of_scheme) {
        return Err(wrong("").hint(HINT));
    }
    if authority.contains(['/', '?', '#', '@']) {
        return Err(wrong(": it has a path or more").hint(HINT));
    }
    let bracket = authority.rfind(']').map_or(0, |end| end + 1);
    let colon = authority.get(bracket..).and_then(|behind| behind.find(':')).map(|colon| bracket + colon);
    let (host, port) = authority.split_at(colon.unwrap_or(authority.len()));
    let scheme = scheme.to_ascii_lowercase();
    let host =
        value::host_or_wildcard(host).map_err(|wrong_host| wrong(&format!(": {}", wrong_host.message)).hint(HINT))?;
    if host.strip_prefix("*.").is_some_and(|parent| !parent.contains('.') && parent != "localhost") {
        let hint = "name a domain of yours behind the wildcard: \"https://*.example.com\"";
        return Err(wrong(": the wildcard covers every site of a top-level domain").hint(hint));
    }
    if let Some(digits) = port.strip_prefix(':') {
        let number = digits.parse().ok().filter(|number: &u16| *number > 0 && digits == number.to_string());
        let usual = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        match number {
            None => return Err(wrong(": it has no port from 1 to 65535").hint(HINT)),
            Some(number) if Some(number) == usual => {
                let hint = format!("browsers leave the usual port out: write \"{scheme}://{host}\"");
                return Err(wrong(": no browser sends it").hint(hint));
            }
            Some(_) => {}
        }
    }
    Ok(format!("{scheme}://{host}{port}"))
}
