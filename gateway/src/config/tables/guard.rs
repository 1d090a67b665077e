//! Reads `[guard]`: the process that loads the kernel program and decides every ban.

use std::{path::Path, time::Duration};

use gateway_common::source::Source;
use toml::de::DeValue;

use super::operator::account;
use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{self, form::described},
    },
    diagnostic::Diagnostic,
    settings::{
        anomalies::AnomalyActions,
        guard::{self, AttachMode, BPFFS, Compile, KernelTrace, LONGEST_BAN, PacketScope, Safety},
        operators::ControlMode,
        revocation,
    },
};

mod breaker;
mod ladder;
mod limits;

/// The keys of `[guard]`.
pub(in crate::config) const KEYS: Keys = &[
    (
        "interfaces",
        "The network interfaces where XDP is attached. Without any, bans are enforced when a connection is accepted.",
    ),
    ("allow", "Addresses and prefixes that are never limited, blocked or banned."),
    (
        "mode",
        "How XDP is attached. `auto` uses native mode where the driver supports it, and serves without XDP where it \
         cannot be had. With another mode the gateway does not start then.",
    ),
    ("scope", "Which packets a ban drops: those to the listeners' ports, or all packets to this host."),
    ("state_dir", "The folder of the ban store and the audit chain."),
    ("control_socket", "The Unix socket where commands reach the running gateway. Its path has at most 107 bytes."),
    (
        "control_group",
        "The Unix group that may open the control socket. What its members may do, `[[operator]]` says. Without it: root alone.",
    ),
    (
        "control_mode",
        "Who may open the control socket: root, `control_group` too, or every user of the host. Without it: `0660` where there is a `control_group`.",
    ),
    (
        "pin_dir",
        "The folder on bpffs where the kernel program's maps are pinned. It is below `/sys/fs/bpf` and has no dot in it.",
    ),
    ("ipv6_prefix", "The prefix length by which IPv6 clients are told apart."),
    ("widest_ipv4", "The shortest IPv4 prefix length that may be blocked."),
    ("widest_ipv6", "The shortest IPv6 prefix length that may be blocked. At most `ipv6_prefix`."),
    (
        "max_bans",
        "The most single addresses and IPv6 client prefixes that can be banned at once. When full, new bans are refused.",
    ),
    ("max_rules", "The most other prefixes that can be blocked, per address family."),
    ("max_sources", "The most sources whose packet budgets are tracked."),
    ("max_bans_per_minute", "When rules ask for more bans than this in a minute, the breaker pauses them."),
    (
        "compile_memory",
        "How much memory it may take to compile a configuration, at the start or in a reload. One that takes more is refused, and nothing changes.",
    ),
    (
        "compile_time",
        "How much processor time it may take to compile a configuration, at the start or in a reload. One that takes more is refused, and nothing changes.",
    ),
    ("pass_malformed", "Whether packets with contradictory headers pass. `false` drops them."),
    (
        "trace",
        "Which packets the kernel program writes log lines about: none, those that it drops or answers, or all. At most 20 lines a second of each sort and CPU.",
    ),
    ("trace_source", "With `trace`: only packets of this address or prefix."),
    ("packet_limit", "A budget of packets per source. Without this table, packets are not limited."),
    ("byte_limit", "A budget of bytes per source, link layer included. Without this table, bytes are not limited."),
    ("syn_limit", "A budget of TCP SYNs per source. Without this table, connection attempts are not limited."),
    (
        "total_limit",
        "A budget of packets of all sources together. Clients that proved who they are have a part of it for themselves. \
         Without this table, there is none.",
    ),
    (
        "syn_cookies",
        "A budget of TCP SYNs of all sources. SYNs above it are answered with SYN cookies. Needs `net.ipv4.tcp_syncookies`.",
    ),
    ("default_ban", "How long `gateway block add` blocks when it names no time."),
    ("unban_grace", "After `gateway block del`, rules do not ban the source again for this long."),
    ("probation", "After a ban by a rule, half as many signals lead to the next ban for this long."),
    ("shield_clients", "A block that covers more good clients than this needs `--force`."),
    ("shared_principals", "A source with this many good principals is never banned by rules. `0` turns this off."),
    ("good_for", "How long a client is considered good after a request that succeeded with a token."),
    ("remember_good", "How long a client that was good is remembered. Rules treat such a client with more patience."),
    ("established", "How long a principal must have been good before it counts for `shared_principals`."),
    ("breaker", "When rules are kept from banning for a while, so that a mistake does not ban the customers."),
    ("ladder", "How bans by rules grow for repeat offenders."),
];

const SECOND: Duration = Duration::from_secs(1);

/// A command waits for a reload as long as it may take with this.
const LONGEST_COMPILE: Duration = Duration::from_secs(60);

const HOUR: Duration = Duration::from_secs(3_600);

const DAY: Duration = Duration::from_secs(86_400);

/// The default of `guard.state_dir`.
pub(in crate::config) const STATE_DIR: &str = "/var/lib/gateway";

