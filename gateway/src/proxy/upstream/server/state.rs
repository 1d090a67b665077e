//! Which servers of an upstream may be used, by health checks and by ejection (passive health checks). All workers
//! share this state.
//!
//! *Invariant:* a request reads a few words and takes no lock. An ejected server comes back by itself. No more than the
//! configured share of servers is ejected at once.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use gateway_common::source::Source;

use super::failing::Failing;
use crate::{
    message::{FailingServer, ServerState, UpstreamReport},
    policy::admission::GateReport,
    proxy::upstream::{
        balance::{bit, hash},
        gate::SharedGate,
    },
    settings::upstream::{Ejection, Upstream, UpstreamServer},
};

/// The least share of its turns that a server gets when it has just come back, in thousandths.
const LEAST_SHARE: u64 = 100;

/// The state of one upstream.
pub(in crate::proxy) struct UpstreamState {
    pub(in crate::proxy::upstream) settings: Upstream,
    /// Those of a server outlive configurations.
    servers: Box<[Arc<ServerCounters>]>,
    /// Servers that fail their health checks, as bits.
    down: AtomicU64,
    /// Servers that are ejected, as bits.
    ejected: AtomicU64,
    /// Servers in slow start, as bits.
    slow: AtomicU64,
    /// Idle connections of all workers, and those that carry requests.
    idle: AtomicU64,
    busy: AtomicU64,
    totals: Arc<Totals>,
    /// The way to its servers, where it is limited. It outlives configurations.
    pub(in crate::proxy::upstream) gate: Option<Arc<SharedGate>>,
}

/// The counters of one upstream, for as long as there is one of its name.
#[derive(Default)]
struct Totals {
    /// Requests in flight at all servers.
    in_flight: AtomicU32,
    /// Requests that wait for a connection.
    pending: AtomicU32,
    /// Requests that found no server to use.
    without_server: AtomicU64,
    /// Requests over `max_requests` or `max_pending`.
    over_limit: AtomicU64,
    /// Attempts after the first.
    retries: AtomicU64,
}

/// The counters of one server.
#[derive(Default)]
struct ServerCounters {
    in_flight: AtomicU32,
    /// Failures in a row.
    failures: AtomicU32,
    /// Of these: the server could not be reached. No client can cause that.
    unreachable: AtomicU32,
    /// Of these: the server responded with a status that counts as a failure.
    answered: AtomicU32,
    /// The clients that got such a status, as bits of [`asker`].
    askers: AtomicU64,
    /// Whether a probe is under way.
    is_probed: AtomicBool,
    /// How often it was ejected lately.
    ejections: AtomicU32,
    /// When its ejection ends or ended.
    until: AtomicU64,
    /// When it came back.
    since: AtomicU64,
    /// Whether it could be connected to.
    failing: Failing,
}

impl UpstreamState {
    pub(in crate::proxy) fn new(settings: &Upstream) -> Self {
        Self::with(settings, |_server| None, Arc::default(), None)
    }

    /// The same upstream by other settings. Servers that keep their address keep their counters.
    pub(in crate::proxy::upstream) fn succeeded_by(&self, settings: &Upstream) -> Self {
        let known = |server| self.servers.get(self.index_of(server, &settings.servers)?).map(Arc::clone);
        Self::with(settings, known, Arc::clone(&self.totals), self.gate.as_ref())
    }

    fn with(
        settings: &Upstream,
        known: impl Fn(usize) -> Option<Arc<ServerCounters>>,
        totals: Arc<Totals>,
        gate: Option<&Arc<SharedGate>>,
    ) -> Self {
        Self {
            servers: (0..settings.servers.len()).map(|server| known(server).unwrap_or_default()).collect(),
            settings: settings.clone(),
            down: AtomicU64::new(0),
            ejected: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            idle: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            totals,
            gate: settings.concurrency.as_ref().map(|concurrency| match gate {
                Some(gate) => Arc::clone(gate),
                None => Arc::new(SharedGate::new(concurrency)),
            }),
        }
    }

    /// Takes over which servers were not used, as far as the settings still say that there are such.
    pub(in crate::proxy::upstream) fn take_over(&self, before: &Self) {
        let take = |is_wanted: bool, mine: &AtomicU64, theirs: &AtomicU64| {
            let theirs = if is_wanted { theirs.load(Ordering::Relaxed) } else { 0 };
            let servers = &self.settings.servers;
            let bits = (0..servers.len()).fold(0, |bits, server| {
                let is_set = before.index_of(server, servers).is_some_and(|before| theirs & bit(before) != 0);
                if is_set { bits | bit(server) } else { bits }
            });
            mine.store(bits, Ordering::Relaxed);
        };
        if let (Some(gate), Some(settings)) = (&self.gate, &self.settings.concurrency) {
            gate.change(settings);
        }
        take(self.settings.health.is_some(), &self.down, &before.down);
        take(self.settings.ejection.is_some(), &self.ejected, &before.ejected);
        take(!self.settings.slow_start.is_zero(), &self.slow, &before.slow);
    }

