//! Decides what is served: `[[route]]`.

use http::{HeaderName, Method};
use toml::de::DeValue;

use super::{
    cors, process,
    table::{Reader, Table},
    upgrade,
    value::{self, Wrong, closest},
};
use crate::{
    fault::Fault,
    path::PathRules,
    settings::{
        authz::{self, Requirement},
        cors::Cors,
        edits::Side,
        route::{Condition, Route, Subject, Test, Then},
        timeouts::Timeouts,
        upstream::Upstream,
    },
};

mod edits;
mod then;

/// No body may be larger: it is measured in memory where a schema reads it.
pub(super) const LARGEST_BODY: u64 = 1 << 30;

/// What routes refer to.
pub(super) struct Known<'a> {
    pub(super) upstreams: &'a [NamedUpstream],
    pub(super) roles: &'a authz::Settings,
    pub(super) jwt: bool,
    /// Where routes say nothing else.
    pub(super) timeouts: &'a Timeouts,
    /// Whether clients may show certificates.
    pub(super) certificates: bool,
    /// What pages of other origins may do.
    pub(super) cors: &'a [Cors],
}

/// An upstream and the key of its table.
pub(super) struct NamedUpstream {
    pub(super) key: String,
    pub(super) settings: Upstream,
}

pub(super) fn routes(tables: Vec<Table<'_>>, known: &Known<'_>, reader: &Reader<'_>) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    let mut used = vec![false; known.upstreams.len()];
    let mut used_cors = vec![false; known.cors.len()];
    if tables.is_empty() {
        reader.warn(Fault::new("route", "there is none: every request is answered 404").hint("add a `[[route]]`"));
    }
    for mut table in tables {
        let host = table.optional("host", |value| value::host_or_wildcard(value::text(value)?));
        let path = table.required("path", "\"/items/{id}\"", path);
        let methods = methods(&mut table, reader);
        let when = table.tables("when").into_iter().filter_map(condition).collect();
        let require = require(&mut table, known, reader);
        let then = then::then(&mut table, path.as_deref(), known);
        let rewrite = then::rewrite(&mut table, path.as_deref());
        let request_headers = edits::edits(table.table("request_headers"), Side::Request, reader);
        let response_headers = edits::edits(table.table("response_headers"), Side::Response, reader);
        let pass_headers = edits::pass_headers(&mut table, request_headers.as_ref(), reader);
        let allow_in_path = allow_in_path(&mut table, then.as_ref());
        let timeouts = timeouts(&mut table, known.timeouts);
        let schema = table.file("schema");
        let max_body = table.optional("max_body", value::size_in(0..=LARGEST_BODY));
        let upstream = then.as_ref().and_then(Then::upstream);
        let upgrade =
            upgrade::upgrade(&mut table, upstream.and_then(|index| known.upstreams.get(index)), &require, known.jwt);
        let cors = cors::of_route(&mut table, known.cors);
        edits::beside_cors(cors.is_some(), response_headers.as_ref(), &table);
        let access_log = table.or("access_log", true, value::boolean);
        if let Some(used) = upstream.and_then(|index| used.get_mut(index)) {
            *used = true;
        }
        if let Some(used) = cors.and_then(|index| used_cors.get_mut(index)) {
            *used = true;
        }
        if let Some(path) = path {
            // Whether two routes are in each other's way is found when they are compiled.
            routes.push(Route {
                host,
                path,
                methods,
                when,
                require,
                then: then.unwrap_or(Then::Forward(0)),
                rewrite,
                request_headers,
                response_headers,
                pass_headers,
                allow_in_path,
                timeouts,
                schema,
                max_body,
                access_log,
                upgrade,
                cors,
            });
        }
        table.finish();
    }
    cors::unused(known.cors, &used_cors, reader);
    for upstream in known.upstreams.iter().zip(used).filter_map(|(upstream, used)| (!used).then_some(upstream)) {
        reader.warn(
            Fault::new(&upstream.key, "no route leads here").hint("remove it, or name it in a route's `upstream`"),
        );
    }
    routes
}

