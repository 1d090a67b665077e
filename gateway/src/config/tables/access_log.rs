//! Reads `[access_log]`: what the log of requests says, and where it goes.

use std::time::Duration;

use http::HeaderName;
use regex::RegexBuilder;
use toml::de::DeValue;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{self, closest, form::described, word},
    },
    diagnostic::Diagnostic,
    net::geo::Geo,
    settings::{
        access_log::{
            self, Field, JWT, LineFilter, LineFormat, Output, PARAMETERS, PATTERN_SIZE, Principal, Redact,
            SECRET_ENDINGS, Statuses, TemplatePart, compact_parameter, parameter_name,
        },
        route::Route,
    },
};

mod output;
mod template;
mod words;

/// The keys of `[access_log]`.
pub(super) const KEYS: Keys = &[
    ("format", "How a line is written. `combined` is Apache's and nginx's, `ecs` the Elastic Common Schema."),
    ("fields", "The fields of `format = \"json\"`, in this order. [All of them](../logs.md#fields)."),
    ("template", "The line of `format = \"template\"`: text with fields in it, as in `${client} ${status}`."),
    ("request_headers", "Headers of the request that every line has. Those that hold secrets are refused."),
    ("response_headers", "Headers of the response that every line has. Those that hold secrets are refused."),
    ("principal", "How principals are written. `hashed`: by a keyed hash, the same for the same principal."),
    ("principal_key", "A file with the key of that hash. Without it the key is new at each start of the gateway."),
    ("statuses", "Only served requests with one of these statuses have a line: `\"5xx\"`, `\"404\"`."),
    ("slower_than", "Only served requests that took longer have a line. Beside `statuses`: one of both is enough."),
    ("routes", "Only requests of these routes have a line: their `path`, as it is configured."),
    ("only_refused", "`true`: only refused requests have a line."),
    ("sample", "The share of successes (1xx, 2xx, 3xx) that have a line, from 0 to 1. The request's id decides."),
    ("redact", "What is never written."),
    ("output", "Where lines go. Every output gets all of them. Without any: standard output."),
];

/// The keys of `[access_log.redact]`.
const REDACT_KEYS: Keys = &[
    ("parameters", "Further parameters of queries whose values are not written, whatever the case of their letters."),
    (
        "show_parameters",
        "Parameters whose values are written though they are [redacted](../logs.md#redaction) by default.",
    ),
    ("patterns", "Regular expressions. What they match in paths, queries and headers is not written."),
];

/// How long a regular expression may be.
const LONGEST_PATTERN: usize = 1_000;
/// How many of them there may be: each is looked for in every line.
const MOST_PATTERNS: usize = 32;
/// A key that is shorter can be guessed.
const SHORTEST_KEY: usize = 16;

/// What `[proxy]` says of the access log.
pub(super) struct Short {
    pub(super) outputs: Vec<Output>,
    /// `proxy.access_log` is in the file.
    pub(super) is_written: bool,
}

