//! `gateway route`: which route takes a request, and what is in the way of the others.

use clap::Args;
use http::{Method, request::Parts};
use serde_json::{Value, json};

use super::{
    context::Context,
    exit::Exit,
    request::{AskedRequest, NOWHERE},
    table::{clean, field, prose},
};
use crate::{
    config::{Config, Diagnostics},
    refusal::Refusal,
    route::{NoRoute, Routes, explain::Way, target::Target},
    settings::route::{Action, Rewrite, Route as Settings, RouteCondition, Subject, Test},
    snapshot::Snapshot,
    text::counted::counted,
    web::path::PathRules,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Reads the configuration and does not ask the running gateway. Identity, limits
and bodies are left out. Ends with 1 if no route matches. The gateway itself
answers a CORS preflight.

Examples:
  gateway route GET https://api.example.com/items/7
  gateway route POST 'https://api.example.com/items?preview' \\
    --header 'x-api-version: 2' --json | jq .others")]
pub(super) struct RouteCommand {
    #[command(flatten)]
    request: AskedRequest,
}

/// What the configuration says of a request.
struct RouteAnswer {
    /// Which route takes it, and what comes of its path; else why none does.
    taken: Result<(usize, String), NoRoute>,
    /// What is in the way of the others that have the host and the path.
    others: Vec<(usize, Way)>,
    /// How many have another host or path.
    elsewhere: usize,
    /// It is a preflight, which no route is asked for: whether the page may go on.
    preflight: Option<bool>,
}

impl RouteCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        let loaded = context.without_secrets().and_then(|(config, denied)| {
            let routes = Routes::new(&config.proxy.routes);
            let routes = routes.map_err(|diagnostics| Diagnostics::from_diagnostics(&config.document, diagnostics))?;
            Ok((config, routes, denied))
        });
        let (config, routes, denied) = match loaded {
            Ok(loaded) => loaded,
            Err(errors) => {
                return context.out.fail(&errors.to_string(), Exit::of_configuration(&errors));
            }
        };
        if let Some(denied) = denied.first().filter(|_| has_preflights(&config, &self.request.method)) {
            let what = format!(
                "whether this is a preflight cannot be told: this user may not read {}; run as root, or as a user who may",
                denied.display()
            );
            return context.out.fail(&what, Exit::Denied);
        }
        let found = match self.request.head().and_then(|head| {
            let target = Target::read(&head, NOWHERE, config.proxy.head.target)?;
            let preflight = preflight(&config, &head, &target);
            Ok(RouteAnswer { preflight, ..find(&routes, &config.proxy.routes, &head, &target) })
        }) {
            Ok(found) => found,
            Err(refusal) => RouteAnswer {
                taken: Err(NoRoute { refusal, allow: None }),
                others: Vec::new(),
                elsewhere: 0,
                preflight: None,
            },
        };
        let exit = if found.taken.is_ok() || found.preflight.is_some() { Exit::Done } else { Exit::Refused };
        if context.out.json {
            return context.out.value(&value(&found, &config), exit);
        }
        context.out.text(&prose(&self.render(&found, &config)), exit)
    }

    fn render(&self, found: &RouteAnswer, config: &Config) -> String {
        let asked = clean(&self.request.to_string());
        let mut lines = match &found.taken {
            _ if found.preflight.is_some() => {
                let may = if found.preflight == Some(true) { "may" } else { "may not" };
                let asked = format!("the gateway answers {asked} itself, as a preflight");
                vec![asked, format!("  it is answered 204, and the page {may} go on")]
            }
            Ok((index, becomes)) => vec![format!("{} takes {asked}", place(*index, config)), format!("  {becomes}")],
            Err(miss) => {
                let row = miss.refusal.reject.row();
                let mut lines = vec![format!("no route takes {asked}")];
                lines.push(format!("  it is answered {}: {}", row.status.as_u16(), miss.refusal.detail));
                if let Some(allow) = miss.allow.as_ref().and_then(|allow| allow.to_str().ok()) {
                    lines.push(format!("  served are {allow}"));
                }
                lines
            }
        };
        if let (None, Ok((index, _)), Some(effective)) =
            (found.preflight, &found.taken, config.effective().get("route"))
        {
            for (name, value) in effective.get(*index).and_then(Value::as_object).into_iter().flatten() {
                let said = match (name.as_str(), plain(value)) {
                    ("methods", text) if text.is_empty() => "every".to_owned(),
                    ("require", text) if text.is_empty() => "nobody is let through".to_owned(),
                    (_, text) => text,
                };
                lines.push(field(&format!("  {name}"), 20, &clean(&said)));
            }
        }
        if !found.others.is_empty() {
            lines.push("others of this host and path".to_owned());
        }
        for (index, way) in &found.others {
            lines.push(format!("  {}: {}", place(*index, config), clean(&told(*way, config.proxy.routes.get(*index)))));
        }
        match found.elsewhere {
            0 => {}
            count => lines.push(format!("{} of another host or path", counted(count, "route is", "routes are"))),
        }
        lines.join("\n")
    }
}

