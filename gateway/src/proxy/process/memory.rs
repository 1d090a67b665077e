//! Decides when the proxy has grown so large that it takes nothing on: what the machine counts as its memory, once
//! what is not in use was given back.
//!
//! *Invariant:* a proxy that has shrunk serves again, and whoever is being served is served to the end.

use std::{fs::File, io, os::unix::fs::FileExt as _, time::Duration};

use crate::{os, settings::proxy::Settings};

/// How often it is looked at. A network of 10 Gbit/s brings 125 MB in that time.
pub(in crate::proxy) const LOOK: Duration = Duration::from_millis(100);

/// How often at most memory is given back: whoever allocates meanwhile waits for it.
const TRIM: u64 = 1_000_000_000;

/// What the proxy does about its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::proxy) enum Level {
    /// Nothing.
    Fine,
    /// It lets go of connections that are between requests.
    Tight,
    /// It takes nothing on, either.
    Over,
}

/// How large the proxy is, and may be.
pub(in crate::proxy) struct Memory {
    /// `/proc/self/statm`, open since before files were out of reach; `None`: nobody knows.
    statm: Option<File>,
    /// Bytes.
    page: u64,
    most: u64,
    level: Level,
    /// When memory was given back last: `CLOCK_MONOTONIC`, nanoseconds.
    trimmed: u64,
}

impl Memory {
    /// Opens what tells how large this process is. Nothing is limited where there is no such thing.
    pub(in crate::proxy) fn open() -> Self {
        let statm = File::open("/proc/self/statm");
        if let Err(error) = &statm {
            tracing::warn!("proxy.max_memory cannot be watched, /proc/self/statm does not open: {error}");
        }
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4_096);
        Self { statm: statm.ok(), page, most: u64::MAX, level: Level::Fine, trimmed: 0 }
    }

    /// Limits it to what is configured, or to most of what the machine has.
    pub(in crate::proxy) fn limit(mut self, settings: &Settings) -> Self {
        let machine = rustix::system::sysinfo();
        let machine = machine.totalram.saturating_mul(machine.mem_unit.into());
        self.most = settings.max_memory.min(most(machine));
        if self.most < settings.max_memory {
            tracing::warn!(machine, most = self.most, "proxy.max_memory is more than three quarters of the machine's");
        }
        self
    }

    /// The most bytes.
    pub(in crate::proxy) const fn most(&self) -> u64 {
        self.most
    }

    /// Looks how large it is, and gives back what is not used where that is much. The level where that has changed, and
    /// its bytes.
    pub(in crate::proxy) fn look(&mut self, now: u64) -> Option<(Level, u64)> {
        let mut resident = self.resident()?;
        let soon = next(self.level, resident, self.most);
        let is_due = now.saturating_sub(self.trimmed) >= TRIM && soon > Level::Fine;
        // Those who were let go of a moment ago count, too.
        if is_due || (self.level == Level::Tight && soon == Level::Over) {
            self.trimmed = now;
            os::give_memory_back();
            resident = self.resident()?;
        }
        let level = next(self.level, resident, self.most);
        let has_changed = std::mem::replace(&mut self.level, level) != level;
        has_changed.then_some((level, resident))
    }

    /// How many bytes it has; not asked again where it cannot be known.
    fn resident(&mut self) -> Option<u64> {
        let pages = pages(self.statm.as_ref()?);
        if let Err(error) = &pages {
            tracing::warn!("proxy.max_memory cannot be watched, /proc/self/statm cannot be read: {error}");
            self.statm = None;
        }
        Some(pages.ok()?.saturating_mul(self.page))
    }
}

/// The most that the proxy may have of a machine's memory: the rest is the kernel's, for sockets, and everybody's.
const fn most(machine: u64) -> u64 {
    machine / 4 * 3
}

/// What follows a level. One at a time: those who are let go of may be all that is needed. Back only with some room:
/// else it would turn at every request.
const fn next(level: Level, resident: u64, most: u64) -> Level {
    if resident <= most - most / 8 {
        return Level::Fine;
    }
    match level {
        Level::Fine if resident > most => Level::Tight,
        Level::Tight if resident > most => Level::Over,
        same => same,
    }
}

fn pages(statm: &File) -> io::Result<u64> {
    let mut text = [0; 128];
    let length = statm.read_at(&mut text, 0)?;
    let pages =
        text.get(..length).and_then(|text| std::str::from_utf8(text).ok()?.split(' ').nth(1)?.parse::<u64>().ok());
    Ok(pages.ok_or(io::ErrorKind::InvalidData)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_nothing_on_if_letting_go_does_not_do() {
        use Level::{Fine, Over, Tight};
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
        assert_eq!(level, Level::Tight);
        assert!(bytes > 100_000, "{bytes}");
        assert_eq!(memory.look(1).unwrap().0, Level::Over);
        assert_eq!(memory.look(2), None, "told once");
        memory.most = u64::MAX;
        assert_eq!(memory.look(3).unwrap().0, Level::Fine);
    }
}
