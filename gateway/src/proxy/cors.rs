//! Tells browsers what pages of other origins may do (Fetch standard, "CORS protocol"): answers preflights, and says on
//! every answer, refusals too, who may read it.
//!
//! *Invariant:* where no `[cors.NAME]` is configured nothing is looked up, and nothing of an answer is changed. `*` is
//! never sent together with credentials.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{self, VARY},
    request::Parts,
};

use crate::{
    route::target::Target,
    settings::cors::{Cors, Names},
    snapshot::Snapshot,
};

#[cfg(test)]
mod tests;

/// What starts the name of every header that this is about.
const START: &str = "access-control-";

/// The most bytes of header names that a preflight may ask for.
const MOST_NAMES: usize = 4 * 1_024;

/// Headers that browsers send without naming them in a preflight, or may: a condition on one of them may be met.
const UNNAMED: [&str; 15] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "authorization",
    "cache-control",
    "content-language",
    "content-type",
    "cookie",
    "dnt",
    "origin",
    "pragma",
    "priority",
    "range",
    "user-agent",
];
const UNNAMED_STARTS: [&str; 4] = ["if-", "refer", "save-data", "sec-"];

/// One `[cors.NAME]`, ready to be written.
pub struct Group {
    settings: Cors,
    methods: Option<HeaderValue>,
    /// `None`: those that a preflight asks for.
    headers: Option<HeaderValue>,
    /// `None`: there are none.
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
}

/// What a preflight is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Preflight {
    /// The route that decides: the first that may take the request and does not let the page make it, else the first;
    /// `None`: no route may take it.
    pub(super) route: Option<usize>,
    /// By whose rules: an index into [`Snapshot::cors`].
    pub(super) group: Option<usize>,
    /// Whether every route that may take the request lets this page make it.
    pub(super) is_permitted: bool,
}

impl Group {
    /// Compiles the rules.
    #[must_use]
    pub fn new(settings: &Cors) -> Self {
        let list = |names: &[&str]| HeaderValue::try_from(names.join(", ")).ok().filter(|list| !list.is_empty());
        let names = |names: &Names| match names {
            Names::Any => None,
            Names::These(names) => list(&names.iter().map(HeaderName::as_str).collect::<Vec<_>>()),
        };
        let empty = || HeaderValue::from_static("");
        Self {
            methods: list(&settings.methods.iter().map(Method::as_str).collect::<Vec<_>>()),
            headers: match &settings.headers {
                Names::Any => None,
                named => Some(names(named).unwrap_or_else(empty)),
            },
            expose: match &settings.expose {
                Names::Any => Some(HeaderValue::from_static("*")),
                named => names(named),
            },
            max_age: HeaderValue::from(settings.max_age.as_secs()),
            settings: settings.clone(),
        }
    }

    /// Whether a page of `origin` may.
    fn allows(&self, origin: &HeaderValue) -> bool {
        self.settings.origins.contains(origin.as_bytes())
    }

    /// Whether a request of a page of `origin` is refused: one that is not allowed, and no page of the API itself.
    pub(super) fn refuses(&self, headers: &HeaderMap, target: &Target) -> bool {
        let foreign = || origin(headers).filter(|origin| !self.allows(origin));
        let Some(origin) = self.settings.refuse_others.then(foreign).flatten() else { return false };
        let authority = origin.as_bytes().strip_prefix(b"https://").or(origin.as_bytes().strip_prefix(b"http://"));
        !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(target.authority().as_bytes()))
    }

    /// Says who may read an answer. `relayed`: it is an upstream's, whose own word on this does not count.
    pub(super) fn tell(&self, origin: Option<&HeaderValue>, relayed: bool, headers: &mut HeaderMap) {
        if relayed {
            let theirs: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(START)).cloned().collect();
            for name in theirs {
                headers.remove(name);
            }
        }
        // Also where the origin is not allowed, or there is none: a cache must not give one page's answer to another.
        if !self.settings.origins.is_any() {
            vary(headers, "Origin");
        }
        let Some(origin) = origin.filter(|origin| self.allows(origin)) else { return };
        let told = if self.settings.origins.is_any() { HeaderValue::from_static("*") } else { origin.clone() };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, told);
        if self.settings.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(expose) = &self.expose {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }
}

impl Snapshot {
    /// Whether the request is a preflight that the gateway answers by itself, and then whether the page may go on.
    #[must_use]
    pub fn answers_preflight(&self, target: &Target, head: &Parts) -> Option<bool> {
        preflight(self, target, head).map(|preflight| preflight.is_permitted)
    }
}

/// The page's origin; `None`: no page of another origin asks. What is there twice is an origin that nobody has.
pub(super) fn origin(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(header::ORIGIN).iter();
    let first = lines.next()?;
    Some(if lines.next().is_some() { HeaderValue::from_static("") } else { first.clone() })
}

