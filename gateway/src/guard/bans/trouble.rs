//! Decides whose fault it is that good clients fail: theirs, or ours.
//!
//! A key that the issuer has changed, a clock that is wrong, a role or route that is gone by mistake: then good clients
//! fail alike, many at once. One that is known to be good and fails is therefore not banned at once. Either it goes on for
//! [`HOLD`] while others do not fail: then rules ban it as anybody else. Or others that are good fail in the same way
//! within [`TOGETHER`]: then it is nothing that they do. None of them is banned for it, what was banned of them is taken
//! back, and an operator is told. Whoever was never good is banned all the while.
//!
//! What good clients an attacker has keep nobody else from being banned.
//!
//! *Invariant:* at most [`good::MOST`] clients are kept in mind; over that, good clients are banned as others are.

use std::time::Duration;

use super::*;
use crate::signal::Signal;

/// How long a good client may fail alone.
const HOLD: u64 = MINUTE;

/// Failures within so long belong together.
const TOGETHER: u64 = 10 * MINUTE;

/// Fewer clients than this are no crowd.
const FEW: usize = 3;

/// A crowd is one of so many that are active.
const ONE_OF: usize = 50;

/// Good clients that fail.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    clients: HashMap<Source, Failure>,
    /// By what good clients fail together, and since when: milliseconds since the Unix epoch.
    together: BTreeMap<Signal, u64>,
    /// How many good clients were active lately.
    active: usize,
}

/// Times are `CLOCK_MONOTONIC`, nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Failure {
    signal: Signal,
    since: u64,
    last: u64,
    /// It was served since.
    recovered: bool,
    ban: Option<u64>,
}

impl Trouble {
    fn note(&mut self, source: Source, signal: Signal, now: u64) -> Option<u64> {
        if self.clients.len() >= good::MOST && !self.clients.contains_key(&source) {
            return None;
        }
        let fresh = Failure { signal, since: now, last: now, recovered: false, ban: None };
        let failure = self.clients.entry(source).or_insert(fresh);
        if failure.signal != signal || now.saturating_sub(failure.last) > TOGETHER {
            *failure = Failure { ban: failure.ban, ..fresh };
        }
        (failure.last, failure.recovered) = (now, false);
        Some(failure.since)
    }

    /// A client was served: it fails no more. Since when it did is kept, or it could go on by being good in between.
    pub(super) fn recovered(&mut self, source: Source) {
        if let Some(failure) = self.clients.get_mut(&source) {
            failure.recovered = true;
        }
    }

    fn banned(&mut self, source: Source, ban: u64) {
        if let Some(failure) = self.clients.get_mut(&source) {
            failure.ban = Some(ban);
        }
    }

    fn alike(&self, signal: Signal, now: u64) -> impl Iterator<Item = &Failure> {
        let all = self.clients.values().filter(move |failure| failure.signal == signal);
        all.filter(move |failure| !failure.recovered && now.saturating_sub(failure.last) <= TOGETHER)
    }

    fn is_crowd(&self, signal: Signal, now: u64) -> bool {
        self.alike(signal, now).count() >= FEW.max(self.active / ONE_OF)
    }
}

