//! Whose fault it is that good clients fail: theirs, or ours.
//!
//! A key that the issuer has changed, a clock that is wrong, a role or route that is gone by mistake: then good clients
//! fail alike, many at once. One that is known to be good and fails is therefore not banned at once. Either it goes on for
//! [`HOLD`] while others do not fail: then rules ban it as anybody else. Or others that are good fail in the same way
//! within ten minutes: then it is nothing that they do. None of them is banned for it, what was banned of them is taken
//! back, and an operator is told. Whoever was never good is banned all the while.
//!
//! What good clients an attacker has keep nobody else from being banned. One account is no crowd, at however many
//! addresses: as many principals are needed as clients, each of them good for long.
//!
//! A proxy also tells where an upstream fails for everybody on one route. Then bans go that rest on it alone, whoever they
//! are of: see [`Guard::hear_our_fault`].
//!
//! *Invariant:* what a proxy says lifts nothing but bans of rules that count what upstreams answer, none older than
//! [`TAKEN_BACK_WITHIN`], and only where clients fail that this guard itself knows to be good for long, as many principals
//! as sources. Blocks of operators and entries of lists stay.

use std::{collections::BTreeSet, time::Duration};

use crate::guard::bans::*;
use crate::policy::detect::{OurFault, TAKEN_BACK_WITHIN};
use crate::signal::Signal;
use crate::text::counted::counted;

/// What upstreams answer: the only signals that can be a route's fault.
const OF_UPSTREAMS: [Signal; 4] =
    [Signal::UpstreamError, Signal::UpstreamForbidden, Signal::UpstreamNotFound, Signal::UpstreamUnauthorized];

/// How long a good client may fail alone.
const HOLD: u64 = MINUTE;

impl Guard {
    /// A rule asks for a ban of a client that is known to be good, for what may be our fault.
    pub(in crate::guard::bans) fn judge_fault(&mut self, ask: &BanRequest, now: Now) -> Result<(), Refused> {
        if !ask.signal.may_be_ours() {
            return Ok(());
        }
        let Some(is_established) = self.policy.good.knows(ask.source, &self.settings.safety, now.monotonic) else {
            return Ok(());
        };
        let Some(since) = self.policy.trouble.note(ask.source, ask.signal, now.monotonic) else { return Ok(()) };
        if self.policy.trouble.together_since(ask.signal).is_none()
            && self.policy.trouble.is_crowd(self.crowd(self.policy.trouble.alike(ask.signal, now.monotonic), now))
        {
            self.begin_failing(ask.signal, now);
        }
        self.judge_failing(ask.source, ask.signal, now)?;
        if is_established && now.monotonic.saturating_sub(since) < HOLD {
            let (source, long) = (ask.source, span(HOLD / SECOND));
            let message = format!(
                "{source} is known to be good: rules ban it once this has gone on for {long} and others that are good do \
                 not fail alike"
            );
            return Err(Refused::new("good_client", message));
        }
        Ok(())
    }

    /// How many of these count towards a crowd: those that are good for long, and no more of them than there are principals.
    /// A customer with many addresses is no crowd: its own failures would shield it.
    fn crowd(&self, clients: impl Iterator<Item = Source>, now: Now) -> usize {
        let (good, safety) = (&self.policy.good, &self.settings.safety);
        let is_established = |source: &Source| good.knows(*source, safety, now.monotonic) == Some(true);
        let established: Vec<Source> = clients.filter(is_established).collect();
        established.len().min(good.principals(established.iter().copied(), safety, now.monotonic))
    }

    /// Whether good clients fail together by `signal`, and `source` is one of them.
    fn judge_failing(&self, source: Source, signal: Signal, now: Now) -> Result<(), Refused> {
        let is_one = self.policy.good.knows(source, &self.settings.safety, now.monotonic).is_some();
        match self.policy.trouble.together_since(signal) {
            Some(since) if is_one => Err(Refused::new(
                "good_clients_fail",
                format!("{source} is one of them: {}", self.told(signal, since, now)),
            )),
            _ => Ok(()),
        }
    }

