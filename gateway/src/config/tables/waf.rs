//! Reads `[waf.NAME]`: which rules look for attacks in requests.

use toml::de::DeValue;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{self, closest, form::described, word::simple_name},
    },
    diagnostic::Diagnostic,
    settings::{
        proxy::Settings as Proxy,
        route::Route,
        waf::{self, ExceptionParameter, Exclusion, LARGEST_BODY, OfRoute, PLACES, RuleMatch, THRESHOLD, WafMode},
    },
    text::digits::decimal,
};

mod files;

/// The keys of `[waf.NAME]`.
pub(super) const KEYS: Keys = &[
    ("mode", "`report`: an attack is logged and counted, and passes. `enforce`: it is refused."),
    ("builtin", "Whether the built-in rules apply."),
    (
        "rules",
        "Files in SecLang, such as the OWASP Core Rule Set. The last part of a path may have a `*`. Read in this order.",
    ),
    ("threshold", "The score from which a request is an attack. A certain sign of one counts 5, a weak one 2 to 4."),
    ("paranoia", "How suspicious the rules are, from 1 (few false alarms) to 4."),
    (
        "inspect_body",
        "The largest body that is inspected. With `enforce`, a larger one is refused. Without it, bodies are not inspected.",
    ),
    ("exclude", "An exception: rules that do not look at some parameters. Each has its own `[[waf.NAME.exclude]]`."),
];

/// The keys of `[[waf.NAME.exclude]]`.
const EXCLUDE_KEYS: Keys = &[
    ("rules", "The rules: names, numbers, ranges as `942100-942190`, tags as `tag:attack-sqli`, or `*`."),
    (
        "parameters",
        "The parameters that these rules do not look at, as `comment`, `cookie:session` or `body:json.text*`; a name that has a \
         colon with its place, or as `*:a:b`. Empty: all.",
    ),
    ("routes", "The names of the routes where the exception counts. Empty: all that name this table."),
];

