//! How much one message may hold. The guard takes nothing from a proxy that says more: a message of 64 KiB can stand for
//! many times as much memory, and work.

use super::{
    ANSWERS, MAX_GOOD, MAX_LABELS, MAX_REASON, MAX_REFUSED, MAX_SHADOWED, ToGuard, ToProxy,
    delivery::{Delivered, LONGEST_RESPONSE},
    telemetry::Telemetry,
};
use crate::{detect::MAX_SCORES, settings::detect::MAX_EVIDENCE, signal::Signal};

/// The longest name of anything, in bytes: the configuration has none that is longer.
const MAX_NAME: usize = 64;

/// The longest address of a server, in bytes: a host's name and a port.
const MAX_ADDRESS: usize = 300;

/// A message that may hold so much.
pub trait Bounded {
    /// Whether it keeps to its bounds; if not, what it has too many of.
    ///
    /// # Errors
    /// It does not.
    fn check(&self) -> Result<(), &'static str>;
}

impl Bounded for ToGuard {
    fn check(&self) -> Result<(), &'static str> {
        let (fits, what) = match self {
            Self::Ready
            | Self::Configured { .. }
            | Self::Failed { .. }
            | Self::Lost(_)
            | Self::Closed { .. }
            | Self::Ack { .. } => return Ok(()),
            Self::NotConfigured { reason, .. } => (reason.len() <= MAX_REASON, "letters in a reason"),
            Self::BanRequest(ask) => {
                (ask.evidence.len() <= MAX_EVIDENCE && ask.rule.len() <= MAX_NAME, "evidence, or too long a name")
            }
            Self::Good(clients) => (clients.len() <= MAX_GOOD, "good clients"),
            Self::Refused(bans) => (bans.len() <= MAX_REFUSED, "bans"),
            Self::Counted(counted) => (
                counted.answers.len() <= ANSWERS.len()
                    && counted.signals.len() <= Signal::ALL.len()
                    && counted.refused.len() <= MAX_LABELS
                    && counted.refused.iter().all(|(label, _)| label.len() <= MAX_NAME),
                "counters, or too long a label",
            ),
            Self::Upstream(report) => (
                report.name.len() <= MAX_NAME && report.servers.iter().all(|(address, _)| address.len() <= MAX_ADDRESS),
                "letters in a name",
            ),
            Self::WouldRefuse { sources, .. } => (sources.len() <= MAX_SHADOWED, "sources"),
            Self::Score { scores, .. } => {
                let short = scores.iter().all(|(rule, _)| rule.len() <= MAX_NAME);
                (scores.len() <= MAX_SCORES && short, "scores, or too long a name")
            }
        };
        if fits { Ok(()) } else { Err(what) }
    }
}

/// Whoever keeps the series says how many there may be, and how long their labels.
impl Bounded for Telemetry {
    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

/// One response, which a message has room for.
impl Bounded for Delivered {
    fn check(&self) -> Result<(), &'static str> {
        match &self.0 {
            Ok(response) if response.len() > LONGEST_RESPONSE => Err("bytes of a response"),
            _ => Ok(()),
        }
    }
}

/// The guard's own word.
impl Bounded for ToProxy {
    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Counted, GoodClient, UpstreamReport};

    #[test]
    fn no_message_holds_more_than_it_may() {
        let good = GoodClient { source: "192.0.2.1".parse().unwrap(), principal: 1 };
        let upstream = |name: usize, address: usize| {
            let servers = vec![("a".repeat(address), crate::message::ServerState::Up)];
            let report =
                UpstreamReport { name: "a".repeat(name), servers, without_server: 0, over_limit: 0, retries: 0 };
            ToGuard::Upstream(Box::new(report))
        };
        let counted = |answers, labels: usize, length: usize, signals| {
            let refused = vec![("a".repeat(length), 1); labels];
            let (answers, signals) = (vec![0; answers], vec![0; signals]);
            ToGuard::Counted(Box::new(Counted { answers, refused, signals, connections: 0 }))
        };
        for (message, fits) in [
            (ToGuard::Ready, true),
            (ToGuard::Good(vec![good; MAX_GOOD]), true),
            (ToGuard::Good(vec![good; MAX_GOOD + 1]), false),
            (ToGuard::Refused(vec![(1, 1); MAX_REFUSED]), true),
            (ToGuard::Refused(vec![(1, 1); MAX_REFUSED + 1]), false),
            (counted(ANSWERS.len(), MAX_LABELS, MAX_NAME, Signal::ALL.len()), true),
            (counted(ANSWERS.len() + 1, 0, 0, 0), false),
            (counted(0, MAX_LABELS + 1, 0, 0), false),
            (counted(0, 1, MAX_NAME + 1, 0), false),
            (counted(0, 0, 0, Signal::ALL.len() + 1), false),
            (upstream(MAX_NAME, MAX_ADDRESS), true),
            (upstream(MAX_NAME + 1, 1), false),
            (upstream(1, MAX_ADDRESS + 1), false),
            (ToGuard::Score { number: 1, scores: vec![("a".repeat(MAX_NAME), 1); MAX_SCORES] }, true),
            (ToGuard::Score { number: 1, scores: vec![(String::new(), 1); MAX_SCORES + 1] }, false),
            (ToGuard::Score { number: 1, scores: vec![("a".repeat(MAX_NAME + 1), 1)] }, false),
        ] {
            assert_eq!(message.check().is_ok(), fits, "{message:?}");
        }
    }
}
