//! The checks of `gateway doctor`, each computed from facts that were gathered before.
//!
//! *Invariant:* every check is a function of the facts alone; what could not be looked at is never called well.

use serde::Serialize;

use facts::{Daemon, Fact, Interface, Unanswered};

use super::{control::ProcessStatus, kernel::PinnedAt};
use crate::{os::launch::ProcessRole, text::counted::counted};

mod facts;
mod look;

pub use facts::Facts;
pub use look::look;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// As it should be.
    Ok,
    /// It works; somebody should know. Also what could not be looked at.
    Warn,
    /// It does not work, or protects less than the configuration says.
    Fail,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which.
    pub name: String,
    /// How it came out.
    pub state: CheckState,
    /// What was found.
    pub what: String,
    /// What would help; empty: nothing needs to be done.
    pub fix: String,
}

fn check(name: impl Into<String>, state: CheckState, what: impl Into<String>, fix: impl Into<String>) -> Check {
    Check { name: name.into(), state, what: what.into(), fix: fix.into() }
}

/// What helps whoever may not look, and nobody else.
const AS_ROOT: &str = "run as root on the gateway's host";

fn unknown(name: impl Into<String>, reason: &str) -> Check {
    check(name, CheckState::Warn, format!("not looked at: {reason}"), AS_ROOT)
}

/// What helps root where something could not be looked at.
fn remedy(unknown: &Check, runs: bool) -> &'static str {
    let is_of_store = unknown.what.contains("the ban store");
    let is_pinned = ["drift", "maps", "pins"].contains(&&*unknown.name);
    match (is_of_store, is_pinned, runs) {
        (true, _, false) => "start the gateway (`gateway run`): it repairs a damaged store from the audit chain",
        (true, _, true) => "see `gateway status`: the running gateway repairs its store",
        (_, true, false) => "start the gateway (`gateway run`): it loads its program and pins its maps",
        (_, true, true) => "restart the gateway: it pins its maps again",
        _ => "run it on the host itself, outside of containers, or see the permissions of what is named",
    }
}

/// Every check, in the order in which one would look.
#[must_use]
pub fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![kernel(&facts.kernel), rights(facts.is_root)];
    checks.extend(facts.sysctls.iter().map(|(name, value)| sysctl(name, value)));
    let is_unguarded = facts.interfaces.is_empty();
    checks.extend(program(&facts.program, is_unguarded));
    checks.push(btf(facts.has_btf));
    checks.push(bpffs(facts.is_bpffs, is_unguarded));
    let attached = facts.daemon.as_ref().map_or(&[][..], |daemon| daemon.attached.as_slice());
    checks.extend(facts.interfaces.iter().flat_map(|at| interface(at, &facts.links, facts.has_run, attached)));
    if is_unguarded {
        let what = "guard.interfaces is empty: no packet is dropped in the kernel";
        checks.push(check("interfaces", CheckState::Warn, what, "name the interfaces that clients come in by"));
    }
    if facts.has_run {
        checks.extend(traces(facts));
    }
    checks.push(ntp(&facts.clock_is_kept));
    if facts.has_run {
        checks.extend(facts.modes.iter().map(|(path, mode)| permissions(path, mode)));
    }
    checks.extend(facts.denied.iter().map(|path| unknown(format!("file {path}"), "this user may not read it")));
    checks.push(disk(&facts.disk));
    checks.extend(facts.certificates.iter().map(|(path, days)| certificate_days(path, days)));
    checks.push(proxy_user(&facts.proxy_user));
    checks.extend(facts.observer_user.as_ref().map(|user| observer_user(user, &facts.proxy_user)));
    checks.push(files(&facts.files));
    if facts.has_run {
        checks.extend(daemon(&facts.daemon));
    } else {
        let what = "no gateway has run here by this configuration yet: it has left nothing to look at";
        checks.push(check("daemon", CheckState::Warn, what, "start it: `gateway run`"));
    }
    if facts.is_root {
        for unknown in checks.iter_mut().filter(|check| check.fix == AS_ROOT) {
            unknown.fix = remedy(unknown, facts.daemon.is_ok()).to_owned();
        }
    }
    checks
}

