//! Finds out who a request comes from where the policy has to know something first: looks it up and asks again.

use std::sync::Arc;

use crate::{
    os::clock::Now,
    policy::auth::{AuthOutcome, Identity, Lookup, LookupAnswer, Presented},
    proxy::{generation::ListenerRef, lookup::Requester, request::exchange::Exchange},
    refusal::{Refusal, Reject},
    settings::auth::Method,
    snapshot::CompiledRoute,
};

/// Whom the request comes from, once everything is known. `lookup` is what has to be known first.
///
/// # Errors
/// As [`Authenticators::identify`](crate::policy::auth::Authenticators::identify).
pub(in crate::proxy::request) async fn identify(
    listener: &ListenerRef,
    route: &CompiledRoute,
    exchange: &Exchange,
    presented: Presented<'_>,
    mut lookup: Lookup,
) -> Result<Arc<Identity>, Refusal> {
    let mut answers = Vec::new();
    // No method asks twice.
    for _ in Method::ALL {
        answers.push(perform(lookup, listener, exchange).await?);
        let presented = Presented { answers: &answers, ..presented };
        // A token may have expired while its request waited.
        match listener.snapshot().authenticators.identify(&presented, &route.accepted, Now::read()) {
            AuthOutcome::Decided(decided) => return decided,
            AuthOutcome::Needs(next) => lookup = next,
        }
    }
    Err(Refusal::new(Reject::Unavailable, "authentication has to know too much"))
}

/// Finds one thing out.
async fn perform(lookup: Lookup, listener: &ListenerRef, exchange: &Exchange) -> Result<LookupAnswer, Refusal> {
    let client = &exchange.client;
    let wait = match lookup {
        Lookup::Introspection(ref question) => question.timeout(),
        Lookup::Keys(ref keys) => keys.timeout(),
        Lookup::Password(check) => {
            return Ok(LookupAnswer::Password(listener.generation.compare(check, client.source).await?));
        }
    };
    let (source, address, relay) = (client.source, client.address.ip(), client.relay);
    let (ja4, is_trusted) = (exchange.connection.own_ja4(), client.is_trusted);
    let asker = Requester { source, address, relay, id: exchange.id, ja4, is_trusted };
    let found = exchange.worker.shared.lookups.find(lookup, asker, wait).await;
    found.map_err(|why| Refusal { retry_after: Some(1), ..Refusal::new(Reject::Unavailable, why) })
}
