//! Tells watchers of packets that the kernel dropped or answered: a sample of them, each with the ban behind it,
//! and with how many it stands for.
//!
//! *Invariant:* nothing is read from the kernel, and nothing is kept, while nobody wants to be told.

use gateway_common::{
    maps::{Event, PacketCount},
    verdict::Verdict,
};

use super::ring::Ring;
use crate::guard::bans::*;

/// How many are read at once. The rest is read a little later.
const MOST: usize = 512;

/// More than the kernel's ring holds.
const ALL: usize = 16_384;

/// When to read, and what was counted when it was read last.
pub(crate) struct PacketSamples {
    ring: Ring,
    before: Vec<(Verdict, PacketCount)>,
}

impl PacketSamples {
    /// Over the kernel's ring, where there is one. Inside the runtime alone.
    pub(crate) fn new(guard: &Guard) -> Self {
        Self { ring: Ring::new(guard.enforcer.path().events_waiting(), "gateway watch"), before: Vec::new() }
    }

    /// Waits until there is something to read, and some more. Nothing is lost if it is given up.
    pub(crate) async fn wait(&mut self) {
        self.ring.wait().await;
    }
}

impl Guard {
    /// Somebody wants to be told from now on: what lies in the ring is of before.
    pub(crate) fn begin_samples(&mut self, samples: &mut PacketSamples) {
        drop(self.enforcer.path_mut().events(ALL));
        samples.before = self.enforcer.path().verdicts();
        samples.ring.is_read(false);
        self.journal.watchers().samples_begun();
    }

    /// Tells watchers what the kernel has told.
    pub(crate) fn tell_samples(&mut self, samples: &mut PacketSamples, now: Now) {
        let events = self.enforcer.path_mut().events(MOST);
        samples.ring.is_read(events.len() == MOST);
        let after = self.enforcer.path().verdicts();
        for event in &events {
            let one_in = one_in(event.verdict, &events, &samples.before, &after);
            let packet = self.sample(event, one_in, now);
            self.journal.watchers().tell_packet(&Value::Object(packet).to_string());
        }
        let missed = untold(events.len(), &samples.before, &after);
        self.shortfalls.note_lost(LostStatus { samples: missed, ..LostStatus::default() });
        samples.before = after;
    }

    fn sample(&self, event: &Event, one_in: u64, now: Now) -> Map<String, Value> {
        let source = (event.source != 0).then(|| Source::from_key(SourceKey(event.source), self.settings.ipv6_prefix));
        let packet = Packet {
            time: event.time,
            verdict: verdict(event.verdict),
            source,
            length: event.length,
            port: event.port,
            protocol: event.protocol,
            interface: event.interface,
        };
        self.describe("packet", &packet, one_in, now)
    }

    /// A packet as watchers see it.
    pub(super) fn describe(&self, event: &str, packet: &Packet, one_in: u64, now: Now) -> Map<String, Value> {
        let age = now.monotonic.saturating_sub(packet.time) / 1_000_000;
        let mut members = members_of([
            ("event", event.into()),
            ("time", clock::rfc3339(now.unix_millis.saturating_sub(age)).into()),
            ("verdict", packet.verdict.map_or("unknown", Verdict::name).into()),
            ("bytes", packet.length.into()),
            ("one_in", one_in.into()),
        ]);
        let mut tell = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                members.insert(name.to_owned(), value);
            }
        };
        tell("source", packet.source.map(|source| source.to_string().into()));
        tell("port", (packet.port != 0).then(|| packet.port.into()));
        tell("protocol", protocol(packet.protocol).map(Into::into));
        // One that was made anew after this packet has another number.
        let interface =
            self.enforcer.path().interfaces().iter().find(|at| at.index == packet.interface && at.index != 0);
        tell("interface", interface.map(|at| at.name.clone().into()));
        let Some(source) = packet.source.filter(|_| packet.verdict == Some(Verdict::Blocked)) else { return members };
        match self.behind(source) {
            Some(DropCause::Ban(record)) => {
                tell("ban", Some(record.id.into()));
                tell("reason", Some(record.reason.clone().into()));
                tell("actor", Some(record.actor.clone().into()));
            }
            Some(DropCause::List(actor)) => tell("actor", Some(actor.into())),
            None => {}
        }
        members
    }

    /// What drops the packets of `source`: its own entry, else the narrowest around it.
    fn behind(&self, source: Source) -> Option<DropCause<'_>> {
        let mut around: Vec<Source> = around(source).collect();
        around.reverse();
        let enforced = |source: &Source| self.find(*source).filter(|record| !record.shadow);
        if let Some(record) = around.iter().find_map(enforced) {
            return Some(DropCause::Ban(record));
        }
        around.iter().find_map(|source| self.listed_by(*source)).map(DropCause::List)
    }
}

