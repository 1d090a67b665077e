//! The XDP program: passes, drops or answers a packet before the network stack sees it.
//!
//! *Invariant:* a packet is passed, dropped or answered, and counted once; the program never aborts and never bans.
#![no_std]
#![no_main]
// The target has compare-and-swap, but core's atomics do not know it yet.
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "atomics of the kernel's instruction set are reached through intrinsics alone")]

mod budget;
mod cookie;
mod event;
mod frame;
mod lane;
mod maps;
mod trace;

use aya_ebpf::{Global, bindings::xdp_action, macros::xdp, programs::XdpContext};
use gateway_common::{
    maps::{Limits, Rule, port},
    packet::{self, Headers, PacketKind},
    presence,
    source::SourceKey,
    verdict::Verdict,
};

use crate::frame::Received;

/// Whether the program contains what answers connection attempts. The daemon sets it to 0 where the kernel refuses that
/// part: the verifier leaves out what is never reached.
#[unsafe(no_mangle)]
static COOKIES: Global<u32> = Global::new(1);

/// The entry: one verdict, one counter, one action.
#[xdp(frags)]
pub fn guard(context: XdpContext) -> u32 {
    act::<false>(context)
}

/// The entry while somebody traces packets: the same verdicts, and lines about some of them.
#[xdp(frags)]
pub fn guard_traced(context: XdpContext) -> u32 {
    act::<true>(context)
}

#[inline(always)]
fn act<const TRACED: bool>(context: XdpContext) -> u32 {
    let frame = Received::new(&context);
    let (mut headers, mut key, mut now) = (Headers::default(), SourceKey(0), None);
    let verdict = judge(&context, &frame, &mut headers, &mut key, &mut now);
    maps::tally(verdict, frame.counted() as u64);
    if TRACED {
        trace::tell(&context, verdict, &headers, frame.counted(), now);
    }
    if verdict.drops() {
        event::tell(&context, verdict, key, &headers, frame.counted(), now);
        return xdp_action::XDP_DROP;
    }
    if verdict.answers() {
        event::tell(&context, verdict, key, &headers, frame.counted(), now);
        return xdp_action::XDP_TX;
    }
    xdp_action::XDP_PASS
}

/// The verdict on a packet; also from whom it is, what its headers say, and when it came if that was asked.
#[inline(always)]
fn judge(
    context: &XdpContext,
    frame: &Received,
    headers: &mut Headers,
    key: &mut SourceKey,
    now: &mut Option<u64>,
) -> Verdict {
    // Fails open: without limits (the daemon writes them before it attaches) all pass.
    let Some(limits) = maps::limits() else { return Verdict::Unguarded };
    let form = packet::read(frame, headers);
    if matches!(form, PacketKind::NotIp) {
        return Verdict::NotIp;
    }
    let passed = match form {
        PacketKind::Ip => Verdict::Passed,
        _ if limits.flags & Limits::PASS_MALFORMED != 0 => Verdict::MalformedPassed,
        _ => Verdict::Malformed,
    };
    if matches!(form, PacketKind::Nobody) {
        return passed;
    }
    // What is out of scope is none of our business, malformed or not.
    if limits.flags & Limits::SCOPE_HOST == 0 && !is_guarded(headers) {
        return Verdict::Unguarded;
    }
    *key = headers.key(limits.ipv6_mask);
    if matches!(passed, Verdict::Malformed) {
        return passed;
    }
    weigh(context, frame, limits, headers, *key, *now.insert(maps::now()), passed)
}

/// The verdict on a packet in scope: one question a line, cheapest first.
#[inline(always)]
fn weigh(
    context: &XdpContext,
    frame: &Received,
    limits: &Limits,
    headers: &Headers,
    key: SourceKey,
    now: u64,
    passed: Verdict,
) -> Verdict {
    let bytes = frame.counted() as u64;
    let shadowed = match listed(headers, now, bytes) {
        Listed::Allowed => return Verdict::Allowed,
        Listed::Denied => return Verdict::Blocked,
        Listed::Shadow => true,
        Listed::No => false,
    };
    let hash = presence::hash(key, limits.seed);
    let is_known = maps::may_know(hash, limits);
    let shadowed = match if is_known { banned(key, now, bytes) } else { Listed::No } {
        Listed::Denied => return Verdict::Blocked,
        Listed::Shadow => true,
        Listed::Allowed | Listed::No => shadowed,
    };
    let over = budget::over(key, hash, limits, now, bytes, headers.asks, is_known);
    if let Some(verdict) = over
        && verdict.drops()
    {
        return verdict;
    }
    let mut passed = passed;
    if limits.all_packets.interval != 0 && is_guarded(headers) && !budget::fits(now) {
        passed = match lane::overtakes(context, headers, limits, now) {
            true => Verdict::FastLane,
            false if limits.flags & Limits::SHADOW_ALL != 0 => Verdict::ShadowOverTotal,
            false => return Verdict::OverTotal,
        };
    }
    if headers.asks && limits.all_syns.interval != 0 && is_guarded(headers) && !budget::opens(limits, now) {
        if COOKIES.load() == 0 {
            return Verdict::CookieRefused;
        }
        return cookie::answer(context, headers, frame.counted());
    }
    if shadowed { Verdict::ShadowBlocked } else { over.unwrap_or(passed) }
}

/// Whether a packet to this port is in scope. One whose port is unknown might go to a guarded one.
#[inline(always)]
fn is_guarded(headers: &Headers) -> bool {
    match headers.protocol {
        6 => maps::port(headers.port) & port::TCP != 0,
        17 => maps::port(headers.port) & port::UDP != 0,
        protocol => protocol == Headers::ANY,
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
fn listed(headers: &Headers, now: u64, bytes: u64) -> Listed {
    let Some(rule) = maps::rule(headers) else { return Listed::No };
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

/// Never reached: the verifier refuses a program that could loop.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
