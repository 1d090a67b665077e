//! Reads `[api.NAME]`: the OpenAPI documents that routes hold requests against.

use toml::de::DeValue;

use crate::{
    config::{
        document::join,
        reader::{Keys, Reader},
        table::{Table, values},
        value::{self, closest, form::described},
    },
    diagnostic::Diagnostic,
    settings::{
        auth::Method,
        validate::{Api, RefusesUnknown},
    },
};

/// The keys of `[api.NAME]`.
pub(super) const KEYS: Keys = &[
    ("openapi", "The document: OpenAPI 3.0, 3.1 or 3.2, in JSON or YAML."),
    ("base_path", "The path that the paths of the document begin with. Without it: those of the document's `servers`."),
    (
        "security",
        "Which method proves a security scheme of the document, by its name, where the scheme itself does not say it.",
    ),
    ("unknown_query", "Parameters of the query that the document does not declare: `refuse` or `allow`."),
    ("unknown_headers", "Headers that are neither usual nor declared by the document: `allow` or `refuse`."),
    ("unknown_cookies", "Cookies that the document does not declare: `allow` or `refuse`."),
    ("read_only", "Members of bodies that the document calls `readOnly`: `refuse` or `allow`."),
    (
        "unvalidated",
        "Media types of bodies that pass although the gateway cannot judge them, such as `application/xml`.",
    ),
    ("report_only", "`true`: what breaks the document is logged, and passes."),
    ("responses", "Responses that break the document: `off`, or `report` to count and log them. They pass."),
];

/// The keys of `[api.NAME.security]`.
const SECURITY: Keys = &[("SCHEME", "The method that proves this scheme.")];

pub(super) fn read(tables: Vec<(String, Table<'_>)>, methods: &[Method]) -> Vec<Api> {
    tables.into_iter().map(|(name, table)| api(name, table, methods)).collect()
}

fn api(name: String, table: Table<'_>, methods: &[Method]) -> Api {
    let document = table.required_file("openapi", "\"shop.yaml\"");
    let base_path = table.optional("base_path", described("path", base_path));
    let words = Method::ALL.map(|method| (method.name(), method));
    let security = table.table("security", SECURITY);
    let mut mapped = Vec::new();
    for (_, scheme, method) in security.named_values(value::choice(&words)) {
        match method {
            Ok(method) if methods.contains(&method) => mapped.push((scheme, method)),
            Ok(method) => {
                let wrong =
                    Diagnostic::bare(format!("{:?} is not configured: nobody could be let in by it", method.name()));
                table.report("security", wrong.hint(format!("add a {} table", method.table())));
            }
            Err(wrong) => table.report("security", wrong),
        }
    }
    let allow = [("refuse", false), ("allow", true)];
    let refuse = [("refuse", true), ("allow", false)];
    let refuses = |key, default| table.or(key, default, value::choice(&refuse));
    let refuses_unknown = RefusesUnknown {
        cookies: refuses("unknown_cookies", false),
        headers: refuses("unknown_headers", false),
        query: refuses("unknown_query", true),
    };
    let allows_read_only = table.or("read_only", false, value::choice(&allow));
    let unvalidated = values(table.list("unvalidated", described("media type", value::line)));
    let report_only = table.or("report_only", false, value::boolean());
    let reports_responses = table.or("responses", false, value::choice(&[("off", false), ("report", true)]));
    table.finish();
    Api {
        name,
        document,
        base_path,
        security: mapped,
        refuses_unknown,
        allows_read_only,
        unvalidated,
        report_only,
        reports_responses,
    }
}

fn base_path(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let text = value::line(value)?;
    if !text.starts_with('/') || text.contains(['?', '#', '{', '}']) {
        let wrong = Diagnostic::bare(format!("{text:?} is no path"));
        return Err(wrong.hint("write it from its slash: \"/v1\""));
    }
    Ok(text)
}

/// The API that a route names.
pub(super) fn of_route(table: &Table<'_>, apis: &[Api]) -> Option<usize> {
    table.optional(
        "api",
        described("name of an `[api.NAME]`", |value| {
            let name = value::text(value)?;
            apis.iter().position(|api| api.name == name).ok_or_else(|| {
                let wrong = Diagnostic::bare(format!("there is no [api.{name}]"));
                match closest(name, apis.iter().map(|api| api.name.as_str())) {
                    Some(near) => wrong.hint(format!("did you mean {near:?}?")),
                    None => wrong.hint(format!("add `[api.{name}]` with `openapi`")),
                }
            })
        }),
    )
}

/// Warns of documents that no route has.
pub(super) fn warn_of_unused(apis: &[Api], used: impl Fn(usize) -> bool, reader: &Reader<'_>) {
    for (_, api) in apis.iter().enumerate().filter(|(index, _)| !used(*index)) {
        let warning = Diagnostic::new(join("api", &api.name), "is not used by any route");
        reader.warn(warning.hint("remove it, or name it in a route's `api`"));
    }
}