/// `[waf.NAME]`, in the order of their names.
pub(super) fn read(tables: Vec<(String, Table<'_>)>, reader: &Reader<'_>) -> Vec<waf::Settings> {
    let mut all = Vec::new();
    for (name, table) in tables {
        if let Err(wrong) = simple_name(&name) {
            reader.report(wrong.at(table.own_key()));
        }
        let modes = [("report", WafMode::Report), ("enforce", WafMode::Enforce)];
        let mode = table.or("mode", WafMode::default(), value::choice(&modes));
        let has_builtin = table.or("builtin", true, value::boolean());
        let (roots, files) = files::read(&table, reader);
        let threshold = table.or("threshold", THRESHOLD, value::integer(1..=10_000));
        let paranoia = table.or("paranoia", 1, value::integer(1..=4_u8));
        let inspect_body = table.optional("inspect_body", value::size_in(1..=LARGEST_BODY));
        let exclude = table.tables("exclude", EXCLUDE_KEYS).into_iter().map(exclusion).collect();
        if !has_builtin && roots.is_empty() && !reader.is_reference() {
            table.report("builtin", Diagnostic::bare("leaves no rules").hint("leave it out, or name files in `rules`"));
        }
        table.finish();
        all.push(waf::Settings { name, mode, has_builtin, roots, files, threshold, paranoia, inspect_body, exclude });
    }
    all
}

fn exclusion(table: Table<'_>) -> Exclusion {
    let rules =
        described("rule: name, number, range, `tag:NAME` or `*`", |value: &DeValue<'_>| rules(value::text(value)?));
    let rules = values(table.required_list("rules", "[\"sql_injection\"]", rules));
    let parameters =
        described("parameter: `NAME` or `PLACE:NAME`", |value: &DeValue<'_>| parameter(value::text(value)?));
    let parameters = values(table.list("parameters", parameters));
    let routes = described("name of a route", |value: &DeValue<'_>| value::text(value).map(str::to_owned));
    let routes = values(table.list("routes", routes));
    table.finish();
    Exclusion { rules, parameters, routes }
}

fn rules(text: &str) -> Result<RuleMatch, Diagnostic> {
    if text == "*" {
        return Ok(RuleMatch::All);
    }
    if let Some(tag) = text.strip_prefix("tag:").filter(|tag| !tag.is_empty()) {
        return Ok(RuleMatch::Tag(tag.to_owned()));
    }
    let range = text.split_once('-').and_then(|(first, last)| Some((decimal(first)?, decimal(last)?)));
    match range {
        Some((first, last)) if first <= last => Ok(RuleMatch::Range(first, last)),
        Some(_) => {
            Err(Diagnostic::bare(format!("{text:?} ends before it begins")).hint("write the lower number first"))
        }
        None if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !text.is_empty() => {
            Ok(RuleMatch::Name(text.to_owned()))
        }
        None => Err(Diagnostic::bare(format!("{text:?} names no rule")).hint("write, for example, \"sql_injection\"")),
    }
}

fn parameter(text: &str) -> Result<ExceptionParameter, Diagnostic> {
    let (place, name) = match text.split_once(':') {
        Some(("*", name)) => (None, name),
        Some((place, name)) if PLACES.contains(&place) => (Some(place.to_owned()), name),
        Some((place, name)) => {
            let wrong = Diagnostic::bare(format!("there is no place {place:?}"));
            return Err(match closest(place, PLACES) {
                Some(near) => wrong.hint(format!("did you mean \"{near}:{name}\"?")),
                None => wrong.hint(format!("a name that has a colon is written with its place: \"*:{text}\"")),
            });
        }
        None => (None, text),
    };
    if name.is_empty() && place.is_none() {
        return Err(Diagnostic::bare("is empty").hint("write the name of a parameter, as in \"comment\""));
    }
    Ok(ExceptionParameter { place, name: if name.is_empty() { "*".to_owned() } else { name.to_owned() } })
}

/// What a route says: the table, and its own threshold.
pub(super) fn of_route(table: &Table<'_>, known: &[waf::Settings]) -> Option<OfRoute> {
    let index = table.optional(
        "waf",
        described("name of a `[waf.NAME]`", |value: &DeValue<'_>| {
            let name = value::text(value)?;
            known.iter().position(|one| one.name == name).ok_or_else(|| {
                let wrong = Diagnostic::bare(format!("there is no [waf.{name}]"));
                match closest(name, known.iter().map(|one| one.name.as_str())) {
                    Some(near) => wrong.hint(format!("did you mean {near:?}?")),
                    None => wrong.hint(format!("add `[waf.{name}]`")),
                }
            })
        }),
    );
    let threshold = table.optional("waf_threshold", value::integer(1..=10_000));
    if threshold.is_some() && !table.has("waf") {
        let wrong = Diagnostic::bare("has no effect without `waf`");
        table.report("waf_threshold", wrong.hint("name a `[waf.NAME]` in `waf`, or leave it out"));
    }
    index.map(|index| OfRoute { index, threshold })
}

/// Reports exceptions for routes that there are not, and warns of tables that no route names.
pub(super) fn judge(proxy: &Proxy, reader: &Reader<'_>) {
    let names: Vec<&str> = proxy.routes.iter().filter_map(|route: &Route| route.name.as_deref()).collect();
    for (index, waf) in proxy.wafs.iter().enumerate() {
        for (at, exclusion) in waf.exclude.iter().enumerate() {
            let key = format!("waf.{}.exclude[{at}].routes", waf.name);
            for route in exclusion.routes.iter().filter(|route| !names.contains(&route.as_str())) {
                let wrong = Diagnostic::new(&key, format!("no route has the name {route:?}"));
                reader.report(match closest(route, names.iter().copied()) {
                    Some(near) => wrong.hint(format!("did you mean {near:?}?")),
                    None => wrong.hint("name a route by its `name`"),
                });
            }
        }
        if !proxy.routes.iter().any(|route| route.waf.is_some_and(|of| of.index == index)) {
            let warning = Diagnostic::new(format!("waf.{}", waf.name), "is not used by any route");
            reader.warn(warning.hint("remove it, or name it in a route's `waf`"));
        }
    }
}
