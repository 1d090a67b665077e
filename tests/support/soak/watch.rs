//! What a soak watches from outside while the gateway works: memory, descriptors, threads, sockets, and how long
//! old proxies stay.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// What a process holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) descriptors: usize,
    pub(super) threads: usize,
}

/// `None`: the process is gone.
pub(super) fn held(pid: u32) -> Option<Held> {
    let count = |what: &str| Some(fs::read_dir(format!("/proc/{pid}/{what}")).ok()?.count());
    Some(Held { descriptors: count("fd")?, threads: count("task")? })
}

/// Resident memory in KiB.
fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The proxies that the launcher of this guard has started and that are not dead.
pub(super) fn proxies(guard: u32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{guard}/status")).unwrap_or_default();
    let launcher = status.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim).unwrap_or_default();
    let children = fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap_or_default();
    let is_proxy = |pid: u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"\0proxy\0"));
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    children.filter(|&pid| is_proxy(pid) && resident(pid).is_some()).collect()
}

/// Connections in the network namespace of `pid`, but for those that only wait for their number to be free again: local
/// and remote port.
pub(super) fn connections(pid: u32) -> Vec<(u16, u16)> {
    const LISTEN: &str = "0A";
    const TIME_WAIT: &str = "06";
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    let mut found = Vec::new();
    for family in ["tcp", "tcp6"] {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{family}")).unwrap_or_default();
        for row in table.lines().skip(1) {
            let mut cells = row.split_whitespace().skip(1);
            let (Some(local), Some(remote), Some(state)) = (cells.next(), cells.next(), cells.next()) else { continue };
            if state != LISTEN && state != TIME_WAIT {
                found.extend(port(local).zip(port(remote)));
            }
        }
    }
    found
}

/// Memory over time, in KiB, once a second.
#[derive(Default)]
pub(super) struct Series(Vec<(f64, u64)>);

impl Series {
    /// The last two thirds: the first third is warming up.
    fn settled(&self) -> &[(f64, u64)] {
        &self.0[self.0.len() / 3..]
    }

    /// KiB per minute, by least squares, over the last two thirds.
    pub(super) fn slope(&self) -> f64 {
        let settled = self.settled();
        let count = f64::from(u32::try_from(settled.len().max(1)).unwrap());
        let kib = |value: u64| f64::from(u32::try_from(value).unwrap_or(u32::MAX));
        let mean_time = settled.iter().map(|(time, _)| time).sum::<f64>() / count;
        let mean = settled.iter().map(|(_, value)| kib(*value)).sum::<f64>() / count;
        let (mut above, mut below) = (0.0, 0.0);
        for (time, value) in settled {
            above += (time - mean_time) * (kib(*value) - mean);
            below += (time - mean_time).powi(2);
        }
        if below > 0.0 { above / below * 60.0 } else { 0.0 }
    }

    /// Seconds that the last two thirds are.
    fn span(&self) -> f64 {
        match self.settled() {
            [first, .., last] => last.0 - first.0,
            _ => 0.0,
        }
    }

    /// By how many KiB it grew in the last two thirds, going by the slope.
    pub(super) fn growth(&self) -> f64 {
        self.slope() * self.span() / 60.0
    }

    pub(super) fn json(&self) -> Value {
        let settled: Vec<u64> = self.settled().iter().map(|(_, value)| *value).collect();
        json!({
            "least_kib": settled.iter().min(),
            "most_kib": settled.iter().max(),
            "last_kib": settled.last(),
            "slope_kib_per_minute": self.slope().round(),
            "over_seconds": self.span().round(),
        })
    }
}

/// What is looked at each second.
pub(super) struct Watch {
    guard: u32,
    started: Instant,
    /// Of the guard.
    pub(super) guard_memory: Series,
    /// Of the proxy that serves; while it is reloaded, of one after the other.
    pub(super) proxy_memory: Series,
    /// Of all proxies together.
    pub(super) all_memory: Series,
    /// Since when proxies no longer serve.
    retired: BTreeMap<u32, Instant>,
    longest: Duration,
    most: usize,
    seen: Vec<u32>,
}

impl Watch {
    pub(super) fn new(guard: u32) -> Self {
        Self {
            guard,
            started: Instant::now(),
            guard_memory: Series::default(),
            proxy_memory: Series::default(),
            all_memory: Series::default(),
            retired: BTreeMap::new(),
            longest: Duration::ZERO,
            most: 0,
            seen: Vec::new(),
        }
    }

    /// Looks once; `serving` is the proxy that serves.
    pub(super) fn look(&mut self, serving: Option<u32>) {
        let time = self.started.elapsed().as_secs_f64();
        self.guard_memory.0.extend(resident(self.guard).map(|kib| (time, kib)));
        self.proxy_memory.0.extend(serving.and_then(resident).map(|kib| (time, kib)));
        let proxies = proxies(self.guard);
        self.all_memory.0.push((time, proxies.iter().copied().filter_map(resident).sum()));
        self.most = self.most.max(proxies.len());
        for &pid in &proxies {
            if !self.seen.contains(&pid) {
                self.seen.push(pid);
            }
            // One with a higher number than that which serves is about to.
            if serving.is_some_and(|serving| pid != serving && self.is_older(pid, serving)) {
                let since = self.retired.entry(pid).or_insert_with(Instant::now);
                self.longest = self.longest.max(since.elapsed());
            }
        }
        self.retired.retain(|pid, _| proxies.contains(pid));
    }

    fn is_older(&self, pid: u32, than: u32) -> bool {
        let place = |pid| self.seen.iter().position(|seen| *seen == pid);
        place(pid) < place(than) || place(than).is_none()
    }

    /// How long a proxy stayed, at the longest, once another one served.
    pub(super) const fn longest(&self) -> Duration {
        self.longest
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "guard": self.guard_memory.json(),
            "serving_proxy": self.proxy_memory.json(),
            "all_proxies": self.all_memory.json(),
            "proxies_seen": self.seen.len(),
            "proxies_at_once": self.most,
            "longest_drain_seconds": self.longest.as_secs_f64().round(),
        })
    }
}
