//! Answers connection attempts with the network stack's own SYN cookies, so that a flood of them costs no state.
//!
//! The stack keeps no state for it, and accepts the ACK that returns the cookie as if it had answered itself (RFC 4987
//! section 3.6). It has cookies only where `net.ipv4.tcp_syncookies` is 2, or 1 and the listener's queue is full.
//! Like all cookies they carry the segment size alone: such connections have neither window scaling nor SACK.

use aya_ebpf::{
    EbpfContext as _,
    bindings::xdp_md,
    helpers::generated::{
        bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_gen_syncookie, bpf_xdp_adjust_tail, bpf_xdp_load_bytes,
        bpf_xdp_store_bytes,
    },
    programs::XdpContext,
};
use gateway_common::{packet::Headers, verdict::Verdict};

/// `BPF_F_CURRENT_NETNS`.
const THIS_NETWORK: u64 = u64::MAX;

/// `TCP_LISTEN`.
const LISTEN: u32 = 10;

/// Words of the longest headers: IPv6 and TCP with options.
const WORDS: usize = 10 + 15;

/// Bytes of the answer's TCP header: with one option, the segment size.
const ANSWER: u32 = 24;

/// Turns a SYN into its answer. What the stack has no cookie for is left as it is.
#[inline(always)]
pub(crate) fn answer(context: &XdpContext, headers: &Headers, length: usize) -> Verdict {
    let packet = context.as_ptr().cast();
    let (network, transport) = (u32::from(headers.network), u32::from(headers.transport));
    // SAFETY: the pointer is the context that the kernel called the program with.
    let done = unsafe {
        if headers.is_ipv4 {
            answer4(packet, network, transport, length as u32)
        } else {
            answer6(packet, network, transport, length as u32)
        }
    };
    if done == 1 { Verdict::CookieSent } else { Verdict::CookieRefused }
}

/// 1 once the packet is its answer; 0: it is what it was.
///
/// # Safety
/// `packet` is the context that the kernel called the program with.
#[inline(never)]
unsafe fn answer4(packet: *mut xdp_md, network: u32, transport: u32, length: u32) -> u32 {
    let mut words = [0_u32; WORDS];
    // SAFETY: the caller's.
    let Some((cookie, segment)) = (unsafe { ask::<5>(packet, network, transport, &mut words) }) else { return 0 };
    let [_, _, _, source, destination, ports, sequence, ..] = words;
    let mut reply = [
        u32::from_be(0x4500_0000 | 20 + ANSWER),
        // Not to be fragmented.
        u32::from_be(0x0000_4000),
        u32::from_be(64 << 24 | 6 << 16),
        destination,
        source,
        ports.rotate_left(16),
        cookie.to_be(),
        (u32::from_be(sequence).wrapping_add(1)).to_be(),
        u32::from_be(FLAGS),
        0,
        u32::from_be(SEGMENT_SIZE | segment),
    ];
    let header = fold(sum(&reply, 0, 5));
    reply[2] |= high(header);
    // The pseudo header: addresses, protocol, length.
    let pseudo = u64::from(6_u32.to_be()) + u64::from(ANSWER.to_be());
    reply[9] = low(fold(pseudo + sum(&reply, 3, 11)));
    // SAFETY: the caller's.
    unsafe { send(packet, network, length, &reply) }
}

/// 1 once the packet is its answer; 0: it is what it was.
///
/// # Safety
/// `packet` is the context that the kernel called the program with.
#[inline(never)]
unsafe fn answer6(packet: *mut xdp_md, network: u32, transport: u32, length: u32) -> u32 {
    let mut words = [0_u32; WORDS];
    // SAFETY: the caller's.
    let Some((cookie, segment)) = (unsafe { ask::<10>(packet, network, transport, &mut words) }) else { return 0 };
    let [_, _, a, b, c, d, e, f, g, h, ports, sequence, ..] = words;
    let mut reply = [
        u32::from_be(0x6000_0000),
        u32::from_be(ANSWER << 16 | 6 << 8 | 64),
        e,
        f,
        g,
        h,
        a,
        b,
        c,
        d,
        ports.rotate_left(16),
        cookie.to_be(),
        (u32::from_be(sequence).wrapping_add(1)).to_be(),
        u32::from_be(FLAGS),
        0,
        u32::from_be(SEGMENT_SIZE | segment),
    ];
    let pseudo = u64::from(6_u32.to_be()) + u64::from(ANSWER.to_be());
    reply[14] = low(fold(pseudo + sum(&reply, 2, 16)));
    // SAFETY: the caller's.
    unsafe { send(packet, network, length, &reply) }
}

