//! Tells the traced variant of the program what to write lines about, and reads the lines.

use std::{
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use aya::{
    Ebpf,
    maps::{Array, MapData, PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use aya_log::EbpfLogger;
use gateway_common::{
    trace::{TRACES, Trace, TraceCount, name, told},
    verdict::Verdict,
};
use log::{Log, Metadata, Record};

use super::{
    error::{KernelError, refused},
    load::object::{Laid, Variant, map, program},
};

pub(super) mod swap;

/// What a line says about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedPacket {
    /// Which trace it is of.
    pub trace: u32,
    /// The CPU that judged it.
    pub cpu: u32,
    /// Packets of this trace on this CPU so far that pass, or so far that do not; this one is among them.
    pub matched: u64,
    /// When: `CLOCK_MONOTONIC`, nanoseconds, as of the last tick.
    pub time: u64,
    /// What became of it.
    pub verdict: Verdict,
    /// From whom; `None`: no source could be read.
    pub source: Option<IpAddr>,
    /// The protocol that the port is of: 6 TCP, 17 UDP, 0 another or none known.
    pub protocol: u8,
    /// The destination's port; 0 where there is none, or it cannot be known.
    pub port: u16,
    /// Bytes, link layer included.
    pub length: u32,
    /// The index of the interface that it came in by.
    pub interface: u32,
}

impl TracedPacket {
    /// Reads a line as the program writes it: numbers and an address, with blanks between.
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut word = || words.next();
        let (trace, cpu) = (word()?.parse().ok()?, word()?.parse().ok()?);
        let (matched, time) = (word()?.parse().ok()?, word()?.parse().ok()?);
        let verdict = Verdict::ALL.get(word()?.parse::<usize>().ok()?).copied()?;
        let (protocol, port) = (word()?.parse().ok()?, word()?.parse().ok()?);
        let (length, interface) = (word()?.parse().ok()?, word()?.parse().ok()?);
        let address: Ipv6Addr = word()?.parse().ok()?;
        let source = (!address.is_unspecified()).then(|| address.to_canonical());
        Some(Self { trace, cpu, matched, time, verdict, source, protocol, port, length, interface })
    }
}

/// Keeps what aya-log hands over until it is asked for.
#[derive(Clone, Debug, Default)]
struct TraceLogger(Arc<Mutex<Vec<TracedPacket>>>);

impl Log for TraceLogger {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let packet = TracedPacket::read(&record.args().to_string());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(packet);
    }

    fn flush(&self) {}
}

/// The traced variant's maps.
pub(super) struct Tracer {
    traces: Array<MapData, Laid<Trace>>,
    told: PerCpuArray<MapData, Laid<TraceCount>>,
    in_force: [Trace; TRACES as usize],
    logger: EbpfLogger<TraceLogger>,
    lines: TraceLogger,
}

impl Tracer {
    /// `None`: the kernel refused the traced variant.
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Option<Self>, KernelError> {
        let is_loaded = program(ebpf, Variant::Traced)?.fd().is_ok();
        let (traces, told) = (map(ebpf, name::TRACES)?, map(ebpf, name::TOLD)?);
        let lines = TraceLogger::default();
        let logger = EbpfLogger::init_with_logger(ebpf, lines.clone());
        let logger = logger.map_err(|error| KernelError::Object(format!("{}: {error}", name::LINES)))?;
        let in_force = [Trace::default(); TRACES as usize];
        Ok(is_loaded.then_some(Self { traces, told, in_force, logger, lines }))
    }

    /// The packets that lines were read about, oldest first.
    pub(super) fn take(&mut self) -> Vec<TracedPacket> {
        self.logger.flush();
        std::mem::take(&mut *self.lines.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Readable while there are lines.
    pub(super) fn descriptor(&self) -> Option<OwnedFd> {
        self.logger.as_fd().try_clone_to_owned().ok()
    }

    /// Has these traced, and nothing else. One that is traced already goes on.
    pub(super) fn set(&mut self, wanted: &[Trace]) -> Result<(), KernelError> {
        let before = self.in_force;
        let mut new = wanted.iter().filter(|trace| !before.contains(trace));
        for number in 0..TRACES {
            let Some(there) = self.in_force.get_mut(number as usize) else { break };
            if wanted.contains(there) {
                continue;
            }
            let trace = new.next().copied().unwrap_or_default();
            if *there == trace {
                continue;
            }
            for passes in [false, true] {
                // What an earlier one has told is none of the new one's.
                let none = vec![Laid(TraceCount::default()); nr_cpus().map_err(|(_, source)| failed(source))?];
                let none = PerCpuValues::try_from(none).map_err(failed)?;
                self.told.set(told(number, passes), none, 0).map_err(refused(name::TOLD, "beginning a trace"))?;
            }
            self.traces.set(number, Laid(trace), 0).map_err(refused(name::TRACES, "beginning a trace"))?;
            *there = trace;
        }
        Ok(())
    }
}

fn failed(source: std::io::Error) -> KernelError {
    KernelError::Map { map: name::TOLD, operation: "beginning a trace", source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let packet = TracedPacket {
            trace: 3,
            cpu: 1,
            matched: 900,
            time: 77,
            verdict: Verdict::Blocked,
            source: Some("203.0.113.7".parse().unwrap()),
            protocol: 6,
            port: 443,
            length: 54,
            interface: 2,
        };
        let ipv6 = TracedPacket { source: Some("2001:db8::7".parse().unwrap()), ..packet };
        for (line, expect) in [
            ("3 1 900 77 1 6 443 54 2 ::ffff:203.0.113.7", Some(packet)),
            ("3 1 900 77 1 6 443 54 2 2001:db8::7", Some(ipv6)),
            ("3 1 900 77 1 6 443 54 2 ::", Some(TracedPacket { source: None, ..packet })),
            ("3 1 900 77 99 6 443 54 2 ::", None),
            ("3 1 900 77 1 6 443 54", None),
            ("", None),
        ] {
            assert_eq!(TracedPacket::read(line), expect, "{line}");
        }
    }
}
