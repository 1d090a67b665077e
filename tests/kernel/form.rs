//! What the form of a packet means: tags, options, fragments, extension headers, and headers that lie.

use gateway_common::{maps::Limits, verdict::Verdict};
use support::frame::{Frame, ICMP, ICMPV6, TCP, arp, extension, patched};

use crate::program::{FOREVER, limits, program, seconds_from_now};

/// Banned.
const BAD: &str = "203.0.113.7";
const BAD6: &str = "2001:db8:bad::7";
/// Nothing is said of them.
const GOOD: &str = "203.0.113.8";
const GOOD6: &str = "2001:db8:900d::8";

use Verdict::{Blocked, Malformed, MalformedPassed, NotIp, Passed, Unguarded};

#[test]
pub(crate) fn x01_ipv4_headers() {
    let mut program = program!();
    program.ban(BAD, 1, seconds_from_now(600));
    let (bad, good) = (Frame::tcp(BAD, 443), Frame::tcp(GOOD, 443));
    let length = good.bytes().len();
    program.check(&[
        ("right", good.bytes(), Passed),
        ("right, banned", bad.bytes(), Blocked),
        ("one word of options", good.clone().options(1).bytes(), Passed),
        ("40 bytes of options", good.clone().options(10).bytes(), Passed),
        ("40 bytes of options, banned", bad.clone().options(10).bytes(), Blocked),
        ("40 bytes of options, other port", Frame::tcp(GOOD, 22).options(10).bytes(), Unguarded),
        ("header length 0", patched(good.bytes(), 14, &[0x40]), Malformed),
        ("header length 4 words", patched(good.bytes(), 14, &[0x44]), Malformed),
        ("header longer than the packet", patched(good.bytes(), 14, &[0x4f]), Malformed),
        ("version 6 in IPv4", patched(good.bytes(), 14, &[0x65]), Malformed),
        ("version 0", patched(good.bytes(), 14, &[0x05]), Malformed),
        ("total length 0", patched(good.bytes(), 16, &[0, 0]), Malformed),
        ("total length 19", patched(good.bytes(), 16, &[0, 19]), Malformed),
        ("total length one more than there is", patched(good.bytes(), 16, &[0, 41]), Malformed),
        ("total length 65535", patched(good.bytes(), 16, &[0xff, 0xff]), Malformed),
        ("half a TCP header", patched(good.bytes(), 16, &[0, 30]), Malformed),
        ("half a UDP header", Frame::udp(GOOD, 443).cut_transport(7).bytes(), Malformed),
        ("padding behind the packet", [good.bytes(), vec![0; 64 - length]].concat(), Passed),
        ("padding behind the packet, banned", [bad.bytes(), vec![0; 64 - length]].concat(), Blocked),
        ("malformed, banned", patched(bad.bytes(), 14, &[0x44]), Malformed),
    ]);
}

#[test]
pub(crate) fn x01_malformed_may_pass_but_not_from_a_banned_source() {
    let mut program = program!();
    program.ban(BAD, 1, FOREVER);
    program.ban(BAD6, 2, FOREVER);
    program.limits(Limits { flags: Limits::PASS_MALFORMED, ..limits() });
    let (bad, good) = (Frame::tcp(BAD, 443).bytes(), Frame::tcp(GOOD, 443).bytes());
    program.check(&[
        ("header length", patched(good.clone(), 14, &[0x44]), MalformedPassed),
        ("total length", patched(good.clone(), 16, &[0xff, 0xff]), MalformedPassed),
        ("cut", good[..33].to_vec(), MalformedPassed),
        ("header length, banned", patched(bad.clone(), 14, &[0x44]), Blocked),
        ("version, banned", patched(bad.clone(), 14, &[0x65]), Blocked),
        ("total length, banned", patched(bad.clone(), 16, &[0xff, 0xff]), Blocked),
        ("half a TCP header, banned", patched(bad, 16, &[0, 30]), Blocked),
        ("IPv6 payload length, banned", patched(Frame::tcp(BAD6, 443).bytes(), 18, &[0xff, 0xff]), Blocked),
    ]);
}