/// What its paths may hold, for upstreams that read it as we do.
fn allow_in_path(table: &mut Table<'_>, then: Option<&Then>) -> PathRules {
    let mut rules = PathRules::default();
    let words =
        table.list("allow_in_path", value::choice(&[("empty_segments", 0), ("encoded_slashes", 1), ("parameters", 2)]));
    for (_, word) in &words {
        match word {
            0 => rules.empty_segments = true,
            1 => rules.encoded_slashes = true,
            _ => rules.parameters = true,
        }
    }
    // A client that is sent to `//evil.example` leaves for another host.
    if !words.is_empty() && then.is_some_and(|then| then.upstream().is_none()) {
        let wrong = Wrong::new("is about what an upstream gets, and the route has none");
        table.report("allow_in_path", wrong.hint("leave it out, or name an `upstream`"));
    }
    rules
}

/// The deadlines of a route that has its own.
fn timeouts(table: &mut Table<'_>, global: &Timeouts) -> Option<Box<Timeouts>> {
    let has_tunnels = table.has("upgrade");
    let mut table = table.table("timeouts");
    if !table.is_present() {
        return None;
    }
    for key in ["tunnel", "tunnel_idle"].into_iter().filter(|key| table.has(key) && !has_tunnels) {
        let wrong = Wrong::new("is about tunnels, and the route has no `upgrade`");
        table.report(key, wrong.hint("write `upgrade = [\"websocket\"]` in the route, or leave it out"));
    }
    let timeouts = process::request_timeouts(&mut table, *global);
    table.finish();
    Some(Box::new(timeouts))
}

/// One `when`: what is looked at, and what it must be.
fn condition(mut table: Table<'_>) -> Option<Condition> {
    let header = table.optional("header", |value| {
        let text = value::line(value)?;
        let wrong = || Wrong::new(format!("{text:?} is no header")).hint("write its name alone, as in \"x-version\"");
        let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_no_name| wrong())?;
        if name == http::header::HOST {
            return Err(Wrong::new("is what `host` is for").hint("write `host` in the route"));
        }
        Ok(Subject::Header(name))
    });
    let query = table.optional("query", |value| value::line(value).map(Subject::Query));
    let equals = table.optional("equals", |value| Ok(Test::Equals(value::text(value)?.to_owned())));
    let prefix = table.optional("prefix", |value| value::line(value).map(Test::Prefix));
    let present = table.optional("present", |value| match value::boolean(value)? {
        true => Ok(Test::Present),
        false => Err(Wrong::new("false is not told apart").hint("leave the condition to the other route")),
    });
    let named = |names: &[&str]| names.iter().filter(|name| table.has(name)).count();
    let (subjects, tests) = (named(&["header", "query"]), named(&["equals", "prefix", "present"]));
    let key = table.own_key().to_owned();
    // What is misspelt is told as such, and not as missing, too.
    let misspelt = table.has_unknown();
    if subjects != 1 && !(subjects == 0 && misspelt) {
        let hint = "write { header = \"x-version\", equals = \"2\" }";
        table.report("header", Wrong::new("one of `header` and `query` is what a condition looks at").hint(hint));
    } else if tests != 1 && !(tests == 0 && misspelt) {
        let hint = "write one of equals = \"2\", prefix = \"2.\", present = true";
        table.report("equals", Wrong::new(format!("{key} says {tests} things of its value")).hint(hint));
    }
    table.finish();
    Some(Condition { subject: header.or(query)?, test: equals.or(prefix).or(present)? })
}

fn methods(table: &mut Table<'_>, reader: &Reader<'_>) -> Vec<Method> {
    let named = table.list("methods", method);
    for (index, (key, method)) in named.iter().enumerate() {
        if named.iter().take(index).any(|(_, earlier)| earlier == method) {
            reader.report(Fault::new(key, format!("{method} is there already")).hint("name each method once"));
        }
    }
    named.into_iter().map(|(_, method)| method).collect()
}

/// A method that routes may take.
pub(super) fn method(value: &DeValue<'_>) -> Result<Method, Wrong> {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let text = value::text(value)?;
    if matches!(text, "CONNECT" | "TRACE") {
        let hint = "tunnels and echoes are never forwarded: leave it out";
        return Err(Wrong::new(format!("{text} is not served")).hint(hint));
    }
    if KNOWN.contains(&text) {
        return Method::from_bytes(text.as_bytes()).map_err(|_no_token| Wrong::new("is no method"));
    }
    // Methods of extensions (RFC 9110 16.1) are in capitals, too; what is close to a known one is a slip.
    let capitals = text.to_ascii_uppercase();
    let wrong = || Wrong::new(format!("{text:?} is no method"));
    if let Some(known) = closest(&capitals, KNOWN).filter(|_| text.len() > 2) {
        return Err(wrong().hint(format!("did you mean {known:?}?")));
    }
    if text != capitals || !text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
        return Err(wrong().hint(format!("methods are written in capitals: {}, ...", KNOWN.join(", "))));
    }
    Method::from_bytes(text.as_bytes()).map_err(|_no_token| wrong().hint(format!("write one of {}", KNOWN.join(", "))))
}

