//! Has packets traced for those who watch and for `guard.trace`, and tells them of the lines that the kernel program writes:
//! each with how many packets of its CPU it stands for.
//!
//! *Invariant:* a line that is lost or left out loses no count: the next one stands for its packets too.

use std::collections::HashMap;

use gateway_common::trace::{Trace, passes};

use super::{packet_samples::Packet, ring::Ring};
use crate::{
    guard::{bans::*, control::Traced, enforcement::TracedPacket},
    settings::guard::KernelTrace,
};

/// Lines that the log has in a second for `guard.trace`, whatever the number of CPUs.
const LOGGED: u32 = 100;

/// What is traced, and what was told of it.
pub(crate) struct PacketTraces {
    ring: Ring,
    /// What the setting says, and its trace.
    setting: Option<(KernelTrace, Trace)>,
    wanted: Vec<Trace>,
    /// Packets that lines stood for so far, by trace, CPU, and whether they passed.
    told: HashMap<(u32, u32, bool), u64>,
    logged: Logged,
}

impl PacketTraces {
    /// Over the kernel's ring, where there is one. Inside the runtime alone.
    pub(crate) fn new(guard: &Guard) -> Self {
        let ring = Ring::new(guard.enforcer.path().traces_waiting(), "gateway watch --kernel");
        Self { ring, setting: None, wanted: Vec::new(), told: HashMap::new(), logged: Logged::default() }
    }

    /// Waits until there is something to tell, and some more. Nothing is lost if it is given up.
    pub(crate) async fn wait(&mut self) {
        self.ring.wait().await;
    }

    /// Whether anything is traced.
    pub(crate) const fn is_on(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// How many packets a line stands for: itself and those since the last one of its trace, CPU and sort.
    fn stands_for(&mut self, packet: &TracedPacket) -> u64 {
        let told = self.told.entry((packet.trace, packet.cpu, passes(packet.verdict))).or_default();
        packet.matched.saturating_sub(std::mem::replace(told, packet.matched)).max(1)
    }
}

/// How many lines there may be in a second.
#[derive(Debug, Default)]
struct Logged {
    second: u64,
    lines: u32,
}

impl Logged {
    const fn may(&mut self, monotonic: u64) -> bool {
        let second = monotonic / 1_000_000_000;
        if self.second != second {
            (self.second, self.lines) = (second, 0);
        }
        self.lines += 1;
        self.lines <= LOGGED
    }
}

impl Guard {
    /// Whether somebody may watch; what keeps him from it.
    pub(crate) fn may_watch(&self, traced: Option<&Traced>) -> ControlAnswer {
        let refuse = |code, message| Refused::new(code, message).into();
        match traced.map(Traced::source) {
            Some(Err(message)) => refuse("bad_request", message),
            Some(Ok(_)) if !self.enforcer.path().is_traceable() => refuse("not_traceable", UNTRACEABLE.to_owned()),
            _ => ControlAnswer::Done { message: String::new(), changed: 0 },
        }
    }

    /// What an operator should know of `guard.trace`.
    pub(super) fn trace_warning(&self) -> Option<String> {
        let is_idle = self.settings.trace.is_some() && !self.enforcer.path().is_traceable();
        is_idle.then(|| format!("guard.trace has no effect: {UNTRACEABLE}"))
    }

    /// Puts in force what is to be traced now.
    pub(crate) fn retrace(&mut self, traces: &mut PacketTraces) {
        if traces.setting.map(|(setting, _)| setting) != self.settings.trace {
            let id = self.journal.watchers().next_trace();
            let trace = |setting: KernelTrace| (setting, Trace::new(id, setting.source, setting.drops_only));
            traces.setting = self.settings.trace.map(trace);
            traces.wanted.clear();
        }
        let wanted: Vec<Trace> =
            traces.setting.map(|(_, trace)| trace).into_iter().chain(self.journal.watchers().traces()).collect();
        let begun = self.enforcer.path_mut().trace(&wanted).map_err(|error| {
            tracing::error!(%error, "packets are not traced as they should be");
            error.to_string()
        });
        self.journal.watchers().traces_begun(&wanted, &begun);
        traces.told.retain(|(id, ..), _| wanted.iter().any(|trace| trace.id == *id));
        traces.wanted = wanted;
    }

