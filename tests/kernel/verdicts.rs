//! What lists, scope and limits make of a packet that is in order.

use std::time::{Duration, Instant};

use gateway_common::{
    limit::Rate,
    maps::{Ban, Hits, Limits, Rule},
    verdict::Verdict,
};
use support::{
    frame::{Frame, ICMP, UDP},
    report::note,
};

use crate::program::{FOREVER, limits, program, seconds_from_now};

use Verdict::{Allowed, Blocked, OverPackets, Passed, ShadowBlocked, Unguarded};

const SOURCE: &str = "203.0.113.7";
const SOURCE6: &str = "2001:db8:1:2::7";

#[test]
pub(crate) fn bans_end_and_shadows_pass() {
    let mut program = program!();
    for source in [SOURCE, SOURCE6] {
        let frame = Frame::tcp(source, 443).bytes();
        program.check(&[("no entry", frame.clone(), Passed)]);
        for (what, id, expires, expect) in [
            ("in force", 1, seconds_from_now(60), Blocked),
            ("for ever", 1, FOREVER, Blocked),
            ("ended a second ago", 1, seconds_from_now(-1), Passed),
            ("ended long ago", 1, 1, Passed),
            ("shadow", 1 | Ban::SHADOW, seconds_from_now(60), ShadowBlocked),
            ("ended shadow", 1 | Ban::SHADOW, seconds_from_now(-1), Passed),
        ] {
            program.ban(source, id, expires);
            program.check(&[(what, frame.clone(), expect)]);
        }
    }
}

#[test]
pub(crate) fn a_ban_ends_by_itself() {
    let mut program = program!();
    let frame = Frame::tcp(SOURCE, 443).bytes();
    // It ends at some time between these two, however long a busy machine takes over each line.
    let earliest = Instant::now() + Duration::from_secs(1);
    program.ban(SOURCE, 1, seconds_from_now(1));
    let latest = Instant::now() + Duration::from_secs(1);
    loop {
        let asked = Instant::now();
        if program.judge(&frame) != Blocked {
            break;
        }
        assert!(asked < latest + Duration::from_millis(100), "it is over");
    }
    assert!(Instant::now() >= earliest - Duration::from_millis(1), "it ended early");
}

#[test]
pub(crate) fn an_ipv6_ban_is_of_the_network() {
    let mut program = program!();
    program.ban(SOURCE6, 1, FOREVER);
    program.check(&[
        ("the address", Frame::tcp(SOURCE6, 443).bytes(), Blocked),
        ("a neighbour", Frame::tcp("2001:db8:1:2:ffff::1", 443).bytes(), Blocked),
        ("the next network", Frame::tcp("2001:db8:1:3::7", 443).bytes(), Passed),
    ]);
    program.limits(Limits { ipv6_mask: u64::MAX << 16, ..limits() });
    program.ban("2001:db8:1::", 2, FOREVER);
    program.check(&[("told apart by /48", Frame::tcp("2001:db8:1:3::7", 443).bytes(), Blocked)]);
}

#[test]
pub(crate) fn rules_of_prefixes() {
    let mut program = program!();
    program.rule("203.0.113.0/24", Rule::DENY, 1, FOREVER);
    program.rule("198.51.100.0/24", Rule::DENY, 2, seconds_from_now(-1));
    program.rule("192.0.2.0/24", Rule::SHADOW, 3, FOREVER);
    program.rule("203.0.113.128/25", Rule::ALLOW, 0, FOREVER);
    program.rule("2001:db8::/32", Rule::DENY, 4, seconds_from_now(60));
    program.rule("2001:db8:a::1", Rule::ALLOW, 0, FOREVER);
    program.ban("203.0.113.129", 1, FOREVER);
    program.check(&[
        ("denied", Frame::tcp("203.0.113.7", 443).bytes(), Blocked),
        ("ended", Frame::tcp("198.51.100.1", 443).bytes(), Passed),
        ("shadow", Frame::tcp("192.0.2.1", 443).bytes(), ShadowBlocked),
        ("allowed within denied, and banned", Frame::tcp("203.0.113.129", 443).bytes(), Allowed),
        ("neither", Frame::tcp("203.0.114.1", 443).bytes(), Passed),
        ("denied, IPv6", Frame::tcp("2001:db8:a::2", 443).bytes(), Blocked),
        ("allowed, IPv6", Frame::tcp("2001:db8:a::1", 443).bytes(), Allowed),
        ("neither, IPv6", Frame::tcp("2001:db9::1", 443).bytes(), Passed),
        ("denied, but not in scope", Frame::tcp("203.0.113.7", 22).bytes(), Unguarded),
    ]);
    let bytes = Frame::tcp("203.0.113.7", 443).bytes().len() as u64;
    assert_eq!(program.hits(1), Hits { packets: 1, bytes });
    assert_eq!(program.hits(2), Hits::default());
    assert_eq!(program.hits(3), Hits { packets: 1, bytes });
    assert_eq!(program.hits(4), Hits { packets: 1, bytes: bytes + 20 });
}

