//! Reads `route.when`: what else must be true of a request.

use http::HeaderName;

use crate::{
    config::{
        reader::Keys,
        table::Table,
        value::{
            self,
            form::{Form, described},
        },
    },
    diagnostic::Diagnostic,
    settings::route::{RouteCondition, Subject, Test},
};

/// The keys of `[[route.when]]`.
pub(super) const KEYS: Keys = &[
    ("header", "The header to look at. A condition has one of `header` and `query`."),
    ("query", "The query parameter to look at."),
    ("equals", "The value must be this. A condition has one of `equals`, `prefix` and `present`."),
    ("prefix", "The value must begin with this."),
    ("present", "`true`: there must be a value, whatever it is."),
];

/// One `when`: what is looked at, and what it must be.
pub(super) fn read(table: Table<'_>) -> Option<RouteCondition> {
    let header = table.optional(
        "header",
        described("header name", |value| {
            let text = value::line(value)?;
            let wrong = || {
                Diagnostic::bare(format!("{text:?} is not a header name"))
                    .hint("write its name alone, as in \"x-version\"")
            };
            let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_no_name| wrong())?;
            if name == http::header::HOST {
                return Err(
                    Diagnostic::bare("cannot be a condition: `host` matches it").hint("write `host` in the route")
                );
            }
            Ok(Subject::Header(name))
        }),
    );
    let query = table.optional("query", described("string", |value| value::line(value).map(Subject::Query)));
    let equals =
        table.optional("equals", described("string", |value| Ok(Test::Equals(value::text(value)?.to_owned()))));
    let prefix = table.optional("prefix", described("string", |value| value::line(value).map(Test::Prefix)));
    let present = table.optional(
        "present",
        described("`true`", |value| match value::boolean().read(value)? {
            true => Ok(Test::Present),
            false => Err(Diagnostic::bare("false is not supported").hint("put the condition on the other route")),
        }),
    );
    let named = |names: &[&str]| names.iter().filter(|name| table.has(name)).count();
    let (subjects, tests) = (named(&["header", "query"]), named(&["equals", "prefix", "present"]));
    // What is misspelt is told as such, and not as missing, too.
    let misspelt = table.has_unknown();
    if subjects != 1 && !(subjects == 0 && misspelt) {
        let hint = "write { header = \"x-version\", equals = \"2\" }";
        table.report("header", Diagnostic::bare("a condition needs exactly one of `header` and `query`").hint(hint));
    } else if tests != 1 && !(tests == 0 && misspelt) {
        let hint = "write one of equals = \"2\", prefix = \"2.\", present = true";
        table.report(
            "equals",
            Diagnostic::bare("a condition needs exactly one of `equals`, `prefix` and `present`").hint(hint),
        );
    }
    table.finish();
    Some(RouteCondition { subject: header.or(query)?, test: equals.or(prefix).or(present)? })
}