    /// Tells of what was traced.
    pub(crate) fn tell_traces(&mut self, traces: &mut PacketTraces, now: Now) {
        let packets = self.enforcer.path_mut().traced();
        traces.ring.is_read(false);
        for packet in packets {
            let is_setting = traces.setting.is_some_and(|(_, trace)| trace.id == packet.trace);
            // The last lines of a trace that has ended are nobody's. Nor does the log take more than it may.
            let is_wanted = traces.wanted.iter().any(|trace| trace.id == packet.trace);
            if !is_wanted || is_setting && !traces.logged.may(now.monotonic) {
                continue;
            }
            let one_in = traces.stands_for(&packet);
            let line = self.traced(&packet, one_in, now);
            if is_setting {
                log(&line);
            } else {
                self.journal.watchers().tell_traced(packet.trace, &Value::Object(line).to_string());
            }
        }
    }

    fn traced(&self, packet: &TracedPacket, one_in: u64, now: Now) -> Map<String, Value> {
        let TracedPacket { trace: _, cpu, matched: _, time, verdict, source, protocol, port, length, interface } =
            *packet;
        let source = source.map(|address| Source::of(address, 128));
        let packet = Packet { time, verdict: Some(verdict), source, length, port, protocol, interface };
        let mut members = self.describe("trace", &packet, one_in, now);
        members.insert("cpu".to_owned(), cpu.into());
        members
    }
}

const UNTRACEABLE: &str =
    "no packet is judged in the kernel, or the kernel refused the variant of the program that writes lines";

/// A line for `guard.trace`.
fn log(line: &Map<String, Value>) {
    let text = |name: &str| line.get(name).and_then(Value::as_str);
    let number = |name: &str| line.get(name).and_then(Value::as_u64);
    tracing::info!(
        verdict = text("verdict"),
        source = text("source"),
        protocol = text("protocol"),
        port = number("port"),
        interface = text("interface"),
        bytes = number("bytes"),
        one_in = number("one_in"),
        cpu = number("cpu"),
        ban = number("ban"),
        actor = text("actor"),
        "traced a packet"
    );
}

#[cfg(test)]
mod tests {
    use gateway_common::verdict::Verdict;

    use super::*;

    #[test]
    fn a_lost_line_loses_no_count() {
        let packet = |cpu, matched, verdict| TracedPacket {
            trace: 1,
            cpu,
            matched,
            time: 0,
            verdict,
            source: None,
            protocol: 0,
            port: 0,
            length: 0,
            interface: 0,
        };
        let mut traces = PacketTraces {
            ring: Ring::new(None, ""),
            setting: None,
            wanted: Vec::new(),
            told: HashMap::new(),
            logged: Logged::default(),
        };
        for (cpu, matched, verdict, expect) in [
            (0, 1, Verdict::Blocked, 1),
            (0, 100, Verdict::Blocked, 99),
            (1, 7, Verdict::Blocked, 7),
            (0, 5, Verdict::Passed, 5),
            // It shares the count of those that do not pass.
            (0, 101, Verdict::OverSyns, 1),
            (0, 300, Verdict::Blocked, 199),
        ] {
            assert_eq!(traces.stands_for(&packet(cpu, matched, verdict)), expect, "{cpu} {matched}");
        }
    }

    #[test]
    fn the_log_is_bounded() {
        let mut logged = Logged::default();
        let lines = |logged: &mut Logged, at| (0..1_000).filter(|_| logged.may(at)).count();
        assert_eq!(lines(&mut logged, 1_500_000_000), LOGGED as usize);
        assert_eq!(lines(&mut logged, 1_900_000_000), 0);
        assert_eq!(lines(&mut logged, 2_000_000_000), LOGGED as usize);
    }
}