#[test]
pub(crate) fn scope_listeners_and_host() {
    let frames = |source: &str| {
        [
            Frame::tcp(source, 443).bytes(),
            Frame::udp(source, 443).bytes(),
            Frame::tcp(source, 22).bytes(),
            Frame::udp(source, 80).bytes(),
            Frame::of(source, ICMP, vec![8; 8]).bytes(),
            Frame::of(source, 50, vec![8; 16]).bytes(),
            Frame::of(source, 47, vec![8; 16]).bytes(),
        ]
    };
    let names = ["TCP", "UDP", "TCP to SSH", "UDP to a TCP port", "ICMP", "encrypted", "tunnel"];
    let mut program = program!();
    program.ban(SOURCE, 1, FOREVER);
    for (flags, banned, other) in [
        (
            0,
            [Blocked, Blocked, Unguarded, Unguarded, Unguarded, Blocked, Unguarded],
            [Passed, Passed, Unguarded, Unguarded, Unguarded, Passed, Unguarded],
        ),
        (Limits::SCOPE_HOST, [Blocked; 7], [Passed; 7]),
    ] {
        program.limits(Limits { flags, ..limits() });
        for (source, expect) in [(SOURCE, banned), ("203.0.113.8", other)] {
            for ((name, frame), expect) in names.into_iter().zip(frames(source)).zip(expect) {
                program.check(&[(name, frame, expect)]);
            }
        }
    }
}

#[test]
pub(crate) fn entries_count_what_they_drop() {
    let mut program = program!();
    let frame = Frame::of(SOURCE, UDP, [&[0x9c, 0x40, 1, 187][..], &[0; 1_000]].concat()).bytes();
    for (id, what) in [(1, "enforced"), (2 | Ban::SHADOW, "shadow")] {
        program.ban(SOURCE, id, FOREVER);
        program.run(&frame, 1_000);
        let ban = program.find_ban(SOURCE);
        assert_eq!((ban.packets, ban.bytes), (1_000, 1_000 * frame.len() as u64), "{what}");
    }
    program.ban(SOURCE, 3, seconds_from_now(-1));
    program.run(&frame, 10);
    assert_eq!(program.find_ban(SOURCE).packets, 0, "an ended entry drops nothing");
}

/// Sends at full speed for `time`: how many packets passed, and for how long a busy machine let nothing be sent while
/// the budget was full after `full`.
fn passed(program: &mut crate::program::Program, frame: &[u8], time: Duration, full: Duration) -> (u64, Duration) {
    let before = program.packet_counts()[Passed as usize].packets;
    let (mut last, mut lost) = (Instant::now(), Duration::ZERO);
    let end = last + time;
    while last < end {
        program.run(frame, 1_000);
        lost += last.elapsed().saturating_sub(full);
        last = Instant::now();
    }
    (program.packet_counts()[Passed as usize].packets - before, lost)
}

