//! Samples of packets for the daemon: few, whatever the flood.

use aya_ebpf::{EbpfContext as _, bindings::xdp_md, btf_maps::RingBuf, macros::btf_map, programs::XdpContext};
use gateway_common::{
    maps::{EVENT_BYTES, EVENTS_PER_SECOND, Event},
    packet::Headers,
    source::SourceKey,
    verdict::Verdict,
};

use crate::maps;

#[btf_map]
static EVENTS: RingBuf<Event, { EVENT_BYTES as usize }> = RingBuf::new();

/// Tells of a packet, if this CPU has not told of one like it just now. What finds no room is not told.
#[inline(always)]
pub(crate) fn tell(
    context: &XdpContext,
    verdict: Verdict,
    source: SourceKey,
    headers: &Headers,
    length: usize,
    now: Option<u64>,
) {
    let time = now.unwrap_or_else(maps::now);
    if !maps::may_tell(verdict, time, 1_000_000_000 / EVENTS_PER_SECOND) {
        return;
    }
    // SAFETY: the pointer is the context that the kernel called the program with.
    let interface = unsafe { (*context.as_ptr().cast::<xdp_md>()).ingress_ifindex };
    let Some(mut entry) = EVENTS.reserve(0) else { return };
    entry.write(Event {
        time,
        source: source.0,
        verdict: verdict as u32,
        length: length as u32,
        port: headers.port,
        protocol: if headers.protocol == Headers::ANY { 0 } else { headers.protocol },
        reserved: 0,
        interface,
    });
    entry.submit(0);
}