/// Six words of header, SYN and ACK, and the largest window.
const FLAGS: u32 = 0x6012_ffff;

/// The option's kind and length.
const SEGMENT_SIZE: u32 = 0x0204_0000;

/// Reads both headers into `words`, without IP options between them, and asks the stack: cookie and segment size.
///
/// # Safety
/// `packet` is the context that the kernel called the program with.
#[inline(always)]
unsafe fn ask<const IP: usize>(
    packet: *mut xdp_md,
    network: u32,
    transport: u32,
    words: &mut [u32; WORDS],
) -> Option<(u32, u32)> {
    let (all, ip) = (words.as_mut_ptr(), IP as u32 * 4);
    // The addresses and, behind them, the ports are what a connection is found by; in IPv4 and in IPv6.
    let (addresses, pair) = if IP == 5 { (3, 12) } else { (2, 36) };
    // SAFETY: the caller's; each length is that of memory in `words`, and the kernel checks those in the packet.
    unsafe {
        let tcp = all.add(IP);
        if bpf_xdp_load_bytes(packet, network, all.cast(), ip) < 0
            || bpf_xdp_load_bytes(packet, transport, tcp.cast(), 20) < 0
        {
            return None;
        }
        let options = (u32::from_be(*tcp.add(3)) >> 28 << 2).wrapping_sub(20);
        // Volatile: what the compiler would know of it, the verifier would have to be told. Bounded from above alone:
        // the verifiers of Linux 6.1 and 6.12 lose a lower bound other than zero.
        let options = core::ptr::read_volatile(&raw const options);
        if options > 40 {
            return None;
        }
        let header = options + 20;
        if bpf_xdp_load_bytes(packet, transport, tcp.cast(), header) < 0 {
            return None;
        }
        let socket = bpf_skc_lookup_tcp(packet.cast(), all.add(addresses).cast(), pair, THIS_NETWORK, 0);
        if socket.is_null() {
            return None;
        }
        let cookie = if (*socket).state == LISTEN {
            bpf_tcp_gen_syncookie(socket.cast(), all.cast(), ip, tcp.cast(), header)
        } else {
            -1
        };
        bpf_sk_release(socket.cast());
        if cookie < 0 { None } else { Some((cookie as u32, (cookie >> 32) as u32 & 0xffff)) }
    }
}

/// Makes the packet this answer, under the tags that it came with, back to where it came from.
///
/// # Safety
/// `packet` is the context that the kernel called the program with.
#[inline(always)]
unsafe fn send<const N: usize>(packet: *mut xdp_md, network: u32, length: u32, reply: &[u32; N]) -> u32 {
    let mut addresses = [0_u32; 3];
    let bytes = (N * 4) as u32;
    // SAFETY: the caller's; each length is that of memory here, and the kernel checks those in the packet.
    unsafe {
        if bpf_xdp_load_bytes(packet, 0, addresses.as_mut_ptr().cast(), 12) < 0 {
            return 0;
        }
        let [a, b, c] = addresses;
        // Six bytes change places with six. What was for many is not answered.
        let mut swapped = [b >> 16 | c << 16, c >> 16 | a << 16, a >> 16 | b << 16];
        if a & 1 != 0 || bpf_xdp_adjust_tail(packet, (network + bytes) as i32 - length as i32) != 0 {
            return 0;
        }
        let stored = bpf_xdp_store_bytes(packet, 0, swapped.as_mut_ptr().cast(), 12) >= 0
            && bpf_xdp_store_bytes(packet, network, reply.as_ptr().cast_mut().cast(), bytes) >= 0;
        stored as u32
    }
}

/// The sum of some words, in whatever byte order they are.
#[inline(always)]
fn sum<const N: usize>(words: &[u32; N], from: usize, to: usize) -> u64 {
    let mut sum = 0;
    let mut at = from;
    while at < to && at < N {
        sum += u64::from(words[at]);
        at += 1;
    }
    sum
}

/// The checksum of a sum (RFC 1071): sixteen bits, in the same byte order.
#[inline(always)]
fn fold(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u32) & 0xffff
}

/// A checksum as the last two bytes of a word.
#[inline(always)]
fn high(checksum: u32) -> u32 {
    checksum << 16
}

/// A checksum as the first two bytes of a word.
#[inline(always)]
fn low(checksum: u32) -> u32 {
    checksum
}