impl Guard {
    /// A rule asks for a ban of a client that is known to be good, for what may be our fault.
    pub(super) fn judge_fault(&mut self, ask: &Ask, now: Now) -> Result<(), Refused> {
        if !ask.signal.may_be_ours() {
            return Ok(());
        }
        let Some(is_established) = self.good.knows(ask.source, &self.settings.safety, now.monotonic) else {
            return Ok(());
        };
        let Some(since) = self.trouble.note(ask.source, ask.signal, now.monotonic) else { return Ok(()) };
        if !self.trouble.together.contains_key(&ask.signal) && self.trouble.is_crowd(ask.signal, now.monotonic) {
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

    /// Whether good clients fail together by `signal`, and `source` is one of them.
    fn judge_failing(&self, source: Source, signal: Signal, now: Now) -> Result<(), Refused> {
        let is_one = self.good.knows(source, &self.settings.safety, now.monotonic).is_some();
        match self.trouble.together.get(&signal) {
            Some(since) if is_one => Err(Refused::new(
                "good_clients_fail",
                format!("{source} is one of them: {}", self.told(signal, *since, now)),
            )),
            _ => Ok(()),
        }
    }

    /// Why rules do not ban `source`, where good clients fail together and it is one of them.
    pub(super) fn shields_of_trouble(&self, source: Source, now: Now) -> impl Iterator<Item = String> {
        let failing = self.trouble.clients.get(&source).map(|failure| failure.signal);
        failing.into_iter().filter_map(move |signal| self.judge_failing(source, signal, now).err()).map(|it| it.message)
    }

    /// The rules' ban of a good client, to be taken back if others fail alike.
    pub(super) fn note_fault(&mut self, ask: &Ask, ban: u64) {
        if ask.signal.may_be_ours() {
            self.trouble.banned(ask.source, ban);
        }
    }

    fn begin_failing(&mut self, signal: Signal, now: Now) {
        self.trouble.together.insert(signal, now.unix_millis);
        let alike = self.trouble.clients.values().filter(|failure| failure.signal == signal);
        let banned: Vec<u64> = alike.filter_map(|failure| failure.ban).collect();
        let banned: Vec<u64> = banned.into_iter().filter(|ban| self.ledger.contains(*ban)).collect();
        let clients = self.trouble.alike(signal, now.monotonic).count();
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

    /// Once a second: what is long past is forgotten, and what good clients fail by no more.
    pub(super) fn tick_trouble(&mut self, now: Now, ticks: u64) {
        if ticks.is_multiple_of(10) {
            let hour = Duration::from_secs(3_600);
            self.trouble.active = self.good.recent(hour, now.monotonic).count();
            let ledger = &self.ledger;
            self.trouble.clients.retain(|_, failure| {
                now.monotonic.saturating_sub(failure.last) <= TOGETHER
                    || failure.ban.is_some_and(|ban| ledger.contains(ban))
            });
        }
        let known: Vec<Signal> = self.trouble.together.keys().copied().collect();
        for signal in known {
            // Half as many keep it up, so that it does not come and go.
            if self.trouble.alike(signal, now.monotonic).count() * 2 < FEW.max(self.trouble.active / ONE_OF) {
                self.trouble.together.remove(&signal);
                tracing::info!(signal = signal.name(), "good clients fail no more");
                self.tell("good_clients_recovered", now, members(json!({"signal": signal.name()})));
            }
        }
    }

    /// What an operator should know.
    pub(super) fn trouble_warnings(&self, now: Now) -> impl Iterator<Item = String> {
        self.trouble.together.iter().map(move |(signal, since)| self.told(*signal, *since, now))
    }

    fn told(&self, signal: Signal, since: u64, now: Now) -> String {
        let clients = self.trouble.alike(signal, now.monotonic).count();
        let look = match signal {
            Signal::ExpiredToken | Signal::NotYetValid => "look at the clock of this host, and at jwt.leeway",
            Signal::ForgedToken | Signal::UnknownKey => {
                "the issuer may sign by another key than jwt.jwks has, or tokens are damaged on the way"
            }
            Signal::WrongAudience | Signal::WrongIssuer | Signal::UnfitToken | Signal::MissingToken => {
                "look at [jwt], and at what the issuer has changed"
            }
            Signal::BadHandshake => "look at [client_certificates] and the listeners' TLS",
            _ => "look at the routes, roles and schemas that were changed last",
        };
        format!(
            "{clients} good clients fail together since {} ({}): rules do not ban them for it; {look}",
            clock::rfc3339(since),
            signal.plural()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_in_mind_is_bounded() {
        let mut trouble = Trouble::default();
        for number in 0..u32::try_from(good::MOST).unwrap() + 10 {
            let source = Source::of(std::net::Ipv4Addr::from_bits(number).into(), 64);
            trouble.note(source, Signal::ForgedToken, SECOND);
        }
        assert_eq!(trouble.clients.len(), good::MOST);
    }
}
