//! The guard's settings, valid.

use std::{path::PathBuf, time::Duration};

use gateway_common::source::Source;

use super::{
    anomalies::AnomalyActions,
    audit, crowdsec,
    feed::Feed,
    limit::{Clamp, PlanBudget},
    operators::{ControlMode, Operator},
    revocation,
};

/// The longest ban that ends by itself, ten years of 365 days: sums of it and any clock stay far from overflowing.
pub const LONGEST_BAN: Duration = Duration::from_secs(3_650 * 86_400);

/// Where the BPF file system is mounted on every distribution.
pub const BPFFS: &str = "/sys/fs/bpf";

/// `[guard]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `guard.interfaces`: where XDP is attached. Empty: bans are enforced at accept, and status says so.
    pub interfaces: Vec<String>,
    /// `guard.mode`.
    pub mode: AttachMode,
    /// `guard.scope`.
    pub scope: PacketScope,
    /// `guard.state_dir`: ban store, audit chain.
    pub state_dir: PathBuf,
    /// `guard.control_socket`: what the CLI speaks to.
    pub control_socket: PathBuf,
    /// `guard.control_group`: who may open that socket besides root; a name or a number.
    pub control_group: Option<String>,
    /// `guard.control_mode`.
    pub control_mode: ControlMode,
    /// `[[operator]]`: who may do what, besides root.
    pub operators: Vec<Operator>,
    /// `guard.pin_dir`: where in bpffs maps and links are pinned.
    pub pin_dir: PathBuf,
    /// `guard.allow`: sources that are never limited, blocked or banned.
    pub allow: Vec<Source>,
    /// `proxy.trusted_proxies`: as [`Self::allow`], because behind each of them are many clients.
    pub trusted_proxies: Vec<Source>,
    /// `guard.ipv6_prefix`: how many bits of an IPv6 address tell clients apart, 1 to 64.
    pub ipv6_prefix: u8,
    /// `guard.widest_ipv4`: the shortest IPv4 prefix that may be blocked.
    pub widest_ipv4: u8,
    /// `guard.widest_ipv6`: the shortest IPv6 prefix that may be blocked.
    pub widest_ipv6: u8,
    /// `guard.max_bans`: capacity for exact entries.
    pub max_bans: u32,
    /// `guard.max_rules`: capacity for prefixes, per family.
    pub max_rules: u32,
    /// `guard.max_sources`: capacity for packet budgets.
    pub max_sources: u32,
    /// `guard.max_bans_per_minute`: how many bans rules may ask for before they are paused.
    pub max_bans_per_minute: u32,
    /// What a configuration may take to be compiled.
    pub compile: Compile,
    /// `guard.pass_malformed`: let packets with contradicting headers through.
    pub pass_malformed: bool,
    /// `[guard.packet_limit]`; `None`: packets are not limited.
    pub packet_limit: Option<SourceLimit>,
    /// `[guard.byte_limit]`; `None`: bytes are not limited.
    pub byte_limit: Option<SourceLimit>,
    /// `[guard.syn_limit]`; `None`: connection attempts are not limited.
    pub syn_limit: Option<SourceLimit>,
    /// `[guard.total_limit]`; `None`: packets of all sources together are not limited.
    pub total_limit: Option<TotalLimit>,
    /// `[guard.syn_cookies]`; `None`: connection attempts are never answered by the kernel program.
    pub syn_cookies: Option<SynCookies>,
    /// `[limit.NAME.clamp]`, by the names of the limits.
    pub clamps: Vec<(String, Clamp)>,
    /// What is done about sources that an anomaly comes from.
    pub anomalies: AnomalyActions,
    /// What plans give sources of packets.
    pub plan_budgets: Vec<PlanBudget>,
    /// The limits on requests that count only, as `limit.NAME`: what the proxy counts is reported and promoted here.
    pub shadow_limits: Vec<String>,
    /// Requirements of routes that count only, as `route.NAME.allow_if`: as above.
    pub shadow_routes: Vec<String>,
    /// `guard.trace`; `None`: off.
    pub trace: Option<KernelTrace>,
    /// `guard.default_ban`: how long `block add` blocks unless told.
    pub default_ban: Duration,
    /// What keeps bans from doing harm.
    pub safety: Safety,
    /// `[[feed]]`: lists that are followed.
    pub feeds: Vec<Feed>,
    /// `[crowdsec]`; `None`: it is neither asked nor told.
    pub crowdsec: Option<crowdsec::Settings>,
    /// `[audit]`.
    pub audit: audit::Settings,
    /// `[revocation]`.
    pub revocation: revocation::Settings,
}

/// What it may take to compile a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compile {
    /// `guard.compile_memory`, in bytes.
    pub memory: u64,
    /// `guard.compile_time`, of a processor.
    pub time: Duration,
}

