//! Shows the routes in force.

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::{sensitive::Sensitive, tokens::claims, validate};
use crate::{
    config::value::{show_duration, show_size},
    refusal::violation::RequestPart,
    settings::{
        auth::{Method, Methods},
        authz::Requirement,
        edits::Edits,
        proxy,
        route::{Action, Rewrite, Route, RouteCondition, Subject, Test, TokenSource},
        timeouts::Timeouts,
        validate::ContentEncoding,
    },
};

pub(super) fn route(route: &Route, proxy: &proxy::Settings, sensitive: Sensitive) -> Value {
    json!({
        "name": route.name,
        "tags": (!route.tags.is_empty()).then_some(&route.tags),
        "host": route.host,
        "path": route.path,
        "methods": route.methods.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "when": (!route.when.is_empty()).then(|| route.when.iter().map(|it| condition(it, sensitive)).collect::<Vec<_>>()),
        "require": match &route.require {
            Requirement::Nobody if route.follows_document => vec!["openapi"],
            Requirement::Nobody => Vec::new(),
            Requirement::Public => vec!["public"],
            Requirement::Authenticated => vec!["authenticated"],
            Requirement::Certificate => vec!["certificate"],
            Requirement::Permissions(words) => words.iter().map(String::as_str).collect(),
        },
        "authenticate": authenticate(route),
        "certificate_bound": route.accepted.bound_tokens.then_some(true),
        "scopes": (!route.scopes.is_empty()).then_some(&route.scopes),
        "claims": claims(&route.claims),
        "sources": route.sources.as_ref().map(|sources| &sources.texts),
        "allow_if": (!route.allow_if.is_empty())
            .then(|| route.allow_if.iter().map(|condition| &condition.text).collect::<Vec<_>>()),
        "shadow": (!route.shadow.is_empty())
            .then(|| route.shadow.iter().map(|part| part.name()).collect::<Vec<_>>()),
        "upstream": route.action.upstream().and_then(|it| proxy.upstreams.get(it)).map(|it| &it.name),
        "redirect": match &route.action {
            Action::Redirect(redirect) => Some(json!({
                "to": format!("{}{}", redirect.origin, redirect.path.text()),
                "status": redirect.status.as_u16(),
            })),
            Action::Forward(_) | Action::Respond(_) => None,
        },
        "respond": match &route.action {
            Action::Respond(fixed) => Some(json!({
                "status": fixed.status.as_u16(),
                "body": fixed.content_type.as_ref().map(|_| sensitive.show(String::from_utf8_lossy(&fixed.body))),
                "content_type": fixed.content_type.as_ref().map(|value| value.to_str().unwrap_or_default()),
            })),
            Action::Forward(_) | Action::Redirect(_) => None,
        },
        "strip_prefix": match &route.rewrite {
            Some(Rewrite::Strip(pattern)) => Some(pattern.text()),
            _ => None,
        },
        "rewrite": match &route.rewrite {
            Some(Rewrite::Template(pattern)) => Some(pattern.text()),
            _ => None,
        },
        "request_headers": route.request_headers.as_ref().map(|it| edits(it, sensitive)),
        "response_headers": route.response_headers.as_ref().map(|it| edits(it, sensitive)),
        "pass_headers": (!route.pass_headers.is_empty())
            .then(|| route.pass_headers.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "allow_in_path": allow_in_path(route),
        "timeouts": route.timeouts.as_ref().map(|timeouts| timeouts_of(timeouts, route.upgrade.is_some())),
        "schema": route.schema.as_ref().map(|schema| schema.path.display().to_string()),
        "query": validate::parameters(route, RequestPart::Query),
        "header": validate::parameters(route, RequestPart::Header),
        "cookie": validate::parameters(route, RequestPart::Cookie),
        "path_parameter": validate::parameters(route, RequestPart::Path),
        "unknown_query": route.refuses_unknown.query.then_some("refuse"),
        "unknown_headers": route.refuses_unknown.headers.then_some("refuse"),
        "unknown_cookies": route.refuses_unknown.cookies.then_some("refuse"),
        "content_types": (!route.content_types.is_empty()).then_some(&route.content_types),
        "form": validate::form(route),
        "unknown_fields": route.form.as_ref().map(|form| if form.refuses_unknown { "refuse" } else { "allow" }),
        "max_fields": route.form.as_ref().map(|form| form.max_fields),
        "api": route.api.and_then(|it| proxy.apis.get(it)).map(|api| &api.name),
        "graphql": route.graphql.map(|limits| json!({
            "max_depth": limits.max_depth,
            "max_aliases": limits.max_aliases,
            "max_cost": limits.max_cost,
            "max_batch": limits.max_batch,
            "introspection": limits.introspection,
        })),
        "waf": route.waf.and_then(|of| proxy.wafs.get(of.index)).map(|waf| &waf.name),
        "waf_threshold": route.waf.and_then(|of| of.threshold),
        "content_encoding": route.content_encoding.map(ContentEncoding::name),
        "max_body": route.action.upstream().map(|_| show_size(route.max_body.unwrap_or(proxy.max_body))),
        "upgrade": route.upgrade.as_ref().map(|upgrade| &upgrade.protocols),
        "origins": route.upgrade.as_ref().map(|upgrade| upgrade.origins.texts()),
        "websocket_token": route.upgrade.as_ref().filter(|upgrade| !upgrade.tokens.is_empty()).map(|upgrade| {
            let shown = |source: &TokenSource| match source {
                TokenSource::Cookie(name) => format!("cookie:{name}"),
                TokenSource::Protocol => "protocol".to_owned(),
            };
            upgrade.tokens.iter().map(shown).collect::<Vec<_>>()
        }),
        "outlives_token": route.upgrade.as_ref().map(|upgrade| upgrade.outlives_token),
        "cors": match route.cors.and_then(|it| proxy.cors.get(it)) {
            Some(group) => Some(group.name.as_str()),
            None => (!proxy.cors.is_empty()).then_some("none"),
        },
        "access_log": route.access_log,
    })
}

/// How clients may prove who they are, where that is asked for.
fn authenticate(route: &Route) -> Option<Value> {
    if matches!(route.require, Requirement::Nobody | Requirement::Public | Requirement::Certificate) {
        return None;
    }
    let names = |methods: &[Method]| methods.iter().map(|method| method.name()).collect::<Vec<_>>();
    Some(match &route.accepted.methods {
        Methods::All(methods) => json!({ "all": names(methods) }),
        Methods::Any(methods) => json!(names(methods)),
    })
}

fn allow_in_path(route: &Route) -> Option<Vec<&'static str>> {
    let rules = route.allow_in_path;
    let words = [
        (rules.empty_segments, "empty_segments"),
        (rules.encoded_slashes, "encoded_slashes"),
        (rules.parameters, "parameters"),
    ];
    let words: Vec<_> = words.into_iter().filter_map(|(allowed, word)| allowed.then_some(word)).collect();
    (!words.is_empty()).then_some(words)
}