/// Out of scope is out of scope, however a packet is broken.
#[test]
pub(crate) fn x01_malformed_to_a_port_that_is_not_guarded() {
    let mut program = program!();
    program.ban(BAD, 1, FOREVER);
    let broken = |port: u16| {
        let (tcp, udp) = (Frame::tcp(GOOD, port).bytes(), Frame::udp(GOOD, port));
        let (tcp6, udp6) = (Frame::tcp(GOOD6, port), Frame::udp(GOOD6, port).bytes());
        let behind = tcp6.clone().extension(extension::HOP_BY_HOP, 8).bytes();
        let tagged = Frame::tcp(GOOD, port).tags(&[0x88a8, 0x8100]).bytes();
        [
            ("header length 4 words", patched(tcp.clone(), 14, &[0x44])),
            ("version 6 in IPv4", patched(tcp.clone(), 14, &[0x65])),
            ("total length 0", patched(tcp.clone(), 16, &[0, 0])),
            ("total length 19", patched(tcp.clone(), 16, &[0, 19])),
            ("total length 65535", patched(tcp.clone(), 16, &[0xff, 0xff])),
            ("half a TCP header", patched(tcp.clone(), 16, &[0, 30])),
            ("total length of a TCP header's first bytes", patched(tcp, 16, &[0, 22])),
            ("half a UDP header", udp.clone().cut_transport(7).bytes()),
            ("total length, UDP", patched(udp.bytes(), 16, &[0xff, 0xff])),
            ("total length, under two tags", patched(tagged, 24, &[0xff, 0xff])),
            ("version 4 in IPv6", patched(tcp6.clone().bytes(), 14, &[0x45])),
            ("payload length", patched(tcp6.bytes(), 18, &[0xff, 0xff])),
            ("payload length, UDP", patched(udp6, 18, &[0, 7])),
            ("payload length, behind an extension header", patched(behind.clone(), 18, &[0xff, 0xff])),
            ("payload length of the extension header", patched(behind, 18, &[0, 8])),
        ]
    };
    for (port, in_scope) in [(443, Malformed), (22, Unguarded)] {
        for (what, frame) in broken(port) {
            program.check(&[(what, frame, in_scope)]);
        }
    }
    program.limits(Limits { flags: Limits::SCOPE_HOST, ..limits() });
    for (what, frame) in broken(22) {
        program.check(&[(what, frame, Malformed)]);
    }
    program.limits(limits());
    let cut = |frame: Frame, length: usize| frame.bytes()[..length].to_vec();
    program.check(&[
        ("without ports", patched(Frame::of(GOOD, ICMP, vec![8; 32]).bytes(), 16, &[0xff, 0xff]), Unguarded),
        ("cut behind the port", cut(Frame::tcp(GOOD, 22), 38), Unguarded),
        // Where the port cannot be known, it may be a guarded one.
        ("cut in the port", cut(Frame::tcp(GOOD, 22), 37), Malformed),
        ("cut in the IP header", cut(Frame::tcp(GOOD, 22), 33), Malformed),
        ("a fragment", patched(Frame::tcp(GOOD, 22).fragment(1, true).bytes(), 16, &[0xff, 0xff]), Malformed),
    ]);
}

/// Segments that the host has joined before a program in the network stack sees them: longer than any length field.
#[test]
pub(crate) fn x01_joined_packets_are_longer_than_their_headers_can_say() {
    let mut program = program!();
    program.ban(BAD, 1, FOREVER);
    program.ban(BAD6, 2, FOREVER);
    let long = |frame: Frame, at: usize, length: usize| {
        let mut bytes = patched(frame.bytes(), at, &[0, 0]);
        bytes.resize(length, 0xaa);
        bytes
    };
    let tagged = |source: &str| Frame::tcp(source, 443).tags(&[0x8100]);
    let most = 14 + 65_535;
    program.check(&[
        ("IPv4", long(Frame::tcp(GOOD, 443), 16, most + 1), Passed),
        ("IPv4, longer", long(Frame::tcp(GOOD, 443), 16, 68_000), Passed),
        ("IPv4, options", long(Frame::tcp(GOOD, 443).options(3), 16, 68_000), Passed),
        ("IPv4, UDP (a tunnel)", long(Frame::udp(GOOD, 443), 16, 68_000), Passed),
        ("IPv4, tagged", long(tagged(GOOD), 20, 68_000), Passed),
        ("IPv4, banned", long(Frame::tcp(BAD, 443), 16, 68_000), Blocked),
        ("IPv4, another port", long(Frame::tcp(BAD, 22), 16, 68_000), Unguarded),
        ("IPv4, as long as a length can say", long(Frame::tcp(GOOD, 443), 16, most), Malformed),
        ("IPv6", long(Frame::tcp(GOOD6, 443), 18, 68_000), Passed),
        ("IPv6, jumbo option", long(Frame::tcp(GOOD6, 443).extension(extension::HOP_BY_HOP, 8), 18, 68_000), Passed),
        ("IPv6, banned", long(Frame::tcp(BAD6, 443), 18, 68_000), Blocked),
        ("IPv6, another port", long(Frame::tcp(BAD6, 22), 18, 68_000), Unguarded),
    ]);
}

