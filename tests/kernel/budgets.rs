//! What budgets make of a packet: a source's own, of packets, bytes and SYNs, and the one of all SYNs together.

use std::{cell::RefCell, net::TcpListener, thread};

use etherparse::{PacketHeaders, SlicedPacket, TransportSlice};
use gateway_common::{
    limit::{ByteRate, Rate},
    maps::{Ban, Limits, Rule},
    verdict::Verdict,
};
use nix::sched::{CloneFlags, unshare};
use support::{
    frame::{Frame, TCP, UDP, patched},
    report,
};

use crate::program::{FOREVER, Program, VARIANT, limits, program, row};

use Verdict::{
    Allowed, Blocked, CookieRefused, CookieSent, OverBytes, OverPackets, OverSyns, Passed, ShadowBlocked,
    ShadowOverBytes, ShadowOverPackets, ShadowOverSyns, Unguarded,
};

const SOURCE: &str = "203.0.113.7";
const SOURCE6: &str = "2001:db8:1:2::7";

/// What a packet is put into.
type Form = fn(Frame) -> Frame;

/// So slow that nothing is earned back during a test.
fn few(units: u64) -> Rate {
    Rate::per(1, 3_600_000_000_000, units).unwrap()
}

fn bytes(burst: u64) -> ByteRate {
    ByteRate { interval: 1 << 50 >> 8, burst: (1_u64 << 50 >> 8).saturating_mul(burst) >> 10 }
}

#[test]
pub(crate) fn each_budget_is_kept_in_every_form_of_a_packet() {
    let mut program = program!();
    let big = |source: &str| Frame::of(source, UDP, [&[0x9c, 0x40, 1, 187, 3, 0xe8, 0, 0][..], &[0; 992]].concat());
    let forms: [(&str, Form, &str); 8] = [
        ("IPv4", |frame| frame, "203.0.113"),
        ("IPv4, tagged", |frame| frame.tags(&[0x8100]), "203.0.114"),
        ("IPv4, two tags", |frame| frame.tags(&[0x88a8, 0x8100]), "203.0.115"),
        ("IPv4, options", |frame| frame.options(10), "203.0.116"),
        ("IPv6", |frame| frame, "2001:db8:1:"),
        ("IPv6, tagged", |frame| frame.tags(&[0x8100]), "2001:db8:2:"),
        ("IPv6, hop-by-hop", |frame| frame.extension(0, 8), "2001:db8:3:"),
        (
            "IPv6, tagged, three headers",
            |f| f.tags(&[0x8100]).extension(0, 8).extension(60, 16).extension(43, 24),
            "2001:db8:4:",
        ),
    ];
    for (what, form, network) in forms {
        let source = |host: u8| {
            if network.contains(':') { format!("{network}{host}::7") } else { format!("{network}.{host}") }
        };
        // Whoever is entered passes; what he is charged is what was weighed of him: this packet.
        program.limits(Limits { packets: few(4), ..limits() });
        let frame = form(Frame::tcp(&source(1), 443)).bytes();
        row(&mut program, what, &frame, &[(Passed, 4), (OverPackets, 3)]);
        program.limits(Limits { packets: few(4), flags: Limits::SHADOW_PACKETS, ..limits() });
        row(&mut program, what, &frame, &[(ShadowOverPackets, 2)]);

        program.limits(Limits { syns: few(3), syn_weight: 0, ..limits() });
        let syn = form(Frame::syn(&source(2), 443)).bytes();
        row(&mut program, what, &syn, &[(Passed, 3), (OverSyns, 3)]);
        row(&mut program, what, &form(Frame::tcp(&source(2), 443)).bytes(), &[(Passed, 5)]);
        program.limits(Limits { syns: few(3), flags: Limits::SHADOW_SYNS, ..limits() });
        row(&mut program, what, &syn, &[(ShadowOverSyns, 2)]);

        let frame = form(big(&source(3))).bytes();
        let burst = 3 * frame.len() as u64 + 10;
        // What is weighed in pieces of 64 KiB charges little at first.
        program.limits(Limits { bytes: bytes(burst), byte_shift: 0, ..limits() });
        row(&mut program, what, &frame, &[(Passed, 3), (OverBytes, 3)]);
        program.limits(Limits { bytes: bytes(burst), byte_shift: 0, flags: Limits::SHADOW_BYTES, ..limits() });
        row(&mut program, what, &frame, &[(ShadowOverBytes, 2)]);
        program.check(&[("out of scope", form(Frame::syn(&source(3), 22)).bytes(), Unguarded)]);
    }
}

