//! `gateway status`: how the running gateway is.

use clap::Args;

use super::{
    context::Context,
    exit::Exit,
    feed,
    table::{Table, bytes, clean, field, prose, seconds},
};
use crate::{
    anchor::schedule::AnchorState,
    guard::control::{self, ControlAnswer, ControlRequest, FeedStatus, KernelBudgets, ProcessStatus, VerdictCount},
    message::{FailingServer, KeySetReport, UpstreamReport},
    os::{clock::rfc3339, sandbox::Confinement},
    text::counted::counted,
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gateway status
  gateway status --json | jq .enforcement")]
pub(super) struct StatusCommand {
    /// Metrics have a listener of their own
    #[arg(long, hide = true)]
    prometheus: bool,
}

impl StatusCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        if self.prometheus {
            let gone =
                "--prometheus is gone: add [admin] with an `address` to the configuration, and read /metrics there";
            return context.out.fail(gone, Exit::Usage);
        }
        context.ask(&ControlRequest::Status, |answer| match answer {
            ControlAnswer::Status(status) => Some(render(status)),
            _ => None,
        })
    }
}

fn audit(audit: &control::AuditState) -> String {
    let signed = match audit.signed {
        0 => "none signed yet".to_owned(),
        signed => format!("signed up to {signed} at {}", audit.signed_at),
    };
    let files = counted(audit.files, "file", "files");
    format!("{} in {files}, {signed}", counted(audit.records, "record", "records"))
}

pub(super) fn render(status: &control::GuardStatus) -> String {
    let mut lines = Vec::new();
    // First, because somebody must act on them.
    lines.extend(status.warnings.iter().map(|warning| prose(&format!("WARNING: {}", clean(warning)))));
    if !lines.is_empty() {
        lines.push(String::new());
    }
    for (name, value) in [
        ("version", status.version.clone()),
        ("configuration", configuration(status)),
        ("guard", guard(status)),
        ("proxy", proxy(status)),
        ("observer", observer(status)),
        ("listening", status.listeners.join(", ")),
        ("enforcement", enforcement(status)),
        ("blocks", status.blocks.to_string()),
        ("allowlisted", status.allows.to_string()),
        ("audit chain", audit(&status.audit)),
    ] {
        lines.push(field(name, 14, &clean(&value)));
    }
    lines.extend(kernel_budgets(&status.kernel).map(|text| field("kernel", 14, &clean(&text))));
    lines.extend(discounted(&status.upstreams).map(|text| field("discounted", 14, &clean(&text))));
    lines.extend(crowdsec(status).map(|text| field("crowdsec", 14, &clean(&text))));
    let tables = [
        processes(&status.processes),
        feeds(&status.feeds),
        (!status.fetches.is_empty()).then(|| feed::table(status)),
        anchors(&status.audit.anchors),
        key_sets(&status.key_sets),
        upstreams(&status.upstreams),
        verdicts(&status.verdicts),
    ];
    lines.extend(tables.into_iter().flatten().map(|table| format!("\n{table}")));
    lines.join("\n")
}

/// Failures of upstreams that count against nobody.
fn discounted(upstreams: &[UpstreamReport]) -> impl Iterator<Item = String> {
    let each = upstreams.iter().flat_map(|upstream| upstream.discounted.iter().map(move |it| (upstream, it)));
    each.map(|(upstream, it)| format!("upstream {}: {}", upstream.name, it.sentence()))
}

/// What CrowdSec is asked and told; `None`: it is not used.
fn crowdsec(status: &control::GuardStatus) -> Option<String> {
    let control::CrowdsecStatus { url, decisions, waiting, told, lifted, failing, .. } = status.crowdsec.as_ref()?;
    let state = failing.as_ref().map_or_else(|| "ok".to_owned(), |why| format!("failing: {why}"));
    let (decisions, told) = (counted(*decisions, "decision", "decisions"), counted(*told, "ban", "bans"));
    let waiting = counted(*waiting, "waits", "wait");
    Some(format!("{url}, {state}; {decisions} known, {told} told, {lifted} lifted, {waiting}"))
}