/// What a gateway leaves behind, running or not.
fn traces(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![links(&facts.links, &facts.interfaces)];
    checks.extend(earlier(&facts.earlier));
    // Without an interface nothing has to be pinned; what is there all the same is looked at.
    let is_unguarded = facts.interfaces.is_empty();
    match &facts.maps {
        Ok(maps) => checks.extend(maps.iter().map(|map| usage(*map))),
        Err(_nothing_pinned) if is_unguarded => {}
        Err(reason) => checks.push(unknown("maps", reason)),
    }
    if facts.drift.is_ok() || !is_unguarded {
        checks.push(drift(&facts.drift));
    }
    checks.push(audit(&facts.audit));
    checks.push(clock(&facts.clock));
    checks
}

fn kernel(release: &str) -> Check {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse::<u32>().ok());
    let tried = "the gateway is tried on Linux 6.1 and later";
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= (6, 1) => check("kernel", CheckState::Ok, release, ""),
        (Some(_), Some(_)) => check("kernel", CheckState::Warn, release, tried),
        _ => check("kernel", CheckState::Warn, format!("unknown version {release:?}"), tried),
    }
}

fn program(program: &Fact<Result<Vec<String>, String>>, is_unguarded: bool) -> Vec<Check> {
    let (name, fix) = ("kernel program", "see docs/kernels.md for what each kernel gives");
    match program {
        Err(reason) => vec![unknown(name, reason)],
        Ok(Err(refused)) if is_unguarded => {
            let what = format!("{refused}; it is not needed while guard.interfaces is empty");
            vec![check(name, CheckState::Warn, what, fix)]
        }
        Ok(Err(refused)) => vec![check(name, CheckState::Fail, refused, fix)],
        Ok(Ok(left_out)) if left_out.is_empty() => {
            vec![check(name, CheckState::Ok, "this kernel takes the whole of it", "")]
        }
        Ok(Ok(left_out)) => left_out.iter().map(|what| check(name, CheckState::Warn, what, fix)).collect(),
    }
}

fn rights(is_root: bool) -> Check {
    if is_root {
        return check("rights", CheckState::Ok, "root", "");
    }
    check("rights", CheckState::Warn, "not root: much cannot be looked at", "run as root")
}

fn sysctl(name: &'static str, value: &Fact<i64>) -> Check {
    let value = match value {
        Ok(value) => *value,
        Err(reason) => return unknown(name, reason),
    };
    let (is_well, least, why) = match name {
        "net.core.bpf_jit_enable" => (value >= 1, 1, "every packet is interpreted, many times slower"),
        "kernel.unprivileged_bpf_disabled" => (value >= 1, 2, "any user may load BPF programs"),
        "net.ipv4.tcp_syncookies" => {
            (value >= 1, 1, "a SYN flood fills the queue of connections, and guard.syn_cookies has no effect")
        }
        "net.core.somaxconn" => (value >= 1_024, 4_096, "bursts of connections are refused"),
        _ => (true, 0, ""),
    };
    if is_well {
        return check(name, CheckState::Ok, value.to_string(), "");
    }
    check(name, CheckState::Warn, format!("{value}: {why}"), format!("sysctl -w {name}={least}"))
}

fn btf(has_btf: bool) -> Check {
    if has_btf {
        return check("btf", CheckState::Ok, "the kernel describes its types", "");
    }
    check("btf", CheckState::Ok, "the kernel does not describe its types, which is not needed", "")
}

fn bpffs(is_mounted: bool, is_unguarded: bool) -> Check {
    if is_mounted {
        return check("bpffs", CheckState::Ok, "mounted", "");
    }
    if is_unguarded {
        return check("bpffs", CheckState::Ok, "not mounted, and not needed while guard.interfaces is empty", "");
    }
    let what = "not mounted where guard.pin_dir is: a start mounts it if it may; a gateway that runs makes its pins again \
                within a second once it is mounted";
    check("bpffs", CheckState::Warn, what, "mount -t bpf -o mode=0700 bpf /sys/fs/bpf")
}

