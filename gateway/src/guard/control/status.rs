//! What `status` and `top` tell.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    anchor::schedule::AnchorState,
    guard::cluster::ClusterStatus,
    log::drops::DropCounts,
    message::{KeySetReport, UpstreamReport},
    os::sandbox::Confinement,
};

use super::{clamp::KernelBudgets, crowdsec::CrowdsecStatus, entry::BlockEntry};

/// What a reload is answered with that the guard after this one does. Whoever asked looks at `status` for what comes of it.
pub const ANOTHER_GUARD: &str = "another guard starts, to load the kernel program, and reloads: see `gateway status`";

/// How things are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardStatus {
    /// The program's version.
    pub version: String,
    /// Where the configuration is.
    pub config: String,
    /// When the configuration came into force: RFC 3339, UTC; empty where no guard runs.
    #[serde(default)]
    pub config_since: String,
    /// Who put it in force: `start`, `guard` for a signal, or as the audit chain names operators.
    #[serde(default)]
    pub config_by: String,
    /// SHA-256 of the file, as `sha256sum` writes it; empty where no guard runs.
    #[serde(default)]
    pub config_digest: String,
    /// The last reload, where it was refused: the file is not what is in force. Absent: it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload_refused: Option<ReloadRefused>,
    /// The guard's process id; 0: none runs.
    pub guard_pid: u32,
    /// The process id of the proxy that serves; absent while none does, or an older one until another is ready.
    pub proxy_pid: Option<u32>,
    /// Every process of the gateway, the launcher first.
    #[serde(default)]
    pub processes: Vec<ProcessStatus>,
    /// How often the guard had to be restarted.
    #[serde(default)]
    pub guard_restarts: u32,
    /// The last upgrade brought a program that never got ready, or died within seconds: the one before it runs.
    #[serde(default)]
    pub upgrade_reverted: bool,
    /// How often the proxy had to be restarted.
    pub proxy_restarts: u64,
    /// How often one of these had come to a standstill.
    #[serde(default)]
    pub proxy_standstills: u64,
    /// The observer's process id; absent where there is none.
    #[serde(default)]
    pub observer_pid: Option<u32>,
    /// How often the observer had to be restarted.
    #[serde(default)]
    pub observer_restarts: u64,
    /// Where the admin listener is; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// Seconds since the guard started.
    pub uptime_seconds: u64,
    /// `xdp` where it is attached, `accept` where bans are enforced only when connections are accepted, `none`
    /// where no guard runs and nothing is attached.
    pub enforcement: String,
    /// One per interface.
    pub interfaces: Vec<InterfaceStatus>,
    /// Where the proxy listens.
    pub listeners: Vec<String>,
    /// Blocks in force; those of feeds are not among them.
    pub blocks: u64,
    /// Blocks by where they come from.
    #[serde(default)]
    pub bans: Vec<OriginCount>,
    /// Lists in force.
    #[serde(default)]
    pub feeds: Vec<FeedStatus>,
    /// Lists that are fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fetches: Vec<FeedFetch>,
    /// How CrowdSec is; absent: there is no `[crowdsec]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crowdsec: Option<CrowdsecStatus>,
    /// Allowlisted sources.
    pub allows: u64,
    /// Packets and bytes per verdict, every verdict named.
    pub verdicts: Vec<VerdictCount>,
    /// How upstreams are, as the proxy that serves says.
    #[serde(default)]
    pub upstreams: Vec<UpstreamReport>,
    /// How the keys of issuers are that are fetched, as the proxy that fetched them last says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_sets: Vec<KeySetReport>,
    /// The other machines, and the store between them; absent: there is no `[cluster]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterStatus>,
    /// What an operator should know, one sentence each. Empty: all is well.
    pub warnings: Vec<String>,
    /// Budgets per source that are in force.
    #[serde(default)]
    pub budgets: Vec<BudgetStatus>,
    /// Other budgets of packets.
    #[serde(default)]
    pub kernel: KernelBudgets,
    /// Why rules may not ban at the moment; absent: they may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// What was lost since the guard started.
    #[serde(default)]
    pub lost: LostStatus,
    /// What became of requests since the guard started, to a second.
    #[serde(default)]
    pub requests: RequestsStatus,
    /// The certificates that listeners show.
    #[serde(default)]
    pub certificates: Vec<CertificateEnd>,
    /// How many blocks there may be.
    #[serde(default)]
    pub max_blocks: u64,
    /// How many interfaces the configuration names.
    #[serde(default)]
    pub interfaces_wanted: u64,
    /// Decisions cannot be recorded, so none are made.
    #[serde(default)]
    pub audit_failing: bool,
    /// The audit chain.
    #[serde(default)]
    pub audit: AuditState,
    /// What is left where the gateway writes.
    #[serde(default)]
    pub disks: Vec<DiskSpace>,
}

