//! Reads `[identity_headers]`: what upstreams are told of who the client is.

use http::HeaderName;
use toml::de::DeValue;

use super::issuer::claim_path;
use crate::{
    config::{
        document::join,
        reader::{Keys, Reader},
        table::Table,
        value::{self, closest, form::described},
    },
    diagnostic::Diagnostic,
    settings::{
        auth::Method,
        edits::HeaderSide,
        identity_headers::{self, HeaderPart, IdentityHeader},
        route::Route,
    },
    web::header_names::{self, HeaderKind},
};

/// What stands for names of headers, which are the operator's own.
pub(super) const KEYS: Keys =
    &[("HEADER", "The value of this header: text, `{principal}`, `{roles}`, `{scopes}`, `{method}`, `{claims.PATH}`.")];

/// The fields, but for claims.
const FIELDS: [(&str, HeaderPart); 4] = [
    ("method", HeaderPart::Method),
    ("principal", HeaderPart::Principal),
    ("roles", HeaderPart::Roles),
    ("scopes", HeaderPart::Scopes),
];

/// The most headers.
const MOST: usize = 20;

/// `methods`: those of authentication that are configured.
pub(super) fn read(table: Table<'_>, methods: &[Method], reader: &Reader<'_>) -> identity_headers::Settings {
    let (own_key, is_present) = (table.own_key().to_owned(), table.is_present());
    let mut headers: identity_headers::Settings = Vec::new();
    for (key, text, value) in table.named_values(described("string", template)) {
        match (name(&text), value) {
            (Ok(name), Ok(value)) => headers.push(IdentityHeader { name, value }),
            (name, value) => {
                name.err().into_iter().chain(value.err()).for_each(|wrong| reader.report(wrong.at(&key)));
            }
        }
    }
    if is_present && methods.is_empty() && !reader.is_reference() {
        let wrong = Diagnostic::new(&own_key, "has no effect: nothing gives an identity");
        reader.report(wrong.hint("configure [jwt], [basic] or [client_certificates.NAME], or leave it out"));
    } else if !methods.iter().any(|method| method.is_token()) {
        let of_tokens = |piece: &HeaderPart| matches!(piece, HeaderPart::Claim(_) | HeaderPart::Scopes);
        for header in headers.iter().filter(|header| header.value.iter().any(of_tokens)) {
            let wrong =
                Diagnostic::new(join(&own_key, header.name.as_str()), "would never be set: there are no tokens");
            reader.report(wrong.hint("add a [jwt] table, or use {principal} and {roles}"));
        }
    }
    if headers.len() > MOST {
        reader.report(Diagnostic::new(own_key, format!("has over {MOST} headers")).hint("tell upstreams less"));
    }
    headers
}

/// Reports what routes do to these headers, which are the gateway's own.
pub(super) fn judge_routes(own: &[HeaderName], routes: &[Route], reader: &Reader<'_>) {
    for (index, route) in routes.iter().enumerate() {
        let edits = route.request_headers.iter();
        let edited =
            edits.flat_map(|edits| edits.remove.iter().chain(edits.set.iter().chain(&edits.add).map(|pair| &pair.0)));
        for name in edited.filter(|name| own.contains(name)) {
            let wrong = Diagnostic::new(
                format!("route[{index}].request_headers"),
                format!("changes {name}, which the gateway sets"),
            );
            reader.report(wrong.hint("leave it out of one of them"));
        }
        let folded = |name: &&HeaderName| {
            let folded = header_names::folded(name.as_str());
            own.iter().any(|own| own.as_str() == folded)
        };
        for name in route.pass_headers.iter().filter(folded) {
            let wrong = Diagnostic::new(
                format!("route[{index}].pass_headers"),
                format!("lets {name} pass, which some upstreams read as a header of the gateway"),
            );
            reader.report(wrong.hint("leave it out: upstreams trust it"));
        }
    }
}