#[test]
pub(crate) fn x02_fragments() {
    let mut program = program!();
    program.ban(BAD, 1, FOREVER);
    program.ban(BAD6, 2, FOREVER);
    for (bad, good) in [(BAD, GOOD), (BAD6, GOOD6)] {
        let frames = |source: &str| {
            let other_port = Frame::tcp(source, 22);
            [
                ("first", Frame::tcp(source, 443).fragment(0, true)),
                ("first, to another port", other_port.clone().fragment(0, true)),
                ("later", Frame::of(source, TCP, vec![0xaa; 64]).fragment(185, true)),
                ("last", Frame::of(source, TCP, vec![0xaa; 3]).fragment(370, false)),
                ("tiny first", other_port.clone().cut_transport(8).fragment(0, true)),
                ("tiny second", other_port.clone().cut_transport(8).fragment(1, true)),
                ("overlapping", other_port.clone().fragment(1, false)),
                ("highest offset", other_port.fragment(0x1fff, false)),
            ]
        };
        for (what, frame) in frames(bad) {
            program.check(&[(what, frame.bytes(), Blocked)]);
        }
        for (what, frame) in frames(good) {
            program.check(&[(what, frame.bytes(), Passed)]);
        }
    }
}

#[test]
pub(crate) fn x03_vlan_tags() {
    let mut program = program!();
    program.ban(BAD, 1, FOREVER);
    program.ban(BAD6, 2, FOREVER);
    for (bad, good) in [(BAD, GOOD), (BAD6, GOOD6)] {
        let (bad, good) = (Frame::tcp(bad, 443), Frame::tcp(good, 443));
        for (what, tags, looked_under) in [
            ("802.1Q", &[0x8100][..], true),
            ("802.1ad", &[0x88a8], true),
            ("QinQ", &[0x88a8, 0x8100], true),
            ("802.1Q twice", &[0x8100, 0x8100], true),
            ("three tags", &[0x88a8, 0x8100, 0x8100], false),
            ("an older type of tag", &[0x9100], false),
        ] {
            program.check(&[
                (what, bad.clone().tags(tags).bytes(), if looked_under { Blocked } else { NotIp }),
                (what, good.clone().tags(tags).bytes(), if looked_under { Passed } else { NotIp }),
            ]);
        }
        let tagged = good.tags(&[0x8100]).bytes();
        program.check(&[("a tag and nothing else", tagged[..16].to_vec(), Malformed)]);
    }
}

#[test]
pub(crate) fn x04_ipv6_extension_headers() {
    use extension::{AUTHENTICATION, DESTINATION, HOP_BY_HOP, ROUTING};
    let mut program = program!();
    program.ban(BAD6, 2, FOREVER);
    for (what, chain) in [
        ("none", &[][..]),
        ("hop-by-hop", &[(HOP_BY_HOP, 8)]),
        ("routing", &[(ROUTING, 24)]),
        ("destination", &[(DESTINATION, 8)]),
        ("authentication", &[(AUTHENTICATION, 24)]),
        ("four", &[(HOP_BY_HOP, 8), (DESTINATION, 16), (ROUTING, 24), (AUTHENTICATION, 24)]),
        ("five", &[(HOP_BY_HOP, 8), (DESTINATION, 8), (ROUTING, 8), (DESTINATION, 8), (DESTINATION, 8)]),
        ("long", &[(DESTINATION, 1024)]),
    ] {
        let with =
            |frame: Frame| chain.iter().fold(frame, |frame, &(kind, length)| frame.extension(kind, length)).bytes();
        program.check(&[
            (what, with(Frame::tcp(BAD6, 443)), Blocked),
            (what, with(Frame::tcp(GOOD6, 443)), Passed),
            (what, with(Frame::udp(GOOD6, 443)), Passed),
            (what, with(Frame::tcp(BAD6, 22)), Unguarded),
            (what, with(Frame::udp(GOOD6, 53)), Unguarded),
        ]);
    }
    // Beyond what is walked, the port is unknown, and so in scope.
    let far = |source| (0..7).fold(Frame::tcp(source, 22), |frame, _| frame.extension(DESTINATION, 8)).bytes();
    let one = Frame::tcp(GOOD6, 443).extension(DESTINATION, 8).bytes();
    program.check(&[
        ("seven headers, banned", far(BAD6), Blocked),
        ("seven headers", far(GOOD6), Passed),
        ("a header longer than the packet", patched(one.clone(), 55, &[200]), Malformed),
        ("a header that ends the packet", patched(one, 18, &[0, 8]), Malformed),
        ("version 4 in IPv6", patched(Frame::tcp(GOOD6, 443).bytes(), 14, &[0x45]), Malformed),
        ("payload length one too many", patched(Frame::tcp(GOOD6, 443).bytes(), 18, &[0, 21]), Malformed),
        ("payload length of half a TCP header", patched(Frame::tcp(GOOD6, 443).bytes(), 18, &[0, 10]), Malformed),
        ("jumbogram", patched(Frame::tcp(GOOD6, 443).bytes(), 18, &[0, 0]), Passed),
    ]);
}