    /// Which server a server of other settings is: the first here with its address is the first there, and so on.
    fn index_of(&self, server: usize, others: &[UpstreamServer]) -> Option<usize> {
        let address = &others.get(server)?.address;
        let is_alike = |other: &UpstreamServer| other.address == *address;
        let before = others.iter().take(server).filter(|other| is_alike(other)).count();
        let mine = self.settings.servers.iter().enumerate().filter(|(_, mine)| is_alike(mine));
        mine.map(|(at, _)| at).nth(before)
    }

    /// Whether a server fails its health checks.
    pub(in crate::proxy::upstream) fn is_down(&self, server: usize) -> bool {
        self.down.load(Ordering::Relaxed) & bit(server) != 0
    }

    fn all(&self) -> u64 {
        (0..self.servers.len()).fold(0, |all, server| all | bit(server))
    }

    /// The servers that may be used, as bits. If there is none, all of them with `when_down = "try"`, else 0.
    pub(in crate::proxy::upstream) fn usable(&self) -> u64 {
        let all = self.all();
        match all & !(self.down.load(Ordering::Relaxed) | self.ejected.load(Ordering::Relaxed)) {
            0 => {
                self.totals.without_server.fetch_add(1, Ordering::Relaxed);
                if self.settings.try_when_down { all } else { 0 }
            }
            usable => usable,
        }
    }

    /// Whether `server`, which was chosen, takes the request: in slow start it takes few at first. `random` is any
    /// number.
    pub(in crate::proxy::upstream) fn takes(&self, server: usize, random: u64, now: u64) -> bool {
        if self.slow.load(Ordering::Relaxed) & bit(server) == 0 {
            return true;
        }
        let Some(counts) = self.servers.get(server) else { return true };
        let whole = nanos(self.settings.slow_start).max(1);
        let passed = now.saturating_sub(counts.since.load(Ordering::Relaxed));
        let share = (u128::from(passed) * 1_000 / u128::from(whole)).min(1_000);
        random % 1_000 < u64::try_from(share).unwrap_or(1_000).max(LEAST_SHARE)
    }

    /// Requests in flight at a server.
    pub(in crate::proxy::upstream) fn load(&self, server: usize) -> u32 {
        self.servers.get(server).map_or(0, |counts| counts.in_flight.load(Ordering::Relaxed))
    }

