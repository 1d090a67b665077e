//! What becomes of packets while the budget of all sources is spent, and of sources that have a budget of their own.

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use gateway_common::{
    limit::{ByteRate, Rate},
    maps::{Ban, Budget, FAST_LANE, Hits, Limits, Rule},
    verdict::Verdict,
};
use socket2::{Domain, SockRef, Socket, Type};
use support::frame::{Frame, UDP};

use crate::{
    budgets::{LISTENER, listening},
    live::ip,
    program::{FOREVER, limits, program, row, seconds_from_now},
};

use Verdict::{
    Allowed, Blocked, Clamped, CookieSent, FastLane, OverBytes, OverPackets, OverSyns, OverTotal, Passed,
    ShadowClamped, ShadowOverPackets, ShadowOverSyns, ShadowOverTotal, Unguarded,
};

const SOURCE: &str = "203.0.113.7";
const SOURCE6: &str = "2001:db8:1:2::7";

/// Makes every address one of this host, in a network of the test's own: sockets can be of anybody.
pub(crate) fn anywhere() {
    ip(&["link", "set", "lo", "up"]);
    ip(&["route", "add", "local", "0.0.0.0/0", "dev", "lo"]);
    ip(&["-6", "route", "add", "local", "::/0", "dev", "lo"]);
    for family in ["ipv4", "ipv6"] {
        std::fs::write(format!("/proc/sys/net/{family}/ip_nonlocal_bind"), "1").unwrap();
    }
}

/// Both ends of a connection from the source of test frames to where they go, of this priority at the gateway's end.
pub(crate) fn proven(source: &str, priority: u32) -> (Socket, TcpStream) {
    let source: IpAddr = source.parse().unwrap();
    let gateway = if source.is_ipv4() { support::frame::DESTINATION_V4 } else { support::frame::DESTINATION_V6 };
    let client = Socket::new(Domain::for_address(SocketAddr::new(source, 0)), Type::STREAM, None).unwrap();
    client.set_reuse_address(true).unwrap();
    client.bind(&SocketAddr::new(source, 40_000).into()).unwrap();
    let server = SocketAddr::new(gateway, 443);
    client.connect_timeout(&server.into(), Duration::from_secs(5)).unwrap();
    let (accepted, peer) = LISTENER.with_borrow(|listener| listener.as_ref().unwrap().accept()).unwrap();
    assert_eq!(peer.ip().to_canonical(), source);
    assert_eq!(SockRef::from(&accepted).priority().unwrap(), 0, "nobody else's mark");
    SockRef::from(&accepted).set_priority(priority).unwrap();
    (client, accepted)
}

/// So slow that nothing is earned back during a test.
fn few(units: u64) -> Rate {
    Rate::per(1, 3_600_000_000_000, units).unwrap()
}

#[test]
pub(crate) fn d05_the_budget_of_all_is_one_for_everybody() {
    let mut program = program!();
    program.rule("192.0.2.0/24", Rule::ALLOW, 0, FOREVER);
    program.ban("198.51.100.1", 1, FOREVER);
    let mut total = few(100);
    program.limits(Limits { all_packets: total, all_advance: 16, ..limits() });
    let mut passed = 0;
    for number in 0..300_u32 {
        let source = format!("203.{}.{}.7", number / 200, number % 200);
        passed += u32::from(program.judge(&Frame::tcp(&source, 443).bytes()) == Passed);
    }
    assert_eq!(passed, 100, "sources that are all different");
    program.check(&[
        ("allowlisted", Frame::tcp("192.0.2.1", 443).bytes(), Allowed),
        ("banned", Frame::tcp("198.51.100.1", 443).bytes(), Blocked),
        ("to another port", Frame::tcp(SOURCE, 22).bytes(), Unguarded),
        ("UDP", Frame::udp(SOURCE, 443).bytes(), OverTotal),
        ("a SYN", Frame::syn(SOURCE6, 443).bytes(), OverTotal),
        ("a later fragment, whose port nobody knows", Frame::tcp(SOURCE, 443).fragment(185, false).bytes(), OverTotal),
    ]);
    // A source that is over its own budget takes nothing from the others.
    total.burst += 50 * total.interval;
    program.limits(Limits { packets: few(3), all_packets: total, ..limits() });
    row(&mut program, "one source", &Frame::tcp("203.0.114.1", 443).bytes(), &[(Passed, 3), (OverPackets, 20)]);
    program.limits(Limits { all_packets: total, ..limits() });
    row(&mut program, "the others", &Frame::tcp("203.0.114.2", 443).bytes(), &[(Passed, 47), (OverTotal, 3)]);
    program.limits(Limits { all_packets: total, flags: Limits::SHADOW_ALL, ..limits() });
    row(&mut program, "in shadow", &Frame::tcp("203.0.114.2", 443).bytes(), &[(ShadowOverTotal, 3)]);
}