/// `attached`: the interfaces that the running gateway has attached its program to.
fn interface(at: &Interface, links: &Fact<Vec<PinnedAt>>, has_run: bool, attached: &[String]) -> Vec<Check> {
    let name = format!("interface {}", at.name);
    if !at.is_there {
        return vec![check(name, CheckState::Fail, "not there", "see `ip link`, and guard.interfaces")];
    }
    let driver = at.driver.as_deref().unwrap_or("none known");
    let known = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
    let (mtu, queues) = (known(at.mtu.map(|mtu| mtu.to_string())), known(at.queues.map(|queues| queues.to_string())));
    let what = format!("driver {driver}, MTU {mtu}, {queues} receive queues");
    let mut checks = vec![if at.is_up == Some(false) {
        check(&*name, CheckState::Warn, format!("down; {what}"), format!("ip link set {} up", at.name))
    } else {
        check(&*name, CheckState::Ok, what, "")
    }];
    if at.joins_packets == Some(true) {
        let what = "large receive offload is on: drivers refuse XDP with it";
        checks.push(check(
            format!("offload {}", at.name),
            CheckState::Warn,
            what,
            format!("ethtool -K {} lro off", at.name),
        ));
    }
    let ours =
        links.as_ref().ok().and_then(|links| links.iter().find(|link| link.interface == at.name && link.in_force));
    let name = format!("xdp {}", at.name);
    checks.push(match (&at.program, ours) {
        (Err(reason), _) => unknown(name, reason),
        (Ok(Some(program)), Some(link)) if *program == link.program && link.native => {
            check(name, CheckState::Ok, format!("attached in the driver (program {program})"), "")
        }
        (Ok(Some(program)), Some(link)) if *program == link.program => {
            let big = if at.mtu.is_some_and(|mtu| mtu > 3_498) { "; its MTU is too large for one page" } else { "" };
            let what = format!("attached in the network stack, which costs more: the driver ({driver}) cannot run XDP, or guard.mode says so{big}");
            check(name, CheckState::Warn, what, "a driver with XDP, a smaller MTU, or large receive offload off (`ethtool -K ... lro off`)")
        }
        (Ok(Some(program)), _) if links.is_err() => {
            check(name, CheckState::Warn, format!("program {program} is on it; whose cannot be seen"), "run as root")
        }
        (Ok(Some(program)), _) if attached.contains(&at.name) && is_of_a_gateway(at) => {
            let what = format!(
                "attached by the running gateway (program {program}), whose link is not to be seen in guard.pin_dir: bans in \
                 the kernel end with the guard"
            );
            let fix = "see `findmnt --task 1 /sys/fs/bpf`: unmount what is mounted over the pins; `gateway attach` pins the \
                       link again where it is not pinned";
            check(name, CheckState::Warn, what, fix)
        }
        (Ok(Some(program)), _) => {
            let fix = format!(
                "`bpftool link detach id N` where `bpftool link list` names it, else `ip link set dev {} xdp off`; or leave it out of guard.interfaces",
                at.name
            );
            let named = at.program_named.as_ref().map(|named| format!(", {named}")).unwrap_or_default();
            check(name, CheckState::Fail, format!("another XDP program (id {program}{named}) is on it"), fix)
        }
        (Ok(None), _) if !has_run => check(name, CheckState::Ok, "free", ""),
        (Ok(None), _) => check(name, CheckState::Fail, "nothing is attached", "`gateway attach`, or start the gateway"),
    });
    checks
}

/// Whether the program on an interface has the name that this one has.
fn is_of_a_gateway(at: &Interface) -> bool {
    at.program_named.as_ref().is_some_and(|named| named.starts_with("guard"))
}

fn links(links: &Fact<Vec<PinnedAt>>, interfaces: &[Interface]) -> Check {
    match links {
        Err(reason) => unknown("pins", reason),
        Ok(links) if links.is_empty() && !interfaces.is_empty() => {
            check("pins", CheckState::Fail, "no link is pinned", "start the gateway, or `gateway attach`")
        }
        Ok(links) if links.is_empty() => {
            check("pins", CheckState::Ok, "none, and none is needed: guard.interfaces is empty", "")
        }
        Ok(links) if interfaces.is_empty() => {
            let links = counted(links.len(), "link of an earlier gateway is", "links of an earlier gateway are");
            let what = format!("{links} pinned, although guard.interfaces is empty: packets may be dropped by it");
            check("pins", CheckState::Fail, what, "start the gateway, or `gateway detach`: both remove it")
        }
        Ok(links) => check(
            "pins",
            CheckState::Ok,
            format!("{}, all of the gateway's program", counted(links.len(), "link", "links")),
            "",
        ),
    }
}

