//! Which limit or quota a client is told of: the one that leaves the least.

/// What the client is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimitHeaders {
    /// The limit or quota that leaves the least, in `RateLimit`.
    pub(in crate::policy::limit) least: Option<RemainingUnits>,
    /// The quota that leaves the least, in headers of its own.
    pub(in crate::policy::limit) quota: Option<RemainingUnits>,
}

/// What one of them leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy::limit) struct RemainingUnits {
    pub(in crate::policy::limit) limit: usize,
    pub(in crate::policy::limit) allowed: usize,
    pub(in crate::policy::limit) left: u64,
    /// In how many seconds all of them are there again, or, of a request that is refused, as many as it takes: the same
    /// moment as `Retry-After`, as the draft asks for. `None`: once another request is over.
    pub(in crate::policy::limit) reset: Option<u64>,
}

impl RateLimitHeaders {
    /// One that lets the request through. `in_general`: it is told in `RateLimit`; `as_quota`: in headers of its own.
    pub(in crate::policy::limit) fn admitted(&mut self, left: RemainingUnits, in_general: bool, as_quota: bool) {
        let is_less = |known: &Option<RemainingUnits>| known.is_none_or(|known| left.left < known.left);
        if in_general && is_less(&self.least) {
            self.least = Some(left);
        }
        if as_quota && is_less(&self.quota) {
            self.quota = Some(left);
        }
    }

    /// One that refuses the request, and makes it wait longest so far.
    pub(in crate::policy::limit) fn refused(&mut self, left: RemainingUnits, in_general: bool, as_quota: bool) {
        self.least = in_general.then_some(left);
        if as_quota {
            self.quota = Some(left);
        }
    }

    const fn is_nothing(&self) -> bool {
        self.least.is_none() && self.quota.is_none()
    }

    /// The same, if it is anything.
    pub(in crate::policy::limit) fn any(self) -> Option<Self> {
        (!self.is_nothing()).then_some(self)
    }
}
