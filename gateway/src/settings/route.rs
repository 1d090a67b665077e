//! The settings of one route: which requests it takes, and what it does with them.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::{
    auth::Accepted,
    authz::{self, RequirementPart},
    cors::Origins,
    edits::Edits,
    graphql,
    timeouts::Timeouts,
    validate::{ContentEncoding, FormSettings, ParameterRule, RefusesUnknown},
    waf::OfRoute,
};
use crate::{
    identity::{claim::ClaimCondition, expression::Expression},
    net::{
        geo::{Country, Geo},
        source_set::SourceSet,
    },
    os::file::NamedFile,
    web::path::{PathRules, pattern::PathPattern},
};

/// One route.
#[derive(Clone, Debug)]
pub struct Route {
    /// How limits and people call it. `route.name`.
    pub name: Option<String>,
    /// What it has in common with others, for limits. `route.tags`.
    pub tags: Vec<String>,
    /// `route.host`, lower case, without port: `a.example`, or `*.a.example` for each name that has one label more.
    /// `None`: every host.
    pub host: Option<String>,
    /// `route.path`: `/items/{id}`, or `/files/{*rest}` for everything below.
    pub path: String,
    /// `route.methods`; empty: every method but CONNECT and TRACE.
    pub methods: Vec<Method>,
    /// `route.when`: all must be met.
    pub when: Vec<RouteCondition>,
    /// `route.require`.
    pub require: authz::Requirement,
    /// How its clients may prove who they are: whatever is configured, where it does not say.
    pub accepted: Accepted,
    /// What the client's token must be good for: all of these. `route.scopes`.
    pub scopes: Vec<String>,
    /// What it must say. `route.claims`.
    pub claims: Vec<ClaimCondition>,
    /// Where clients must be; `None`: anywhere. `route.sources`.
    pub sources: Option<Sources>,
    /// What must be true of the request, all of it. `route.allow_if`.
    pub allow_if: Vec<Expression>,
    /// Which of these only count. `route.shadow`.
    pub shadow: Vec<RequirementPart>,
    /// `route.upstream`, `route.redirect` or `route.respond`.
    pub action: Action,
    /// The path that the upstream is asked for; `None`: the client's. `route.strip_prefix`, `route.rewrite`.
    pub rewrite: Option<Rewrite>,
    /// What is changed of requests. `route.request_headers`.
    pub request_headers: Option<Edits>,
    /// What is changed of answers, but for refusals. `route.response_headers`.
    pub response_headers: Option<Edits>,
    /// What its paths may hold. `route.allow_in_path`.
    pub allow_in_path: PathRules,
    /// Names of requests' headers that pass although the gateway would remove them. `route.pass_headers`.
    pub pass_headers: Vec<HeaderName>,
    /// `route.timeouts`, each with what `[timeouts]` says where the route says nothing; `None`: it says nothing at all.
    pub timeouts: Option<Box<Timeouts>>,
    /// `route.schema`: a JSON Schema that the body must match.
    pub schema: Option<NamedFile>,
    /// What the parameters of requests must be. `route.query` and its like.
    pub parameters: Vec<ParameterRule>,
    /// What they may not have besides.
    pub refuses_unknown: RefusesUnknown,
    /// The media types of bodies; empty: any. `route.content_types`.
    pub content_types: Vec<String>,
    /// What forms must be; `None`: bodies need be no forms. `route.form`.
    pub form: Option<FormSettings>,
    /// The document that requests are held against: an index into [`Settings::apis`](crate::settings::proxy::Settings::apis). `route.api`.
    pub api: Option<usize>,
    /// Whether that document says who is let through. `route.require = ["openapi"]`.
    pub follows_document: bool,
    /// `route.graphql`: what queries of GraphQL may ask for; `None`: nothing is looked at.
    pub graphql: Option<graphql::GraphqlLimits>,
    /// `route.waf`, `route.waf_threshold`: which rules look for attacks; `None`: none do.
    pub waf: Option<OfRoute>,
    /// What becomes of bodies with a `Content-Encoding`; `None`: they are refused where something reads bodies, and pass
    /// elsewhere. `route.content_encoding`.
    pub content_encoding: Option<ContentEncoding>,
    /// `route.max_body`, in bytes.
    pub max_body: Option<u64>,
    /// Whether requests that were served are in the access log. `route.access_log`.
    pub access_log: bool,
    /// What its connections may become; `None`: nothing.
    pub upgrade: Option<Upgrade>,
    /// What pages of other origins may do: an index into [`Settings::cors`](crate::settings::proxy::Settings::cors). `route.cors`.
    pub cors: Option<usize>,
}

