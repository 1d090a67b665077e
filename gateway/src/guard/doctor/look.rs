//! Gathers the facts for `doctor`: files of the kernel, the store, the pins, the control socket. Changes nothing.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use gateway_common::{
    maps::{Ban, Rule},
    source::{Source, SourceKey},
};
use jiff::Timestamp;
use nix::{
    net::if_::if_nametoindex,
    sys::{
        statfs::{BPF_FS_MAGIC, statfs},
        statvfs::statvfs,
    },
    unistd::{User, geteuid},
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::facts::{Daemon, Fact, Facts, Interface, Unanswered};
use crate::{
    config::Config,
    guard::{
        audit,
        control::{
            ControlAnswer, ControlRequest, ProcessStatus,
            client::{self, Unreachable},
        },
        kernel::{self, Kernel},
        state_files,
        store::{BanRecord, BanStore, StoreError},
    },
    os::{clock::Now, sandbox::Confinement},
    settings::{guard, proxy::Settings as Proxy, tls::Certificate},
    x509,
};

/// A difference between store and kernel that is still there after so long is none that is being made.
const SETTLE: Duration = Duration::from_millis(1_200);

/// Looks at everything. Takes about a second where store and kernel differ. `denied` are files of the configuration that
/// could not be read.
#[must_use]
pub fn look(config: &Config, denied: Vec<PathBuf>) -> Facts {
    let (settings, proxy) = (&config.guard, &config.proxy);
    let store = settings.state_dir.join(state_files::STORE);
    let daemon = daemon(&settings.control_socket);
    let drift = settled_drift(settings, &store);
    let secret = [settings.state_dir.clone(), settings.state_dir.join(state_files::KEY), store.clone()];
    let socket = daemon.is_ok().then(|| settings.control_socket.clone());
    let logs = proxy.access_log.files().map(|file| file.path.clone()).filter(|log| log.exists());
    Facts {
        has_run: !matches!(daemon, Err(Unanswered::Down(_))) || !is_missing(&store) || settings.pin_dir.exists(),
        kernel: text("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        is_root: geteuid().is_root(),
        sysctls: [
            "net.core.bpf_jit_enable",
            "kernel.unprivileged_bpf_disabled",
            "net.ipv4.tcp_syncookies",
            "net.core.somaxconn",
        ]
        .map(sysctl)
        .into(),
        program: match kernel::trial() {
            Ok(left_out) => Ok(Ok(left_out)),
            Err(error) if error.is_refusal() => Ok(Err(error.to_string())),
            Err(error) => Err(error.to_string()),
        },
        has_btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        is_bpffs: statfs(nearest(&settings.pin_dir)).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC),
        interfaces: settings.interfaces.iter().map(|name| interface(name)).collect(),
        links: rights().and_then(|()| kernel::pinned_links(&settings.pin_dir).map_err(|error| error.to_string())),
        maps: opened(settings).map(|kernel| kernel.usage().to_vec()),
        drift,
        audit: rights().and_then(|()| {
            let found = audit::verify(&settings.state_dir);
            let bad = found.first_bad.map(|bad| format!("record {}: {}", bad.seq, bad.reason));
            found.unjudged.map_or(Ok((found.records, bad)), |unjudged| Err(unjudged.reason))
        }),
        clock: clock(&store),
        clock_is_kept: kernel::clock_is_kept().map_err(|error| error.to_string()),
        earlier: kernel::earlier_layouts(&settings.pin_dir).iter().map(|path| path.display().to_string()).collect(),
        modes: secret.into_iter().chain(socket).chain(logs).map(|path| mode(&path)).collect(),
        disk: disk(&settings.state_dir),
        certificates: certificates(proxy, &denied),
        proxy_user: (proxy.user.clone(), user(&proxy.user)),
        observer_user: config.admin.as_ref().map(|admin| {
            let name = admin.user.as_ref().unwrap_or(&proxy.user);
            (name.clone(), user(name))
        }),
        files: open_files(&daemon).map(|limit| (limit, u64::try_from(proxy.max_connections).unwrap_or(u64::MAX))),
        daemon,
        denied: denied.iter().map(|path| path.display().to_string()).collect(),
    }
}

fn rights() -> Fact<()> {
    if geteuid().is_root() { Ok(()) } else { Err("this needs root".to_owned()) }
}

fn text(path: &str) -> Fact<String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

fn sysctl(name: &'static str) -> (&'static str, Fact<i64>) {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let number = text(&path).and_then(|text| text.trim().parse().map_err(|_error| format!("{path}: no number")));
    (name, number)
}

/// The nearest folder at or above this one that there is.
fn nearest(folder: &Path) -> &Path {
    folder.ancestors().find(|folder| folder.exists()).unwrap_or(folder)
}

fn opened(settings: &guard::Settings) -> Fact<Kernel> {
    rights()?;
    Kernel::open_pinned(settings).map_err(|error| error.to_string())
}

/// What the running gateway says of itself.
fn daemon(control_socket: &Path) -> Result<Daemon, Unanswered> {
    match client::ask(control_socket, &ControlRequest::Status) {
        Ok(ControlAnswer::Status(status)) => {
            // The guard may not see processes of other users.
            let seen = |process: ProcessStatus| {
                let sandbox = process.sandbox.or_else(|| Confinement::of(process.pid));
                ProcessStatus { sandbox, ..process }
            };
            let processes = status.processes.into_iter().map(seen).collect();
            let attached = status.interfaces.into_iter().map(|interface| interface.name).collect();
            Ok(Daemon { proxy: status.proxy_pid, warnings: status.warnings, processes, attached })
        }
        Ok(_) => Err(Unanswered::Silent("it answers something else".to_owned())),
        Err(error @ Unreachable::Denied(_)) => Err(Unanswered::Denied(error.to_string())),
        Err(error @ (Unreachable::Missing(_) | Unreachable::Gone(_))) => Err(Unanswered::Down(error.to_string())),
        Err(error) => Err(Unanswered::Silent(error.to_string())),
    }
}

/// How many bans and rules the kernel lacks, and has too many. What is just being made is waited for.
fn settled_drift(settings: &guard::Settings, store: &Path) -> Fact<(usize, usize)> {
    let drift = || -> Fact<(usize, usize)> {
        let kernel = opened(settings)?;
        Ok(compare(&kernel, &ExpectedState::read(settings, store)?, settings.ipv6_prefix))
    };
    match drift() {
        Ok((0, 0)) => Ok((0, 0)),
        Ok(_) => {
            thread::sleep(SETTLE);
            drift()
        }
        Err(error) => Err(error),
    }
}

/// How many seconds the youngest ban is ahead of the clock, and the year of the clock.
fn clock(store: &Path) -> Fact<(u64, i16)> {
    rights()?;
    if !store.exists() {
        return Err(format!("there is no {}", store.display()));
    }
    let records = BanStore::read(store).and_then(|store| store.in_force()).map_err(|error| error.to_string())?;
    let youngest = records.iter().map(|record| record.started).max().unwrap_or(0);
    let year = jiff::tz::TimeZone::UTC.to_datetime(Timestamp::now()).year();
    Ok((youngest.saturating_sub(Now::read().unix_millis) / 1_000, year))
}

/// How many bytes are free where a folder is, and how many there are.
fn disk(folder: &Path) -> Fact<(u64, u64)> {
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let found = statvfs(there).map_err(|error| error.to_string())?;
    let block = found.fragment_size();
    Ok((found.blocks_available().saturating_mul(block), found.blocks().saturating_mul(block)))
}

/// The certificates that could be read, and how many days each has left.
fn certificates(proxy: &Proxy, denied: &[PathBuf]) -> Vec<(String, Fact<i64>)> {
    let is_readable = |path: &Path| denied.iter().all(|denied| denied != path);
    let days = |pair: &Certificate| -> Fact<i64> {
        let der = CertificateDer::from_pem_slice(&pair.certificate.bytes).map_err(|error| error.to_string())?;
        let leaf = x509::X509Certificate::read(&der).ok_or("it is no X.509 certificate")?;
        Ok(leaf.days_left(Timestamp::now().as_second()))
    };
    let read = proxy.tls_certificates().filter(|(_, pair)| is_readable(&pair.certificate.path));
    read.map(|(_, pair)| (pair.certificate.path.display().to_string(), days(pair))).collect()
}

/// How many files the proxy may open, or this process where none runs.
fn open_files(daemon: &Result<Daemon, Unanswered>) -> Fact<u64> {
    let limits = match daemon {
        Ok(Daemon { proxy: Some(pid), .. }) => format!("/proc/{pid}/limits"),
        _ => "/proc/self/limits".to_owned(),
    };
    let text = text(&limits)?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_ascii_whitespace().next());
    let soft = soft.map(|soft| if soft == "unlimited" { Ok(u64::MAX) } else { soft.parse() });
    soft.and_then(Result::ok).ok_or_else(|| format!("{limits}: no limit on open files"))
}

