//! Reads `[[route]]`: which requests are served, for whom, and by what.

use http::Method;
use toml::de::DeValue;

use super::{
    proxy::LARGEST_BODY,
    timeouts::{ROUTE_KEYS, request_timeouts},
};
use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{
            self, address,
            form::described,
            word::{method, simple_name, unregistered},
        },
    },
    diagnostic::Diagnostic,
    os::file::NamedFile,
    settings::{
        edits::HeaderSide,
        route::{Action, Route},
        timeouts::Timeouts,
        validate::{ContentEncoding, ParameterRule, RefusesUnknown},
        waf,
    },
    web::path::PathRules,
};

mod action;
mod authenticate;
mod conditions;
mod cors;
mod form;
mod graphql;
mod headers;
mod media_type;
mod parameters;
mod references;
mod require;
mod upgrade;
mod when;

pub(super) use references::RouteReferences;

/// The keys of `[[route]]`.
pub(super) const KEYS: Keys = &[
    (
        "name",
        "The route's name, for limits, reports and `gateway shadow promote`. No other route has it as its name or tag.",
    ),
    ("tags", "What the route has in common with others, for limits."),
    ("host", "The host of the request, exact or as `*.example.com`. Without it: every host."),
    ("path", "The path, with parameters for segments: `/items/{id}`, `/files/{*rest}`. `*` is `OPTIONS *`."),
    ("methods", "The methods of the route. Empty: every method but CONNECT and TRACE."),
    ("when", "A condition on a header or a query parameter. All conditions must hold."),
    (
        "require",
        "Who is let through: `public`, `authenticated`, `certificate`, permissions, or `openapi`: as the document of `api` \
         says. Without it nobody is.",
    ),
    (
        "authenticate",
        "How clients may prove who they are: any of these methods, or `{ all = [...] }`. Without it: any.",
    ),
    ("certificate_bound", "`true`: a token must be bound to the client's certificate (RFC 8705)."),
    ("scopes", "The scopes that the client's token must have, all of them."),
    ("claims", "What the client's token must say, by path: `{ email_verified = true }`."),
    (
        "sources",
        "Where clients must be: prefixes, names of `[sources]` and of feeds, `country:DE` and `asn:64500` (by `[geo]`). Judged before anything is asked about who they are.",
    ),
    (
        "allow_if",
        "Conditions on path parameters, claims, source and method, as in `{id} == claim.sub`. All must be true.",
    ),
    (
        "shadow",
        "Which of `sources`, `require`, `scopes`, `claims` and `allow_if` only count what they would deny. Needs `name`.",
    ),
    ("upstream", "The upstream that answers. A route has exactly one of `upstream`, `redirect` and `respond`."),
    ("redirect", "Answers with a redirect."),
    ("respond", "Answers with a fixed response."),
    ("strip_prefix", "The upstream gets the path without this prefix."),
    ("rewrite", "The upstream gets this path, made of the parameters of `path`. `{path}` is the whole path."),
    ("request_headers", "Changes to request headers: first `remove`, then `set`, then `add`."),
    ("response_headers", "Changes to the headers of responses and tunnels, not of refusals."),
    ("pass_headers", "Headers that clients may send although a proxy usually sets them."),
    ("allow_in_path", "Unusual paths that are forwarded, for upstreams that tell them apart as the gateway does."),
    ("timeouts", "Timeouts of this route. Each replaces the one of `[timeouts]`."),
    ("schema", "A JSON Schema that request bodies must satisfy."),
    ("query", "What a parameter of the query must be, by its name."),
    ("header", "What a header must be, by its name."),
    ("cookie", "What a cookie must be, by its name."),
    ("path_parameter", "What a parameter of `path` must be, by its name."),
    ("unknown_query", "Parameters of the query that `query` does not name: `allow` or `refuse`."),
    ("unknown_headers", "Headers that are neither usual nor named in `header`: `allow` or `refuse`."),
    ("unknown_cookies", "Cookies that `cookie` does not name: `allow` or `refuse`."),
    ("content_types", "The media types of request bodies, such as `application/pdf` or `image/*`. Empty: any."),
    (
        "form",
        "What a field of a form must be, by its name. Then bodies must be `application/x-www-form-urlencoded` or \
         `multipart/form-data`.",
    ),
    ("unknown_fields", "Fields of a form that `form` does not name: `refuse` or `allow`."),
    ("max_fields", "How many fields a form may have, files included."),
    ("api", "The `[api.NAME]` that requests are held against: paths, methods, parameters and bodies."),
    ("graphql", "Limits on queries of GraphQL. Without it, they are not looked at."),
    ("waf", "The `[waf.NAME]` whose rules look for attacks. Without it, none do."),
    ("waf_threshold", "The score from which a request is an attack on this route. Without it: `waf.NAME.threshold`."),
    (
        "content_encoding",
        "Bodies with a `Content-Encoding`: `refuse`, `inspect` (decoded to be judged, forwarded as they came) or `decode` \
         (judged and forwarded decoded). Without it: refused where something reads bodies.",
    ),
    ("max_body", "The largest request body. Without it: `proxy.max_body`."),
    ("upgrade", "The protocols that a connection may be upgraded to, such as `websocket`."),
    ("origins", "The origins whose pages may open a tunnel. Empty: any."),
    ("outlives_token", "`true`: a tunnel goes on when the token that opened it has expired."),
    ("websocket_token", "Where a browser's token may be besides `Authorization`: `protocol`, or `cookie:NAME`."),
    ("cors", "The `[cors.NAME]` of this route. `none`: no CORS. Without it: `[cors.default]`."),
    ("access_log", "`false`: only refused requests are logged."),
];

