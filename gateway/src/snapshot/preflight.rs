//! Preflights of browsers (CORS): which routes and whose rules answer them. Also whose rules count for a request that is
//! refused before it has a route.

use std::net::SocketAddr;

use http::{HeaderName, Method, header, request::Parts};

use super::Snapshot;
use crate::route::{
    cors::{asked_method, asked_names, origin},
    target::Target,
};

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

/// The answer to a preflight.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Preflight {
    /// The route that decides: the first that may serve the request and forbids it to the page, else the first. `None`: no
    /// route may serve it.
    pub(crate) route: Option<usize>,
    /// Whose rules count: an index into [`Snapshot::cors`].
    pub(crate) group: Option<usize>,
    /// Whether every route that may serve the request allows it to this page.
    pub(crate) is_permitted: bool,
}

impl Snapshot {
    /// Whether the page may make its request. `None`: this is no preflight that the gateway answers.
    #[must_use]
    pub fn answers_preflight(&self, target: &Target, head: &Parts) -> Option<bool> {
        self.preflight(target, head).map(|preflight| preflight.is_permitted)
    }

    /// How a preflight is answered. `None`: it is a request like any other.
    pub(crate) fn preflight(&self, target: &Target, head: &Parts) -> Option<Preflight> {
        if self.cors.is_empty() || head.method != Method::OPTIONS {
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
        let routes = self.routes.candidates(target, &method, may_have);
        let group_of = |route: usize| self.served.get(route).and_then(|served| served.cors);
        let allows = |group: Option<usize>| {
            group.and_then(|group| self.cors.get(group)).is_some_and(|group| group.allows(&origin))
        };
        if routes.is_empty() {
            // The page may read the 404 as well.
            let group = self.default_cors;
            return group.map(|_| Preflight { route: None, group, is_permitted: allows(group) });
        }
        routes.iter().find(|&&route| group_of(route).is_some())?;
        let stands_against = routes.iter().copied().find(|&route| !allows(group_of(route)));
        let route = stands_against.or(routes.first().copied())?;
        Some(Preflight { route: Some(route), group: group_of(route), is_permitted: stands_against.is_none() })
    }

    /// Whose rules count for a request of a page that was refused before its route was found.
    pub(crate) fn cors_of_refused(&self, target: Option<&Target>, local: SocketAddr, head: &Parts) -> Option<usize> {
        if self.cors.is_empty() || !head.headers.contains_key(header::ORIGIN) {
            return None;
        }
        // It may have been refused before its target was read.
        let read = if target.is_none() { Target::read(head, local, self.settings.head.target).ok() } else { None };
        let Some(target) = target.or(read.as_ref()) else { return self.default_cors };
        let found = self.routes.find(target, &head.method, &head.headers).ok();
        match found.or_else(|| self.routes.first_of_path(target)) {
            Some(route) => self.served.get(route)?.cors,
            None => self.default_cors,
        }
    }
}
