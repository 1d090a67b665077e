//! `[priority.NAME]` and `[overload]`: who is served first when something runs short.

use std::time::Duration;

/// The most classes that can be configured. There are two more for whoever is in none of them.
pub const MAX_CONFIGURED: usize = 6;

/// Classes, and when the gateway has too much to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `[priority.NAME]`, the highest rank first.
    pub classes: Vec<PriorityClass>,
    /// `[overload]`; `None`: requests are not refused because the gateway is busy.
    pub overload: Option<Overload>,
}

/// A class of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriorityClass {
    /// `NAME`.
    pub name: String,
    /// `rank`: higher ones are served first. Whoever is in no class has 0 if it is known, and -1 if not.
    pub rank: i64,
    /// `plans`: whoever has one of these.
    pub plans: Vec<String>,
    /// `roles`: whoever has one of these.
    pub roles: Vec<String>,
    /// `principals`: these.
    pub principals: Vec<String>,
    /// `routes`: only requests of routes with these names or tags; empty: of all.
    pub routes: Vec<String>,
}

impl PriorityClass {
    /// Whether it takes to know who asks.
    #[must_use]
    pub const fn needs_identity(&self) -> bool {
        !self.plans.is_empty() || !self.roles.is_empty() || !self.principals.is_empty()
    }
}

/// When the gateway itself has too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overload {
    /// `delay`: a worker that is always so late has too much to do.
    pub delay: Duration,
}