/// The default of `guard.control_socket`.
pub(in crate::config) const CONTROL_SOCKET: &str = "/run/gateway/control.sock";

/// The default of `guard.pin_dir`.
pub(in crate::config) const PIN_DIR: &str = "/sys/fs/bpf/gateway";

pub(super) fn read(table: Table<'_>, reader: &Reader<'_>) -> guard::Settings {
    let interfaces = table.list("interfaces", interface);
    for (index, (key, name)) in interfaces.iter().enumerate() {
        if interfaces.iter().take(index).any(|(_, earlier)| earlier == name) {
            reader.report(Diagnostic::new(key, format!("{name:?} is listed twice")).hint("name each interface once"));
        }
    }
    let hint = "write an address or a prefix: \"192.0.2.7\", \"192.0.2.0/24\", \"2001:db8::/32\"";
    let allow = table.list("allow", described("address or prefix", value::parsed::<Source>(hint)));
    let mut guard = guard::Settings {
        interfaces: interfaces.into_iter().map(|(_, name)| name).collect(),
        mode: table.or(
            "mode",
            AttachMode::Auto,
            value::choice(&[
                ("auto", AttachMode::Auto),
                ("generic", AttachMode::Generic),
                ("native", AttachMode::Native),
            ]),
        ),
        scope: table.or(
            "scope",
            PacketScope::Listeners,
            value::choice(&[("host", PacketScope::Host), ("listeners", PacketScope::Listeners)]),
        ),
        state_dir: table.path_or("state_dir", STATE_DIR),
        control_socket: table.path_or("control_socket", CONTROL_SOCKET),
        control_group: table.optional("control_group", described("string", account)),
        control_mode: ControlMode::Owner,
        operators: Vec::new(),
        pin_dir: table.path_or("pin_dir", PIN_DIR),
        allow: allow.iter().map(|(_, source)| *source).collect(),
        trusted_proxies: Vec::new(),
        ipv6_prefix: table.or("ipv6_prefix", gateway_common::source::IPV6_PREFIX, value::integer(1..=64)),
        widest_ipv4: table.or("widest_ipv4", 16, value::integer(1..=32)),
        widest_ipv6: table.or("widest_ipv6", 32, value::integer(1..=128)),
        max_bans: table.or("max_bans", 1_000_000, value::integer(1..=16_777_216)),
        // Longest-prefix tries of more than two million prefixes stall the kernel while they are freed.
        max_rules: table.or("max_rules", 131_072, value::integer(1..=2_000_000)),
        max_sources: table.or("max_sources", 131_072, value::integer(1_024..=16_777_216)),
        max_bans_per_minute: table.or("max_bans_per_minute", 60, value::integer(1..=1_000_000)),
        compile: Compile {
            memory: table.or("compile_memory", Compile::default().memory, value::size_in(16 << 20..=1 << 40)),
            time: table.or("compile_time", Compile::default().time, value::duration_in(SECOND..=LONGEST_COMPILE)),
        },
        pass_malformed: table.or("pass_malformed", false, value::boolean()),
        packet_limit: limits::source(
            table.table("packet_limit", limits::PACKETS_KEYS),
            "packets",
            "20000",
            value::integer(limits::UNITS),
            1,
        ),
        byte_limit: limits::source(
            table.table("byte_limit", limits::BYTE_KEYS),
            "bytes",
            "\"10MiB\"",
            value::size_in(limits::BYTES),
            limits::FRAME,
        ),
        syn_limit: limits::source(
            table.table("syn_limit", limits::SYN_KEYS),
            "syns",
            "100",
            value::integer(limits::UNITS),
            1,
        ),
        trace: trace(&table),
        total_limit: limits::total(table.table("total_limit", limits::TOTAL_KEYS)),
        syn_cookies: limits::syn_cookies(table.table("syn_cookies", limits::COOKIES_KEYS)),
        default_ban: table.or("default_ban", HOUR, value::duration_in(SECOND..=LONGEST_BAN)),
        safety: Safety::default(),
        feeds: Vec::new(),
        crowdsec: None,
        revocation: revocation::Settings::default(),
        audit: crate::settings::audit::Settings::default(),
        clamps: Vec::new(),
        plan_budgets: Vec::new(),
        anomalies: AnomalyActions::default(),
        shadow_limits: Vec::new(),
        shadow_routes: Vec::new(),
    };
    wide_allowances(&allow, &guard, reader);
    guard.control_mode = control_mode(&table, guard.control_group.as_deref());
    guard.safety = safety(&table, guard.ipv6_prefix, guard.widest_ipv6);
    if guard.widest_ipv6 > guard.ipv6_prefix {
        let message =
            format!("{} is longer than `guard.ipv6_prefix`: no IPv6 client could be banned", guard.widest_ipv6);
        let hint = format!("write at most {}, which is `guard.ipv6_prefix`", guard.ipv6_prefix);
        table.report("widest_ipv6", Diagnostic::bare(message).hint(hint));
    }
    // `sun_path` holds 108 bytes, the last of which is zero.
    if guard.control_socket.as_os_str().len() > 107 {
        table.report(
            "control_socket",
            Diagnostic::bare("is longer than the 107 bytes that a socket's path may have")
                .hint("choose a shorter path"),
        );
    }
    pin_dir(&guard.pin_dir, &table, reader);
    table.finish();
    guard
}