/// What is left on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpace {
    /// A folder on it.
    pub folder: String,
    /// Bytes that are left.
    pub available: u64,
    /// Bytes that there are.
    pub size: u64,
}

impl DiskSpace {
    /// The disk of this folder.
    #[must_use]
    pub fn of(folder: &Path) -> Option<Self> {
        let found = rustix::fs::statvfs(folder).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Some(Self {
            folder: folder.display().to_string(),
            available: bytes(found.f_bavail),
            size: bytes(found.f_blocks),
        })
    }

    /// Whether so little is left that an operator should know.
    #[must_use]
    pub const fn is_nearly_full(&self) -> bool {
        let (little, part) = (256 << 20, self.size / 20);
        self.available < if part < little { part } else { little }
    }
}

/// How the audit chain is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditState {
    /// The number of its last record.
    pub records: u64,
    /// How many files it is in.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The last record that is signed, with all before it; 0: none is.
    pub signed: u64,
    /// When it was signed: RFC 3339, UTC; empty: none is.
    pub signed_at: String,
    /// Where its checkpoints are sent.
    #[serde(default)]
    pub anchors: Vec<AnchorState>,
}

/// How many blocks come from where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginCount {
    /// `guard`, `operator` or `rule`.
    pub origin: String,
    /// The rule; empty: it was none.
    pub rule: String,
    /// `enforce` or `shadow`.
    pub mode: String,
    /// How many are in force.
    pub in_force: u64,
    /// How many have begun since the guard started.
    pub begun: u64,
}

/// A process of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// `launcher`, `guard`, `observer` or `proxy`.
    pub role: String,
    /// Its process id.
    pub pid: u32,
    /// What a proxy does: `starts`, `serves`, `serves until another is ready`, `drains` or `stands still`; absent for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What the kernel says of its rights; absent: that cannot be seen from where it was looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Confinement>,
}

/// A reload that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadRefused {
    /// When: RFC 3339, UTC.
    pub at: String,
    /// As in a refused answer.
    pub code: String,
    /// Why, for people; may have several lines.
    pub reason: String,
    /// Who asked for it, as in [`GuardStatus::config_by`].
    #[serde(default)]
    pub by: String,
    /// SHA-256 of the file that was refused; empty: none was read.
    #[serde(default)]
    pub digest: String,
}

/// What became of requests. Nothing is told by client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestsStatus {
    /// By the class of the answer's status; `client_left`: nobody waited for it.
    pub answers: BTreeMap<String, u64>,
    /// Refused by the gateway, by the label that the access log has; broken off upstream answers are among them.
    pub refused: BTreeMap<String, u64>,
    /// Observations about sources.
    pub signals: BTreeMap<String, u64>,
    /// Clients' connections, those of proxies that drain included.
    pub connections: u64,
}

/// When a certificate ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateEnd {
    /// Its key in the configuration: `listener[0]`, `certificate[1]`.
    pub key: String,
    /// The file.
    pub path: String,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// A budget that every source has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetStatus {
    /// `packets`, `bytes` or `syns`.
    pub of: String,
    /// So many in a second.
    pub per_second: u64,
    /// So many at once.
    pub burst: u64,
    /// Counted, not enforced.
    pub shadow: bool,
}

/// What was not done because there was no room or no time for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostStatus {
    /// Bans that rules asked for and that the guard never heard of. The rule asks again.
    pub asks: u64,
    /// Lines of the access log.
    pub log_lines: u64,
    /// The same by why.
    #[serde(default)]
    pub log_drops: LogDrops,
    /// Connections that were closed because `proxy.max_connections` were there.
    pub connections: u64,
    /// Connections and requests that were refused because the proxy was over `proxy.max_memory`.
    pub shed: u64,
    /// Bans and allowances that did not fit into the proxy's own table: in force in the kernel alone.
    pub at_accept: u64,
    /// Packets that were dropped while somebody watched, and that no sample was told of.
    pub samples: u64,
}

