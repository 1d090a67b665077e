//! Which routes and whose CORS rules answer a preflight, and whose rules count for a request that no route takes.

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

/// What a preflight is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Preflight {
    /// The route that decides: the first that may take the request and does not let the page make it, else the first;
    /// `None`: no route may take it.
    pub(crate) route: Option<usize>,
    /// By whose rules: an index into [`Snapshot::cors`].
    pub(crate) group: Option<usize>,
    /// Whether every route that may take the request lets this page make it.
    pub(crate) is_permitted: bool,
}

impl Snapshot {
    /// Whether the request is a preflight that the gateway answers by itself, and then whether the page may go on.
    #[must_use]
    pub fn answers_preflight(&self, target: &Target, head: &Parts) -> Option<bool> {
        self.preflight(target, head).map(|preflight| preflight.is_permitted)
    }

    /// Whether the request asks on a page's behalf what it may do; then by whose rules it is answered. `None`: it is a
    /// request like any other.
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
            // A page is to see that there is nothing, too.
            let group = self.default_cors;
            return group.map(|_| Preflight { route: None, group, is_permitted: allows(group) });
        }
        routes.iter().find(|&&route| group_of(route).is_some())?;
        let stands_against = routes.iter().copied().find(|&route| !allows(group_of(route)));
        let route = stands_against.or(routes.first().copied())?;
        Some(Preflight { route: Some(route), group: group_of(route), is_permitted: stands_against.is_none() })
    }

    /// Whose rules count for a request that was refused before its route was found, of a page of another origin.
    pub(crate) fn cors_of_refused(&self, target: Option<&Target>, local: SocketAddr, head: &Parts) -> Option<usize> {
        if self.cors.is_empty() || !head.headers.contains_key(header::ORIGIN) {
            return None;
        }
        // It may have been refused before anybody looked at where it goes.
        let read = if target.is_none() { Target::read(head, local, self.settings.head.target).ok() } else { None };
        let Some(target) = target.or(read.as_ref()) else { return self.default_cors };
        let found = self.routes.find(target, &head.method, &head.headers).ok();
        match found.or_else(|| self.routes.first_of_path(target)) {
            Some(route) => self.served.get(route)?.cors,
            None => self.default_cors,
        }
    }
}