fn usage((name, used, capacity): (&'static str, usize, u32)) -> Check {
    let percent = u64::try_from(used).unwrap_or(u64::MAX).saturating_mul(100) / u64::from(capacity.max(1));
    let state = match percent {
        100.. => CheckState::Fail,
        80.. => CheckState::Warn,
        _ => CheckState::Ok,
    };
    let setting = if name == "BANS" { "guard.max_bans" } else { "guard.max_rules" };
    let fix = if state == CheckState::Ok { String::new() } else { format!("raise {setting}, or remove entries") };
    check(format!("map {name}"), state, format!("{used} of {capacity} entries ({percent} %)"), fix)
}

fn drift(drift: &Fact<(usize, usize)>) -> Check {
    match drift {
        Err(reason) => unknown("drift", reason),
        Ok((0, 0)) => check("drift", CheckState::Ok, "the kernel has what the store says", ""),
        Ok((missing, surplus)) => {
            let (missing, surplus) = (counted(*missing, "entry is", "entries are"), counted(*surplus, "is", "are"));
            let what = format!("{missing} missing in the kernel, {surplus} there and not in the store");
            check("drift", CheckState::Fail, what, "the running gateway repairs it within a second: is it running?")
        }
    }
}

fn audit(audit: &Fact<(u64, Option<String>)>) -> Check {
    match audit {
        Err(reason) => unknown("audit", reason),
        Ok((records, None)) => {
            check("audit", CheckState::Ok, format!("whole: {}", counted(*records, "record", "records")), "")
        }
        Ok((_, Some(bad))) => {
            check("audit", CheckState::Fail, bad, "see `gateway audit verify`; restore from a backup")
        }
    }
}

fn clock(clock: &Fact<(u64, i16)>) -> Check {
    match clock {
        Err(reason) => unknown("clock", reason),
        Ok((_, year)) if *year < 2025 => {
            let what = format!("the wall clock says {year}: tokens and certificates are judged wrongly");
            check("clock", CheckState::Fail, what, "set the clock; run an NTP client")
        }
        Ok((ahead, _)) if *ahead > 60 => {
            let what = format!("a record is {ahead} s in the future: the clock was set back");
            check("clock", CheckState::Warn, what, "run an NTP client")
        }
        Ok(_) => check("clock", CheckState::Ok, "no record is in the future", ""),
    }
}

fn ntp(is_kept: &Fact<bool>) -> Check {
    match is_kept {
        Err(reason) => unknown("ntp", reason),
        Ok(true) => check("ntp", CheckState::Ok, "the clock is kept right", ""),
        Ok(false) => {
            let what = "nobody keeps the clock right: tokens are judged by it";
            check("ntp", CheckState::Warn, what, "run an NTP client, such as chrony or systemd-timesyncd")
        }
    }
}

/// Nothing is said where there are none.
fn earlier(folders: &[String]) -> Option<Check> {
    let what = format!("maps of an earlier version are still pinned: {}", folders.join(", "));
    let fix = "the next start of the gateway removes them";
    (!folders.is_empty()).then(|| check("earlier pins", CheckState::Warn, what, fix))
}

fn permissions(path: &str, mode: &Fact<u32>) -> Check {
    let name = format!("permissions {path}");
    match mode {
        Err(reason) => unknown(name, reason),
        Ok(mode) if mode & 0o027 == 0 => check(name, CheckState::Ok, format!("{:03o}", mode & 0o777), ""),
        Ok(mode) if mode & 0o022 == 0 => check(
            name,
            CheckState::Warn,
            format!("{:03o}: everybody may read it", mode & 0o777),
            format!("chmod o= {path}"),
        ),
        Ok(mode) => {
            let what = format!("{:03o}: others may write it", mode & 0o777);
            check(name, CheckState::Fail, what, format!("chmod go-w,o= {path}"))
        }
    }
}

fn disk(disk: &Fact<(u64, u64)>) -> Check {
    let (free, all) = match disk {
        Ok(disk) => *disk,
        Err(reason) => return unknown("disk", reason),
    };
    let what = format!("{} MiB free of {} MiB", free >> 20, all >> 20);
    match free >> 20 {
        0..16 => check("disk", CheckState::Fail, what, "no ban can be recorded soon, so none is made: make room"),
        16..256 => check("disk", CheckState::Warn, what, "make room on the file system of guard.state_dir"),
        _ => check("disk", CheckState::Ok, what, ""),
    }
}

fn certificate_days(path: &str, days: &Fact<i64>) -> Check {
    let name = format!("certificate {path}");
    match days {
        Err(reason) => check(name, CheckState::Warn, format!("its end cannot be read: {reason}"), "check the file"),
        Ok(days) if *days < 0 => check(
            name,
            CheckState::Fail,
            format!("ended {} ago", counted(days.unsigned_abs(), "day", "days")),
            "renew it: the new files are read within seconds",
        ),
        Ok(days) if *days < 21 => check(
            name,
            CheckState::Warn,
            format!("ends in {}", counted(*days, "day", "days")),
            "renew it: the new files are read within seconds",
        ),
        Ok(days) => check(name, CheckState::Ok, format!("ends in {}", counted(*days, "day", "days")), ""),
    }
}

/// The observer reads what clients of the admin listener send, and holds secrets of its own.
fn observer_user((name, uid): &(String, Option<u32>), proxy: &(String, Option<u32>)) -> Check {
    const NAME: &str = "observer user";
    let hint = "useradd --system gateway-observer, and `user = \"gateway-observer\"` in [admin]";
    match uid {
        Some(0) => check(NAME, CheckState::Fail, "root", hint),
        None => check(NAME, CheckState::Fail, format!("there is no {name}"), format!("useradd --system {name}")),
        Some(uid) if Some(*uid) == proxy.1 => check(
            NAME,
            CheckState::Warn,
            format!("{name} ({uid}), as the proxy: what takes one over is near the other"),
            hint,
        ),
        Some(uid) => check(NAME, CheckState::Ok, format!("{name} ({uid})"), ""),
    }
}

fn proxy_user((name, uid): &(String, Option<u32>)) -> Check {
    match uid {
        Some(0) => check("proxy user", CheckState::Fail, "root", "useradd --system gateway, and name that user"),
        Some(uid) => check("proxy user", CheckState::Ok, format!("{name} ({uid})"), ""),
        None => {
            check("proxy user", CheckState::Fail, format!("there is no {name}"), format!("useradd --system {name}"))
        }
    }
}

fn files(files: &Fact<(u64, u64)>) -> Check {
    match files {
        Err(reason) => unknown("open files", reason),
        // A connection takes a descriptor, and one to the upstream.
        Ok((limit, connections)) if *limit < connections.saturating_mul(2).saturating_add(256) => {
            let what = format!("at most {limit}, for proxy.max_connections = {connections} and as many to upstreams");
            check("open files", CheckState::Warn, what, "raise LimitNOFILE (ulimit -n), or lower proxy.max_connections")
        }
        Ok((limit, connections)) => {
            check("open files", CheckState::Ok, format!("at most {limit}, for {connections} connections"), "")
        }
    }
}

fn daemon(daemon: &Result<Daemon, Unanswered>) -> Vec<Check> {
    let one = |state, what: &str, fix| vec![check("daemon", state, what, fix)];
    let Daemon { proxy, warnings, processes, .. } = match daemon {
        Err(Unanswered::Denied(reason)) => return vec![unknown("daemon", reason)],
        Err(Unanswered::Down(reason)) => return one(CheckState::Fail, reason, "start it: `gateway run`"),
        Err(Unanswered::Silent(reason)) => return one(CheckState::Fail, reason, "see the gateway's log"),
        Ok(daemon) => daemon,
    };
    let mut checks = vec![
        check("daemon", CheckState::Ok, "it answers", ""),
        match proxy {
            Some(pid) => check("proxy", CheckState::Ok, format!("pid {pid}"), ""),
            None => check("proxy", CheckState::Fail, "none is serving", "see the gateway's log"),
        },
    ];
    checks.extend(processes.iter().map(sandbox));
    checks.extend(warnings.iter().map(|warning| check("warning", CheckState::Warn, warning, "see `gateway status`")));
    checks
}

/// Whether a process has given up what it should have, as the kernel has it.
fn sandbox(process: &ProcessStatus) -> Check {
    let name = format!("sandbox of the {} (pid {})", process.role, process.pid);
    let Some(seen) = &process.sandbox else { return unknown(name, "the process cannot be seen from here") };
    let what = seen.to_string();
    if seen.is_confined(process.role == ProcessRole::LAUNCHER) {
        return check(name, CheckState::Ok, what, "");
    }
    check(name, CheckState::Fail, what, "see docs/sandbox.md for what it should be, and the gateway's log")
}

#[cfg(test)]
mod tests;
