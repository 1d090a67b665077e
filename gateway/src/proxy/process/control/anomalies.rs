//! What the proxy says of anomalies: from whom they come.

use super::Control;
use crate::{
    message::{
        Stage, ToGuard,
        observer::anomalies::{Contributors, Deviations},
    },
    os::clock,
    policy::detect::{BanRequest, Contribution, Contributor, NamedContributor, Observed, ObservedFacts},
    signal::Signal,
};

impl Control<'_> {
    /// Tells the guard from whom something comes that is not usual. Rules may count that, too.
    pub(super) fn name_contributors(&mut self, deviations: &Deviations) {
        // One that drains sees little of what there is.
        if self.stage() != Stage::Serving {
            return;
        }
        for deviating in &deviations.0 {
            let Some(mut contribution) = self.snapshot().detector.contribution(deviating) else { return };
            self.observe_contributors(&contribution);
            // Anomalies are told to receivers, too: they name nobody whom the access log does not name.
            for contributor in &mut contribution.named {
                if let NamedContributor::Principal(name) = &mut contributor.who {
                    *name = self.snapshot().access_log.principal(std::mem::take(name));
                }
            }
            let (of, measure, minute) = (deviating.of.clone(), deviating.measure, deviating.minute);
            self.guard.say(ToGuard::Contributors(Box::new(Contributors { of, measure, minute, contribution })));
        }
    }

    fn observe_contributors(&mut self, contribution: &Contribution) {
        for Contributor { who, requests, .. } in contribution.named.iter().filter(|named| named.stands_out) {
            let (NamedContributor::Source(source, address, relay), Some(id)) = (who, requests.last()) else { continue };
            let (source, address, id) = (*source, *address, *id);
            let observed = Observed {
                signal: Signal::Anomaly,
                source,
                address,
                principal: None,
                id,
                limits: &[],
                facts: ObservedFacts::default(),
            };
            for ask in self.snapshot().detector.note(&observed, clock::monotonic()) {
                let ask = BanRequest { relay: *relay, ..ask };
                if let Some(ask) = self.shared.asks.ask(ask) {
                    self.guard.say(ToGuard::BanRequest(Box::new(ask)));
                }
            }
        }
    }
}