    /// Counts a request at a server.
    pub(in crate::proxy::upstream) fn enter(&self, server: usize) {
        if let Some(counts) = self.servers.get(server) {
            counts.in_flight.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(in crate::proxy::upstream) fn leave(&self, server: usize) {
        if let Some(counts) = self.servers.get(server) {
            counts.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Counts a request in flight. `false`: `max_requests` is reached.
    pub(in crate::proxy::upstream) fn begin(&self) -> bool {
        self.take(&self.totals.in_flight, self.settings.max_requests)
    }

    pub(in crate::proxy::upstream) fn end(&self) {
        self.totals.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a request that waits for a connection. `false`: `max_pending` is reached.
    pub(in crate::proxy::upstream) fn wait(&self) -> bool {
        self.take(&self.totals.pending, self.settings.max_pending)
    }

    pub(in crate::proxy::upstream) fn wait_no_more(&self) {
        self.totals.pending.fetch_sub(1, Ordering::Relaxed);
    }

    fn take(&self, taken: &AtomicU32, most: u32) -> bool {
        let fits = taken.fetch_add(1, Ordering::Relaxed) < most;
        if !fits {
            taken.fetch_sub(1, Ordering::Relaxed);
            self.totals.over_limit.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }

    /// Counts a request that `concurrency` refuses.
    pub(in crate::proxy::upstream) fn over_concurrency(&self) {
        self.totals.over_limit.fetch_add(1, Ordering::Relaxed);
    }

    /// How the limit on requests at once is, where there is one.
    pub(in crate::proxy) fn concurrency(&self) -> Option<GateReport> {
        self.gate.as_ref().map(|gate| gate.report())
    }

    /// Counts a retry.
    pub(in crate::proxy::upstream) fn retried(&self) {
        self.totals.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// A server responded, with a status that is no failure.
    pub(in crate::proxy::upstream) fn succeeded(&self, server: usize) {
        if let Some(counts) = self.servers.get(server)
            && counts.failures.load(Ordering::Relaxed) != 0
        {
            counts.forget();
        }
    }

    /// Whether this status counts as a failure.
    pub(in crate::proxy::upstream) fn is_failure(&self, status: u16) -> bool {
        self.settings.ejection.as_ref().is_some_and(|ejection| ejection.statuses.contains(&status))
    }

    /// A new connection to a server came about.
    pub(in crate::proxy::upstream) fn connected(&self, server: usize) {
        if let Some(counts) = self.servers.get(server) {
            counts.failing.connected();
        }
    }

    /// No connection to a server came about at `now`, in milliseconds since 1970.
    pub(in crate::proxy::upstream) fn cannot_connect(&self, server: usize, why: &str, now: u64) {
        if let (Some(counts), Some(server)) = (self.servers.get(server), self.settings.servers.get(server)) {
            counts.failing.failed(&server.address, why, now);
        }
    }

    /// What is to be told of each server that could not be connected to. Health checks know better where there are any.
    fn failing(&self) -> Vec<Option<FailingServer>> {
        let servers = self.servers.iter().zip(&self.settings.servers);
        let has_health = self.settings.health.is_some();
        servers.map(|(counts, server)| counts.failing.report(&server.address).filter(|_| !has_health)).collect()
    }

    /// A server could not be reached. No client can cause that.
    pub(in crate::proxy::upstream) fn unreachable(&self, server: usize, now: u64) {
        if let Some(counts) = self.servers.get(server).filter(|_| self.settings.ejection.is_some()) {
            counts.unreachable.fetch_add(1, Ordering::Relaxed);
            // No probe is needed if all failures are of this kind. Otherwise the next failure asks for it.
            let _doubted = self.fails(server, now);
        }
    }

    /// A server closed the connection or took too long. `true`: the requests themselves may be the cause, so the server
    /// has to be probed, and [`Self::probed`] called with the result.
    #[must_use]
    pub(in crate::proxy::upstream) fn failed(&self, server: usize, now: u64) -> bool {
        self.fails(server, now)
    }

    /// A server responded to `asker` with a status that counts as a failure. `true`: as above, as too few clients got
    /// one.
    #[must_use]
    pub(in crate::proxy::upstream) fn answered(&self, server: usize, asker: u64, now: u64) -> bool {
        if let Some(counts) = self.servers.get(server).filter(|_| self.settings.ejection.is_some()) {
            counts.answered.fetch_add(1, Ordering::Relaxed);
            counts.askers.fetch_or(asker, Ordering::Relaxed);
        }
        self.fails(server, now)
    }

    fn fails(&self, server: usize, now: u64) -> bool {
        let (Some(ejection), Some(counts)) = (&self.settings.ejection, self.servers.get(server)) else { return false };
        if counts.failures.fetch_add(1, Ordering::Relaxed) + 1 < ejection.failures {
            return false;
        }
        let unreachable = counts.unreachable.load(Ordering::Relaxed);
        let is_told = counts.askers.load(Ordering::Relaxed).count_ones() >= ejection.clients;
        let told = if is_told { counts.answered.load(Ordering::Relaxed) } else { 0 };
        let is_sure = unreachable.saturating_add(told) >= ejection.failures;
        if !is_sure {
            return !self.is_out(server) && !counts.is_probed.swap(true, Ordering::Relaxed);
        }
        self.eject(server, now);
        false
    }

    /// The result of a probe.
    pub(in crate::proxy::upstream) fn probed(&self, server: usize, answers: bool, now: u64) {
        let Some(counts) = self.servers.get(server) else { return };
        counts.is_probed.store(false, Ordering::Relaxed);
        if answers {
            counts.forget();
        } else {
            self.eject(server, now);
        }
    }

    fn is_out(&self, server: usize) -> bool {
        self.ejected.load(Ordering::Relaxed) & bit(server) != 0
    }

    fn eject(&self, server: usize, now: u64) {
        let (Some(ejection), Some(counts)) = (&self.settings.ejection, self.servers.get(server)) else { return };
        counts.forget();
        let many = self.servers.len();
        let done = self.ejected.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |ejected| {
            let after = ejected | bit(server);
            let missing = usize::try_from(after.count_ones()).unwrap_or(many) * 100;
            (after != ejected && missing <= many * usize::from(ejection.share)).then_some(after)
        });
        if done.is_ok() {
            let times = counts.ejections.fetch_add(1, Ordering::Relaxed);
            counts.until.store(now.saturating_add(length(ejection, times)), Ordering::Relaxed);
        }
    }

    /// The result of a health check has changed.
    pub(in crate::proxy::upstream) fn judge(&self, server: usize, healthy: bool, now: u64) {
        let before = if healthy {
            self.down.fetch_and(!bit(server), Ordering::Relaxed)
        } else {
            self.down.fetch_or(bit(server), Ordering::Relaxed)
        };
        if healthy && before & bit(server) != 0 {
            self.welcome(server, now);
        }
    }

    fn welcome(&self, server: usize, now: u64) {
        let Some(counts) = self.servers.get(server).filter(|_| !self.settings.slow_start.is_zero()) else { return };
        counts.since.store(now, Ordering::Relaxed);
        self.slow.fetch_or(bit(server), Ordering::Relaxed);
    }

    /// Ends ejections and slow starts whose time is over.
    pub(in crate::proxy::upstream) fn tick(&self, now: u64) {
        for (server, counts) in self.servers.iter().enumerate() {
            let until = counts.until.load(Ordering::Relaxed);
            let is = |mask: &AtomicU64| mask.load(Ordering::Relaxed) & bit(server) != 0;
            if is(&self.ejected) && until != 0 && until <= now {
                counts.until.store(now, Ordering::Relaxed);
                self.ejected.fetch_and(!bit(server), Ordering::Relaxed);
                self.welcome(server, now);
            } else if let Some(ejection) = &self.settings.ejection
                && !is(&self.ejected)
                && now.saturating_sub(until) > nanos(ejection.longest)
            {
                counts.ejections.store(0, Ordering::Relaxed);
            }
            let since = counts.since.load(Ordering::Relaxed);
            if is(&self.slow) && now.saturating_sub(since) >= nanos(self.settings.slow_start) {
                self.slow.fetch_and(!bit(server), Ordering::Relaxed);
            }
        }
    }

    /// A worker has `now` connections where it had `before`: idle ones, and those that carry requests.
    pub(in crate::proxy::upstream) fn note_connections(&self, before: (u64, u64), now: (u64, u64)) {
        for (sum, before, now) in [(&self.idle, before.0, now.0), (&self.busy, before.1, now.1)] {
            if before != now {
                // It goes round where there are fewer.
                sum.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
            }
        }
    }

    /// Idle connections of all workers, and those that carry requests.
    pub(in crate::proxy) fn connections(&self) -> (u64, u64) {
        (self.idle.load(Ordering::Relaxed), self.busy.load(Ordering::Relaxed))
    }

    /// Requests that wait for a connection, where their number is limited.
    pub(in crate::proxy) fn pending(&self) -> u64 {
        self.totals.pending.load(Ordering::Relaxed).into()
    }

    /// A report for the guard, which tells the operator.
    pub(in crate::proxy) fn report(&self) -> UpstreamReport {
        let (down, ejected) = (self.down.load(Ordering::Relaxed), self.ejected.load(Ordering::Relaxed));
        let failing = self.failing();
        let is_failing = |server: usize| failing.get(server).is_some_and(Option::is_some);
        let state = |server: usize| match () {
            () if down & bit(server) != 0 => ServerState::Down,
            () if ejected & bit(server) != 0 => ServerState::Ejected,
            () if is_failing(server) => ServerState::Failing,
            () if self.slow.load(Ordering::Relaxed) & bit(server) != 0 => ServerState::Slow,
            () => ServerState::Up,
        };
        let servers = self.settings.servers.iter().enumerate();
        UpstreamReport {
            name: self.settings.name.clone(),
            servers: servers.map(|(at, it)| (it.address.clone(), state(at))).collect(),
            failing: failing.into_iter().flatten().collect(),
            without_server: self.totals.without_server.load(Ordering::Relaxed),
            over_limit: self.totals.over_limit.load(Ordering::Relaxed),
            retries: self.totals.retries.load(Ordering::Relaxed),
            limit: self.gate.as_ref().map(|gate| gate.report().limit),
            // The detector knows.
            discounted: Vec::new(),
        }
    }
}

impl ServerCounters {
    /// Ends a row of failures.
    fn forget(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.unreachable.store(0, Ordering::Relaxed);
        self.answered.store(0, Ordering::Relaxed);
        self.askers.store(0, Ordering::Relaxed);
    }
}

/// The bit of a client, one of 64: clients with the same bit count as one. A client has as many IPv6 addresses as it
/// likes, so its network counts.
pub(in crate::proxy::upstream) fn asker(client: Source) -> u64 {
    let hash = match client.address() {
        IpAddr::V4(address) => hash(&address.octets()),
        IpAddr::V6(address) => hash(address.octets().get(..6).unwrap_or_default()),
    };
    1 << (hash % 64)
}

/// How long a server is ejected after so many ejections, in nanoseconds.
fn length(ejection: &Ejection, times: u32) -> u64 {
    let grown = nanos(ejection.time).saturating_mul(1_u64.checked_shl(times.min(20)).unwrap_or(1));
    grown.min(nanos(ejection.longest))
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