/// What is told of a packet.
pub(super) struct Packet {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub(super) time: u64,
    pub(super) verdict: Option<Verdict>,
    pub(super) source: Option<Source>,
    pub(super) length: u32,
    pub(super) port: u16,
    pub(super) protocol: u8,
    pub(super) interface: u32,
}

enum DropCause<'guard> {
    Ban(&'guard BanRecord),
    List(String),
}

fn verdict(number: u32) -> Option<Verdict> {
    Verdict::ALL.get(usize::try_from(number).ok()?).copied()
}

const fn protocol(number: u8) -> Option<&'static str> {
    match number {
        6 => Some("tcp"),
        17 => Some("udp"),
        _ => None,
    }
}

/// How many packets of a verdict each of its samples stands for, by what was counted meanwhile.
fn one_in(of: u32, events: &[Event], before: &[(Verdict, PacketCount)], after: &[(Verdict, PacketCount)]) -> u64 {
    let counted = |counts: &[(Verdict, PacketCount)]| {
        let found = counts.iter().find(|(verdict, _)| *verdict as u32 == of);
        found.map_or(0, |(_, count)| count.packets)
    };
    let samples = events.iter().filter(|event| event.verdict == of).count();
    let samples = u64::try_from(samples).unwrap_or(u64::MAX).max(1);
    (counted(after).saturating_sub(counted(before)) / samples).max(1)
}

/// How many packets there were that nothing was told of.
fn untold(events: usize, before: &[(Verdict, PacketCount)], after: &[(Verdict, PacketCount)]) -> u64 {
    let told = |verdict: Verdict| verdict.drops() || verdict.answers();
    let all = |counts: &[(Verdict, PacketCount)]| -> u64 {
        counts.iter().filter(|(verdict, _)| told(*verdict)).map(|(_, count)| count.packets).sum()
    };
    all(after).saturating_sub(all(before)).saturating_sub(u64::try_from(events).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sample_stands_for() {
        let count = |packets| vec![(Verdict::Blocked, PacketCount { packets, bytes: 0 })];
        let event = |verdict: Verdict| Event { verdict: verdict as u32, ..Event::default() };
        for (verdicts, before, after, expect) in [
            (vec![Verdict::Blocked], 10, 11, 1),
            (vec![Verdict::Blocked, Verdict::Blocked, Verdict::OverSyns], 10, 2_010, 1_000),
            // Read between a packet's event and its count, and after the counters were lost.
            (vec![Verdict::Blocked], 10, 10, 1),
            (vec![Verdict::Blocked], 10, 0, 1),
            (vec![], 0, 7, 7),
        ] {
            let events: Vec<Event> = verdicts.into_iter().map(event).collect();
            let stands = one_in(Verdict::Blocked as u32, &events, &count(before), &count(after));
            assert_eq!(stands, expect, "{before} to {after}");
        }
        let counts = |blocked, passed| {
            [(Verdict::Blocked, blocked), (Verdict::Passed, passed)]
                .map(|(verdict, packets)| (verdict, PacketCount { packets, bytes: 0 }))
        };
        assert_eq!(untold(3, &counts(10, 10), &counts(20, 99)), 7);
        assert_eq!(untold(3, &counts(10, 10), &counts(11, 99)), 0);
        assert_eq!(verdict(1), Some(Verdict::Blocked));
        assert_eq!(verdict(99), None);
    }
}