    /// Why rules do not ban `source`, where good clients fail together and it is one of them.
    pub(in crate::guard::bans) fn shields_of_trouble(&self, source: Source, now: Now) -> impl Iterator<Item = String> {
        let failing = self.policy.trouble.signal_of(source);
        failing.into_iter().filter_map(move |signal| self.judge_failing(source, signal, now).err()).map(|it| it.message)
    }

    /// The rules' ban of a good client, to be taken back if others fail alike.
    pub(in crate::guard::bans) fn note_fault(&mut self, ask: &BanRequest, ban: u64) {
        if ask.signal.may_be_ours() {
            self.policy.trouble.banned(ask.source, ban);
        }
    }

    fn begin_failing(&mut self, signal: Signal, now: Now) {
        let banned = self.policy.trouble.begin(signal, now.unix_millis);
        let banned: Vec<u64> = banned.into_iter().filter(|ban| self.ledger.contains(*ban)).collect();
        let clients = self.policy.trouble.count(signal, now.monotonic);
        tracing::error!(
            signal = signal.name(),
            clients,
            taken_back = banned.len(),
            "good clients fail together: rules do not ban them for it; look at keys, clock, roles and routes"
        );
        let about = json!({"signal": signal.name(), "clients": clients, "taken_back": banned.len()});
        self.tell("good_clients_fail", now, members(about));
        let how = format!("taken back: good clients fail together by {}", signal.name());
        if let Err(refused) = self.end(&banned, &how, Some("unban"), now, None, nothing()) {
            tracing::error!(error = %refused, "bans of good clients stay until their end can be recorded");
        }
    }

    /// A proxy tells that good clients fail together on a route, and which bans rest on that alone.
    pub(crate) fn hear_our_fault(&mut self, fault: &OurFault, now: Now) {
        let named: BTreeSet<Source> = fault.clients.iter().map(|failing| failing.source).collect();
        let clients = self.crowd(named.into_iter(), now);
        if !OF_UPSTREAMS.contains(&fault.signal) || !self.policy.trouble.is_enough(clients) {
            return;
        }
        let (signal, route) = (fault.signal, clean(&fault.route));
        let ids = self.rest_on(fault, now);
        if self.policy.trouble.hear_route(signal, &route, clients, now) {
            tracing::error!(
                signal = signal.name(),
                route,
                clients,
                taken_back = ids.len(),
                "good clients fail together on a route: nobody is banned for it; look at the upstream"
            );
            let about = json!({
                "signal": signal.name(), "route": route, "clients": clients, "taken_back": ids.len(),
            });
            self.tell("good_clients_fail", now, members(about));
        }
        let how = format!("taken back: good clients fail together on {route} by {}", signal.name());
        if let Err(refused) = self.end(&ids, &how, Some("unban"), now, None, nothing()) {
            tracing::error!(error = %refused, "bans that are our fault stay until their end can be recorded");
        }
    }

    /// Which of the bans that a proxy names may go: it has asked for each by a rule that counts the signal, since the fault
    /// began and not long ago.
    fn rest_on(&self, fault: &OurFault, now: Now) -> Vec<u64> {
        let began = fault.since.max(now.monotonic.saturating_sub(TAKEN_BACK_WITHIN));
        let began = now.unix_millis.saturating_sub(now.monotonic.saturating_sub(began) / 1_000_000);
        let counts =
            |name: &str| self.policy.rules.iter().any(|rule| rule.name == name && rule.signals.contains(&fault.signal));
        let named = fault.bans.iter().filter(|ban| counts(&ban.rule));
        let of = named.filter_map(|ban| {
            let record = self.ledger.find(ban.source)?;
            let is_it = record.actor == Actor::Rule(ban.rule.clone()).to_string()
                && record.rule.as_deref() == Some(&*ban.rule)
                && record.evidence.contains(&ban.request)
                && record.started >= began;
            is_it.then_some(record.id)
        });
        of.collect()
    }

