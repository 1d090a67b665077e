//! Tells how things are: lists of bans, `why`, `status`, and what an operator should know.

use std::{cmp::Reverse, net::IpAddr};

use gateway_common::verdict::Verdict;

use super::{
    ledger::{self, Origin},
    operator::detach,
    *,
};
use crate::anchor::schedule::AnchorState;
use crate::guard::control::{
    AuditState, BlockEntry, BudgetStatus, CertificateEnd, CrowdsecStatus, DiskSpace, FeedFetch, GuardStatus,
    InterfaceStatus, LogDrops, OriginCount, ProcessStatus, ReloadRefused, RequestsStatus, Score, TopStatus,
    VerdictCount,
};
use crate::message::KeySetReport;
use crate::{guard::cluster::ClusterStatus, text::counted::counted};

mod clamps;
mod find;
mod packet_samples;
mod packet_traces;
mod ring;
pub(super) mod shortfalls;
mod why;

pub(crate) use packet_samples::PacketSamples;
pub(crate) use packet_traces::PacketTraces;

/// How many entries are looked at for `top`, the youngest first, and how many of them are told.
const CONSIDERED: usize = 4_096;
const SHOWN: usize = 200;

/// What an operator should know where no interface is named.
pub(crate) const UNGUARDED: &str =
    "guard.interfaces is empty: no packet is dropped in the kernel, bans are enforced when connections are accepted";

/// What the guard process knows beside bans.
#[derive(Clone, Debug)]
pub(crate) struct Processes {
    /// Where the configuration is.
    pub(crate) config: String,
    /// The proxy in service.
    pub(crate) proxy_pid: Option<u32>,
    /// How often it had to be restarted.
    pub(crate) proxy_restarts: u64,
    /// How often one had come to a standstill.
    pub(crate) proxy_standstills: u64,
    /// The observer.
    pub(crate) observer_pid: Option<u32>,
    /// How often it had to be restarted.
    pub(crate) observer_restarts: u64,
    /// Where the admin listener is.
    pub(crate) admin: Option<String>,
    /// How often the guard had to be.
    pub(crate) guard_restarts: u32,
    /// The last upgrade brought a program that never got ready.
    pub(crate) upgrade_reverted: bool,
    /// All of them.
    pub(crate) all: Vec<ProcessStatus>,
    /// When the guard started: `CLOCK_MONOTONIC`, nanoseconds.
    pub(crate) started: u64,
    /// Where the proxy listens.
    pub(crate) listeners: Vec<String>,
    /// What an operator should know about them.
    pub(crate) warnings: Vec<String>,
    /// What became of requests.
    pub(crate) requests: RequestsStatus,
    /// How upstreams are, as the proxy in service says.
    pub(crate) upstreams: Vec<UpstreamReport>,
    /// How the keys of issuers are that are fetched.
    pub(crate) key_sets: Vec<KeySetReport>,
    /// How CrowdSec is; `None`: there is no `[crowdsec]`.
    pub(crate) crowdsec: Option<CrowdsecStatus>,
    /// The lists that are fetched.
    pub(crate) fetches: Vec<FeedFetch>,
    /// The other machines; `None`: there are none.
    pub(crate) cluster: Option<ClusterStatus>,
    /// When the configuration came into force: RFC 3339, UTC.
    pub(crate) config_since: String,
    /// Who put it in force.
    pub(crate) config_by: String,
    /// SHA-256 of its file.
    pub(crate) config_digest: String,
    /// The last reload, where it was refused.
    pub(crate) reload_refused: Option<ReloadRefused>,
    /// When the certificates of listeners end.
    pub(crate) certificates: Vec<CertificateEnd>,
    /// Where checkpoints of the audit chain are sent.
    pub(crate) anchors: Vec<AnchorState>,
    /// What is left where the gateway writes.
    pub(crate) disks: Vec<DiskSpace>,
}

impl Guard {
    /// Every ban in force, in the order of their ids.
    pub(super) fn entries(&self, now: Now) -> Vec<BlockEntry> {
        self.ledger.records().map(|record| self.entry(record, now)).collect()
    }

    /// Every allowance, configured ones first.
    pub(super) fn allows(&self) -> Vec<AllowEntry> {
        let mut allows: Vec<AllowEntry> = self.enforcer.prefixes().allows.values().cloned().collect();
        allows.sort_by_key(|allow| allow.actor != "config");
        allows
    }

