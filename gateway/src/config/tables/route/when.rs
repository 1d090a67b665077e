//! Reads `route.when`: what else must be true of a request.

use http::HeaderName;

use crate::{
    config::{
        reader::Table,
        value::{self},
    },
    diagnostic::Diagnostic,
    settings::route::{Condition, Subject, Test},
};

/// One `when`: what is looked at, and what it must be.
pub(super) fn read(mut table: Table<'_>) -> Option<Condition> {
    let header = table.optional("header", |value| {
        let text = value::line(value)?;
        let wrong =
            || Diagnostic::bare(format!("{text:?} is no header")).hint("write its name alone, as in \"x-version\"");
        let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_no_name| wrong())?;
        if name == http::header::HOST {
            return Err(Diagnostic::bare("is what `host` is for").hint("write `host` in the route"));
        }
        Ok(Subject::Header(name))
    });
    let query = table.optional("query", |value| value::line(value).map(Subject::Query));
    let equals = table.optional("equals", |value| Ok(Test::Equals(value::text(value)?.to_owned())));
    let prefix = table.optional("prefix", |value| value::line(value).map(Test::Prefix));
    let present = table.optional("present", |value| match value::boolean(value)? {
        true => Ok(Test::Present),
        false => Err(Diagnostic::bare("false is not told apart").hint("leave the condition to the other route")),
    });
    let named = |names: &[&str]| names.iter().filter(|name| table.has(name)).count();
    let (subjects, tests) = (named(&["header", "query"]), named(&["equals", "prefix", "present"]));
    let key = table.own_key().to_owned();
    // What is misspelt is told as such, and not as missing, too.
    let misspelt = table.has_unknown();
    if subjects != 1 && !(subjects == 0 && misspelt) {
        let hint = "write { header = \"x-version\", equals = \"2\" }";
        table.report("header", Diagnostic::bare("one of `header` and `query` is what a condition looks at").hint(hint));
    } else if tests != 1 && !(tests == 0 && misspelt) {
        let hint = "write one of equals = \"2\", prefix = \"2.\", present = true";
        table.report("equals", Diagnostic::bare(format!("{key} says {tests} things of its value")).hint(hint));
    }
    table.finish();
    Some(Condition { subject: header.or(query)?, test: equals.or(prefix).or(present)? })
}