/// Whether a file is known not to be there; one that this user may not see may be there.
fn is_missing(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn user(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| User::from_name(name).ok().flatten().map(|user| user.uid.as_raw()))
}

fn mode(path: &Path) -> (String, Fact<u32>) {
    let found = fs::metadata(path).map(|found| found.permissions().mode()).map_err(|error| error.to_string());
    (path.display().to_string(), found)
}

fn interface(name: &str) -> Interface {
    let index = if_nametoindex(name).ok();
    let folder = Path::new("/sys/class/net").join(name);
    let read = |file: &str| fs::read_to_string(folder.join(file)).ok().map(|text| text.trim().to_owned());
    let flags = read("flags").and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok());
    let driver = fs::read_link(folder.join("device/driver")).ok();
    let program = kernel::attached_program(name);
    let program_named = program.as_ref().ok().copied().flatten().and_then(kernel::program_named);
    let queues = fs::read_dir(folder.join("queues"))
        .ok()
        .map(|queues| queues.flatten().filter(|queue| queue.file_name().to_string_lossy().starts_with("rx-")).count());
    Interface {
        name: name.to_owned(),
        is_there: index.is_some(),
        is_up: flags.map(|flags| flags & 1 == 1),
        driver: driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())),
        mtu: read("mtu").and_then(|mtu| mtu.parse().ok()),
        queues,
        program: program.map_err(|error| error.to_string()),
        program_named,
        joins_packets: kernel::joins_packets(name).ok(),
    }
}

