//! What budgets of rates have spent goes on in the proxy that takes the place of another: the guard asks the one that serves,
//! and hands it to the next one before that serves, or to the next guard.
//!
//! *Invariant:* at most [`MOST_SPENT`] budgets, and nobody waits for them for longer than [`HANDED_WITHIN`]: a new proxy
//! serves without them then.

use tokio::time::Instant;

use crate::{
    guard::lifecycle::{
        processes::handover_state::{HANDED_WITHIN, Handover, Heir},
        reload::upgrade::LAST_WORDS,
        service::Service,
    },
    message::{STARTED_WITH, ToProxy, channel::sealed::seal},
    policy::limit::spent::{MOST_SPENT, SpentBudgets},
    settings::{limit::Allowance, proxy},
};

impl Service<'_> {
    /// Asks the proxy that serves for what budgets have spent. `false`: there is nothing to ask, or nobody.
    pub(in crate::guard::lifecycle) fn begin_handover(&mut self, to: Heir) -> bool {
        if self.handover.is_some() || !has_rates(&self.config.proxy) {
            return false;
        }
        let number = self.commands.waiting.number();
        let heir = if let Heir::Proxy(generation) = to { Some(generation) } else { None };
        let asked = self.supervisor.ask_spent(heir, number);
        self.handover = asked.map(|from| Handover {
            from,
            number,
            until: Instant::now() + HANDED_WITHIN,
            to,
            spent: Vec::new(),
            count: 0,
        });
        self.handover.is_some()
    }

    /// A proxy tells of some of them. What nobody has asked for, or what is too much, is ignored.
    pub(in crate::guard::lifecycle) fn spent(&mut self, from: u64, number: u64, budgets: Option<Box<SpentBudgets>>) {
        let Some(handover) = self.handover.as_mut().filter(|it| (it.from, it.number) == (from, number)) else { return };
        match budgets {
            Some(budgets) => {
                handover.count = handover.count.saturating_add(budgets.rows.len().max(1));
                if handover.count <= MOST_SPENT {
                    handover.spent.push(*budgets);
                }
            }
            None => self.finish_handover(),
        }
    }

    /// A proxy is gone: what it has told so far has to do.
    pub(in crate::guard::lifecycle) fn handover_from_gone(&mut self, generation: u64) {
        if self.handover.as_ref().is_some_and(|handover| handover.from == generation) {
            self.finish_handover();
        }
    }

    /// Whoever waits for it goes on.
    pub(in crate::guard::lifecycle) fn finish_handover(&mut self) {
        let Some(Handover { to, spent, count, .. }) = self.handover.take() else { return };
        match to {
            Heir::Guard => {
                self.supervisor.spent = spent;
                self.keep();
                self.ending.upgrade_at = self.ending.upgrade_at.map(|_at| Instant::now() + LAST_WORDS);
            }
            Heir::Proxy(generation) => {
                tracing::info!(
                    generation,
                    budgets = count,
                    "the new proxy goes on with the rate limits of the one before"
                );
                match seal(&spent) {
                    Ok(sealed) => self.supervisor.hand(generation, ToProxy::Spent, sealed),
                    Err(error) => tracing::error!(%error, "rate limits begin anew"),
                }
                self.follow_compiled(generation, STARTED_WITH, Ok(()));
            }
        }
    }
}

/// Whether anything is limited by a rate.
fn has_rates(settings: &proxy::Settings) -> bool {
    let (connections, bandwidth) = (&settings.connection_limits, &settings.bandwidth);
    let all = [&settings.limits, &connections.accepted, &connections.handshake, &bandwidth.upload, &bandwidth.download];
    let is_rate = |allowance: &Allowance| matches!(allowance, Allowance::Rate(_));
    all.into_iter().any(|settings| settings.limits.iter().any(|limit| is_rate(&limit.allowance)))
}
