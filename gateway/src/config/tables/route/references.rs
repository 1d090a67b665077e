//! What routes refer to: what other tables have said.

use std::collections::BTreeMap;

use gateway_common::source::Source;

use crate::{
    config::tables::upstream::NamedUpstream,
    net::geo::Geo,
    settings::{auth::Method, authz, cors::Cors, feed::Feed, timeouts::Timeouts, validate::Api, waf},
};

/// What routes refer to.
pub(in crate::config::tables) struct RouteReferences<'a> {
    /// Documents that requests are held against.
    pub(in crate::config::tables) apis: &'a [Api],
    pub(in crate::config::tables) upstreams: &'a [NamedUpstream],
    pub(in crate::config::tables) roles: &'a authz::Settings,
    /// The methods of authentication that are configured.
    pub(in crate::config::tables) methods: &'a [Method],
    /// Whether clients may have bearer tokens.
    pub(in crate::config::tables) tokens: bool,
    /// Where routes say nothing else.
    pub(in crate::config::tables) timeouts: &'a Timeouts,
    /// Whether clients may show certificates.
    pub(in crate::config::tables) certificates: bool,
    /// What pages of other origins may do.
    pub(in crate::config::tables) cors: &'a [Cors],
    /// Which rules look for attacks.
    pub(in crate::config::tables) wafs: &'a [waf::Settings],
    /// Networks with a name.
    pub(in crate::config::tables) sources: &'a BTreeMap<String, Vec<Source>>,
    /// Lists in files.
    pub(in crate::config::tables) feeds: &'a [Feed],
    /// Where addresses are.
    pub(in crate::config::tables) geo: &'a Geo,
    /// How many issuers of tokens there are.
    pub(in crate::config::tables) issuers: usize,
    /// Who is trusted to name clients.
    pub(in crate::config::tables) trusted_proxies: &'a [Source],
}