#[test]
pub(crate) fn d05_packet_budget_admits_rate_and_burst() {
    let mut program = program!();
    for (source, rate, burst) in [(SOURCE, 10_000, 500), (SOURCE6, 2_000, 2_000)] {
        program.limits(Limits { packets: Rate::per_second(rate, burst).unwrap(), ..limits() });
        let frame = Frame::tcp(source, 443).bytes();
        let started = Instant::now();
        let full = Duration::from_millis(burst * 1_000 / rate);
        let (admitted, lost) = passed(&mut program, &frame, Duration::from_millis(1_000), full);
        let elapsed = started.elapsed().as_millis();
        // The clock of the program moves in ticks of up to 10 ms.
        let expect = rate * u64::try_from(elapsed).unwrap() / 1_000 + burst;
        assert!(admitted <= expect + rate / 50 + 2, "{source}: {admitted} in {elapsed} ms, not {expect}");
        // Idle time beyond the burst earns nothing.
        let expect = expect.saturating_sub(rate * u64::try_from(lost.as_millis()).unwrap() / 1_000);
        assert!(admitted >= expect * 4 / 5, "{source}: {admitted} in {elapsed} ms, not {expect}");
        let over = program.packet_counts()[OverPackets as usize].packets;
        program.run(&frame, 10_000);
        assert!(program.packet_counts()[OverPackets as usize].packets > over, "{source}: the rest is dropped");
        program.check(&[
            ("another source", Frame::tcp("203.0.113.200", 443).bytes(), Passed),
            ("not in scope", Frame::tcp(source, 22).bytes(), Unguarded),
        ]);
    }
}

#[test]
pub(crate) fn a_quiet_source_has_no_budget_to_exceed() {
    let mut program = program!();
    let packets = Rate::per_second(1, 1).unwrap();
    program.limits(Limits { packets, sketch_threshold: 100, ..limits() });
    let frame = Frame::tcp(SOURCE, 443).bytes();
    // Twice the threshold at most: an epoch may end meanwhile.
    program.run(&frame, 98);
    assert_eq!(program.packet_counts()[OverPackets as usize].packets, 0);
    program.run(&frame, 1_000);
    assert!(program.packet_counts()[OverPackets as usize].packets > 700);
}

#[test]
pub(crate) fn allowed_sources_and_shadows_and_the_budget() {
    let mut program = program!();
    program.limits(Limits { packets: Rate::per_second(1, 1).unwrap(), ..limits() });
    program.rule("192.0.2.1", Rule::ALLOW, 0, FOREVER);
    let frame = Frame::tcp("192.0.2.1", 443).bytes();
    program.run(&frame, 1_000);
    assert_eq!(program.packet_counts()[Allowed as usize].packets, 1_000, "never limited");
    program.ban(SOURCE, 1 | Ban::SHADOW, FOREVER);
    program.run(&Frame::tcp(SOURCE, 443).bytes(), 1_000);
    let counts = program.packet_counts();
    assert!(counts[OverPackets as usize].packets > 990, "a shadow entry shields from no limit");
    assert_eq!(program.find_ban(SOURCE).packets, 1_000);
}

#[test]
pub(crate) fn nanoseconds_for_each_packet() {
    let mut program = program!();
    program.limits(Limits {
        packets: Rate::per_second(100_000_000, 100_000).unwrap(),
        sketch_threshold: 1 << 19,
        ..limits()
    });
    program.ban("203.0.113.1", 1, FOREVER);
    program.rule("198.51.100.0/24", Rule::DENY, 1, FOREVER);
    for (what, frame) in [
        ("ARP", support::frame::arp()),
        ("not in scope", Frame::tcp(SOURCE, 22).bytes()),
        ("banned", Frame::tcp("203.0.113.1", 443).bytes()),
        ("banned, behind a VLAN tag", Frame::tcp("203.0.113.1", 443).tags(&[0x8100]).bytes()),
        ("denied by prefix", Frame::tcp("198.51.100.1", 443).bytes()),
        ("passed", Frame::tcp(SOURCE, 443).bytes()),
        ("passed, IPv6", Frame::tcp(SOURCE6, 443).bytes()),
        ("passed, IPv6, three headers", {
            let frame = Frame::tcp(SOURCE6, 443).extension(0, 8).extension(60, 8).extension(43, 24);
            frame.bytes()
        }),
    ] {
        let best = (0..3).map(|_| program.run(&frame, 100_000).1).min().unwrap();
        note(&format!("{what}: {best} ns for a packet"));
        assert!(best < 2_000, "{what}: {best} ns is no fast path");
    }
    program.limits(Limits { packets: Rate::per_second(100_000_000, 100_000).unwrap(), ..limits() });
    let best = (0..3).map(|_| program.run(&Frame::tcp(SOURCE, 443).bytes(), 100_000).1).min().unwrap();
    note(&format!("passed, with a budget: {best} ns for a packet"));
}
