//! Decides which packets the daemon is told about: few, whatever the flood.

use aya_ebpf::{btf_maps::RingBuf, macros::btf_map};
use gateway_common::{
    maps::{EVENT_BYTES, EVENTS_PER_SECOND, Event},
    packet::Headers,
    source::SourceKey,
    verdict::Verdict,
};

use crate::maps;

#[btf_map]
static EVENTS: RingBuf<Event, { EVENT_BYTES as usize }> = RingBuf::new();

/// Tells of a packet, if this CPU has not told of one just now. What finds no room is not told.
#[inline(always)]
pub(crate) fn tell(verdict: Verdict, source: SourceKey, headers: &Headers, length: usize) {
    if matches!(verdict, Verdict::Malformed) {
        // The only one that is found without asking for the time.
        maps::now();
    }
    let Some(time) = maps::may_tell(1_000_000_000 / EVENTS_PER_SECOND) else { return };
    let Some(mut entry) = EVENTS.reserve(0) else { return };
    entry.write(Event {
        time,
        source: source.0,
        verdict: verdict as u32,
        length: length as u32,
        port: headers.port,
        protocol: if headers.protocol == Headers::ANY { 0 } else { headers.protocol },
        reserved: [0; 5],
    });
    entry.submit(0);
}
