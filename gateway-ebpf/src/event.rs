//! Decides which packets the daemon is told about: few, whatever the flood.

use aya_ebpf::{btf_maps::RingBuf, macros::btf_map};
use gateway_common::{
    maps::{EVENT_BYTES, EVENTS_PER_SECOND, Event},
    packet::Port,
    source::SourceKey,
    verdict::Verdict,
};

use crate::maps;

#[btf_map]
static EVENTS: RingBuf<Event, { EVENT_BYTES as usize }> = RingBuf::new();

/// Tells of a packet, if this CPU has not told of one just now. What finds no room is not told.
#[inline(always)]
pub(crate) fn tell(verdict: Verdict, source: SourceKey, port: Port, length: usize) {
    let Some(time) = maps::may_tell(1_000_000_000 / EVENTS_PER_SECOND) else { return };
    let (port, protocol) = match port {
        Port::Tcp(port) => (port, 6),
        Port::Udp(port) => (port, 17),
        Port::None | Port::Unknown => (0, 0),
    };
    let Some(mut entry) = EVENTS.reserve(0) else { return };
    entry.write(Event {
        time,
        source: source.0,
        verdict: verdict as u32,
        length: length as u32,
        port,
        protocol,
        reserved: [0; 5],
    });
    entry.submit(0);
}