#[test]
pub(crate) fn lists_come_before_budgets_and_a_shadow_hides_none() {
    let mut program = program!();
    program.rule("192.0.2.0/24", Rule::ALLOW, 0, FOREVER);
    program.ban("198.51.100.1", 1, FOREVER);
    program.ban("198.51.100.2", 2 | Ban::SHADOW, FOREVER);
    let limited = Limits { packets: few(2), bytes: bytes(1 << 20), syns: few(1), all_syns: few(1), ..limits() };
    program.limits(limited);
    for (source, expect) in [
        ("192.0.2.1", [(Allowed, 6), (Allowed, 1)]),
        ("198.51.100.1", [(Blocked, 6), (Blocked, 1)]),
        ("198.51.100.2", [(ShadowBlocked, 1), (OverSyns, 3)]),
    ] {
        row(&mut program, source, &Frame::syn(source, 443).bytes(), &expect);
    }
    // Of two limits in shadow, one that is not still drops.
    program.limits(Limits { flags: Limits::SHADOW_SYNS | Limits::SHADOW_BYTES, all_syns: Rate::UNLIMITED, ..limited });
    row(
        &mut program,
        "one enforced",
        &Frame::syn("203.0.113.9", 443).bytes(),
        &[(Passed, 1), (ShadowOverSyns, 1), (OverPackets, 2)],
    );
}

#[test]
pub(crate) fn syns_and_bytes_weigh_so_that_few_packets_reach_their_limits() {
    let mut program = program!();
    let limited = Limits { packets: few(1_000_000), sketch_threshold: 100_000, ..limits() };
    program.limits(Limits { syns: few(10), syn_weight: 20_000, ..limited });
    program.run(&Frame::syn(SOURCE, 443).bytes(), 100);
    let over = program.packet_counts()[OverSyns as usize].packets;
    // Five make the weight; what they were is charged.
    assert!((85..=96).contains(&over), "{over} of 100 SYNs are over");
    program.limits(Limits { bytes: bytes(20_000), byte_shift: 3, ..limited });
    let frame = Frame::of(SOURCE6, UDP, [&[0x9c, 0x40, 1, 187, 3, 0xe8, 0, 0][..], &[0; 992]].concat()).bytes();
    program.limits(Limits { bytes: bytes(20_000), byte_shift: 3, sketch_threshold: 1_000, ..limited });
    program.run(&frame, 100);
    let over = program.packet_counts()[OverBytes as usize].packets;
    assert!((75..=92).contains(&over), "{over} of 100 large packets are over");
}

#[test]
pub(crate) fn an_entry_that_was_evicted_comes_back_empty() {
    let mut program = program!();
    let frame = Frame::tcp(SOURCE, 443).bytes();
    for (what, sent_before, expect) in [
        // Charged with what the sketch has counted: eleven when the budget is made.
        ("first seen", 0, 1 + 1_000 - 11),
        // Lost its entry while it was busy: nothing is left of the burst.
        ("evicted", 500, 1),
        ("evicted again", 500, 1),
    ] {
        program.limits(Limits { packets: few(1_000), sketch_threshold: 11, seed: 9, ..limits() });
        program.run(&frame, sent_before);
        program.evict(SOURCE);
        let before = program.packet_counts()[OverPackets as usize].packets;
        let offered = if sent_before == 0 { 2_000 } else { 100 };
        program.run(&frame, offered);
        let over = program.packet_counts()[OverPackets as usize].packets - before;
        let passed = u64::from(offered) - over;
        let free = if sent_before == 0 { 10 } else { 0 };
        assert!(passed.abs_diff(expect + free) <= 1, "{what}: {passed} passed, not {}", expect + free);
    }
}