fn condition(condition: &RouteCondition, sensitive: Sensitive) -> Value {
    let (subject, name) = match &condition.subject {
        Subject::Header(name) => ("header", name.as_str()),
        Subject::Query(name) => ("query", name.as_str()),
    };
    match &condition.test {
        Test::Equals(value) => json!({ subject: name, "equals": sensitive.show(value.as_str()) }),
        Test::Prefix(value) => json!({ subject: name, "prefix": sensitive.show(value.as_str()) }),
        Test::Present => json!({ subject: name, "present": true }),
    }
}

fn timeouts_of(timeouts: &Timeouts, has_tunnels: bool) -> Value {
    json!({
        "body": show_duration(timeouts.body),
        "least_rate": show_size(timeouts.least_rate),
        "connect": show_duration(timeouts.connect),
        "response": show_duration(timeouts.response),
        "tunnel_idle": has_tunnels.then(|| show_duration(timeouts.tunnel_idle)),
        "tunnel": has_tunnels.then(|| show_duration(timeouts.tunnel)),
    })
}

fn edits(edits: &Edits, sensitive: Sensitive) -> Value {
    let pairs = |pairs: &[(HeaderName, HeaderValue)]| {
        let shown: Map<String, Value> =
            pairs.iter().map(|(name, value)| (name.to_string(), shown(name, value, sensitive))).collect();
        (!shown.is_empty()).then_some(shown)
    };
    json!({
        "remove": (!edits.remove.is_empty()).then(|| edits.remove.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "set": pairs(&edits.set),
        "add": pairs(&edits.add),
    })
}

/// What a header says, where its name promises no secret.
fn shown(name: &HeaderName, value: &HeaderValue, sensitive: Sensitive) -> Value {
    const SECRET: [&str; 7] = ["auth", "cookie", "credential", "key", "passw", "secret", "token"];
    if sensitive == Sensitive::Marked {
        return sensitive.show(value.as_bytes().escape_ascii().to_string());
    }
    if SECRET.iter().any(|part| name.as_str().contains(part)) {
        return "(not shown)".into();
    }
    value.to_str().unwrap_or_default().into()
}