pub(super) fn read(tables: Vec<Table<'_>>, known: &RouteReferences<'_>, reader: &Reader<'_>) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    let mut used = Used { upstreams: vec![false; known.upstreams.len()], cors: vec![false; known.cors.len()] };
    if tables.is_empty() {
        reader.warn(
            Diagnostic::new("route", "there is no route: every request is answered 404").hint("add a `[[route]]`"),
        );
    }
    for table in tables {
        // Whether two routes are in each other's way is found when they are compiled.
        let route = route(&table, &routes, &mut used, known, reader);
        routes.extend(route);
        table.finish();
    }
    super::cors::warn_of_unused(known.cors, &used.cors, reader);
    let unused = known.upstreams.iter().zip(used.upstreams).filter_map(|(upstream, used)| (!used).then_some(upstream));
    for upstream in unused {
        reader.warn(
            Diagnostic::new(&upstream.key, "is not used by any route")
                .hint("remove it, or name it in a route's `upstream`"),
        );
    }
    routes
}

/// Which upstreams and groups of CORS some route refers to.
struct Used {
    upstreams: Vec<bool>,
    cors: Vec<bool>,
}

/// One route; `None`: it has no path that can be read.
fn route(
    table: &Table<'_>,
    earlier: &[Route],
    used: &mut Used,
    known: &RouteReferences<'_>,
    reader: &Reader<'_>,
) -> Option<Route> {
    let (name, tags) = name(table, earlier);
    let host = table
        .optional("host", described("host name or wildcard", |value| address::host_or_wildcard(value::text(value)?)));
    let path = table.required("path", "\"/items/{id}\"", path);
    let methods = methods(table, reader);
    let when = table.tables("when", when::KEYS).into_iter().filter_map(when::read).collect();
    let require = require::read(table, known, reader);
    let follows_document = table.has("api") && require::is_of_document(table);
    let accepted = authenticate::read(table, &require, known);
    let (scopes, claims) = require::of_tokens(table, &require, &accepted.methods, known, reader);
    let sources = conditions::sources(table, known, reader);
    let asked = conditions::ConditionContext { path: path.as_deref(), methods: &methods, require: &require };
    let allow_if = conditions::allow_if(table, &asked, &accepted.methods, known, reader);
    let shadow = conditions::shadow(table, name.as_deref(), &require);
    let action = action::read(table, path.as_deref(), known);
    let rewrite = action::rewrite(table, path.as_deref());
    let request_headers = headers::edits(table.table("request_headers", headers::KEYS), HeaderSide::Request, reader);
    let response_headers = headers::edits(table.table("response_headers", headers::KEYS), HeaderSide::Response, reader);
    let pass_headers = headers::pass_headers(table, request_headers.as_ref(), reader);
    let allow_in_path = allow_in_path(table, action.as_ref());
    let timeouts = timeouts(table, known.timeouts);
    let ContractTable { schema, parameters, refuses_unknown, content_types, api } =
        contract(table, path.as_deref(), action.as_ref(), known, reader);
    let form = form::read(table);
    for key in ["api", "graphql", "schema"].into_iter().filter(|key| form.is_some() && table.has(key)) {
        let wrong = Diagnostic::bare(format!("cannot be beside `{key}`, which reads other bodies"));
        table.report("form", wrong.hint("leave one of them out"));
    }
    let graphql = graphql::read(table);
    let waf = super::waf::of_route(table, known.wafs);
    let content_encoding = content_encoding(table, waf.and_then(|of| known.wafs.get(of.index)), reader);
    let max_body = table.optional("max_body", value::size_in(0..=LARGEST_BODY));
    let upstream = action.as_ref().and_then(Action::upstream);
    let upstream_of = upstream.and_then(|index| known.upstreams.get(index));
    let upgrade = upgrade::read(table, upstream_of, &require, &accepted.methods, known.tokens);
    let cors = cors::read(table, known.cors);
    headers::beside_cors(cors.is_some(), response_headers.as_ref(), table);
    let access_log = table.or("access_log", true, value::boolean());
    if let Some(used) = upstream.and_then(|index| used.upstreams.get_mut(index)) {
        *used = true;
    }
    if let Some(used) = cors.and_then(|index| used.cors.get_mut(index)) {
        *used = true;
    }
    Some(Route {
        name,
        tags,
        host,
        path: path?,
        methods,
        when,
        require,
        accepted,
        scopes,
        claims,
        sources,
        allow_if,
        shadow,
        action: action.unwrap_or(Action::Forward(0)),
        rewrite,
        request_headers,
        response_headers,
        pass_headers,
        allow_in_path,
        timeouts,
        schema,
        parameters,
        refuses_unknown,
        content_types,
        form,
        api,
        follows_document,
        graphql,
        waf,
        content_encoding,
        max_body,
        access_log,
        upgrade,
        cors,
    })
}