#[test]
pub(crate) fn an_entry_that_was_evicted_comes_back_empty_on_a_cpu_that_never_saw_its_source() {
    for advance in [0, 7] {
        let mut program = program!();
        let frame = Frame::tcp(SOURCE, 443).bytes();
        program.limits(Limits { packets: few(1_000), sketch_threshold: 11, seed: 9, advance, ..limits() });
        program.run(&frame, 2_000);
        program.evict(SOURCE);
        if !program.move_to(1) {
            report::skipped("an eviction seen from another CPU", "there is one CPU only");
            return;
        }
        let before = program.packet_counts()[OverPackets as usize].packets;
        program.run(&frame, 100);
        let over = program.packet_counts()[OverPackets as usize].packets - before;
        // Ten are below what is worth an entry, the eleventh makes it.
        assert_eq!(100 - over, 11, "passed after the eviction, taking {advance} in advance");
    }
}

#[test]
pub(crate) fn who_is_over_his_budget_is_noticed_in_a_flood_of_any_size() {
    let mut program = program!();
    let frame = Frame::tcp(SOURCE, 443).bytes();
    program.limits(Limits { packets: few(1_000), sketch_threshold: 125, ..limits() });
    for weight in [0, 1 << 25, 1 << 40] {
        program.weighed(weight);
        let before = program.packet_counts()[OverPackets as usize].packets;
        program.run(&frame, 4_000);
        let over = program.packet_counts()[OverPackets as usize].packets - before;
        // A second's budget before he is noticed, or half as much again where an epoch ends; then what is left of it.
        assert!(over > 1_500, "{over} of 4,000 packets are over, in a flood of {weight}");
        program.evict(SOURCE);
    }
}

#[test]
pub(crate) fn what_is_taken_in_advance_is_taken_once() {
    let mut program = program!();
    let limited = Limits { packets: few(1_000), advance: 16, ..limits() };
    for (what, limits, expect) in [
        ("packets", limited, 1_000),
        // One that is not there to be taken sixteen times is taken alone.
        ("bytes", Limits { bytes: bytes(54 * 100 + 10), byte_shift: 31, ..limited }, 100),
    ] {
        program.limits(limits);
        let source = if what == "packets" { SOURCE } else { "203.0.113.99" };
        let before = program.packet_counts()[Passed as usize].packets;
        program.run(&Frame::tcp(source, 443).bytes(), 5_000);
        let passed = program.packet_counts()[Passed as usize].packets - before;
        assert!(passed.abs_diff(expect) <= 1, "{what}: {passed} passed, not {expect}");
    }
}

#[test]
pub(crate) fn events_are_few_and_name_source_and_reason() {
    let mut program = program!();
    program.ban(SOURCE, 1, FOREVER);
    let frame = Frame::tcp(SOURCE, 443).bytes();
    drop(program.events());
    program.run(&frame, 10_000);
    let events = program.events();
    assert!((1..10).contains(&events.len()), "{} events", events.len());
    let event = events[0];
    assert_eq!(event[8..16], 0xffff_0000_cb00_7107_u64.to_ne_bytes());
    assert_eq!(event[16..20], 1_u32.to_ne_bytes());
    assert_eq!(event[20..24], u32::try_from(frame.len()).unwrap().to_ne_bytes());
    assert_eq!((&event[24..26], event[26]), (&443_u16.to_ne_bytes()[..], TCP));
    // Whoever is judged by himself comes in by the loopback interface.
    assert_eq!(event[28..32], 1_u32.to_ne_bytes());
    program.run(&Frame::tcp(SOURCE, 22).bytes(), 10_000);
    assert!(program.events().is_empty(), "what passes is not told of");
    // A flood of one verdict hides no other.
    program.run(&frame, 10_000);
    program.run(&frame[..20], 1);
    let told = |verdict: Verdict| (verdict as u32).to_ne_bytes();
    assert!(
        program.events().iter().any(|event| event[16..20] == told(Verdict::Malformed)),
        "the malformed one is not told of"
    );
}