pub(super) fn read(table: Table<'_>, short: Short, routes: &[Route], reader: &Reader<'_>) -> access_log::Settings {
    let format = format(&table, reader);
    let request_headers = headers(&table, "request_headers");
    let response_headers = headers(&table, "response_headers");
    let principal = principal(&table);
    let keep = keep(&table, routes, reader);
    let redact = redact(table.table("redact", REDACT_KEYS), reader);
    let outputs = output::read(table.tables("output", output::KEYS), reader);
    if short.is_written && table.has("output") {
        let wrong = Diagnostic::bare("goes to `proxy.access_log` already");
        table.report("output", wrong.hint("leave `proxy.access_log` out, and write that file as an output"));
    }
    let outputs = if outputs.is_empty() { short.outputs } else { outputs };
    table.finish();
    access_log::Settings {
        format,
        request_headers,
        response_headers,
        redact,
        principal,
        keep,
        outputs,
        geo: Geo::default(),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Combined,
    Ecs,
    Json,
    Template,
}

fn format(table: &Table<'_>, reader: &Reader<'_>) -> LineFormat {
    let kinds = [("json", Kind::Json), ("combined", Kind::Combined), ("ecs", Kind::Ecs), ("template", Kind::Template)];
    let kind = table.or("format", Kind::Json, value::choice(&kinds));
    let fields = fields(table, reader);
    let template = table.optional("template", described("string", template::read));
    let only_for = |key, kind: &str| {
        let wrong = Diagnostic::bare(format!("has an effect with `format = \"{kind}\"` alone"));
        table.report(key, wrong.hint(format!("write `format = \"{kind}\"`, or leave it out")));
    };
    if kind != Kind::Json && table.has("fields") {
        only_for("fields", "json");
    }
    if kind != Kind::Template && table.has("template") {
        only_for("template", "template");
    }
    match kind {
        Kind::Combined => LineFormat::Combined,
        Kind::Ecs => LineFormat::Ecs,
        Kind::Json => LineFormat::Json(fields),
        Kind::Template => {
            if !table.has("template") {
                let wrong = Diagnostic::bare("needs a template");
                table.report("format", wrong.hint("write, for example, `template = \"${time} ${client} ${status}\"`"));
            }
            LineFormat::Template(template.unwrap_or_else(|| vec![TemplatePart::Text(String::new())]))
        }
    }
}

fn fields(table: &Table<'_>, reader: &Reader<'_>) -> Vec<Field> {
    let form = described("name of a field", |value: &DeValue<'_>| words::field(value::text(value)?))
        .written(|field: &Field| format!("{:?}", field.name()));
    let fields = match table.has("fields") {
        true => table.required_list("fields", "[\"time\", \"client\", \"status\"]", form),
        false => table.list_or("fields", Field::DEFAULT.to_vec(), form),
    };
    let mut read: Vec<Field> = Vec::new();
    for (key, field) in fields {
        if read.contains(&field) {
            let wrong = Diagnostic::bare(format!("`{}` is in the list twice", field.name()));
            reader.report(wrong.hint("leave one out").at(key));
        }
        read.push(field);
    }
    read
}

fn headers(table: &Table<'_>, key: &'static str) -> Vec<HeaderName> {
    let form = described("header name", |value: &DeValue<'_>| {
        let name = word::header(value)?;
        words::header(&name).map(|()| name)
    });
    values(table.list(key, form))
}

fn principal(table: &Table<'_>) -> Principal {
    let is_hashed = table.or("principal", false, value::choice(&[("plain", false), ("hashed", true)]));
    let key = table.file("principal_key");
    if let Some(key) = &key
        && is_hashed
        && key.bytes.len() < SHORTEST_KEY
    {
        let wrong = Diagnostic::bare(format!("has {} bytes, and could be guessed", key.bytes.len()));
        table.report("principal_key", wrong.hint("`head -c 32 /dev/urandom > principal.key` makes one"));
    }
    if !is_hashed && key.is_some() {
        let wrong = Diagnostic::bare("has no effect: principals are written as they are");
        table.report("principal_key", wrong.hint("write `principal = \"hashed\"`, or leave it out"));
    }
    if is_hashed { Principal::Hashed(key) } else { Principal::Plain }
}

fn keep(table: &Table<'_>, routes: &[Route], reader: &Reader<'_>) -> LineFilter {
    let statuses = values(table.list(
        "statuses",
        described("status or class of statuses", |value: &DeValue<'_>| {
            let text = value::text(value)?;
            let wrong = || Diagnostic::bare(format!("{text:?} is not a status"));
            Statuses::parse(text).ok_or_else(|| wrong().hint("write a status or a class: \"404\", \"5xx\""))
        }),
    ));
    let slower_than =
        table.optional("slower_than", value::duration_in(Duration::from_millis(1)..=Duration::from_secs(3_600)));
    let named = table.list("routes", described("path of a route", value::line));
    for (key, path) in &named {
        let paths = || routes.iter().map(|route| route.path.as_str());
        if !paths().any(|known| known == path) {
            let wrong = Diagnostic::bare(format!("there is no route {path:?}"));
            let hint = closest(path, paths()).map_or_else(
                || "write the `path` of a route as it is configured".to_owned(),
                |near| format!("did you mean {near:?}?"),
            );
            reader.report(wrong.hint(hint).at(key));
        }
    }
    let only_refused = table.or("only_refused", false, value::boolean());
    let sample = table.optional("sample", described("number from 0 to 1", value::share));
    for key in ["statuses", "slower_than", "routes", "sample"] {
        if only_refused && table.has(key) {
            let wrong = Diagnostic::bare("has no effect where only refusals are logged");
            table.report(key, wrong.hint("leave it out, or `only_refused`"));
        }
    }
    LineFilter {
        statuses,
        slower_than,
        routes: values(named),
        only_refused,
        sample: sample.filter(|share| *share < 1_000_000),
    }
}