fn configuration(status: &control::GuardStatus) -> String {
    match status.config_since.as_str() {
        "" => status.config.clone(),
        since => {
            let digest = status.config_digest.get(..16).unwrap_or_default();
            format!("{}, in force since {since} by {}, SHA-256 {digest}...", status.config, status.config_by)
        }
    }
}

fn times(count: impl TryInto<u64>) -> String {
    counted(count, "time", "times")
}

fn guard(status: &control::GuardStatus) -> String {
    let up = seconds(status.uptime_seconds);
    match (status.guard_pid, status.guard_restarts) {
        (0, _) => "not running".to_owned(),
        (pid, 0) => format!("pid {pid}, up {up}"),
        (pid, restarts) => format!("pid {pid}, up {up}, restarted {}", times(restarts)),
    }
}

fn proxy(status: &control::GuardStatus) -> String {
    match status.proxy_pid {
        _ if status.guard_pid == 0 => "not running".to_owned(),
        Some(pid) => format!("pid {pid}, restarted {}", times(status.proxy_restarts)),
        // The warnings say who serves meanwhile.
        None => format!("being restarted, {} so far", times(status.proxy_restarts)),
    }
}

fn observer(status: &control::GuardStatus) -> String {
    let restarts = times(status.observer_restarts);
    match (&status.admin, status.observer_pid) {
        (None, _) => "none: there is no [admin]".to_owned(),
        (Some(admin), _) if status.guard_pid == 0 => format!("not running; [admin] has {admin}"),
        (Some(admin), Some(pid)) => format!("pid {pid}, restarted {restarts}, {admin}"),
        (Some(admin), None) => format!("being restarted, {restarts} so far, {admin}"),
    }
}

fn enforcement(status: &control::GuardStatus) -> String {
    let interfaces = status.interfaces.iter().map(|interface| {
        let adopted = if interface.adopted { ", adopted" } else { "" };
        format!("{} ({}{adopted})", interface.name, interface.mode)
    });
    match interfaces.collect::<Vec<_>>().as_slice() {
        [] => status.enforcement.clone(),
        some => format!("{} on {}", status.enforcement, some.join(", ")),
    }
}

fn feeds(feeds: &[FeedStatus]) -> Option<String> {
    let mut table = Table::new(["LIST", "ENTRIES", "MODE", "FROM", "LOADED"]);
    for feed in feeds {
        let name = if feed.name.is_empty() { "(no name)" } else { &feed.name };
        let (mode, origin, loaded) = (feed.mode.clone(), feed.origin.clone(), feed.loaded.clone());
        table.row([name.to_owned(), feed.entries.to_string(), mode, origin, loaded]);
    }
    (!feeds.is_empty()).then(|| table.render())
}

fn anchors(anchors: &[AnchorState]) -> Option<String> {
    let mut table = Table::new(["ANCHOR", "KIND", "RECORD", "SENT", "STATE"]);
    for anchor in anchors {
        let state = anchor.failing.as_deref().unwrap_or("ok").to_owned();
        let (name, kind, sent) = (anchor.name.clone(), anchor.kind.clone(), anchor.sent.clone());
        table.row([name, kind, anchor.seq.to_string(), sent, state]);
    }
    (!anchors.is_empty()).then(|| table.render())
}

fn key_sets(sets: &[KeySetReport]) -> Option<String> {
    let mut table = Table::new(["KEYS OF", "KEYS", "CONFIRMED", "STATE"]);
    for set in sets {
        let confirmed = if set.confirmed == 0 { "never".to_owned() } else { rfc3339(set.confirmed) };
        let state = match (set.failing_since, set.usable) {
            (0, _) => "ok".to_owned(),
            (_, true) => format!("last good keys: {}", set.why),
            (_, false) => format!("no keys: {}", set.why),
        };
        table.row([set.issuer.clone(), set.keys.to_string(), confirmed, state]);
    }
    (!sets.is_empty()).then(|| table.render())
}