    fn entry(&self, record: &BanRecord, now: Now) -> BlockEntry {
        let (packets, bytes) = self.enforcer.counted(record);
        BlockEntry {
            id: record.id,
            source: record.source,
            reason: record.reason.clone(),
            actor: record.actor.clone(),
            mode: if record.shadow { "shadow" } else { "enforce" }.to_owned(),
            started: clock::rfc3339(record.started),
            expires: record.expires.map(clock::rfc3339),
            remaining_seconds: record.expires_monotonic.map(|at| at.saturating_sub(now.monotonic).div_ceil(SECOND)),
            confirm_seconds: record.confirm.map(|at| at.monotonic.saturating_sub(now.monotonic).div_ceil(SECOND)),
            packets,
            bytes,
            relay: record.relay,
            refused: self.ledger.refused(record.id),
        }
    }

    /// How far each rule is from banning an address, by what the proxy `held` against it. It is believed about rules that
    /// there are.
    pub(crate) fn scores(&self, address: IpAddr, held: &[(String, u32)], now: Now) -> Vec<Score> {
        let client = Source::of(address, self.settings.ipv6_prefix);
        let is_watched = self.policy.probations.find(client, now.monotonic).is_some();
        let score = |rule: &Rule| {
            let needed = rule.count.max(1);
            Score {
                rule: rule.name.clone(),
                of: rule.of(),
                held: held.iter().find(|(name, _)| *name == rule.name).map_or(0, |(_, held)| *held),
                needed: if is_watched { needed.div_ceil(2) } else { needed },
                within_seconds: rule.within.as_secs(),
                shadow: self.is_shadow(rule),
            }
        };
        self.policy.rules.iter().map(score).collect()
    }

    /// How many entries and attachments were put right in the kernel.
    pub(crate) const fn repairs(&self) -> u64 {
        self.enforcer.repairs()
    }

    /// How things are.
    pub(crate) fn status(&self, processes: Processes, now: Now) -> GuardStatus {
        let interfaces = self.enforcer.path().interfaces();
        let interface = |at: &crate::guard::kernel::Attached| InterfaceStatus {
            name: at.name.clone(),
            mode: if at.native { "native" } else { "generic" }.to_owned(),
            adopted: at.adopted,
        };
        let counted = |(verdict, count): (Verdict, maps::PacketCount)| VerdictCount {
            verdict: verdict.name().to_owned(),
            packets: count.packets,
            bytes: count.bytes,
        };
        GuardStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config: processes.config,
            guard_pid: std::process::id(),
            proxy_pid: processes.proxy_pid,
            proxy_restarts: processes.proxy_restarts,
            proxy_standstills: processes.proxy_standstills,
            observer_pid: processes.observer_pid,
            observer_restarts: processes.observer_restarts,
            admin: processes.admin,
            guard_restarts: processes.guard_restarts,
            upgrade_reverted: processes.upgrade_reverted,
            processes: processes.all,
            uptime_seconds: now.monotonic.saturating_sub(processes.started) / SECOND,
            enforcement: if interfaces.is_empty() { "accept" } else { "xdp" }.to_owned(),
            interfaces: interfaces.iter().map(interface).collect(),
            listeners: processes.listeners,
            blocks: u64::try_from(self.ledger.len()).unwrap_or(0),
            bans: self.ledger.counts().map(ban_count).collect(),
            feeds: self.feed_list(),
            fetches: processes.fetches,
            crowdsec: processes.crowdsec,
            allows: u64::try_from(self.enforcer.prefixes().allows.len()).unwrap_or(0),
            verdicts: self.enforcer.path().verdicts().into_iter().map(counted).collect(),
            upstreams: processes.upstreams,
            key_sets: processes.key_sets,
            cluster: processes.cluster,
            warnings: self.warnings(processes.warnings, now),
            config_since: processes.config_since,
            config_by: processes.config_by,
            config_digest: processes.config_digest,
            reload_refused: processes.reload_refused,
            budgets: budgets(&self.settings),
            kernel: self.kernel_budgets(),
            paused: self.policy.breaker.judge(now).err().map(|refused| refused.message),
            lost: self.shortfalls.lost(),
            requests: processes.requests,
            certificates: processes.certificates,
            max_blocks: self.settings.max_bans.into(),
            interfaces_wanted: u64::try_from(self.settings.interfaces.len()).unwrap_or(u64::MAX),
            audit_failing: self.journal.is_failing(),
            audit: AuditState { anchors: processes.anchors, ..self.journal.state() },
            disks: processes.disks,
        }
    }

    /// How things are, and the entries that count most.
    pub(crate) fn top(&self, status: GuardStatus, now: Now) -> TopStatus {
        // Each costs a question to the kernel: bounded, so that nobody waits for it.
        let young = self.ledger.records().rev().take(CONSIDERED);
        let mut entries: Vec<BlockEntry> = young.map(|record| self.entry(record, now)).collect();
        entries.sort_by_key(|entry| (Reverse(entry.packets), entry.id));
        entries.truncate(SHOWN);
        TopStatus { unix_millis: now.unix_millis, status, entries }
    }

    /// A proxy tells what it has lost.
    pub(crate) fn hear_lost(&mut self, lost: crate::message::Lost) {
        let crate::message::Lost { asks, log_lines, connections, shed, at_accept } = lost;
        let log_drops = LogDrops::of(log_lines);
        let log_lines = log_drops.total();
        self.shortfalls.note_lost(LostStatus { asks, log_lines, log_drops, connections, shed, at_accept, samples: 0 });
    }

    fn warnings(&self, processes: Vec<String>, now: Now) -> Vec<String> {
        let mut warnings = self.shortfalls.standing().to_vec();
        warnings.extend(self.settings.interfaces.is_empty().then(|| UNGUARDED.to_owned()));
        warnings.extend_from_slice(self.journal.findings());
        if self.journal.watchers().too_slow() > 0 {
            let many = self.journal.watchers().too_slow();
            let many = counted(many, "watcher did not keep up and was", "watchers did not keep up and were");
            warnings.push(format!("{many} let go (`gateway watch`)"));
        }
        warnings.extend(self.enforcer.detached().map(detach::warning));
        warnings.extend(self.trace_warning());
        warnings.extend(processes);
        warnings.extend(self.enforcer.path().interfaces().iter().filter_map(|at| at.note.clone()));
        warnings.extend(self.policy.promoted.iter().map(|(what, actor)| {
            format!("{what} enforces because {actor} promoted it; the configuration still says shadow")
        }));
        if let Err(refused) = self.policy.breaker.judge(now) {
            warnings.push(refused.message);
        }
        warnings.extend(self.trouble_warnings(now));
        warnings.extend(self.journal.warnings());
        warnings.extend(self.shortfalls.warnings());
        if self.enforcer.repairs() > 0 {
            let entries = counted(self.enforcer.repairs(), "entry", "entries");
            warnings.push(format!("{entries} in the kernel had to be repaired since the start"));
        }
        warnings.extend(lost(self.shortfalls.lost(), self.enforcer.path().interfaces().is_empty()));
        warnings.extend(self.enforcer.unrepaired().iter().cloned());
        warnings.extend(self.feed_warnings());
        warnings
    }
}

