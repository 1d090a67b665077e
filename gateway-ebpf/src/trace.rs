//! Writes lines about packets that somebody traces: few, whatever the flood. The untraced program has none of this.

use aya_ebpf::{
    EbpfContext as _,
    bindings::xdp_md,
    btf_maps::{Array, PerCpuArray},
    helpers::generated::bpf_get_smp_processor_id,
    macros::btf_map,
    programs::XdpContext,
};
use aya_log_ebpf::info;
use gateway_common::{
    packet::Headers,
    trace::{self as layout, LINES_PER_SECOND, Trace, TraceCount},
    verdict::Verdict,
};

use crate::maps;

#[btf_map]
static TRACES: Array<Trace, { layout::TRACES as usize }> = Array::new();
#[btf_map]
static TOLD: PerCpuArray<TraceCount, { 2 * layout::TRACES as usize }> = PerCpuArray::new();

/// Writes a line about a packet for each trace that wants one and has not had enough of them just now.
#[inline(always)]
pub(crate) fn tell(context: &XdpContext, verdict: Verdict, headers: &Headers, length: usize, now: Option<u64>) {
    // SAFETY: the pointer is the context that the kernel called the program with.
    let interface = unsafe { (*context.as_ptr().cast::<xdp_md>()).ingress_ifindex };
    let (upper, lower) = layout::halves(headers);
    let protocol = if headers.protocol == Headers::ANY { 0 } else { headers.protocol };
    let what = verdict as u64
        | u64::from(layout::passes(verdict)) << 8
        | u64::from(protocol) << 16
        | u64::from(headers.port) << 32;
    trace_packet(upper, lower, now.unwrap_or_else(maps::now), (length as u64) << 32 | u64::from(interface), what);
}

/// As [`tell`], with what is known of the packet in the five words that there is room for in a call.
///
/// A function of its own that the whole kernel may call: the verifier follows it once, and not from every way that a
/// packet may have come.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn trace_packet(upper: u64, lower: u64, now: u64, sizes: u64, what: u64) -> u64 {
    let passes = what >> 8 & 1 != 0;
    for number in 0..layout::TRACES {
        let Some(trace) = TRACES.get(number) else { break };
        if !trace.wants(upper, lower, passes) {
            continue;
        }
        let Some(told) = TOLD.get_ptr_mut(layout::told(number, passes)) else { break };
        // SAFETY: the kernel gave the pointer, to this CPU's own copy, which nothing else writes while the program runs.
        let matched = unsafe {
            (*told).matched += 1;
            if !maps::lets_through(&raw mut (*told).gate, now, 1_000_000_000 / LINES_PER_SECOND) {
                continue;
            }
            (*told).matched
        };
        // SAFETY: the helper has no arguments and no preconditions.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        let address = u128::from(upper) << 64 | u128::from(lower);
        info!(
            (),
            target: "",
            "{} {} {} {} {} {} {} {} {} {:i}",
            trace.id,
            cpu,
            matched,
            now,
            what as u8,
            (what >> 16) as u8,
            (what >> 32) as u16,
            (sizes >> 32) as u32,
            sizes as u32,
            address.to_be_bytes()
        );
    }
    0
}
