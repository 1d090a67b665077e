//! Looks crawlers up: which names an address has, and whether one of them that may be the crawler's has the address.
//!
//! *Invariant:* a PTR record alone verifies nobody. What name servers do not say is not known, whatever else they say.

use std::{rc::Rc, time::Duration};

use tokio::{task::spawn_local, time::timeout};

use super::dns::{RecordKind, Resolver, reverse_name};
use crate::{
    os::clock,
    policy::detect::{HostAnswer, HostQuestion},
};

/// How long one lookup may take, over all its questions: less than after what an answer counts as lost.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How many names of one address are asked about: a crawler has one.
const NAMES: usize = 4;

/// Looks crawlers up.
#[derive(Default)]
pub(super) struct Verifier {
    resolver: Resolver,
}

impl Verifier {
    /// Finds out whether it is a crawler. Others are found out meanwhile.
    pub(super) fn verify(self: &Rc<Self>, question: HostQuestion) {
        let this = Rc::clone(self);
        spawn_local(async move {
            let answer = timeout(TIMEOUT, this.look(&question)).await.unwrap_or(HostAnswer::Failed);
            question.answered(answer, clock::monotonic());
        });
    }

    async fn look(&self, question: &HostQuestion) -> HostAnswer {
        match self.confirm(question).await {
            Ok(Some(seconds)) => HostAnswer::Confirmed(seconds),
            Ok(None) => HostAnswer::Unconfirmed,
            Err(why) => {
                tracing::debug!(address = %question.address, why, "a crawler cannot be looked up");
                HostAnswer::Failed
            }
        }
    }

    /// For how many seconds a name in a domain of the crawler has the address, and the address has it; `None`: none has.
    async fn confirm(&self, question: &HostQuestion) -> Result<Option<u32>, &'static str> {
        let (address, servers) = (question.address, &*question.resolvers);
        let Some(pointers) = self.resolver.ask(servers, &reverse_name(address), RecordKind::Ptr).await? else {
            return Ok(None);
        };
        let names = pointers.names.iter().filter(|name| question.may_be(name)).take(NAMES);
        let kind = if address.is_ipv4() { RecordKind::A } else { RecordKind::Aaaa };
        let mut failed = None;
        for name in names {
            match self.resolver.ask(servers, name, kind).await {
                Ok(Some(found)) if found.addresses.contains(&address) => {
                    return Ok(Some(pointers.seconds.min(found.seconds)));
                }
                Ok(_) => {}
                // Another name may have it.
                Err(why) => failed = Some(why),
            }
        }
        failed.map_or(Ok(None), Err)
    }
}