/// What requests of a route are held against.
struct ContractTable {
    schema: Option<NamedFile>,
    parameters: Vec<ParameterRule>,
    refuses_unknown: RefusesUnknown,
    content_types: Vec<String>,
    /// The number of its document.
    api: Option<usize>,
}

/// A document has schemas and parameters of its own, and only what goes to an upstream is held against anything.
fn contract(
    table: &Table<'_>,
    path: Option<&str>,
    action: Option<&Action>,
    known: &RouteReferences<'_>,
    reader: &Reader<'_>,
) -> ContractTable {
    let has_no_upstream = action.is_some_and(|action| action.upstream().is_none());
    let schema = table.file("schema");
    let (parameters, refuses_unknown) = parameters::read(table, path);
    let content_types = parameters::content_types(table, reader);
    let keys = ["content_types", "unknown_cookies", "unknown_headers", "unknown_query"];
    for key in keys.into_iter().filter(|key| has_no_upstream && table.has(key)) {
        let wrong = Diagnostic::bare("has no effect without an `upstream`");
        table.report(key, wrong.hint("leave it out, or name an `upstream`"));
    }
    if !parameters.is_empty() && has_no_upstream {
        let wrong = Diagnostic::bare("has rules for parameters, which have no effect without an `upstream`");
        table.report("path", wrong.hint("leave them out, or name an `upstream`"));
    }
    if table.has("api") && (refuses_unknown != RefusesUnknown::default() || !parameters.is_empty()) {
        let wrong = Diagnostic::bare("cannot be beside parameters, which its document has");
        table.report("api", wrong.hint("leave one of them out"));
    }
    let api = super::api::of_route(table, known.apis);
    if api.is_some() && has_no_upstream {
        let wrong = Diagnostic::bare("has no effect without an `upstream`");
        table.report("api", wrong.hint("leave it out, or name an `upstream`"));
    }
    if api.is_some() && schema.is_some() {
        let wrong = Diagnostic::bare("cannot be beside `api`, whose document has the schemas");
        table.report("schema", wrong.hint("leave one of them out"));
    }
    ContractTable { schema, parameters, refuses_unknown, content_types, api }
}

