//! Takes back what rules have banned before it was known who is logged in to look after the host.

use std::net::IpAddr;

use super::super::policy::safety::OPERATOR;
use crate::guard::bans::*;

impl Guard {
    /// A look that `began` at a moment of `CLOCK_MONOTONIC` has seen who is logged in, and, with `protected`, what
    /// else there is: addresses, routes and name servers change while a host runs. What names resolve to is found out at
    /// start and reload only.
    pub(crate) fn saw(&mut self, protected: Option<ProtectedAddresses>, operators: LoggedIn, began: u64, now: Now) {
        if let Some(seen) = protected {
            self.policy.protected.renew(seen);
        }
        self.operators_are(operators);
        self.prove(began, now);
    }

    /// Those are logged in by now.
    pub(crate) fn operators_are(&mut self, operators: LoggedIn) {
        self.policy.protected.operators_are(operators);
    }

    /// Since when there are bans of rules that may have hit somebody who had logged in a moment before: `CLOCK_MONOTONIC`,
    /// nanoseconds; `None`: there are none.
    pub(crate) fn unproven_since(&self) -> Option<u64> {
        self.policy.unproven.first().map(|(_, at)| *at)
    }

    /// Takes back what rules have banned before it was known who is logged in by a look that began after it.
    fn prove(&mut self, began: u64, now: Now) {
        let (seen, later) = std::mem::take(&mut self.policy.unproven).into_iter().partition(|(_, at)| *at <= began);
        self.policy.unproven = later;
        let seen: Vec<(u64, u64)> = seen;
        let wrong = |id: &u64| {
            let record = self.ledger.get(*id);
            record.is_some_and(|record| self.judge(record.source).is_err_and(|refused| refused.code == OPERATOR))
        };
        let wrong: Vec<u64> = seen.into_iter().map(|(id, _)| id).filter(wrong).collect();
        let how = format!("taken back: {OPERATOR}, somebody is logged in from there");
        if let Err(refused) = self.end(&wrong, &how, Some("unban"), now, None, nothing()) {
            tracing::error!(error = %refused, "a ban of an operator stays until its end can be recorded");
            self.policy.unproven.extend(wrong.into_iter().map(|id| (id, began)));
        }
    }

    /// Identity providers have these addresses by now; where none was found, those of before stay.
    pub(crate) fn protect_identity_providers(&mut self, addresses: Vec<IpAddr>) {
        self.policy.protected.identity_providers_are(addresses);
    }
}
