//! CORS: which pages of other origins may make requests and read answers (Fetch standard, "CORS protocol"). Answers carry
//! it, refusals too; [`preflight`](crate::snapshot::preflight) answers what browsers ask before a request.
//!
//! *Invariant:* without `[cors.NAME]` nothing is looked up, and no answer is changed. `*` is never sent together with
//! credentials.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{self, VARY},
};

use crate::{
    route::target::Target,
    settings::cors::{Cors, HeaderNames},
    web::header_values,
};

#[cfg(test)]
mod tests;

/// What starts the name of every header that this is about.
const START: &str = "access-control-";

/// The most bytes of header names that a preflight may ask for.
const MOST_NAMES: usize = 4 * 1_024;

/// One `[cors.NAME]`, ready to be written.
pub struct CorsPolicy {
    settings: Cors,
    methods: Option<HeaderValue>,
    /// `None`: those that a preflight asks for.
    headers: Option<HeaderValue>,
    /// `None`: there are none.
    expose: Option<HeaderValue>,
    max_age: HeaderValue,
}

impl CorsPolicy {
    /// Compiles the rules.
    #[must_use]
    pub fn new(settings: &Cors) -> Self {
        let list = |names: &[&str]| HeaderValue::try_from(names.join(", ")).ok().filter(|list| !list.is_empty());
        let names = |names: &HeaderNames| match names {
            HeaderNames::Any => None,
            HeaderNames::These(names) => list(&names.iter().map(HeaderName::as_str).collect::<Vec<_>>()),
        };
        let empty = || HeaderValue::from_static("");
        Self {
            methods: list(&settings.methods.iter().map(Method::as_str).collect::<Vec<_>>()),
            headers: match &settings.headers {
                HeaderNames::Any => None,
                named => Some(names(named).unwrap_or_else(empty)),
            },
            expose: match &settings.expose {
                HeaderNames::Any => Some(HeaderValue::from_static("*")),
                named => names(named),
            },
            max_age: HeaderValue::from(settings.max_age.as_secs()),
            settings: settings.clone(),
        }
    }

    /// Whether a page of `origin` may.
    pub(crate) fn allows(&self, origin: &HeaderValue) -> bool {
        self.settings.origins.contains(origin.as_bytes())
    }

    /// Whether a request of a page of `origin` is refused: one that is not allowed, and no page of the API itself.
    pub(crate) fn refuses(&self, headers: &HeaderMap, target: &Target) -> bool {
        let foreign = || origin(headers).filter(|origin| !self.allows(origin));
        let Some(origin) = self.settings.refuse_others.then(foreign).flatten() else { return false };
        let authority = origin.as_bytes().strip_prefix(b"https://").or(origin.as_bytes().strip_prefix(b"http://"));
        !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(target.authority().as_bytes()))
    }

    /// Says who may read an answer. `relayed`: it is an upstream's, whose own word on this does not count.
    pub(crate) fn tell(&self, origin: Option<&HeaderValue>, relayed: bool, headers: &mut HeaderMap) {
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

/// What a preflight is told besides who may read the answer. `None`: its page may not make the request.
pub(crate) fn permissions(group: Option<&CorsPolicy>, asked: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        VARY,
        HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    );
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

/// The page's origin; `None`: no page of another origin asks. What is there twice is an origin that nobody has.
pub(crate) fn origin(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(header::ORIGIN).iter();
    let first = lines.next()?;
    Some(if lines.next().is_some() { HeaderValue::from_static("") } else { first.clone() })
}

/// The method that a preflight asks for; `None`: it is none.
pub(crate) fn asked_method(headers: &HeaderMap) -> Option<Method> {
    let mut lines = headers.get_all(header::ACCESS_CONTROL_REQUEST_METHOD).iter();
    let method = Method::from_bytes(lines.next()?.as_bytes()).ok()?;
    let is_served = lines.next().is_none() && !matches!(method, Method::CONNECT | Method::TRACE);
    is_served.then_some(method)
}

/// The headers that a preflight asks for, as far as they are names.
pub(crate) fn asked_names(headers: &HeaderMap) -> Vec<&str> {
    let lines = headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let mut room = MOST_NAMES;
    let names = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim);
    let is_name = |name: &&str| HeaderName::from_bytes(name.as_bytes()).is_ok();
    names.filter(is_name).take_while(|name| room.checked_sub(name.len()).map(|left| room = left).is_some()).collect()
}

/// Adds `name` to what the answer depends on, unless it is there.
fn vary(headers: &mut HeaderMap, name: &'static str) {
    let lines = || headers.get_all(VARY).iter();
    let is_named = |member: &[u8]| member == b"*" || member.eq_ignore_ascii_case(name.as_bytes());
    if header_values::members(headers, VARY).any(is_named) {
        return;
    }
    let one = lines().next().filter(|line| !line.is_empty() && lines().count() == 1);
    // One line, where there was one: some caches look at the first alone.
    match one.and_then(|line| HeaderValue::from_bytes(&[line.as_bytes(), b", ", name.as_bytes()].concat()).ok()) {
        Some(joined) => headers.insert(VARY, joined).is_some(),
        None => headers.append(VARY, HeaderValue::from_static(name)),
    };
}