    /// How many good clients fail together, by signal and route; `(any)`: by whatever route.
    pub(crate) fn failing_together(&self, now: Now) -> Vec<(&'static str, String, u64)> {
        let count = |clients: usize| u64::try_from(clients).unwrap_or(u64::MAX);
        let trouble = &self.policy.trouble;
        let mut all: Vec<_> =
            trouble.routes().map(|(by, route, it)| (by.name(), route.to_owned(), count(it.clients))).collect();
        // One cause is told once.
        for (signal, _) in trouble.elsewhere(now) {
            all.push((signal.name(), "(any)".to_owned(), count(trouble.count(signal, now.monotonic))));
        }
        all
    }

    /// Once a second: what is long past is forgotten, and what good clients fail by no more.
    pub(in crate::guard::bans) fn tick_trouble(&mut self, now: Now, ticks: u64) {
        if ticks.is_multiple_of(10) {
            let hour = Duration::from_secs(3_600);
            let active = self.policy.good.recent(hour, now.monotonic).count();
            self.policy.trouble.forget(active, |ban| self.ledger.contains(ban), now.monotonic);
        }
        let trouble = &self.policy.trouble;
        let is_over = |signal: Signal| trouble.is_over(self.crowd(trouble.alike(signal, now.monotonic), now));
        let over: Vec<Signal> = trouble.together().map(|(signal, _)| signal).filter(|it| is_over(*it)).collect();
        for signal in over {
            self.policy.trouble.end(signal);
            tracing::info!(signal = signal.name(), "good clients fail no more");
            self.tell("good_clients_recovered", now, members(json!({"signal": signal.name()})));
        }
        for (signal, route) in self.policy.trouble.end_routes(now.monotonic) {
            tracing::info!(signal = signal.name(), route, "good clients fail no more on a route");
            self.tell("good_clients_recovered", now, members(json!({"signal": signal.name(), "route": route})));
        }
    }

    /// What an operator should know.
    pub(in crate::guard::bans) fn trouble_warnings(&self, now: Now) -> impl Iterator<Item = String> {
        let trouble = &self.policy.trouble;
        let routes = trouble.routes().map(|(signal, route, fault)| {
            format!(
                "{} together on {route} since {} ({}): nobody is banned for it; look at the upstream, and at what was \
                 deployed there last",
                counted(fault.clients, "good client fails", "good clients fail"),
                clock::rfc3339(fault.since),
                signal.plural()
            )
        });
        let others = trouble.together().filter(move |(signal, _)| !trouble.routes().any(|(by, ..)| by == *signal));
        routes.chain(others.map(move |(signal, since)| self.told(signal, since, now)))
    }

    fn told(&self, signal: Signal, since: u64, now: Now) -> String {
        let clients = self.policy.trouble.count(signal, now.monotonic);
        let look = match signal {
            Signal::ExpiredToken | Signal::NotYetValid => "look at the clock of this host, and at jwt.leeway",
            Signal::ForgedToken | Signal::UnknownKey => {
                "the issuer may sign by another key than jwt.jwks has, or tokens are damaged on the way"
            }
            Signal::WrongAudience
            | Signal::WrongIssuer
            | Signal::UnfitToken
            | Signal::MissingToken
            | Signal::MalformedToken => "look at [jwt], and at what the issuer has changed",
            Signal::RevokedToken => "look at what was revoked last",
            Signal::Unusual => "look for a new version of a client, or a network that many come through now",
            Signal::WrongPassword => "look at the file that basic.users names",
            Signal::InactiveToken => {
                "look at [introspection.NAME]: another server may have made them, or they are revoked or expired"
            }
            Signal::FalseCrawler => "look at `hosts` and `feeds` of [crawler.NAME]",
            Signal::BadHandshake => "look at [client_certificates] and the listeners' TLS",
            Signal::UpstreamError
            | Signal::UpstreamForbidden
            | Signal::UpstreamNotFound
            | Signal::UpstreamUnauthorized => "look at the upstream, and at what was deployed there last",
            _ => "look at the routes, roles and schemas that were changed last",
        };
        format!(
            "{} together since {} ({}): rules do not ban them for it; {look}",
            counted(clients, "good client fails", "good clients fail"),
            clock::rfc3339(since),
            signal.plural()
        )
    }
}

/// A route's name as a proxy says it, in one line.
fn clean(route: &str) -> String {
    route.chars().filter(|letter| !letter.is_control()).collect()
}