/// What was lost, as an operator should know it. Samples of packets are meant to be few.
fn lost(lost: LostStatus, at_accept_alone: bool) -> Vec<String> {
    let unfit = if at_accept_alone {
        "into the proxy's table, and nothing else enforces that: guard an interface (guard.interfaces)"
    } else {
        "into the proxy's table: the kernel alone enforces that"
    };
    let line = ["line of the access log was", "lines of the access log were"];
    let all = [
        (lost.asks, ["ban that rules asked for was", "bans that rules asked for were"], "lost on the way to the guard"),
        (lost.log_drops.disk_full, line, "dropped: the disk is full"),
        (lost.log_drops.too_long, line, "dropped: larger than a datagram may be"),
        (lost.log_drops.too_slow, line, "dropped: an output is too slow"),
        (lost.log_drops.unreachable, line, "dropped: the server of an output cannot be reached"),
        (lost.log_drops.unwritable, line, "dropped: a file cannot be written to"),
        (lost.connections, ["connection was", "connections were"], "closed at once, over proxy.max_connections"),
        (lost.shed, ["connection or request was", "connections or requests were"], "refused, over proxy.max_memory"),
        (lost.at_accept, ["ban or allowance does not fit", "bans or allowances do not fit"], unfit),
    ];
    let some = all.into_iter().filter(|(count, ..)| *count > 0);
    some.map(|(count, [one, many], what)| format!("{} {what} (since the start)", counted(count, one, many))).collect()
}

fn ban_count((origin, count): (&Origin, &ledger::BanCount)) -> OriginCount {
    OriginCount {
        origin: origin.kind.clone(),
        rule: origin.rule.clone(),
        mode: if origin.shadow { "shadow" } else { "enforce" }.to_owned(),
        in_force: count.in_force,
        begun: count.begun,
    }
}

fn budgets(settings: &guard::Settings) -> Vec<BudgetStatus> {
    let all = [("packets", &settings.packet_limit), ("bytes", &settings.byte_limit), ("syns", &settings.syn_limit)];
    let some = all.into_iter().filter_map(|(of, limit)| Some((of, limit.as_ref()?)));
    some.map(|(of, limit)| BudgetStatus {
        of: of.to_owned(),
        per_second: limit.per_second,
        burst: limit.burst,
        shadow: limit.shadow,
    })
    .collect()
}