/// Why lines of the access log were dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDrops {
    /// There was no space on the disk.
    pub disk_full: u64,
    /// They were larger than a datagram may be.
    pub too_long: u64,
    /// An output took them more slowly than they came.
    pub too_slow: u64,
    /// The server of an output could not be reached.
    pub unreachable: u64,
    /// A file could not be written to.
    pub unwritable: u64,
}

impl LogDrops {
    /// As a proxy counts them.
    #[must_use]
    pub const fn of(counts: DropCounts) -> Self {
        // In the order of `DropReason::ALL`.
        let [disk_full, too_long, too_slow, unreachable, unwritable] = counts;
        Self { disk_full, too_long, too_slow, unreachable, unwritable }
    }

    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        let sum = self.disk_full.saturating_add(self.too_long).saturating_add(self.too_slow);
        sum.saturating_add(self.unreachable).saturating_add(self.unwritable)
    }

    /// Adds what was dropped since.
    pub const fn add(&mut self, more: Self) {
        self.disk_full = self.disk_full.saturating_add(more.disk_full);
        self.too_long = self.too_long.saturating_add(more.too_long);
        self.too_slow = self.too_slow.saturating_add(more.too_slow);
        self.unreachable = self.unreachable.saturating_add(more.unreachable);
        self.unwritable = self.unwritable.saturating_add(more.unwritable);
    }
}

impl LostStatus {
    /// Adds what was lost since.
    pub const fn add(&mut self, more: Self) {
        self.asks = self.asks.saturating_add(more.asks);
        self.log_lines = self.log_lines.saturating_add(more.log_lines);
        self.log_drops.add(more.log_drops);
        self.connections = self.connections.saturating_add(more.connections);
        self.shed = self.shed.saturating_add(more.shed);
        self.at_accept = self.at_accept.saturating_add(more.at_accept);
        self.samples = self.samples.saturating_add(more.samples);
    }
}

/// How things are, and the entries that count most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopStatus {
    /// When: milliseconds since 1970.
    pub unix_millis: u64,
    /// How things are.
    pub status: GuardStatus,
    /// Blocks in force, those that dropped most first: at most 200, of the youngest 4096.
    pub entries: Vec<BlockEntry>,
}

/// Where XDP is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// `native` or `generic`.
    pub mode: String,
    /// Whether the link was taken over from an earlier guard, without a gap.
    pub adopted: bool,
}

/// Packets and bytes of one verdict, over all CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictCount {
    /// Its name.
    pub verdict: String,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A feed in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedStatus {
    /// Its name; empty: what was imported without one.
    pub name: String,
    /// How many sources it lists.
    pub entries: u64,
    /// `enforce` or `shadow`; `crawlers` or `never_ban`: it bans nobody.
    pub mode: String,
    /// `file`, `url`, `crowdsec` or `import`.
    pub origin: String,
    /// When its content was loaded: RFC 3339, UTC.
    pub loaded: String,
    /// Its file was not written for longer than `stale_after`.
    #[serde(default)]
    pub is_stale: bool,
}

/// A list that is fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedFetch {
    /// The feed's name.
    pub name: String,
    /// Whose it is, without the path; the file of the URL, where that is a secret.
    pub from: String,
    /// When the server last gave or confirmed it: RFC 3339, UTC; empty: never.
    pub confirmed: String,
    /// In how many seconds it is fetched next; absent: it is being fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_seconds: Option<u64>,
    /// How many tries have failed since one succeeded.
    pub failures: u32,
    /// Why the last try failed; absent: it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<String>,
    /// Why what was fetched last is not taken; absent: it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Not confirmed for longer than `stale_after`.
    pub is_stale: bool,
    /// How often another list came, since the guard started.
    pub changed: u64,
    /// How often the same list was there.
    pub unchanged: u64,
    /// How often there was no list.
    pub failed: u64,
    /// How often a list was refused.
    pub refusals: u64,
}
