//! Decides what happens to a packet before the network stack sees it.
//!
//! *Invariant:* a packet is passed or dropped, and counted once; the program never aborts, answers or bans.
#![no_std]
#![no_main]
// The target has compare-and-swap, but core's atomics do not know it yet.
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "atomics of the kernel's instruction set are reached through intrinsics alone")]

mod frame;
mod maps;

use aya_ebpf::{bindings::xdp_action, helpers::generated::bpf_ktime_get_coarse_ns, macros::xdp, programs::XdpContext};
use gateway_common::{
    maps::{Limits, Rule, port},
    packet::{Address, Frame as _, Parsed, Port, parse},
    source::SourceKey,
    verdict::Verdict,
};

use crate::frame::Received;

/// The entry: one verdict, one counter, one action.
#[xdp(frags)]
pub fn guard(context: XdpContext) -> u32 {
    let frame = Received::new(&context);
    let verdict = judge(&frame);
    maps::tally(verdict, frame.length() as u64);
    if verdict.drops() { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS }
}

/// One question a line, cheapest first. Fails open: without limits (the daemon writes them before it attaches) all pass.
#[inline(always)]
fn judge(frame: &Received) -> Verdict {
    let Some(limits) = maps::limits() else { return Verdict::Unguarded };
    let (source, passed) = match parse(frame) {
        Parsed::NotIp => return Verdict::NotIp,
        Parsed::Malformed(_) if limits.flags & Limits::PASS_MALFORMED == 0 => return Verdict::Malformed,
        Parsed::Malformed(None) => return Verdict::MalformedPassed,
        Parsed::Malformed(Some(source)) => (source, Verdict::MalformedPassed),
        Parsed::Ip(_, port) if limits.flags & Limits::SCOPE_HOST == 0 && !is_guarded(port) => {
            return Verdict::Unguarded;
        }
        Parsed::Ip(source, _) => (source, Verdict::Passed),
    };
    let (now, bytes) = (now(), frame.length() as u64);
    let shadowed = match listed(source, now, bytes) {
        Listed::Allowed => return Verdict::Allowed,
        Listed::Denied => return Verdict::Blocked,
        Listed::Shadow => true,
        Listed::No => false,
    };
    let key = source.key(limits.ipv6_mask);
    let shadowed = match banned(key, now, bytes) {
        Listed::Denied => return Verdict::Blocked,
        Listed::Shadow => true,
        Listed::Allowed | Listed::No => shadowed,
    };
    if !maps::conforms(key, limits, now) {
        return Verdict::OverPackets;
    }
    if shadowed { Verdict::ShadowBlocked } else { passed }
}

/// Whether a packet to this port is in scope. One whose port is unknown might go to a guarded one.
#[inline(always)]
fn is_guarded(port: Port) -> bool {
    match port {
        Port::None => false,
        Port::Tcp(number) => maps::port(number) & port::TCP != 0,
        Port::Udp(number) => maps::port(number) & port::UDP != 0,
        Port::Unknown => true,
    }
}

/// What a list says of a source.
enum Listed {
    Allowed,
    Denied,
    No,
    Shadow,
}

/// What the longest prefix that the source is under says; an expired one says nothing.
#[inline(always)]
fn listed(source: Address, now: u64, bytes: u64) -> Listed {
    let Some(rule) = maps::rule(source) else { return Listed::No };
    if rule.action == Rule::ALLOW {
        return Listed::Allowed;
    }
    if rule.expires() <= now {
        return Listed::No;
    }
    maps::hit(rule.slot, bytes);
    if rule.action == Rule::DENY { Listed::Denied } else { Listed::Shadow }
}

/// What the source's own entry says; an expired one says nothing.
#[inline(always)]
fn banned(key: SourceKey, now: u64, bytes: u64) -> Listed {
    let Some(ban) = maps::ban(key) else { return Listed::No };
    if ban.expires() <= now {
        return Listed::No;
    }
    ban.count(bytes);
    if ban.is_shadow() { Listed::Shadow } else { Listed::Denied }
}

/// `CLOCK_MONOTONIC` as of the last tick: at most 10 ms late, so an entry ends a tick late and never early.
#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no arguments and no preconditions.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Never reached: the verifier refuses a program that could loop.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
