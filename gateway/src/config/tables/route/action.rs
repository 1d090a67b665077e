//! Reads who answers the requests of a route: `upstream`, `redirect` or `respond`, and the path that an upstream is
//! asked for.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use toml::de::DeValue;

use super::references::RouteReferences;
use crate::{
    config::{
        reader::Keys,
        table::Table,
        value::{
            self, address, closest,
            form::{Form, described},
        },
    },
    diagnostic::Diagnostic,
    settings::route::{Action, FixedResponse, Redirect, Rewrite},
    web::path::pattern::PathPattern,
};

/// The keys of `[route.redirect]`.
const REDIRECT_KEYS: Keys = &[
    ("status", "The status of the response."),
    ("to", "Where to: a URL, or a path on the same host. It may hold parameters of `path`, or `{path}`."),
];

/// The keys of `[route.respond]`.
const RESPOND_KEYS: Keys = &[
    ("status", "The status of the response."),
    ("body", "The body of the response. At most 64KiB."),
    ("content_type", "The media type of `body`. Without it: `text/plain; charset=utf-8`."),
];

/// The longest fixed answer: it is kept in memory.
const LONGEST_BODY: usize = 64 * 1_024;

/// What is said of requests on their way to an upstream.
const FORWARDED: [&str; 12] = [
    "content_encoding",
    "form",
    "graphql",
    "max_body",
    "request_headers",
    "rewrite",
    "schema",
    "strip_prefix",
    "timeouts",
    "upgrade",
    "waf",
    "waf_threshold",
];

/// `path` is the route's, where it is a template.
pub(super) fn read(table: &Table<'_>, path: Option<&str>, known: &RouteReferences<'_>) -> Option<Action> {
    let named: Vec<&str> = ["upstream", "redirect", "respond"].into_iter().filter(|name| table.has(name)).collect();
    if let [first, second, ..] = named.as_slice() {
        let wrong = Diagnostic::bare(format!("cannot be combined with `{first}`"));
        table.report(second, wrong.hint("keep one of them, or write a `[[route]]` for each"));
    }
    let redirect = redirect(table.table("redirect", REDIRECT_KEYS), path);
    let respond = respond(table.table("respond", RESPOND_KEYS));
    if matches!(named.first(), None | Some(&"upstream")) {
        let upstream = |value: &DeValue<'_>| upstream(value::text(value)?, known);
        return table
            .required("upstream", "\"items\"", described("name of an upstream", upstream))
            .map(Action::Forward);
    }
    for key in FORWARDED.into_iter().filter(|key| table.has(key)) {
        let wrong = Diagnostic::bare("has no effect without an `upstream`");
        table.report(key, wrong.hint("leave it out, or name an `upstream`"));
    }
    if table.has("upstream") {
        table.optional("upstream", described("name of an upstream", |value| upstream(value::text(value)?, known)));
    }
    redirect.map(Action::Redirect).or(respond.map(Action::Respond))
}

/// `strip_prefix` or `rewrite`.
pub(super) fn rewrite(table: &Table<'_>, path: Option<&str>) -> Option<Rewrite> {
    if table.has("strip_prefix") && table.has("rewrite") {
        let wrong = Diagnostic::bare("cannot be combined with `strip_prefix`");
        table.report("rewrite", wrong.hint("keep one of them: `rewrite` can do what `strip_prefix` does"));
    }
    // Of the parameters of a path that is none itself nothing can be said.
    let Some(path) = path else {
        table.optional("strip_prefix", value::line);
        table.optional("rewrite", value::line);
        return None;
    };
    let strip = |value: &DeValue<'_>| PathPattern::strip(&value::line(value)?, path);
    let strip = table.optional("strip_prefix", strip).map(Rewrite::Strip);
    let read = |value: &DeValue<'_>| PathPattern::read(&value::line(value)?, path);
    strip.or(table.optional("rewrite", read).map(Rewrite::Template))
}

fn upstream(name: &str, known: &RouteReferences<'_>) -> Result<usize, Diagnostic> {
    let names = || known.upstreams.iter().map(|upstream| upstream.settings.name.as_str());
    if let Some(index) = names().position(|known| known == name) {
        return Ok(index);
    }
    let wrong = Diagnostic::bare(format!("there is no upstream {name:?}"));
    Err(match closest(name, names()) {
        Some(near) => wrong.hint(format!("did you mean {near:?}?")),
        None => wrong.hint(format!("add `[upstream.{name}]` with `servers`")),
    })
}