#[test]
pub(crate) fn connections_that_proved_themselves_go_on_beyond_the_budget_of_all() {
    listening(|program| {
        anywhere();
        program.ban("198.51.100.7", 1, FOREVER);
        program.ban("198.51.100.8", 2 | Ban::SHADOW, FOREVER);
        let spent = Limits { all_packets: few(1), fast_lane: few(1_000), ..limits() };
        program.limits(spent);
        row(program, "spends it", &Frame::tcp("203.0.113.99", 443).bytes(), &[(Passed, 1), (OverTotal, 2)]);
        let connections: Vec<_> =
            [SOURCE, SOURCE6, "198.51.100.7", "198.51.100.8"].map(|source| proven(source, FAST_LANE)).into();
        let unproven = [("203.0.113.20", 0), ("2001:db8:1:3::7", 0), ("203.0.113.21", FAST_LANE + 1)]
            .map(|(source, priority)| proven(source, priority));
        program.check(&[
            ("IPv4", Frame::tcp(SOURCE, 443).bytes(), FastLane),
            ("IPv4, tagged", Frame::tcp(SOURCE, 443).tags(&[0x8100]).bytes(), FastLane),
            ("IPv4, options", Frame::tcp(SOURCE, 443).options(3).bytes(), FastLane),
            ("IPv6", Frame::tcp(SOURCE6, 443).bytes(), FastLane),
            ("IPv6, two tags", Frame::tcp(SOURCE6, 443).tags(&[0x88a8, 0x8100]).bytes(), FastLane),
            ("IPv6, headers", Frame::tcp(SOURCE6, 443).extension(0, 8).extension(60, 16).bytes(), FastLane),
            ("banned", Frame::tcp("198.51.100.7", 443).bytes(), Blocked),
            ("another port of the same source", patched_port(Frame::tcp(SOURCE, 443).bytes()), OverTotal),
            ("to another port", Frame::tcp(SOURCE, 80).bytes(), OverTotal),
            ("a SYN in its name", Frame::syn(SOURCE, 443).bytes(), OverTotal),
            ("UDP in its name", Frame::udp(SOURCE, 443).bytes(), OverTotal),
            ("a fragment in its name", Frame::tcp(SOURCE, 443).fragment(0, true).bytes(), OverTotal),
            ("an unmarked connection", Frame::tcp("203.0.113.20", 443).bytes(), OverTotal),
            ("an unmarked connection, IPv6", Frame::tcp("2001:db8:1:3::7", 443).bytes(), OverTotal),
            ("another priority", Frame::tcp("203.0.113.21", 443).bytes(), OverTotal),
        ]);
        assert_eq!(program.judge(&Frame::tcp("198.51.100.8", 443).bytes()), Verdict::ShadowBlocked);
        program.limits(Limits { packets: few(2), ..spent });
        row(
            program,
            "its own budget comes first",
            &Frame::tcp(SOURCE, 443).bytes(),
            &[(FastLane, 2), (OverPackets, 3)],
        );
        program.limits(Limits { fast_lane: Rate::UNLIMITED, ..spent });
        assert_eq!(program.judge(&Frame::tcp(SOURCE6, 443).bytes()), OverTotal, "there is no fast lane");
        // What the lane had left is not more for its being spoken of again.
        program.limits(Limits { fast_lane: few(3), ..spent });
        assert_eq!(program.judge(&Frame::tcp(SOURCE6, 443).bytes()), OverTotal, "a lane that is spent");
        program.limits(spent);
        assert_eq!(program.judge(&Frame::tcp(SOURCE6, 443).bytes()), FastLane);
        for (_, accepted) in &connections {
            SockRef::from(accepted).set_priority(0).unwrap();
        }
        assert_eq!(program.judge(&Frame::tcp(SOURCE6, 443).bytes()), OverTotal, "the mark was taken back");
        SockRef::from(&connections[1].1).set_priority(FAST_LANE).unwrap();
        assert_eq!(program.judge(&Frame::tcp(SOURCE6, 443).bytes()), FastLane);
        drop((connections, unproven));
        assert_eq!(program.judge(&Frame::tcp(SOURCE6, 443).bytes()), OverTotal, "the connection is gone");
        program.limits(Limits { all_packets: Rate::UNLIMITED, all_syns: few(1), ..spent });
        row(program, "cookies", &Frame::syn("203.0.113.30", 443).bytes(), &[(Passed, 1), (CookieSent, 2)]);
    });
}

