//! Reads which headers a route changes: `request_headers`, `response_headers` and `pass_headers`.

use http::{HeaderName, HeaderValue};
use toml::de::DeValue;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{self, form::described},
    },
    diagnostic::Diagnostic,
    settings::edits::{Edits, HeaderSide},
    web::header_names::{self, HeaderKind},
};

/// The keys of `[route.request_headers]` and `[route.response_headers]`.
pub(super) const KEYS: Keys = &[
    ("remove", "The headers to remove."),
    ("set", "Headers to set, instead of those of the same name."),
    ("add", "Headers to add."),
];

/// What stands for names of headers, which are the operator's own.
const PAIRS: Keys = &[("HEADER", "The value of this header.")];

/// The longest value, in bytes.
const LONGEST_VALUE: usize = 4 * 1_024;

pub(super) fn edits(table: Table<'_>, side: HeaderSide, reader: &Reader<'_>) -> Option<Edits> {
    let remove = table.list("remove", described("header name", |value| name(&value::line(value)?, side)));
    let set = pairs(table.table("set", PAIRS), side, reader);
    let add = pairs(table.table("add", PAIRS), side, reader);
    let names: Vec<(&str, &HeaderName)> = (remove.iter().map(|(key, name)| (key.as_str(), name)))
        .chain(set.iter().map(|(key, name, _)| (key.as_str(), name)))
        .collect();
    for (index, (key, name)) in names.iter().enumerate() {
        if names.iter().take(index).any(|(_, earlier)| earlier == name) {
            let wrong = Diagnostic::bare(format!("{name} is removed or set twice"));
            reader.report(wrong.hint("name each header once: `set` replaces what is there").at(*key));
        }
    }
    table.finish();
    let pair = |(_, name, value)| (name, value);
    let edits = Edits {
        remove: remove.into_iter().map(|(_, name)| name).collect(),
        set: set.into_iter().map(pair).collect(),
        add: add.into_iter().map(pair).collect(),
    };
    (!edits.is_empty()).then_some(edits)
}

/// Reports what would be written over: a route with CORS says nothing else about it.
pub(super) fn beside_cors(has_cors: bool, edits: Option<&Edits>, table: &Table<'_>) {
    let Some(edits) = edits.filter(|_| has_cors) else { return };
    let named = edits.remove.iter().chain(edits.set.iter().chain(&edits.add).map(|(name, _)| name));
    if let Some(name) = named.into_iter().find(|name| name.as_str().starts_with("access-control-")) {
        let wrong = Diagnostic::bare(format!("changes {name}, which the route's CORS group sets"));
        table.report("response_headers", wrong.hint("leave it out, or write `cors = \"none\"` in the route"));
    }
}

/// `pass_headers`: what clients may send although the gateway would take it away.
pub(super) fn pass_headers(table: &Table<'_>, edits: Option<&Edits>, reader: &Reader<'_>) -> Vec<HeaderName> {
    let named = table.list(
        "pass_headers",
        described("header name", |value| {
            let text = value::line(value)?;
            let no_name = || {
                Diagnostic::bare(format!("{text:?} is not a header name"))
                    .hint("write its name alone, as in \"x-user-id\"")
            };
            let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_no_name| no_name())?;
            // What a program may read it as counts (T02).
            match header_names::kind(&header_names::folded(name.as_str())) {
                HeaderKind::Own => {
                    let wrong = Diagnostic::bare(format!(
                        "{name} is a header that the gateway sets, or another spelling of one"
                    ));
                    Err(wrong.hint("leave it out: upstreams trust it"))
                }
                HeaderKind::Message if header_names::kind(name.as_str()) == HeaderKind::Message => {
                    Err(Diagnostic::bare(format!("{name} always passes")).hint("leave it out"))
                }
                HeaderKind::Alias | HeaderKind::Message | HeaderKind::Other => Ok(name),
            }
        }),
    );
    let edited = |edits: &Edits, folded: &str| {
        let named = edits.remove.iter().chain(edits.set.iter().chain(&edits.add).map(|(name, _)| name));
        named.into_iter().any(|name| name.as_str() == folded)
    };
    for (key, name) in &named {
        let folded = header_names::folded(name.as_str());
        if edits.is_some_and(|edits| edited(edits, &folded)) {
            let wrong =
                Diagnostic::bare(format!("some upstreams read {name} as {folded}, which `request_headers` changes"));
            reader.report(wrong.hint("leave it out of one of them").at(key.as_str()));
        }
    }
    named.into_iter().map(|(_, name)| name).collect()
}

fn pairs(table: Table<'_>, side: HeaderSide, reader: &Reader<'_>) -> Vec<(String, HeaderName, HeaderValue)> {
    let pair = |(key, text, value): (String, String, Result<HeaderValue, Diagnostic>)| {
        let name = name(&text, side).map_err(|wrong| reader.report(wrong.at(&key)));
        let value = value.map_err(|wrong| reader.report(wrong.at(&key)));
        Some((key, name.ok()?, value.ok()?))
    };
    table.named_values(header_value).into_iter().filter_map(pair).collect()
}

fn name(text: &str, side: HeaderSide) -> Result<HeaderName, Diagnostic> {
    let no_name =
        || Diagnostic::bare(format!("{text:?} is not a header name")).hint("write its name alone, as in \"x-version\"");
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_no_name| no_name())?;
    if let Some(why) = side.refuses(&name) {
        return Err(Diagnostic::bare(format!("{name} {why}")).hint("leave it to the gateway"));
    }
    // `X_User` and `X.User` are `X-User` to whoever turns names into variables (T02).
    if side == HeaderSide::Request && name.as_str().contains(['_', '.']) {
        return Err(
            Diagnostic::bare(format!("some upstreams read {name} as another header")).hint("write it with hyphens")
        );
    }
    Ok(name)
}

fn header_value(value: &DeValue<'_>) -> Result<HeaderValue, Diagnostic> {
    let text = value::line(value)?;
    let wrong = |message: &str, hint: &str| Err(Diagnostic::bare(message).hint(hint));
    if text.len() > LONGEST_VALUE {
        return wrong("is longer than 4KiB", "servers take no such headers: write less");
    }
    if text.trim() != text {
        return wrong("begins or ends with a space, which would be lost", "leave the space out");
    }
    match HeaderValue::from_str(&text) {
        Ok(value) if text.is_ascii() => Ok(value),
        _ => wrong("has letters beyond ASCII", "write it in ASCII, encoded as its reader expects"),
    }
}
