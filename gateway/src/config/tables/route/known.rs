//! What routes refer to: what other tables have said.

use crate::{
    config::tables::upstream::NamedUpstream,
    settings::{authz, cors::Cors, timeouts::Timeouts},
};

/// What routes refer to.
pub(in crate::config::tables) struct Known<'a> {
    pub(in crate::config::tables) upstreams: &'a [NamedUpstream],
    pub(in crate::config::tables) roles: &'a authz::Settings,
    pub(in crate::config::tables) jwt: bool,
    /// Where routes say nothing else.
    pub(in crate::config::tables) timeouts: &'a Timeouts,
    /// Whether clients may show certificates.
    pub(in crate::config::tables) certificates: bool,
    /// What pages of other origins may do.
    pub(in crate::config::tables) cors: &'a [Cors],
}