/// From port 40001.
fn patched_port(frame: Vec<u8>) -> Vec<u8> {
    support::frame::patched(frame, 34, &[0x9c, 0x41])
}

#[test]
pub(crate) fn a_source_with_a_budget_of_its_own() {
    let mut program = program!();
    let own = |flags, packets| Budget { expires: FOREVER, flags, packets, ..Budget::default() };
    let all = Limits { packets: few(4), ..limits() };
    program.limits(all);
    let frame = |source: &str| Frame::tcp(source, 443).bytes();
    for (what, source) in [("IPv4", "203.0.113.1"), ("IPv6", "2001:db8:9:1::7")] {
        program.budget(source, own(Budget::CLAMP, few(2)));
        row(&mut program, what, &frame(source), &[(Passed, 2), (Clamped, 3)]);
        let over = Hits { packets: 3, bytes: 3 * frame(source).len() as u64 };
        assert_eq!(program.find_budget(source).over, over, "{what}");
        program.remove_budget(source);
        row(&mut program, "as everybody again", &frame(source), &[(Passed, 4), (OverPackets, 1)]);
    }
    // The whole network of an IPv6 client, and nobody beside it.
    program.budget("2001:db8:9:2::7", own(Budget::CLAMP, few(1)));
    row(&mut program, "its network", &frame("2001:db8:9:2:1:2:3:4"), &[(Passed, 1), (Clamped, 1)]);
    row(&mut program, "another network", &frame("2001:db8:9:3::7"), &[(Passed, 4)]);

    program.budget("203.0.113.2", own(Budget::CLAMP | Budget::SHADOW, few(1)));
    row(&mut program, "in shadow", &frame("203.0.113.2"), &[(Passed, 1), (ShadowClamped, 4), (OverPackets, 1)]);
    program.budget("203.0.113.3", Budget { expires: seconds_from_now(-1), ..own(Budget::CLAMP, few(1)) });
    row(&mut program, "expired", &frame("203.0.113.3"), &[(Passed, 4), (OverPackets, 1)]);
    // A plan gives more than all have, and what is over it is as over any budget.
    program.budget("203.0.113.4", own(0, few(9)));
    row(&mut program, "a plan", &frame("203.0.113.4"), &[(Passed, 9), (OverPackets, 2)]);
    program.limits(Limits { flags: Limits::SHADOW_PACKETS, ..all });
    row(&mut program, "a plan, the limit in shadow", &frame("203.0.113.4"), &[(ShadowOverPackets, 2)]);
    program.limits(all);

    let syns = Budget { expires: FOREVER, flags: Budget::CLAMP, syns: few(1), ..Budget::default() };
    program.budget("203.0.113.5", syns);
    row(&mut program, "SYNs", &Frame::syn("203.0.113.5", 443).bytes(), &[(Passed, 1), (Clamped, 2)]);
    row(&mut program, "no SYNs", &frame("203.0.113.5"), &[(Passed, 9)]);
    program.budget("203.0.113.5", Budget { flags: 0, ..syns });
    row(&mut program, "SYNs of a plan", &Frame::syn("203.0.113.5", 443).bytes(), &[(Passed, 1), (OverSyns, 1)]);
    let bytes = ByteRate { interval: 1 << 42, burst: (1 << 42 >> 10) * 1_500 };
    program.budget("203.0.113.6", Budget { expires: FOREVER, bytes, ..Budget::default() });
    let big = Frame::of("203.0.113.6", UDP, [&[0x9c, 0x40, 1, 187, 3, 0xe8, 0, 0][..], &[0; 992]].concat()).bytes();
    row(&mut program, "bytes of a plan", &big, &[(Passed, 1), (OverBytes, 2)]);

    // Of a plan's budgets, one in shadow turns off none of those behind it. A SYN has 74 bytes.
    let two = ByteRate { interval: 1 << 42, burst: (1 << 42 >> 10) * 180 };
    let plan = Budget { expires: FOREVER, ..Budget::default() };
    for (what, source, flags, own, expect) in [
        (
            "SYNs in shadow",
            "203.0.113.7",
            Limits::SHADOW_SYNS,
            Budget { syns: few(1), packets: few(3), ..plan },
            [(Passed, 1), (ShadowOverSyns, 2), (OverPackets, 2)],
        ),
        (
            "packets in shadow",
            "203.0.113.8",
            Limits::SHADOW_PACKETS,
            Budget { packets: few(1), bytes: two, ..plan },
            [(Passed, 1), (ShadowOverPackets, 1), (OverBytes, 2)],
        ),
        (
            "both in shadow",
            "203.0.113.9",
            Limits::SHADOW_SYNS | Limits::SHADOW_PACKETS,
            Budget { syns: few(1), packets: few(1), bytes: two, ..plan },
            [(Passed, 1), (ShadowOverPackets, 1), (OverBytes, 2)],
        ),
    ] {
        program.limits(Limits { flags, ..all });
        program.budget(source, own);
        row(&mut program, what, &Frame::syn(source, 443).bytes(), &expect);
    }
    program.limits(all);

    // Lists and bans come first, and it never lets through what they do not.
    program.ban("203.0.113.4", 1, FOREVER);
    row(&mut program, "banned", &frame("203.0.113.4"), &[(Blocked, 2)]);
    program.rule("203.0.113.1/32", Rule::ALLOW, 0, FOREVER);
    program.budget("203.0.113.1", own(Budget::CLAMP, few(1)));
    row(&mut program, "allowlisted", &frame("203.0.113.1"), &[(Allowed, 3)]);
}