/// How limits call it. A name is one route's alone, so that nobody takes it for a tag.
fn name(table: &Table<'_>, earlier: &[Route]) -> (Option<String>, Vec<String>) {
    let word = |value: &DeValue<'_>| {
        let name = value::text(value)?;
        simple_name(name).map(|()| name.to_owned())
    };
    let name = table.optional("name", described("name", word));
    let tags = values(table.list("tags", described("name", word)));
    let is_tag = |name: &String| earlier.iter().any(|route| route.tags.contains(name)) || tags.contains(name);
    let is_name = |name: &String| earlier.iter().any(|route| route.name.as_ref() == Some(name));
    if name.as_ref().is_some_and(|name| is_name(name) || is_tag(name)) {
        let wrong = Diagnostic::bare("is the name or a tag of an earlier route, or a tag of this one");
        table.report("name", wrong.hint("give each route a name of its own"));
    }
    if let Some(tag) = tags.iter().find(|tag| is_name(tag)) {
        let wrong = Diagnostic::bare(format!("{tag:?} is the name of an earlier route"));
        table.report("tags", wrong.hint("choose another word"));
    }
    (name, tags)
}

/// What its paths may hold, for upstreams that read it as we do.
fn allow_in_path(table: &Table<'_>, action: Option<&Action>) -> PathRules {
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
    if !words.is_empty() && action.is_some_and(|action| action.upstream().is_none()) {
        let wrong = Diagnostic::bare("has no effect without an `upstream`");
        table.report("allow_in_path", wrong.hint("leave it out, or name an `upstream`"));
    }
    rules
}

/// What becomes of encoded bodies, and whether there is anything that would read them.
fn content_encoding(table: &Table<'_>, waf: Option<&waf::Settings>, reader: &Reader<'_>) -> Option<ContentEncoding> {
    const ALL: [ContentEncoding; 3] = [ContentEncoding::Decode, ContentEncoding::Inspect, ContentEncoding::Refuse];
    let wanted = table.optional("content_encoding", value::choice(&ALL.map(|one| (one.name(), one))))?;
    let judges = ["api", "form", "graphql", "schema"].iter().any(|key| table.has(key));
    if wanted == ContentEncoding::Inspect && !judges && waf.is_none_or(|waf| waf.inspect_body.is_none()) {
        let wrong = Diagnostic::bare("has no effect, as nothing of this route reads bodies");
        table.report("content_encoding", wrong.hint("leave it out, or write \"decode\" or \"refuse\""));
    } else if wanted == ContentEncoding::Inspect {
        let warning = "an upstream that ignores Content-Encoding reads other bytes than those that are inspected";
        let warning = Diagnostic::bare(warning).at(table.key("content_encoding"));
        reader.warn(warning.hint("write \"decode\", unless the upstream decodes bodies itself, or refuses them"));
    }
    Some(wanted)
}

/// The deadlines of a route that has its own.
fn timeouts(table: &Table<'_>, global: &Timeouts) -> Option<Box<Timeouts>> {
    let has_tunnels = table.has("upgrade");
    let table = table.table("timeouts", ROUTE_KEYS).inheriting("`[timeouts]`");
    if !table.is_present() {
        return None;
    }
    for key in ["tunnel", "tunnel_idle"].into_iter().filter(|key| table.has(key) && !has_tunnels) {
        let wrong = Diagnostic::bare("has no effect without `upgrade`");
        table.report(key, wrong.hint("write `upgrade = [\"websocket\"]` in the route, or leave it out"));
    }
    let timeouts = request_timeouts(&table, *global);
    table.finish();
    Some(Box::new(timeouts))
}

fn methods(table: &Table<'_>, reader: &Reader<'_>) -> Vec<Method> {
    let named = table.list("methods", method);
    for (index, (key, method)) in named.iter().enumerate() {
        if named.iter().take(index).any(|(_, earlier)| earlier == method) {
            reader.report(Diagnostic::new(key, format!("{method} is listed twice")).hint("name each method once"));
        }
        unregistered(key, method).into_iter().for_each(|warning| reader.warn(warning));
    }
    named.into_iter().map(|(_, method)| method).collect()
}

/// A template: `/items/{id}`, `/files/{*rest}`; or `*`, the server as a whole.
fn path(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let text = value::line(value)?;
    if text == "*" {
        return Ok(text);
    }
    let wrong = |message: &str, hint: &str| Err(Diagnostic::bare(format!("{text:?} {message}")).hint(hint));
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