thread_local! {
    /// What listens on port 443 in the network of a test.
    pub(crate) static LISTENER: RefCell<Option<TcpListener>> = const { RefCell::new(None) };
}

/// Runs a test in a network of its own in which the stack always has cookies, and something listens on port 443.
pub(crate) fn listening(test: impl FnOnce(&mut Program) + Send + 'static) {
    if !report::may_run(thread::current().name().unwrap_or("cookies")) {
        return;
    }
    let variant = VARIANT.get();
    let inside = thread::spawn(move || {
        VARIANT.set(variant);
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        std::fs::write("/proc/sys/net/ipv4/tcp_syncookies", "2").unwrap();
        let listener = TcpListener::bind("[::]:443").unwrap();
        LISTENER.set(Some(listener));
        test(&mut Program::load());
    });
    inside.join().unwrap();
}

#[test]
pub(crate) fn beyond_the_global_budget_a_syn_is_answered_with_a_cookie() {
    listening(|program| {
        program.ban("198.51.100.7", 1, FOREVER);
        program.rule("192.0.2.0/24", Rule::ALLOW, 0, FOREVER);
        program.rule("198.18.0.0/15", Rule::DENY, 0, FOREVER);
        program.limits(Limits { all_syns: few(2), ..limits() });
        row(program, "within", &Frame::syn(SOURCE, 443).bytes(), &[(Passed, 2), (CookieSent, 3)]);
        program.check(&[
            ("banned", Frame::syn("198.51.100.7", 443).bytes(), Blocked),
            ("denied", Frame::syn("198.18.0.1", 443).bytes(), Blocked),
            ("allowed", Frame::syn("192.0.2.1", 443).bytes(), Allowed),
            ("no listener", Frame::syn(SOURCE, 80).bytes(), CookieRefused),
            ("not guarded", Frame::syn(SOURCE, 22).bytes(), Unguarded),
            ("no SYN", Frame::tcp(SOURCE, 443).bytes(), Passed),
            ("to many", patched(Frame::syn(SOURCE, 443).bytes(), 0, &[3]), CookieRefused),
            ("a data offset of 16 bytes", patched(Frame::syn(SOURCE, 443).bytes(), 46, &[0x40]), CookieRefused),
            ("options beyond the end", patched(Frame::syn(SOURCE, 443).bytes(), 46, &[0xf0]), CookieRefused),
        ]);
        for (what, frame) in [
            ("IPv4", Frame::syn(SOURCE, 443)),
            ("IPv4, tagged", Frame::syn(SOURCE, 443).tags(&[0x8100])),
            ("IPv4, two tags", Frame::syn(SOURCE, 443).tags(&[0x88a8, 0x8100])),
            ("IPv4, options", Frame::syn(SOURCE, 443).options(3)),
            ("IPv6", Frame::syn(SOURCE6, 443)),
            ("IPv6, tagged", Frame::syn(SOURCE6, 443).tags(&[0x8100])),
            ("IPv6, extension headers", Frame::syn(SOURCE6, 443).extension(0, 8).extension(60, 16)),
        ] {
            let frame = frame.bytes();
            assert_eq!(program.judge(&frame), CookieSent, "{what}");
            answers(what, &frame, &program.becomes(&frame));
        }
    });
}