#[test]
pub(crate) fn d06_a_budget_of_its_own_is_kept_while_others_come_and_go() {
    let mut program = program!();
    let packets = few(1);
    program.limits(Limits { packets: few(1_000), sketch_threshold: 1_000, ..limits() });
    program.budget(SOURCE, Budget { expires: FOREVER, flags: Budget::CLAMP, packets, ..Budget::default() });
    assert_eq!(program.judge(&Frame::tcp(SOURCE, 443).bytes()), Passed);
    for number in 0..2_000_u32 {
        let source = format!("198.18.{}.{}", number >> 8, number & 0xff);
        program.judge(&Frame::tcp(&source, 443).bytes());
    }
    assert_eq!(program.judge(&Frame::tcp(SOURCE, 443).bytes()), Clamped);
}

#[test]
pub(crate) fn d07_what_is_not_used_of_the_budget_of_all_earns_no_more_than_its_burst() {
    let mut program = program!();
    let interval = Duration::from_millis(10);
    let rate = Rate { interval: 10_000_000, burst: 80_000_000 };
    program.limits(Limits { all_packets: rate, ..limits() });
    let frame = Frame::tcp(SOURCE, 443).bytes();
    // Idle for long enough to earn some bursts, were they kept.
    support::wait::pause(40 * interval);
    let start = Instant::now();
    let passed = (0..40).filter(|_| program.judge(&frame) == Passed).count();
    // What came back meanwhile, and a tick of the kernel's clock.
    let earned = usize::try_from(start.elapsed().as_millis() / interval.as_millis()).unwrap() + 2;
    assert!((8..=8 + earned).contains(&passed), "{passed} of 40, of which {earned} may have been earned meanwhile");
}