fn redact(table: Table<'_>, reader: &Reader<'_>) -> Redact {
    let name = || {
        described("name of a parameter", |value: &DeValue<'_>| {
            let name = value::line(value)?;
            let wrong = || Diagnostic::bare(format!("{name:?} is not a name"));
            if name.contains(['&', '=', '%']) {
                return Err(wrong().hint("write it as it reads, decoded"));
            }
            if name.contains(['[', ']', '.']) {
                return Err(
                    wrong().hint("write one part alone: `password` matches `user[password]` and `user.password`")
                );
            }
            let read = parameter_name(&name);
            if read.chars().all(|letter| letter == '_') {
                return Err(wrong().hint("write at least one letter"));
            }
            Ok(read)
        })
    };
    let mut parameters = PARAMETERS.map(str::to_owned).to_vec();
    parameters.extend(values(table.list("parameters", name())));
    let mut shown = Vec::new();
    for (key, name) in table.list("show_parameters", name()) {
        let compact = compact_parameter(&name);
        let is_listed = parameters.iter().any(|parameter| compact_parameter(parameter) == compact);
        if !is_listed && !SECRET_ENDINGS.iter().any(|ending| compact.ends_with(ending)) {
            let wrong = Diagnostic::bare(format!("{name:?} is not redacted"));
            reader.report(wrong.hint("leave it out").at(key));
        }
        shown.push(name);
    }
    let is_shown = |name: &str| shown.iter().any(|shown| compact_parameter(shown) == compact_parameter(name));
    parameters.retain(|parameter| !is_shown(parameter));
    let read = values(table.list("patterns", described("regular expression", pattern)));
    if read.len() > MOST_PATTERNS {
        let wrong = Diagnostic::bare(format!("{} patterns are more than {MOST_PATTERNS}", read.len()));
        table.report("patterns", wrong.hint("join some of them by `|`"));
    }
    let mut patterns = vec![JWT.to_owned()];
    patterns.extend(read);
    table.finish();
    Redact { parameters, shown, patterns }
}

fn pattern(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let text = value::line(value)?;
    if text.len() > LONGEST_PATTERN {
        let wrong = Diagnostic::bare(format!("has {} characters", text.len()));
        return Err(wrong.hint(format!("write at most {LONGEST_PATTERN}, or several patterns")));
    }
    let compiled = RegexBuilder::new(&text).size_limit(PATTERN_SIZE).build();
    let compiled = compiled.map_err(|error| {
        let error = error.to_string();
        let last = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Diagnostic::bare(format!("is not a regular expression: {last}"))
            .hint("the syntax is that of https://docs.rs/regex; look-around and back-references are not in it")
    })?;
    if compiled.is_match("") {
        return Err(Diagnostic::bare("matches the empty text, so it would match everywhere")
            .hint("ask for at least one character: `+` in the place of `*`"));
    }
    Ok(text)
}