fn redirect(table: Table<'_>, path: Option<&str>) -> Option<Redirect> {
    if !table.is_present() {
        return None;
    }
    let status = table.or(
        "status",
        308,
        described("301, 302, 303, 307 or 308", |value| match value::integer(300..=399_u16).read(value)? {
            status @ (301 | 302 | 303 | 307 | 308) => Ok(status),
            status => {
                let hint = "write 308 or 307 (same method), 301 or 302 (as browsers like), or 303 (by GET)";
                Err(Diagnostic::bare(format!("{status} is not a redirect status")).hint(hint))
            }
        })
        .written(u16::to_string),
    );
    let to = table.required(
        "to",
        "\"https://www.example.com{path}\"",
        described("URL or path", |value| {
            let text = value::line(value)?;
            path.map(|path| elsewhere(&text, path)).transpose()
        }),
    );
    table.finish();
    let (origin, path) = to??;
    Some(Redirect { status: StatusCode::from_u16(status).unwrap_or(StatusCode::PERMANENT_REDIRECT), origin, path })
}

/// Scheme and authority, literally, and the path.
fn elsewhere(text: &str, path: &str) -> Result<(String, PathPattern), Diagnostic> {
    const HINT: &str = "write \"https://www.example.com{path}\", or \"/new/{id}\" for the same host";
    if text.starts_with('/') {
        return Ok((String::new(), PathPattern::read(text, path)?));
    }
    let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https")) else {
        return Err(Diagnostic::bare(format!("{text:?} is neither a URL nor a path")).hint(HINT));
    };
    // A parameter within the authority would let whoever writes the link choose where it leads.
    let authority = rest.split('/').next().unwrap_or_default();
    let authority = authority.strip_suffix("{path}").unwrap_or(authority);
    let pattern = rest.strip_prefix(authority).unwrap_or_default();
    let bracket = authority.rfind(']').map_or(0, |end| end + 1);
    let colon = authority.get(bracket..).and_then(|behind| behind.find(':')).map(|colon| bracket + colon);
    let (host, port) = authority.split_at(colon.unwrap_or(authority.len()));
    let host = address::host(host).map_err(|wrong| Diagnostic { hint: Some(HINT.to_owned()), ..wrong })?;
    let number: Option<u16> = port.strip_prefix(':').and_then(|digits| digits.parse().ok());
    if !port.is_empty() && number.is_none_or(|number| port != format!(":{number}") || number == 0) {
        return Err(Diagnostic::bare(format!("{text:?} has no port from 1 to 65535")).hint(HINT));
    }
    let pattern = PathPattern::read(if pattern.is_empty() { "/" } else { pattern }, path)?;
    Ok((format!("{scheme}://{host}{port}"), pattern))
}

fn respond(table: Table<'_>) -> Option<FixedResponse> {
    if !table.is_present() {
        return None;
    }
    let status =
        table.or(
            "status",
            StatusCode::OK,
            described("200 to 299, or 400 to 599", |value| {
                let status = value::integer(100..=599_u16).read(value)?;
                if status < 200 {
                    return Err(Diagnostic::bare(format!("{status} is an interim status"))
                        .hint("write 200 to 299, or 400 to 599"));
                }
                if (300..400).contains(&status) {
                    return Err(Diagnostic::bare(format!("{status} is a redirect status"))
                        .hint("write `redirect` with its `to`"));
                }
                StatusCode::from_u16(status).map_err(|_no_status| Diagnostic::bare("is not a status"))
            })
            .written(|status| status.as_u16().to_string()),
        );
    let body = table.or(
        "body",
        String::new(),
        described("string", |value| {
            let body = value::text(value)?;
            if body.len() > LONGEST_BODY {
                let wrong = Diagnostic::bare(format!("is {} bytes long, and it is kept in memory", body.len()));
                return Err(wrong.hint("write at most 64KiB, or serve it from an upstream"));
            }
            Ok(body.to_owned())
        })
        .written(|body| format!("{body:?}")),
    );
    let content_type = table.optional(
        "content_type",
        described("media type", |value| {
            let text = value::line(value)?;
            let wrong = || {
                Diagnostic::bare(format!("{text:?} is not a media type")).hint("write \"text/plain; charset=utf-8\"")
            };
            let is_one = text.is_ascii()
                && text.split_once('/').is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
            HeaderValue::from_str(&text).ok().filter(|_| is_one).ok_or_else(wrong)
        }),
    );
    if content_type.is_some() && body.is_empty() {
        table.report(
            "content_type",
            Diagnostic::bare("has no effect without `body`").hint("write a `body`, or leave it out"),
        );
    }
    if matches!(status.as_u16(), 204 | 205) && !body.is_empty() {
        let wrong = Diagnostic::bare(format!("a response with status {} has no body", status.as_u16()));
        table.report("body", wrong.hint("write status = 200, or leave the body out"));
    }
    table.finish();
    let content_type = content_type.unwrap_or(HeaderValue::from_static("text/plain; charset=utf-8"));
    Some(FixedResponse { status, content_type: (!body.is_empty()).then_some(content_type), body: Bytes::from(body) })
}