/// A name that upstreams read in one way, and that is nobody else's.
pub(super) fn name(text: &str) -> Result<HeaderName, Diagnostic> {
    let no_name =
        || Diagnostic::bare(format!("{text:?} is not a header name")).hint("write its name alone, as in \"x-user\"");
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_no_name| no_name())?;
    if let Some(why) = HeaderSide::Request.refuses(&name) {
        return Err(Diagnostic::bare(format!("{name} {why}")).hint("choose another name, as in \"x-user\""));
    }
    match header_names::kind(name.as_str()) {
        HeaderKind::Own => {
            Err(Diagnostic::bare(format!("{name} is a header that the gateway sets")).hint("choose another name"))
        }
        HeaderKind::Alias => {
            Err(Diagnostic::bare(format!("some upstreams read {name} as another header")).hint("write it with hyphens"))
        }
        HeaderKind::Message | HeaderKind::Other if is_of_the_message(name.as_str()) => {
            Err(Diagnostic::bare(format!("{name} says something else about a request"))
                .hint("choose another name, as in \"x-user\""))
        }
        HeaderKind::Message | HeaderKind::Other => Ok(name),
    }
}

/// Standard headers, which upstreams need as clients send them.
fn is_of_the_message(name: &str) -> bool {
    const BEGINNINGS: [&str; 5] = ["accept", "access-control-", "content-", "if-", "sec-"];
    const NAMES: [&str; 11] = [
        "authorization",
        "cache-control",
        "cookie",
        "date",
        "from",
        "host",
        "origin",
        "range",
        "referer",
        "user-agent",
        "via",
    ];
    NAMES.contains(&name) || BEGINNINGS.iter().any(|start| name.starts_with(start))
}

/// The pieces of a value.
fn template(value: &DeValue<'_>) -> Result<Vec<HeaderPart>, Diagnostic> {
    let text = value::line(value)?;
    if !text.is_ascii() {
        return Err(Diagnostic::bare("has letters beyond ASCII").hint("write it in ASCII"));
    }
    let mut pieces = Vec::new();
    let mut rest = text.as_str();
    while let Some((before, behind)) = rest.split_once('{') {
        push(&mut pieces, before)?;
        let Some((field, behind)) = behind.split_once('}') else {
            let wrong = Diagnostic::bare("has a `{` that is not closed");
            return Err(wrong.hint("write a field as `{principal}`"));
        };
        pieces.push(piece(field)?);
        rest = behind;
    }
    push(&mut pieces, rest)?;
    if pieces.iter().all(|piece| matches!(piece, HeaderPart::Text(_))) {
        let wrong = Diagnostic::bare("says nothing of the client: it has no field");
        return Err(wrong.hint("write, for example, \"{principal}\"; fixed headers are `request_headers` of a route"));
    }
    Ok(pieces)
}

fn push(pieces: &mut Vec<HeaderPart>, text: &str) -> Result<(), Diagnostic> {
    if text.contains('}') {
        return Err(Diagnostic::bare("has a `}` that closes nothing").hint("write a field as `{principal}`"));
    }
    if !text.is_empty() {
        pieces.push(HeaderPart::Text(text.to_owned()));
    }
    Ok(())
}

fn piece(field: &str) -> Result<HeaderPart, Diagnostic> {
    if let Some(path) = field.strip_prefix("claims.") {
        return claim_path(path).map(HeaderPart::Claim);
    }
    if let Some((_, piece)) = FIELDS.iter().find(|(name, _)| *name == field) {
        return Ok(piece.clone());
    }
    let wrong = Diagnostic::bare(format!("{{{field}}} is unknown"));
    Err(match closest(field, FIELDS.iter().map(|(name, _)| *name)) {
        Some(near) => wrong.hint(format!("did you mean `{{{near}}}`?")),
        None => wrong.hint("known are {principal}, {roles}, {scopes}, {method} and {claims.PATH}"),
    })
}
