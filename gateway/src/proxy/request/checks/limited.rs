//! What limits say of an exchange: asked at each step, told to the client, and settled when it is over.

use std::time::Duration;

use http::HeaderMap;

use crate::{
    os::clock::{self, Now},
    policy::limit::{LimitFacts, RateLimitHeaders, RequestUsage, When},
    proxy::{
        request::exchange::{Exchange, Throttles},
        timing::throttle::Throttle,
    },
    refusal::{Refusal, Reject},
    snapshot::CompiledRoute,
};

impl Exchange {
    /// Asks the limits that know at this moment what they look at.
    #[inline]
    pub(in crate::proxy::request) fn limit(
        &mut self,
        when: When,
        headers: &HeaderMap,
        now: u64,
    ) -> Result<(), Refusal> {
        self.ask_limits(when, None, headers, now)
    }

    /// Asks those that the request's operation names.
    #[inline]
    pub(in crate::proxy::request) fn limit_operation(
        &mut self,
        route: &CompiledRoute,
        when: When,
        headers: &HeaderMap,
        now: u64,
    ) -> Result<(), Refusal> {
        let named = route.named_limits.as_ref().zip(self.routing.operation);
        match named.and_then(|(named, operation)| named.get(operation.index())) {
            Some(named) if !named.is_empty() => self.ask_limits(when, Some(named), headers, now),
            _ => Ok(()),
        }
    }

    #[inline]
    fn ask_limits(
        &mut self,
        when: When,
        named: Option<&[usize]>,
        headers: &HeaderMap,
        now: u64,
    ) -> Result<(), Refusal> {
        let Some(limits) = &self.listener.snapshot().limits else { return Ok(()) };
        // Most are asked at one moment of the three: what they look at is not gathered for the others.
        if named.is_none() && !limits.is_asked(when, self.routing.route) {
            return Ok(());
        }
        let facts = LimitFacts {
            source: self.client.source,
            address: self.client.address.ip(),
            ja4: self.connection.ja4(),
            headers,
            target: self.request.target.as_ref().map(|target| (target.host(), target.path())),
            route: self.routing.route,
            identity: self.identity.as_deref(),
            plan: None,
        };
        match named {
            None => limits.judge(when, &facts, now, &mut self.limited),
            Some(named) => limits.judge_named(when, named, &facts, now, &mut self.limited),
        }
    }

    /// Whoever proved who it is, may do what it asks and is within every limit is served before unknown clients. Packets
    /// of clients behind a trusted proxy are that proxy's.
    /// The source of a member of a plan may get the plan's budget.
    pub(in crate::proxy::request) fn tell_kernel_of_proof(&self) {
        let snapshot = self.snapshot();
        if snapshot.settings.fast_lane.is_none() && snapshot.kernel_plans.is_none() {
            return;
        }
        let Some(identity) = self.identity.as_ref().filter(|_| !self.client.is_trusted && self.client.relay.is_none())
        else {
            return;
        };
        if let Some(most) = snapshot.settings.fast_lane {
            let (lane, all) = (&self.connection.fast_lane, &self.worker.shared.fast_lane);
            lane.enter(all, identity, self.epoch, most, self.began.monotonic);
        }
        if let Some(plans) = &snapshot.kernel_plans
            && let number = self.listener.generation.number()
            && let Some(member) =
                self.connection.plan.prove(self.client.source, identity, number, || plans.of(identity))
        {
            self.worker.plan_members.note(member);
        }
    }

    /// Finds out how its bodies are held back, now that it is known who asks.
    #[inline]
    pub(in crate::proxy::request) fn throttle(&mut self, headers: &HeaderMap) {
        let bandwidth = &self.listener.snapshot().bandwidth;
        if bandwidth.is_empty() {
            return;
        }
        let (upload, download) = bandwidth.find(&LimitFacts {
            source: self.client.source,
            address: self.client.address.ip(),
            ja4: self.connection.ja4(),
            headers,
            target: self.request.target.as_ref().map(|target| (target.host(), target.path())),
            route: self.routing.route,
            identity: self.identity.as_deref(),
            plan: None,
        });
        let throttle = |pacers| Box::new(Throttle::new(pacers));
        self.throttles = Throttles { upload: upload.map(throttle), download: download.map(throttle) };
    }

    /// What its client is told of the limits of the configuration that it began with.
    pub(in crate::proxy::request) fn told_limit(&self) -> Option<RateLimitHeaders> {
        self.limited.told()
    }

    /// Notes what the upstream says that it costs, where a limit asks for that.
    pub(in crate::proxy::request) fn note_cost(&mut self, headers: &HeaderMap) {
        if self.limited.is_owing()
            && let Some(limits) = &self.listener.snapshot().limits
        {
            let wrong = limits.note_response(headers, &mut self.limited);
            if let Some(limit) = wrong
                && let Some(others) = self.worker.wrong_costs.is_due(clock::monotonic())
            {
                tracing::warn!(
                    limit,
                    others,
                    "the header that says what a request costs is no whole number: it counts 1"
                );
            }
        }
    }

    /// Waits for its turn, where a limit that was just asked delays it: nothing else is done for it meanwhile, and nothing of
    /// its body is read. Returns the time then.
    ///
    /// # Errors
    /// [`Reject::Banned`]: its source was banned while it waited.
    #[inline]
    pub(in crate::proxy::request) async fn wait_for_turn(&mut self, now: Now) -> Result<Now, Refusal> {
        let wait = self.limited.take_wait();
        if wait == 0 {
            return Ok(now);
        }
        // Boxed, as most requests do without it.
        Box::pin(tokio::time::sleep(Duration::from_nanos(wait))).await;
        if self.is_banned() {
            return Err(Refusal::new(Reject::Banned, "banned while it waited"));
        }
        Ok(Now::read())
    }

    /// Charges what was known only now, and lets others have its place.
    pub(in crate::proxy::request) fn settle_limits(&mut self) {
        if !self.limited.is_owing() {
            return;
        }
        let spent = RequestUsage {
            request_bytes: self.outcome.bytes_in.as_ref().map_or(0, |bytes| bytes.get()),
            response_bytes: self.outcome.bytes_out,
            grpc_messages: self.outcome.messages_in.as_ref().map_or(0, |messages| messages.get()),
        };
        if let Some(limits) = &self.listener.snapshot().limits {
            limits.settle(&mut self.limited, &spent, clock::monotonic());
        }
    }
}
