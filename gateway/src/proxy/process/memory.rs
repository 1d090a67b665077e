//! Watches how much memory the proxy has (`proxy.max_memory`). Over the limit, idle connections are closed; if that is
//! not enough, new connections and requests are refused. Unused memory is given back before that.
//!
//! *Invariant:* a proxy that has shrunk serves again, and a request that has begun is served to its end.

use std::time::Duration;

use crate::{os, os::resident::Resident, settings::proxy};

/// How often the size is read. A network of 10 Gbit/s brings 125 MB in that time.
pub(in crate::proxy) const LOOK: Duration = Duration::from_millis(100);

/// The least time between two trims: a thread that allocates meanwhile waits.
const TRIM: u64 = 1_000_000_000;

/// What the proxy does about its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::proxy) enum MemoryLevel {
    /// Nothing.
    Fine,
    /// It closes connections that are between requests.
    Tight,
    /// It also refuses new connections and requests.
    Over,
}

/// How large the proxy is, and may be.
pub(in crate::proxy) struct Memory {
    /// Opened before the sandbox closed the file system; `None`: the size is not known.
    resident: Option<Resident>,
    most: u64,
    level: MemoryLevel,
    /// When memory was given back last: `CLOCK_MONOTONIC`, nanoseconds.
    trimmed: u64,
}

impl Memory {
    /// Opens the file that tells the size of this process. Without it nothing is limited.
    pub(in crate::proxy) fn open() -> Self {
        let resident = Resident::open();
        if let Err(error) = &resident {
            tracing::warn!("proxy.max_memory cannot be watched, /proc/self/statm does not open: {error}");
        }
        Self { resident: resident.ok(), most: u64::MAX, level: MemoryLevel::Fine, trimmed: 0 }
    }

    /// Limits it to what is configured, or to three quarters of the machine's memory.
    pub(in crate::proxy) fn limit(&mut self, settings: &proxy::Settings) {
        let machine = rustix::system::sysinfo();
        let machine = machine.totalram.saturating_mul(machine.mem_unit.into());
        self.most = settings.max_memory.min(most(machine));
        if self.most < settings.max_memory {
            tracing::warn!(machine, most = self.most, "proxy.max_memory is more than three quarters of the machine's");
        }
    }

    /// The most bytes.
    pub(in crate::proxy) const fn most(&self) -> u64 {
        self.most
    }

    /// Reads the size, and gives unused memory back where the size is near the limit. The new level and the size in
    /// bytes, if the level has changed.
    pub(in crate::proxy) fn look(&mut self, now: u64) -> Option<(MemoryLevel, u64)> {
        let mut resident = self.resident()?;
        let soon = next(self.level, resident, self.most);
        let is_due = now.saturating_sub(self.trimmed) >= TRIM && soon > MemoryLevel::Fine;
        // Connections that were closed a moment ago still count.
        if is_due || (self.level == MemoryLevel::Tight && soon == MemoryLevel::Over) {
            self.trimmed = now;
            os::give_memory_back();
            resident = self.resident()?;
        }
        let level = next(self.level, resident, self.most);
        let has_changed = std::mem::replace(&mut self.level, level) != level;
        has_changed.then_some((level, resident))
    }

    /// The size in bytes, as it is told.
    pub(super) fn size(&mut self) -> Option<u64> {
        self.resident()
    }

    /// The size in bytes. If it cannot be read once, it is not read again.
    fn resident(&mut self) -> Option<u64> {
        let bytes = self.resident.as_ref()?.bytes();
        if let Err(error) = &bytes {
            tracing::warn!("proxy.max_memory cannot be watched, /proc/self/statm cannot be read: {error}");
            self.resident = None;
        }
        bytes.ok()
    }
}

/// The most that the proxy may have of a machine's memory. The kernel needs the rest for sockets and for others.
const fn most(machine: u64) -> u64 {
    machine / 4 * 3
}

/// The level after `level`. It rises one step at a time: closing idle connections may be enough. It falls only well
/// below the limit, so that it does not flap.
const fn next(level: MemoryLevel, resident: u64, most: u64) -> MemoryLevel {
    if resident <= most - most / 8 {
        return MemoryLevel::Fine;
    }
    match level {
        MemoryLevel::Fine if resident > most => MemoryLevel::Tight,
        MemoryLevel::Tight if resident > most => MemoryLevel::Over,
        same => same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_nothing_on_if_letting_go_does_not_do() {
        use MemoryLevel::{Fine, Over, Tight};
        for (level, resident, expect) in [
            (Fine, 0, Fine),
            (Fine, 800, Fine),
            (Fine, 801, Tight),
            (Tight, 801, Over),
            (Tight, 800, Tight),
            (Tight, 701, Tight),
            (Tight, 700, Fine),
            (Over, 801, Over),
            (Over, 701, Over),
            (Over, 700, Fine),
        ] {
            assert_eq!(next(level, resident, 800), expect, "{level:?} {resident}");
        }
        assert_eq!(next(Fine, u64::MAX, u64::MAX), Fine);
        assert_eq!(most(8 << 30), 6 << 30);
    }

    #[test]
    fn it_knows_its_size() {
        let mut memory = Memory::open();
        assert_eq!(memory.look(0), None, "no limit");
        memory.most = 1;
        let (level, bytes) = memory.look(0).unwrap();
        assert_eq!(level, MemoryLevel::Tight);
        assert!(bytes > 100_000, "{bytes}");
        assert_eq!(memory.look(1).unwrap().0, MemoryLevel::Over);
        assert_eq!(memory.look(2), None, "told once");
        memory.most = u64::MAX;
        assert_eq!(memory.look(3).unwrap().0, MemoryLevel::Fine);
    }
}