#[test]
pub(crate) fn x05_every_truncation_has_a_verdict() {
    let mut program = program!();
    let long = |frame: Frame| [frame.bytes(), vec![0; 60]].concat();
    for frame in [
        long(Frame::tcp(GOOD, 443)),
        long(Frame::udp(GOOD, 443)),
        long(Frame::tcp(GOOD, 443).options(10)),
        long(Frame::tcp(GOOD, 443).tags(&[0x88a8, 0x8100])),
        long(Frame::tcp(GOOD6, 443)),
        long(Frame::tcp(GOOD6, 443).extension(extension::HOP_BY_HOP, 8).extension(extension::ROUTING, 24)),
        long(Frame::tcp(GOOD6, 443).tags(&[0x8100, 0x8100])),
        long(Frame::tcp(GOOD6, 443).fragment(1, true)),
    ] {
        for length in 14..=frame.len().min(128) {
            // Never XDP_ABORTED: `judge` knows no such verdict. Passed only when the whole packet is there.
            let verdict = program.judge(&frame[..length]);
            let whole = length >= frame.len() - 60;
            assert_eq!(verdict == Malformed, !whole, "{length} bytes: {}", verdict.name());
        }
    }
}

#[test]
pub(crate) fn x05_mutated_frames_are_never_aborted() {
    let mut program = program!();
    program.ban(BAD, 1, FOREVER);
    program.limits(Limits { flags: Limits::SCOPE_HOST, ..limits() });
    let seeds = [
        Frame::tcp(BAD, 443).options(3).bytes(),
        Frame::udp(GOOD, 443).tags(&[0x8100]).bytes(),
        Frame::tcp(GOOD6, 443).extension(extension::HOP_BY_HOP, 8).extension(extension::AUTHENTICATION, 24).bytes(),
        Frame::tcp(BAD6, 443).fragment(0, true).tags(&[0x88a8, 0x8100]).bytes(),
        arp(),
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let before: u64 = program.packet_counts().iter().map(|count| count.packets).sum();
    let rounds = 100_000;
    for round in 0..rounds {
        let mut frame = seeds[round % seeds.len()].clone();
        for _ in 0..=random(4) {
            let at = 12 + random(frame.len() - 12);
            frame[at] = u8::try_from(random(256)).unwrap();
        }
        frame.truncate(14 + random(frame.len() - 13));
        let (action, _) = program.run(&frame, 1);
        assert!(action == 1 || action == 2, "action {action}: {frame:02x?}");
    }
    let after: u64 = program.packet_counts().iter().map(|count| count.packets).sum();
    assert_eq!(after - before, rounds as u64, "each is counted once");
}

#[test]
pub(crate) fn what_no_list_applies_to() {
    let mut program = program!();
    program.limits(Limits { flags: Limits::SCOPE_HOST, ..limits() });
    program.ban(BAD6, 1, FOREVER);
    let solicitation = || Frame::of(BAD6, ICMPV6, [vec![135, 0], vec![0; 22]].concat());
    program.check(&[
        ("ARP", arp(), NotIp),
        ("802.3 length", patched(arp(), 12, &[0, 46]), NotIp),
        ("link-local", Frame::tcp("fe80::1", 443).bytes(), NotIp),
        ("neighbour solicitation from a banned network", solicitation().hop_limit(255).bytes(), NotIp),
        ("the same from afar", solicitation().hop_limit(254).bytes(), Blocked),
        ("echo request", Frame::of(BAD6, ICMPV6, vec![128; 8]).hop_limit(255).bytes(), Blocked),
    ]);
}