fn find(routes: &Routes, settings: &[Settings], head: &Parts, target: &Target) -> RouteAnswer {
    let ways = routes.explain(settings, target, &head.method, &head.headers);
    let taken = routes.find(target, &head.method, &head.headers).and_then(|index| {
        let route = settings.get(index);
        let becomes = route.map_or(Ok(String::new()), |route| becomes(route, target));
        becomes.map(|becomes| (index, becomes)).map_err(|refusal| NoRoute { refusal, allow: None })
    });
    let others = ways.iter().enumerate().filter_map(|(index, way)| Some((index, (*way)?)));
    let (others, elsewhere): (Vec<_>, Vec<_>) = others.partition(|(_, way)| !matches!(way, Way::Host | Way::Path));
    RouteAnswer { taken, others, elsewhere: elsewhere.len(), preflight: None }
}

fn has_preflights(config: &Config, method: &Method) -> bool {
    !config.proxy.cors.is_empty() && method == Method::OPTIONS
}

/// Whether the gateway answers by itself what a browser asks for a page.
fn preflight(config: &Config, head: &Parts, target: &Target) -> Option<bool> {
    // All of it is compiled only where that can be.
    if !has_preflights(config, &head.method) {
        return None;
    }
    Snapshot::new(config.proxy.clone()).ok()?.answers_preflight(target, head)
}

/// What comes of the request.
fn becomes(route: &Settings, target: &Target) -> Result<String, Refusal> {
    Ok(match &route.action {
        Action::Forward(_) => {
            let origin = match &route.rewrite {
                Some(Rewrite::Strip(pattern) | Rewrite::Template(pattern)) => {
                    target.with_path(pattern.apply(target.path(), route.allow_in_path)?)?.to_string()
                }
                None => target.origin().to_string(),
            };
            format!("its upstream is asked for {origin}")
        }
        Action::Redirect(redirect) => {
            let to = target.with_path(redirect.path.apply(target.path(), PathRules::default())?)?;
            format!("it is answered {} with location {}{to}", redirect.status.as_u16(), redirect.origin)
        }
        Action::Respond(fixed) => format!("it is answered {}", fixed.status.as_u16()),
    })
}

fn value(found: &RouteAnswer, config: &Config) -> Value {
    let line = |index: usize| config.document.line(&format!("route[{index}]"));
    let others: Vec<Value> = (found.others.iter())
        .map(|(index, way)| {
            let why = told(*way, config.proxy.routes.get(*index));
            json!({ "route": index, "line": line(*index), "why": name(*way), "detail": why })
        })
        .collect();
    let mut value = match &found.taken {
        Ok((index, becomes)) => json!({
            "route": index,
            "line": line(*index),
            "becomes": becomes,
            "config": config.effective().get("route").and_then(|routes| routes.get(*index)),
        }),
        Err(miss) => json!({
            "route": null,
            "status": miss.refusal.reject.row().status.as_u16(),
            "reject": miss.refusal.reject.row().label,
            "detail": miss.refusal.detail,
            "allow": miss.allow.as_ref().and_then(|allow| allow.to_str().ok()),
        }),
    };
    if let Some(members) = value.as_object_mut() {
        if let Some(may) = found.preflight {
            members.insert("preflight".to_owned(), json!({ "status": 204, "permitted": may }));
        }
        members.insert("others".to_owned(), others.into());
        members.insert("elsewhere".to_owned(), found.elsewhere.into());
    }
    value
}

pub(super) fn place(index: usize, config: &Config) -> String {
    format!("route[{index}] (line {})", config.document.line(&format!("route[{index}]")))
}

const fn name(way: Way) -> &'static str {
    match way {
        Way::AskedLater => "asked_later",
        Way::Condition(_) => "condition",
        Way::Host => "host",
        Way::LessExact => "less_exact_host",
        Way::LessLiteral => "less_literal_path",
        Way::Method => "method",
        Way::Path => "path",
    }
}

fn told(way: Way, route: Option<&Settings>) -> String {
    match way {
        Way::AskedLater => "one with more conditions is asked first".to_owned(),
        Way::Condition(unmet) => {
            let condition = route.and_then(|route| route.when.get(unmet)).map(condition).unwrap_or_default();
            format!("when[{unmet}] is not met: {condition}")
        }
        Way::Host => "is for other hosts".to_owned(),
        Way::LessExact => "a more exact host has the path".to_owned(),
        Way::LessLiteral => "a more literal path decides".to_owned(),
        Way::Method => {
            let methods: Vec<_> = route.into_iter().flat_map(|route| &route.methods).map(Method::as_str).collect();
            format!("is for {}", methods.join(", "))
        }
        Way::Path => "is for other paths".to_owned(),
    }
}

fn condition(condition: &RouteCondition) -> String {
    let (subject, name) = match &condition.subject {
        Subject::Header(name) => ("header", name.as_str()),
        Subject::Query(name) => ("query", name.as_str()),
    };
    match &condition.test {
        Test::Equals(value) => format!("{subject} {name} equals {value:?}"),
        Test::Prefix(value) => format!("{subject} {name} begins with {value:?}"),
        Test::Present => format!("{subject} {name} is present"),
    }
}

/// As one would say it: lists without brackets, texts without quotation marks.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(elements) if elements.iter().all(Value::is_string) => {
            elements.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        value => value.to_string(),
    }
}