/// Whether the request asks on a page's behalf what it may do; then by whose rules it is answered. `None`: it is a
/// request like any other.
pub(super) fn preflight(snapshot: &Snapshot, target: &Target, head: &Parts) -> Option<Preflight> {
    if snapshot.cors.is_empty() || head.method != Method::OPTIONS {
        return None;
    }
    let origin = origin(&head.headers)?;
    let method = asked_method(&head.headers)?;
    let names = asked_names(&head.headers);
    let may_have = |name: &HeaderName| {
        let name = name.as_str();
        UNNAMED.contains(&name)
            || UNNAMED_STARTS.iter().any(|start| name.starts_with(start))
            || names.iter().any(|asked| asked.eq_ignore_ascii_case(name))
    };
    let routes = snapshot.routes.candidates(target, &method, may_have);
    let group_of = |route: usize| snapshot.served.get(route).and_then(|served| served.cors);
    let allows = |group: Option<usize>| {
        group.and_then(|group| snapshot.cors.get(group)).is_some_and(|group| group.allows(&origin))
    };
    if routes.is_empty() {
        // A page is to see that there is nothing, too.
        let group = snapshot.default_cors;
        return group.map(|_| Preflight { route: None, group, is_permitted: allows(group) });
    }
    routes.iter().find(|&&route| group_of(route).is_some())?;
    let stands_against = routes.iter().copied().find(|&route| !allows(group_of(route)));
    let route = stands_against.or(routes.first().copied())?;
    Some(Preflight { route: Some(route), group: group_of(route), is_permitted: stands_against.is_none() })
}

/// What a preflight is told besides who may read it.
pub(super) fn permissions(snapshot: &Snapshot, preflight: &Preflight, asked: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        VARY,
        HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    );
    let group = preflight.group.filter(|_| preflight.is_permitted).and_then(|group| snapshot.cors.get(group));
    let Some(group) = group else { return headers };
    let method = || HeaderValue::from_str(asked_method(asked)?.as_str()).ok();
    if let Some(methods) = group.methods.clone().or_else(method) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    let names = || HeaderValue::try_from(asked_names(asked).join(", ")).ok();
    if let Some(names) = group.headers.clone().or_else(names).filter(|names| !names.is_empty()) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, group.max_age.clone());
    headers
}

/// Whose rules count for a request that was refused before its route was found, of a page of another origin.
pub(super) fn of_refused(
    snapshot: &Snapshot,
    target: Option<&Target>,
    local: SocketAddr,
    head: &Parts,
) -> Option<usize> {
    if snapshot.cors.is_empty() || !head.headers.contains_key(header::ORIGIN) {
        return None;
    }
    // It may have been refused before anybody looked at where it goes.
    let read = if target.is_none() { Target::read(head, local, snapshot.settings.head.target).ok() } else { None };
    let Some(target) = target.or(read.as_ref()) else { return snapshot.default_cors };
    let found = snapshot.routes.find(target, &head.method, &head.headers).ok();
    match found.or_else(|| snapshot.routes.first_of_path(target)) {
        Some(route) => snapshot.served.get(route)?.cors,
        None => snapshot.default_cors,
    }
}

/// The method that a preflight asks for; `None`: it is none.
fn asked_method(headers: &HeaderMap) -> Option<Method> {
    let mut lines = headers.get_all(header::ACCESS_CONTROL_REQUEST_METHOD).iter();
    let method = Method::from_bytes(lines.next()?.as_bytes()).ok()?;
    let is_served = lines.next().is_none() && !matches!(method, Method::CONNECT | Method::TRACE);
    is_served.then_some(method)
}

/// The headers that a preflight asks for, as far as they are names.
fn asked_names(headers: &HeaderMap) -> Vec<&str> {
    let lines = headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let mut room = MOST_NAMES;
    let names = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim);
    let is_name = |name: &&str| HeaderName::from_bytes(name.as_bytes()).is_ok();
    names.filter(is_name).take_while(|name| room.checked_sub(name.len()).map(|left| room = left).is_some()).collect()
}

/// Adds `name` to what the answer depends on, unless it is there.
fn vary(headers: &mut HeaderMap, name: &'static str) {
    let lines = || headers.get_all(VARY).iter();
    let is_there = lines().flat_map(|line| line.as_bytes().split(|&byte| byte == b',')).any(|member| {
        let member = member.trim_ascii();
        member == b"*" || member.eq_ignore_ascii_case(name.as_bytes())
    });
    if is_there {
        return;
    }
    let one = lines().next().filter(|line| !line.is_empty() && lines().count() == 1);
    // One line, where there was one: some caches look at the first alone.
    match one.and_then(|line| HeaderValue::from_bytes(&[line.as_bytes(), b", ", name.as_bytes()].concat()).ok()) {
        Some(joined) => headers.insert(VARY, joined).is_some(),
        None => headers.append(VARY, HeaderValue::from_static(name)),
    };
}