pub(super) fn upstreams(upstreams: &[UpstreamReport]) -> Option<String> {
    let mut table = Table::new(["UPSTREAM", "SERVER", "STATE", "AT ONCE"]);
    for upstream in upstreams {
        for (server, state) in &upstream.servers {
            let why = upstream.failing.iter().find(|failing| failing.server == *server).map(failure);
            let state =
                [Some(format!("{state:?}").to_lowercase()), why].into_iter().flatten().collect::<Vec<_>>().join(": ");
            let limit = upstream.limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
            table.row([upstream.name.clone(), server.clone(), state, limit]);
        }
    }
    (!upstreams.is_empty()).then(|| table.render())
}

/// Why a server could not be connected to, and since when.
pub(super) fn failure(failing: &FailingServer) -> String {
    let why = match failing.why.split_once("cannot be resolved: ") {
        Some((_, why)) => format!("not resolved: {why}"),
        None => failing.why.clone(),
    };
    format!("{why}, since {}", rfc3339(failing.since))
}

fn verdicts(verdicts: &[VerdictCount]) -> Option<String> {
    let mut table = Table::new(["VERDICT", "PACKETS", "BYTES"]);
    for counted in verdicts {
        table.row([counted.verdict.clone(), counted.packets.to_string(), bytes(counted.bytes)]);
    }
    (!verdicts.is_empty()).then(|| table.render())
}

/// Budgets of packets that not every source has; `None`: there are none.
pub(super) fn kernel_budgets(kernel: &KernelBudgets) -> Option<String> {
    let total = kernel.total.map(|total| {
        let shadow = if total.shadow { " (shadow)" } else { "" };
        let lane = match total.fast_lane_per_second {
            0 => String::new(),
            lane => format!(", {lane}/s of it for the fast lane"),
        };
        format!("all sources {} packets/s, burst {}{lane}{shadow}", total.per_second, total.burst)
    });
    let clamps = (kernel.clamps > 0).then(|| format!("{} clamped", counted(kernel.clamps, "source", "sources")));
    let shadow = (kernel.shadow_clamps > 0).then(|| format!("{} clamped in shadow", kernel.shadow_clamps));
    let plans = kernel.plans.iter().filter(|(_, sources)| *sources > 0);
    let plans = plans.map(|(plan, sources)| format!("{} with plan {plan}", counted(*sources, "source", "sources")));
    let all: Vec<String> = total.into_iter().chain(clamps).chain(shadow).chain(plans).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// The processes, each with the rights that the kernel says it has.
fn processes(processes: &[ProcessStatus]) -> Option<String> {
    let mut table = Table::new(["PROCESS", "PID", "STATE", "USER", "CAPABILITIES", "NO NEW PRIVS", "SECCOMP"]);
    for ProcessStatus { role, pid, state, sandbox } in processes {
        // The guard may not see processes of other users.
        let seen = sandbox.clone().or_else(|| Confinement::of(*pid));
        let cells = seen.map_or(["?", "?", "?", "?"].map(str::to_owned), |seen| {
            let short =
                seen.capabilities.iter().map(|name| name.trim_start_matches("CAP_")).collect::<Vec<_>>().join(" ");
            let capabilities = if short.is_empty() { "none".to_owned() } else { short };
            let no_new_privs = if seen.no_new_privs { "yes" } else { "NO" };
            let filters = counted(seen.seccomp_filters, "filter", "filters");
            [seen.uid.to_string(), capabilities, no_new_privs.to_owned(), filters]
        });
        let [user, capabilities, no_new_privs, filters] = cells;
        let state = state.as_deref().unwrap_or("runs").to_owned();
        table.row([role.clone(), pid.to_string(), state, user, capabilities, no_new_privs, filters]);
    }
    (!processes.is_empty()).then(|| table.render())
}