fn require(table: &mut Table<'_>, known: &Known<'_>, reader: &Reader<'_>) -> Requirement {
    if !table.has("require") {
        let warning = Fault::new(table.key("require"), "is missing: nobody is let through");
        reader.warn(warning.hint("write [\"public\"], [\"authenticated\"], or the permissions it takes"));
    }
    let words = table.list("require", permission);
    let Some((key, first)) = words.first() else { return Requirement::Nobody };
    let special = |word: &str| matches!(word, "public" | "authenticated" | "certificate");
    if let Some((key, word)) = words.iter().find(|(_, word)| words.len() > 1 && special(word)) {
        let hint = format!("write [{word:?}] alone, or permissions alone");
        reader.report(Fault::new(key, format!("{word:?} stands beside other words")).hint(hint));
    }
    if first == "public" {
        return Requirement::Public;
    }
    if first == "certificate" {
        if !known.certificates {
            let fault = Fault::new(key, "asks for a client certificate, and there is no [client_certificates.NAME]");
            reader.report(fault.hint("add one with `ca` and `hosts`"));
        }
        return Requirement::Certificate;
    }
    if !known.jwt && !known.certificates {
        let fault = Fault::new(key, "asks who the client is, and there is no [jwt] to tell");
        reader.report(fault.hint("add a [jwt] table, or write require = [\"public\"]"));
    }
    if first == "authenticated" {
        return Requirement::Authenticated;
    }
    for (key, word) in words.iter().filter(|(_, word)| !special(word)) {
        let granted = || known.roles.values().flatten().map(String::as_str);
        if granted().any(|permission| permission == word) {
            continue;
        }
        let fault = Fault::new(key, format!("no role gives the permission {word:?}: nobody would be let through"));
        let words = ["public", "authenticated", "certificate"].into_iter().chain(granted());
        reader.report(match closest(word, words) {
            Some(near) => fault.hint(format!("did you mean {near:?}?")),
            None => fault.hint("add it to a role under [roles]"),
        });
    }
    Requirement::Permissions(words.into_iter().map(|(_, word)| word).collect())
}

/// A permission: one word.
pub(super) fn permission(value: &DeValue<'_>) -> Result<String, Wrong> {
    let word = value::line(value)?;
    if word.contains(char::is_whitespace) {
        return Err(Wrong::new(format!("{word:?} has blanks")).hint("write one word, as in \"items:read\""));
    }
    Ok(word)
}

/// A template: `/items/{id}`, `/files/{*rest}`; or `*`, the server as a whole.
fn path(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = value::line(value)?;
    if text == "*" {
        return Ok(text);
    }
    let wrong = |message: &str, hint: &str| Err(Wrong::new(format!("{text:?} {message}")).hint(hint));
    let Some(below) = text.strip_prefix('/') else {
        return wrong("does not start with a slash", "write the path from its start: \"/items\"");
    };
    if text.contains(['?', '#']) {
        return wrong("has a query or fragment", "routes are chosen by path alone: leave it out");
    }
    let mut names = Vec::new();
    let mut segments = below.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        if (segment.is_empty() && !last) || matches!(segment, "." | "..") {
            return wrong("is not canonical and would never match", "write it without \"//\", \".\" and \"..\"");
        }
        let Some(name) = segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}')) else {
            if segment.contains(['{', '}', '*']) {
                return wrong(
                    "has a parameter that is no whole segment",
                    "write \"/{name}/\", or \"/{*rest}\" at the end",
                );
            }
            if !segment.bytes().all(is_path_byte) {
                return wrong("has characters that no path has", "write it percent-encoded in UTF-8: \"/caf%C3%A9\"");
            }
            continue;
        };
        let (name, rest) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
        if rest && !last {
            return wrong("goes on after a parameter for everything below", "write \"{*rest}\" at the end");
        }
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return wrong("has a parameter without a proper name", "name it by letters, digits and \"_\": \"{id}\"");
        }
        if names.contains(&name) {
            return wrong("has two parameters of one name", "give each parameter a name of its own");
        }
        names.push(name);
    }
    Ok(text)
}

/// `pchar` (RFC 3986 3.3), percent signs included.
const fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
                | b'%'
        )
}
