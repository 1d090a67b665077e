//! Decides what happens to a packet before the network stack sees it.
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
mod maps;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use gateway_common::{
    maps::{Limits, Rule, port},
    packet::{Address, Frame as _, Parsed, Port, Syn, parse_syn},
    presence,
    source::SourceKey,
    verdict::Verdict,
};

use crate::frame::Received;

/// The entry: one verdict, one counter, one action.
#[xdp(frags)]
pub fn guard(context: XdpContext) -> u32 {
    let frame = Received::new(&context);
    let (verdict, source, port) = judge(&context, &frame);
    maps::tally(verdict, frame.length() as u64);
    if verdict.drops() {
        event::tell(verdict, source, port, frame.length());
        return xdp_action::XDP_DROP;
    }
    if verdict.answers() {
        event::tell(verdict, source, port, frame.length());
        return xdp_action::XDP_TX;
    }
    xdp_action::XDP_PASS
}

/// The verdict on a packet, from whom it is, and which port it is for.
#[inline(always)]
fn judge(context: &XdpContext, frame: &Received) -> (Verdict, SourceKey, Port) {
    let nobody = SourceKey(0);
    // Fails open: without limits (the daemon writes them before it attaches) all pass.
    let Some(limits) = maps::limits() else { return (Verdict::Unguarded, nobody, Port::None) };
    let mut syn = Syn::default();
    let (source, port, passed) = match parse_syn(frame, &mut syn) {
        Parsed::NotIp => return (Verdict::NotIp, nobody, Port::None),
        Parsed::Malformed(source) if limits.flags & Limits::PASS_MALFORMED == 0 => {
            let key = source.map_or(nobody, |source| source.key(limits.ipv6_mask));
            return (Verdict::Malformed, key, Port::None);
        }
        Parsed::Malformed(None) => return (Verdict::MalformedPassed, nobody, Port::None),
        Parsed::Malformed(Some(source)) => (source, Port::None, Verdict::MalformedPassed),
        Parsed::Ip(_, port) if limits.flags & Limits::SCOPE_HOST == 0 && !is_guarded(port) => {
            return (Verdict::Unguarded, nobody, port);
        }
        Parsed::Ip(source, port) => (source, port, Verdict::Passed),
    };
    let key = source.key(limits.ipv6_mask);
    (weigh(context, frame, limits, source, key, port, syn, passed), key, port)
}

/// The verdict on a packet in scope: one question a line, cheapest first.
#[inline(always)]
fn weigh(
    context: &XdpContext,
    frame: &Received,
    limits: &Limits,
    source: Address,
    key: SourceKey,
    port: Port,
    syn: Syn,
    passed: Verdict,
) -> Verdict {
    let (now, bytes) = (maps::now(), frame.length() as u64);
    let shadowed = match listed(source, now, bytes) {
        Listed::Allowed => return Verdict::Allowed,
        Listed::Denied => return Verdict::Blocked,
        Listed::Shadow => true,
        Listed::No => false,
    };
    let hash = presence::hash(key, limits.seed);
    let shadowed = match banned(key, hash, limits, now, bytes) {
        Listed::Denied => return Verdict::Blocked,
        Listed::Shadow => true,
        Listed::Allowed | Listed::No => shadowed,
    };
    let over = budget::over(key, hash, limits, now, bytes, syn.asks);
    if let Some(verdict) = over
        && verdict.drops()
    {
        return verdict;
    }
    if syn.asks && limits.all_syns.interval != 0 && is_guarded(port) && !budget::opens(limits, now) {
        return cookie::answer(context, source, syn, frame.length());
    }
    if shadowed { Verdict::ShadowBlocked } else { over.unwrap_or(passed) }
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
fn banned(key: SourceKey, hash: u64, limits: &Limits, now: u64, bytes: u64) -> Listed {
    let Some(ban) = maps::ban(key, hash, limits) else { return Listed::No };
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