/// `allow add` takes such a prefix only with `--yes`: as good as nobody may be left to be limited, blocked or banned.
fn wide_allowances(allow: &[(String, Source)], guard: &guard::Settings, reader: &Reader<'_>) {
    for (key, source) in allow {
        let widest = guard.widest(*source);
        if source.length() < widest {
            let what = format!(
                "{source} is wider than /{widest}: nobody in it is limited, blocked or banned, whatever they do; \
                 blocks of it are lifted for good"
            );
            reader.warn(Diagnostic::new(key, what).hint("write the networks that you mean, no wider than needed"));
        }
    }
}

/// The keys that keep bans from doing harm.
fn safety(guard: &Table<'_>, ipv6_prefix: u8, widest_ipv6: u8) -> Safety {
    let defaults = Safety::default();
    let day = || value::duration_in(Duration::ZERO..=30 * DAY);
    Safety {
        unban_grace: guard.or("unban_grace", defaults.unban_grace, day()),
        probation: guard.or("probation", defaults.probation, day()),
        shield_clients: guard.or("shield_clients", defaults.shield_clients, value::integer(0..=1_000_000)),
        shared_principals: guard.or("shared_principals", defaults.shared_principals, value::integer(0..=16)),
        good_for: guard.or("good_for", defaults.good_for, value::duration_in(60 * SECOND..=DAY)),
        remember_good: guard.or("remember_good", defaults.remember_good, day()),
        established: guard.or("established", defaults.established, value::duration_in(Duration::ZERO..=DAY)),
        breaker: breaker::read(guard.table("breaker", breaker::KEYS), defaults.breaker),
        ladder: ladder::read(guard.table("ladder", ladder::KEYS), ipv6_prefix, widest_ipv6),
    }
}

/// Which packets are traced.
fn trace(guard: &Table<'_>) -> Option<KernelTrace> {
    let trace = guard.or("trace", None, value::choice(&[("off", None), ("drops", Some(true)), ("all", Some(false))]));
    let hint = "write an address or a prefix: \"192.0.2.7\", \"192.0.2.0/24\", \"2001:db8::/32\"";
    let source = guard.optional("trace_source", described("address or prefix", value::parsed::<Source>(hint)));
    if trace.is_none() && guard.has("trace_source") {
        let useless = Diagnostic::bare("has no effect: `guard.trace` is off");
        guard.report("trace_source", useless.hint("write trace = \"all\" beside it, or leave it out"));
    }
    trace.map(|drops_only| KernelTrace { drops_only, source })
}

/// A group that may open the socket, and a mode that says so, go together.
fn control_mode(table: &Table<'_>, group: Option<&str>) -> ControlMode {
    let mode = table.optional("control_mode", value::choice(&ControlMode::NAMES));
    match (mode, group) {
        (Some(ControlMode::Group), None) if !table.has("control_group") => {
            let wrong = Diagnostic::bare("lets a group open the socket, and there is no `guard.control_group`");
            table.report("control_mode", wrong.hint("name the group: control_group = \"edge\""));
        }
        (Some(ControlMode::Owner), Some(group)) => {
            let wrong = Diagnostic::bare(format!("lets root alone open the socket, and not {group:?}"));
            table.report("control_mode", wrong.hint("write \"0660\", or leave `control_group` out"));
        }
        _ => {}
    }
    mode.unwrap_or(if group.is_some() { ControlMode::Group } else { ControlMode::Owner })
}

fn pin_dir(path: &Path, table: &Table<'_>, reader: &Reader<'_>) {
    let Ok(below) = path.strip_prefix(BPFFS) else {
        let warning = Diagnostic::new(table.key("pin_dir"), format!("is not below {BPFFS}"));
        reader.warn(warning.hint("make sure that a file system of type bpf is mounted there"));
        return;
    };
    if below.as_os_str().is_empty() {
        let wrong = Diagnostic::bare("is the root of bpffs, which other programs share");
        table.report("pin_dir", wrong.hint(format!("write a folder of its own: \"{BPFFS}/gateway\"")));
    } else if below.as_os_str().to_string_lossy().contains('.') {
        let wrong = Diagnostic::bare("has a dot, which bpffs refuses in names");
        table.report("pin_dir", wrong.hint(format!("write a name without dots: \"{BPFFS}/gateway\"")));
    }
}

/// What the kernel takes as the name of an interface (`dev_valid_name`).
fn interface(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    let name = value::line(value)?;
    let bad = name.len() > 15 || matches!(name.as_str(), "." | "..");
    if bad || name.contains(|letter: char| letter == '/' || letter == ':' || letter.is_whitespace()) {
        return Err(Diagnostic::bare(format!("{name:?} is not an interface name"))
            .hint("`ip link` lists the interfaces' names"));
    }
    Ok(name)
}