/// What the store says should be in the kernel.
struct ExpectedState {
    records: Vec<BanRecord>,
    allows: HashSet<Source>,
    /// Everything that some feed lists.
    listed: HashSet<Source>,
}

impl ExpectedState {
    fn read(settings: &guard::Settings, path: &Path) -> Fact<Self> {
        let read = || -> Result<Self, StoreError> {
            let store = BanStore::read(path)?;
            let added = store.allowed()?.into_iter().map(|allowed| allowed.source);
            let (lists, _broken) = store.feeds()?;
            let listed = lists.iter().flat_map(|(_, content)| content.entries.iter().map(|entry| entry.source));
            Ok(Self {
                records: store.in_force()?,
                allows: added.chain(settings.allow.iter().copied()).collect(),
                listed: listed.collect(),
            })
        };
        read().map_err(|error| error.to_string())
    }
}

/// How many bans and rules the kernel lacks, and how many it has that the store does not know, or otherwise.
fn compare(kernel: &Kernel, wanted: &ExpectedState, ipv6_prefix: u8) -> (usize, usize) {
    let now = Now::read();
    let live = |until: u64| until > now.monotonic;
    let bans: HashMap<SourceKey, u64> =
        kernel.bans().into_iter().filter(|(_, ban)| live(ban.expires)).map(|(key, ban)| (key, ban.id)).collect();
    let rules: HashMap<Source, Rule> = kernel.rules().into_iter().collect();
    let records: Vec<&BanRecord> =
        wanted.records.iter().filter(|record| record.expires_monotonic.is_none_or(live)).collect();
    let keys: HashSet<SourceKey> = wanted
        .listed
        .iter()
        .chain(records.iter().map(|record| &record.source))
        .filter_map(|it| it.key(ipv6_prefix))
        .collect();
    let prefixes: HashSet<Source> = records.iter().map(|record| record.source).collect();
    let is_allow = |rule: &Rule| rule.action == Rule::ALLOW;
    let is_missing = |record: &&&BanRecord| match record.source.key(ipv6_prefix) {
        // A list that names it as well may have the stronger entry.
        Some(key) => {
            bans.get(&key).is_none_or(|id| id & !Ban::SHADOW != record.id && !wanted.listed.contains(&record.source))
        }
        None => rules.get(&record.source).is_none_or(is_allow),
    };
    let missing = records.iter().filter(is_missing).count();
    let not_allowed = wanted.allows.iter().filter(|source| !rules.get(source).is_some_and(is_allow)).count();
    let is_surplus = |(source, rule): &(&Source, &Rule)| match is_allow(rule) {
        true => !wanted.allows.contains(source),
        false => live(rule.expires()) && !prefixes.contains(source) && !wanted.listed.contains(source),
    };
    let surplus = bans.keys().filter(|key| !keys.contains(key)).count() + rules.iter().filter(is_surplus).count();
    (missing + not_allowed, surplus)
}