impl Route {
    /// Whether this is its name, or one of its tags.
    #[must_use]
    pub fn is_called(&self, name: &String) -> bool {
        self.name.as_ref() == Some(name) || self.tags.contains(name)
    }

    /// What of it is in shadow, as `gateway shadow promote` names it.
    pub fn in_shadow(&self) -> impl Iterator<Item = String> {
        let name = self.name.as_deref().unwrap_or_default();
        self.shadow.iter().map(move |part| format!("route.{name}.{}", part.name()))
    }
}

/// Where clients may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Prefixes, names of sets and lists, `country:DE` and `asn:64500`, as the configuration has them.
    pub texts: Vec<String>,
    /// The networks that these are.
    pub set: SourceSet,
    /// The countries.
    pub countries: Vec<Country>,
    /// The autonomous systems, by their numbers.
    pub asns: Vec<u32>,
    /// Where addresses are.
    pub geo: Geo,
}

impl Sources {
    /// Whether a client may be at this address. Where it is not known where that is, it is in no country and no system.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        self.set.contains(address)
            || !self.countries.is_empty()
                && self.geo.country(address).is_some_and(|country| self.countries.contains(&country))
            || !self.asns.is_empty() && self.geo.asn(address).is_some_and(|asn| self.asns.contains(&asn))
    }
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// An upstream: an index into [`Settings::upstreams`](crate::settings::proxy::Settings::upstreams).
    Forward(usize),
    /// The gateway, by sending the client elsewhere.
    Redirect(Redirect),
    /// The gateway.
    Respond(FixedResponse),
}

impl Action {
    /// The upstream, where one answers.
    #[must_use]
    pub const fn upstream(&self) -> Option<usize> {
        match self {
            Self::Forward(upstream) => Some(*upstream),
            Self::Redirect(_) | Self::Respond(_) => None,
        }
    }
}

/// Where a client is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308. `route.redirect.status`.
    pub status: StatusCode,
    /// Scheme and authority, literally; empty: where the request came. The beginning of `route.redirect.to`.
    pub origin: String,
    /// The rest of `route.redirect.to`.
    pub path: PathPattern,
}

/// One answer for every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedResponse {
    /// `route.respond.status`.
    pub status: StatusCode,
    /// `route.respond.content_type`; `None`: there is no body.
    pub content_type: Option<HeaderValue>,
    /// `route.respond.body`.
    pub body: Bytes,
}

/// Which path the upstream is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// `route.strip_prefix`.
    Strip(PathPattern),
    /// `route.rewrite`.
    Template(PathPattern),
}

/// What the connections of a route may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// At least one, in lower case. `route.upgrade`.
    pub protocols: Vec<String>,
    /// Whose pages browsers may open them from; empty: anybody's. `route.origins`.
    pub origins: Origins,
    /// Whether they go on when the token that opened them has expired. `route.outlives_token`.
    pub outlives_token: bool,
    /// Where the token of a WebSocket may be besides `Authorization`. `route.websocket_token`.
    pub tokens: Vec<TokenSource>,
}

/// Where a browser can put a token that opens a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// The cookie of this name: `cookie:NAME`.
    Cookie(String),
    /// Among the protocols that are offered: `protocol`.
    Protocol,
}

/// What a request must have besides host, path and method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteCondition {
    /// What is looked at.
    pub subject: Subject,
    /// What it must be.
    pub test: Test,
}

/// A part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `header`.
    Header(HeaderName),
    /// `query`: a parameter's name, decoded.
    Query(String),
}

/// What the value must be, and each of them where there are several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// `equals`, byte for byte.
    Equals(String),
    /// `prefix`.
    Prefix(String),
    /// `present = true`.
    Present,
}
