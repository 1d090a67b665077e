//! What clients are told of limits and quotas, in headers of responses
//! (<https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/>).

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    Limits,
    budget::Budgets,
    tell::rate_limit_headers::{RateLimitHeaders, RemainingUnits},
};
use crate::{settings::limit::quota::QuotaHeaders, text::digits::append_decimal};

pub(super) mod rate_limit_headers;

static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

impl Limits {
    /// Writes what the client is told into the headers of an answer.
    pub fn tell(&self, told: &RateLimitHeaders, headers: &mut HeaderMap) {
        if let Some(left) = &told.least {
            self.tell_rate(left, headers);
        }
        if let Some(left) = &told.quota {
            self.tell_quota(left, headers);
        }
    }

    /// The same, one after the other to `add`, for an answer whose headers are in no map; `None`, and nothing was added,
    /// if one of them takes the place of what the upstream says.
    #[must_use]
    pub fn tell_each(&self, told: &RateLimitHeaders, mut add: impl FnMut(&str, &[u8])) -> Option<()> {
        let None = told.quota else { return None };
        if let Some((text, policy)) = told.least.as_ref().and_then(|left| self.rate_text(left)) {
            add(RATE_LIMIT.as_str(), &text);
            add(RATE_LIMIT_POLICY.as_str(), policy.as_bytes());
        }
        Some(())
    }

    fn tell_rate(&self, left: &RemainingUnits, headers: &mut HeaderMap) {
        let Some((text, policy)) = self.rate_text(left) else { return };
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.append(&RATE_LIMIT, value);
            headers.append(&RATE_LIMIT_POLICY, policy.clone());
        }
    }

    /// By hand, as most responses bear it.
    fn rate_text(&self, left: &RemainingUnits) -> Option<(Vec<u8>, &HeaderValue)> {
        let limit = self.limits.get(left.limit)?;
        let allowed = limit.allowed.get(left.allowed)?;
        // With room for two numbers of any size.
        let mut text = Vec::with_capacity(limit.name.len() + 48);
        text.push(b'"');
        text.extend_from_slice(limit.name.as_bytes());
        text.extend_from_slice(b"\";r=");
        append_decimal(left.left, &mut text);
        if let Some(reset) = left.reset {
            text.extend_from_slice(b";t=");
            append_decimal(reset, &mut text);
        }
        Some((text, &allowed.policy))
    }

    fn tell_quota(&self, left: &RemainingUnits, headers: &mut HeaderMap) {
        let Some(limit) = self.limits.get(left.limit) else { return };
        let Some(Budgets::Quota(quota, rules)) = limit.allowed.get(left.allowed).map(|allowed| &allowed.budgets) else {
            return;
        };
        let QuotaHeaders { limit: most, remaining, reset } = &limit.quota_headers;
        // When it ends is behind a lock: it is asked only where somebody is told.
        let end = reset.as_ref().map_or(0, |_| quota.end());
        for (name, value) in [(most, rules.most), (remaining, left.left), (reset, end)] {
            if let Some(name) = name {
                headers.insert(name, value.into());
            }
        }
    }
}
