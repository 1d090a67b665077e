//! Decides when the proxy has grown so large that it takes nothing on: what the machine counts as its memory, once
//! what is not in use was given back.
//!
//! *Invariant:* a proxy that has shrunk serves again, and whoever is being served is served to the end.

use std::{fs::File, io, os::unix::fs::FileExt as _, time::Duration};

use super::settings::Settings;
use crate::os;

/// How often it is looked at. A network of 10 Gbit/s brings 125 MB in that time.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// How often at most memory is given back: whoever allocates meanwhile waits for it.
const TRIM: u64 = 1_000_000_000;

/// How large the proxy is, and may be.
pub(super) struct Memory {
    /// `/proc/self/statm`, open since before files were out of reach; `None`: nobody knows.
    statm: Option<File>,
    /// Bytes.
    page: u64,
    most: u64,
    sheds: bool,
    /// When memory was given back last: `CLOCK_MONOTONIC`, nanoseconds.
    trimmed: u64,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is over its limit, with so many bytes.
    Over(u64),
    /// It is back below.
    Below(u64),
}

impl Memory {
    /// Opens what tells how large this process is. Nothing is limited where there is no such thing.
    pub(super) fn open() -> Self {
        let statm = File::open("/proc/self/statm");
        if let Err(error) = &statm {
            tracing::warn!("proxy.max_memory cannot be watched, /proc/self/statm does not open: {error}");
        }
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4_096);
        Self { statm: statm.ok(), page, most: u64::MAX, sheds: false, trimmed: 0 }
    }

    /// Limits it to what is configured, or to most of what the machine has.
    pub(super) fn limit(mut self, settings: &Settings) -> Self {
        let machine = rustix::system::sysinfo();
        let machine = machine.totalram.saturating_mul(machine.mem_unit.into());
        self.most = settings.max_memory.min(most(machine));
        if self.most < settings.max_memory {
            tracing::warn!(machine, most = self.most, "proxy.max_memory is more than three quarters of the machine's");
        }
        self
    }

    /// The most bytes.
    pub(super) const fn most(&self) -> u64 {
        self.most
    }

    /// Looks how large it is, and gives back what is not used where that is much.
    pub(super) fn look(&mut self, now: u64) -> Option<Change> {
        let mut resident = self.resident()?;
        if (self.sheds || resident > self.most) && now.saturating_sub(self.trimmed) >= TRIM {
            self.trimmed = now;
            os::give_memory_back();
            resident = self.resident()?;
        }
        let sheds = sheds(self.sheds, resident, self.most);
        let change = match (self.sheds, sheds) {
            (false, true) => Some(Change::Over(resident)),
            (true, false) => Some(Change::Below(resident)),
            _ => None,
        };
        self.sheds = sheds;
        change
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

/// Whether a proxy that does or does not take on more goes on like that. Back only with some room: else it would turn
/// at every request.
const fn sheds(already: bool, resident: u64, most: u64) -> bool {
    if already { resident > most - most / 8 } else { resident > most }
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
    fn it_is_back_once_there_is_room() {
        for (already, resident, expect) in [
            (false, 800, false),
            (false, 801, true),
            (true, 800, true),
            (true, 701, true),
            (true, 700, false),
            (false, 0, false),
        ] {
            assert_eq!(sheds(already, resident, 800), expect, "{already} {resident}");
        }
        assert_eq!(most(8 << 30), 6 << 30);
        assert!(!sheds(false, u64::MAX, u64::MAX));
    }

    #[test]
    fn it_knows_its_size() {
        let mut memory = Memory::open();
        assert_eq!(memory.look(0), None, "no limit");
        memory.most = 1;
        let Some(Change::Over(before)) = memory.look(0) else { panic!("this process has a byte") };
        assert!(before > 100_000, "{before}");
        assert_eq!(memory.look(1), None, "told once");
        memory.most = u64::MAX;
        assert!(matches!(memory.look(2), Some(Change::Below(_))));
    }
}
