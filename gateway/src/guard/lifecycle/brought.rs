//! What the observer has brought, as the guard's loop hears of it: lists by URL, what CrowdSec says.

use crate::{
    guard::{bans, feeds::fetched::FetchOutcome},
    lists::DecisionStream,
    settings::feed::Feed,
};

pub(super) mod crowdsec;
pub(super) mod fetching;

/// A list was fetched, or not.
pub(super) struct ListFetched {
    pub(super) feed: Feed,
    /// The digest of what was in force when it was asked for.
    pub(super) in_force: Option<String>,
    pub(super) outcome: FetchOutcome,
    /// Who is logged in here.
    pub(super) operators: bans::LoggedIn,
}

/// What became of asking or telling CrowdSec by the settings of an epoch.
pub(super) struct CrowdsecDone(pub(super) u64, pub(super) CrowdsecOutcome);

/// What became of it.
pub(super) enum CrowdsecOutcome {
    /// It was asked: what it streamed, whether that is all, and who is logged in here.
    Pulled(Result<DecisionStream, Trouble>, bool, bans::LoggedIn),
    /// It was told.
    Pushed(Result<(), Trouble>),
}

/// Why nothing came of it.
pub(super) enum Trouble {
    /// CrowdSec is away, or says no.
    Failed(String),
    /// The observer is away.
    Interrupted,
    /// CrowdSec does not want it, and never will.
    Refused(String),
}