impl Settings {
    /// The shortest prefix of the address family of `source` that may be blocked, or allowed without a second word.
    #[must_use]
    pub const fn widest(&self, source: Source) -> u8 {
        if source.address().is_ipv4() { self.widest_ipv4 } else { self.widest_ipv6 }
    }
}

impl Default for Compile {
    fn default() -> Self {
        Self { memory: 1 << 30, time: Duration::from_secs(30) }
    }
}

/// `guard.trace`: which packets the log has lines about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelTrace {
    /// Only those that are dropped or answered.
    pub drops_only: bool,
    /// `guard.trace_source`: those of this source alone; `None`: of everybody.
    pub source: Option<Source>,
}

/// What keeps bans from doing harm, and how they grow and end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Safety {
    /// `guard.unban_grace`: how long rules may not ban a source again after an operator removed its block.
    pub unban_grace: Duration,
    /// `guard.probation`: how long after a rule's ban half as many signals ask for the next.
    pub probation: Duration,
    /// `[guard.ladder]`.
    pub ladder: Ladder,
    /// `guard.shield_clients`: how many recently good clients a block may cover that is not forced.
    pub shield_clients: u32,
    /// `guard.shared_principals`: so many established good principals keep rules from banning their source; 0: none
    /// do.
    pub shared_principals: u32,
    /// `guard.good_for`: how long a client counts as good after a request that succeeded with a token.
    pub good_for: Duration,
    /// `guard.remember_good`: how long a client that was good is known to be a customer; 0: not.
    pub remember_good: Duration,
    /// `guard.established`: how long a principal must have been good for it to shield its source.
    pub established: Duration,
    /// `[guard.breaker]`.
    pub breaker: BreakerLimits,
}

/// `[guard.breaker]`: when rules are kept from banning for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerLimits {
    /// `share`: more than so many of a hundred recently good clients are banned; 100: never.
    pub share: u32,
    /// `at_least`: fewer good clients than this say nothing about a share.
    pub at_least: u32,
    /// `pause`: for how long.
    pub pause: Duration,
}

/// `[guard.ladder]`: how bans grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// `factors`: how many times as long as the rule says the first ban is, the second, ...; the last goes on.
    pub factors: Vec<u32>,
    /// `decay`: how long without a ban makes up for one.
    pub decay: Duration,
    /// `longest`: no ban grows longer than this.
    pub longest: Duration,
    /// `widen_at`: so many banned client prefixes of one network widen the next ban to it; 0: never.
    pub widen_at: u32,
    /// `widen_to`: that network's length; as long as [`Settings::ipv6_prefix`]: never.
    pub widen_to: u8,
}

impl Default for Safety {
    fn default() -> Self {
        let hour = Duration::from_secs(3_600);
        Self {
            unban_grace: hour,
            probation: hour / 6,
            ladder: Ladder::default(),
            shield_clients: 10,
            shared_principals: 5,
            good_for: hour / 6,
            remember_good: 7 * 24 * hour,
            established: hour / 60,
            breaker: BreakerLimits { share: 20, at_least: 20, pause: hour / 60 },
        }
    }
}

impl Default for Ladder {
    fn default() -> Self {
        let day = Duration::from_secs(86_400);
        Self { factors: vec![1, 3, 10, 30, 100], decay: day, longest: 30 * day, widen_at: 4, widen_to: 56 }
    }
}

/// How XDP is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// Native where the driver can, else generic, saying so.
    Auto,
    /// In the network stack: works everywhere, costs more.
    Generic,
    /// In the driver, or not at all.
    Native,
}

/// Which packets lists and limits apply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketScope {
    /// Every packet to this host.
    Host,
    /// Packets to the ports that the proxy listens on.
    Listeners,
}

/// `[guard.packet_limit]`, `[guard.byte_limit]`, `[guard.syn_limit]`: what the kernel lets one source send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimit {
    /// `packets`, `bytes` or `syns`, per second and source.
    pub per_second: u64,
    /// `burst`, of the same.
    pub burst: u64,
    /// `shadow`: what would have been dropped is counted, and passes.
    pub shadow: bool,
}

/// `[guard.total_limit]`: how many packets of all sources together guarded ports get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TotalLimit {
    /// `packets`, per second.
    pub per_second: u64,
    /// `burst`.
    pub burst: u64,
    /// `fast_lane`: how much of both is kept for connections that proved themselves, in millionths; 0: nothing.
    pub fast_lane: u32,
    /// `fast_lane_connections`: how many connections of one principal may use it at once.
    pub fast_lane_connections: u32,
    /// `shadow`: what would have been dropped is counted, and passes.
    pub shadow: bool,
}

/// `[guard.syn_cookies]`: how many connection attempts, of all sources, get state in the network stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynCookies {
    /// `per_second`.
    pub per_second: u64,
    /// `burst`.
    pub burst: u64,
}