/// Expects the answer to a SYN: a SYN and ACK with one option, right in every field and both checksums.
#[track_caller]
fn answers(what: &str, asked: &[u8], answer: &[u8]) {
    assert_eq!((&answer[..6], &answer[6..12]), (&asked[6..12], &asked[..6]), "{what}: addresses of the link");
    let (before, after) = (SlicedPacket::from_ethernet(asked).unwrap(), SlicedPacket::from_ethernet(answer).unwrap());
    assert_eq!(format!("{:?}", before.vlan_ids()), format!("{:?}", after.vlan_ids()), "{what}: tags");
    let headers = PacketHeaders::from_ethernet_slice(answer).unwrap();
    let (Some(TransportSlice::Tcp(syn)), Some(TransportSlice::Tcp(ack))) = (before.transport, after.transport) else {
        panic!("{what}: no TCP")
    };
    assert!(ack.syn() && ack.ack() && !ack.rst() && !ack.fin(), "{what}: flags");
    assert_eq!(ack.acknowledgment_number(), syn.sequence_number() + 1, "{what}: acknowledged");
    assert_eq!((ack.source_port(), ack.destination_port()), (syn.destination_port(), syn.source_port()), "{what}");
    assert_eq!((ack.options().len(), &ack.options()[..2], ack.window_size()), (4, &[2, 4][..], 0xffff), "{what}");
    let tcp = ack.to_header();
    let (source, destination, checksum) = match headers.net.unwrap() {
        etherparse::NetHeaders::Ipv4(header, _) => {
            assert_eq!(header.calc_header_checksum(), header.header_checksum, "{what}: checksum of the header");
            assert_eq!(header.total_len, 44, "{what}: length");
            let checksum = tcp.calc_checksum_ipv4(&header, &[]).unwrap();
            (header.source.to_vec(), header.destination.to_vec(), checksum)
        }
        etherparse::NetHeaders::Ipv6(header, _) => {
            assert_eq!(header.payload_length, 24, "{what}: length");
            let checksum = tcp.calc_checksum_ipv6(&header, &[]).unwrap();
            (header.source.to_vec(), header.destination.to_vec(), checksum)
        }
        _ => panic!("{what}: no IP"),
    };
    assert_eq!(checksum, ack.checksum(), "{what}: checksum");
    let asker = match before.net.unwrap() {
        etherparse::NetSlice::Ipv4(slice) => (slice.header().source().to_vec(), slice.header().destination().to_vec()),
        etherparse::NetSlice::Ipv6(slice) => (slice.header().source().to_vec(), slice.header().destination().to_vec()),
        etherparse::NetSlice::Arp(_) => panic!("{what}: no IP"),
    };
    assert_eq!((destination, source), asker, "{what}: addresses");
    assert_eq!(answer.len(), answer.len().min(asked.len()), "{what}: never longer than what it answers");
}

#[test]
pub(crate) fn a_stack_without_cookies_is_left_to_answer() {
    listening(|program| {
        std::fs::write("/proc/sys/net/ipv4/tcp_syncookies", "0").unwrap();
        program.limits(Limits { all_syns: few(1), ..limits() });
        row(program, "none", &Frame::syn(SOURCE, 443).bytes(), &[(Passed, 1), (CookieRefused, 2)]);
        assert_eq!(program.becomes(&Frame::syn(SOURCE, 443).bytes()), Frame::syn(SOURCE, 443).bytes());
        std::fs::write("/proc/sys/net/ipv4/tcp_syncookies", "1").unwrap();
        row(program, "not yet", &Frame::syn(SOURCE, 443).bytes(), &[(CookieRefused, 1)]);
    });
}

#[test]
pub(crate) fn two_cpus_share_one_budget() {
    let mut program = program!();
    let (rate, burst) = (100_000, 1_000);
    for (advance, source) in [(0, SOURCE), (7, "203.0.113.8")] {
        let packets = Rate::per_second(rate, burst).unwrap();
        program.limits(Limits { packets, sketch_threshold: 1, advance, ..limits() });
        let (passed, elapsed) = program.hammer(&Frame::tcp(source, 443).bytes(), 2, 300_000);
        // Nothing that is passed twice: the clock stands still for a tick, and the runs do not fill all of the time.
        let most = elapsed.as_millis() * u128::from(rate) / 1_000 + u128::from(burst);
        assert!(u128::from(passed) * 100 <= most * 105, "{passed} passed in {elapsed:?}, at most {most}");
    }
}
