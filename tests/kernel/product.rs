//! Every verdict in every encapsulation: one product of links, networks, payloads and scopes, so that no cell is missing.
//! A cell that cannot exist has its reason instead, and how many there are of each is noted.

use std::collections::BTreeMap;

use gateway_common::{
    limit::{ByteRate, Rate},
    maps::{Ban, Budget, Limits, Rule},
    verdict::Verdict,
};
use support::{
    frame::{Frame, ICMP, ICMPV6, TCP, UDP, arp, extension, patched},
    report::note,
};

use crate::{
    budgets::listening,
    lane::{anywhere, proven},
    program::{FOREVER, Program, limits},
};

use Verdict::{
    Allowed, Blocked, Clamped, CookieRefused, CookieSent, FastLane, Malformed, MalformedPassed, NotIp, OverBytes,
    OverPackets, OverSyns, OverTotal, Passed, ShadowBlocked, ShadowClamped, ShadowOverBytes, ShadowOverPackets,
    ShadowOverSyns, ShadowOverTotal, Unguarded,
};
use extension::{AUTHENTICATION, DESTINATION, HOP_BY_HOP, ROUTING};

/// What a frame's first header is followed by: VLAN tags by type, and the first one's priority and number.
const LINKS: [(&str, &[u16], [u8; 2]); 6] = [
    ("untagged", &[], [0, 0]),
    ("802.1Q", &[0x8100], [0, 100]),
    ("802.1ad", &[0x88a8], [0, 100]),
    ("QinQ", &[0x88a8, 0x8100], [0, 100]),
    ("802.1Q twice", &[0x8100, 0x8100], [0, 100]),
    ("priority tag", &[0x8100], [0xe0, 0]),
];

/// The IP header and what comes between it and the payload.
struct Network {
    name: &'static str,
    is_ipv6: bool,
    form: fn(Frame) -> Frame,
    /// Whether the payload's header is found.
    shows_payload: bool,
}

const fn ipv4(name: &'static str, shows_payload: bool, form: fn(Frame) -> Frame) -> Network {
    Network { name, is_ipv6: false, form, shows_payload }
}

const fn ipv6(name: &'static str, shows_payload: bool, form: fn(Frame) -> Frame) -> Network {
    Network { name, is_ipv6: true, form, shows_payload }
}

const NETWORKS: [Network; 18] = [
    ipv4("IPv4", true, |frame| frame),
    ipv4("IPv4, one word of options", true, |frame| frame.options(1)),
    ipv4("IPv4, ten words of options", true, |frame| frame.options(10)),
    ipv4("IPv4, first fragment", false, |frame| frame.fragment(0, true)),
    ipv4("IPv4, later fragment", false, |frame| frame.fragment(185, true)),
    ipv4("IPv4, last fragment, options", false, |frame| frame.options(2).fragment(370, false)),
    ipv6("IPv6", true, |frame| frame),
    ipv6("IPv6, hop-by-hop", true, |frame| frame.extension(HOP_BY_HOP, 8)),
    ipv6("IPv6, routing", true, |frame| frame.extension(ROUTING, 24)),
    ipv6("IPv6, destination options", true, |frame| frame.extension(DESTINATION, 16)),
    ipv6("IPv6, authentication", true, |frame| frame.extension(AUTHENTICATION, 24)),
    ipv6("IPv6, one of each", true, |frame| {
        let frame = frame.extension(HOP_BY_HOP, 8).extension(DESTINATION, 8);
        frame.extension(ROUTING, 24).extension(AUTHENTICATION, 16)
    }),
    ipv6("IPv6, as many as are walked", true, |frame| deep(frame, 5)),
    ipv6("IPv6, one more", false, |frame| deep(frame, 6)),
    ipv6("IPv6, many more", false, |frame| deep(frame, 12)),
    ipv6("IPv6, first fragment", false, |frame| frame.fragment(0, true)),
    ipv6("IPv6, later fragment", false, |frame| frame.fragment(185, true)),
    ipv6("IPv6, hop-by-hop, last fragment", false, |frame| frame.extension(HOP_BY_HOP, 8).fragment(9, false)),
];

fn deep(frame: Frame, headers: usize) -> Frame {
    (0..headers).fold(frame, |frame, _| frame.extension(DESTINATION, 8))
}

/// What is carried, and to which port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Payload {
    Syn,
    Tcp,
    Udp,
    /// A protocol without ports.
    Other(&'static str, u8),
    /// A protocol that hides what it carries.
    Hidden(&'static str, u8),
}

const PAYLOADS: [Payload; 10] = [
    Payload::Syn,
    Payload::Tcp,
    Payload::Udp,
    Payload::Other("ICMP", ICMP),
    Payload::Other("IP in IP", 4),
    Payload::Other("GRE", 47),
    Payload::Other("SCTP", 132),
    Payload::Other("an unassigned protocol", 253),
    Payload::Hidden("ESP", 50),
    Payload::Hidden("AH", 51),
];

/// What can be known of where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// To this kind of port.
    Port,
    /// To none.
    None,
    /// It might be any.
    Unknown,
}

/// One encapsulation, in one scope.
struct Cell {
    number: u32,
    link: (&'static str, &'static [u16], [u8; 2]),
    network: &'static Network,
    payload: Payload,
    is_host: bool,
}

impl Cell {
    fn name(&self) -> String {
        let payload = match self.payload {
            Payload::Syn => "SYN",
            Payload::Tcp => "TCP",
            Payload::Udp => "UDP",
            Payload::Other(name, _) | Payload::Hidden(name, _) => name,
        };
        let scope = if self.is_host { "host" } else { "listeners" };
        format!("{}, {}, {payload}, scope {scope}", self.link.0, self.network.name)
    }

    const fn reach(&self) -> Reach {
        match self.payload {
            _ if !self.network.shows_payload => Reach::Unknown,
            Payload::Hidden(..) => Reach::Unknown,
            Payload::Other(..) => Reach::None,
            Payload::Syn | Payload::Tcp | Payload::Udp => Reach::Port,
        }
    }

    /// A source that no other row and cell has.
    fn source(&self, row: usize) -> String {
        if self.network.is_ipv6 {
            format!("2001:{row:x}:{:x}:{:x}::7", self.number >> 16, self.number & 0xffff)
        } else {
            format!("{}.{}.{}.{}", 20 + row, self.number >> 16, self.number >> 8 & 0xff, self.number & 0xff)
        }
    }

    fn frame(&self, source: &str, port: u16) -> Vec<u8> {
        let frame = match self.payload {
            Payload::Syn => Frame::syn(source, port),
            Payload::Tcp => Frame::tcp(source, port),
            Payload::Udp => Frame::udp(source, port),
            Payload::Other(_, ICMP) if self.network.is_ipv6 => {
                Frame::of(source, ICMPV6, [&[128][..], &[0; 31]].concat())
            }
            Payload::Other(_, protocol) => Frame::of(source, protocol, vec![8; 32]),
            // Where it is a header of IPv6, it says that nothing follows.
            Payload::Hidden(_, protocol) => Frame::of(source, protocol, [&[59, 4][..], &[0; 30]].concat()),
        };
        let bytes = (self.network.form)(frame).tags(self.link.1).bytes();
        if self.link.1.is_empty() { bytes } else { patched(bytes, 14, &self.link.2) }
    }

    /// The same frame with an IP header that says it is one byte longer than it is.
    fn lying(&self, frame: Vec<u8>) -> Vec<u8> {
        let at = 14 + 4 * self.link.1.len() + if self.network.is_ipv6 { 4 } else { 2 };
        let length = u16::from_be_bytes([frame[at], frame[at + 1]]) + 1;
        patched(frame, at, &length.to_be_bytes())
    }
}

fn cells(is_host: bool) -> Vec<Cell> {
    let mut cells = Vec::new();
    for link in LINKS {
        for network in &NETWORKS {
            for payload in PAYLOADS {
                let number = u32::try_from(cells.len()).unwrap();
                cells.push(Cell { number, link, network, payload, is_host });
            }
        }
    }
    cells
}

/// One verdict and a way to it.
struct Row {
    verdict: Verdict,
    how: &'static str,
    /// Flags beside the scope.
    flags: u32,
    limits: fn() -> Limits,
    /// What the network of the row's sources is under, and what each source is.
    rule: Option<u32>,
    ban: Option<u64>,
    /// The flags of a budget of one packet that each source has of its own.
    own: Option<u64>,
    /// Each source has a connection that proved itself.
    is_proven: bool,
    port: u16,
    /// What becomes of the frame.
    change: fn(&Cell, Vec<u8>) -> Vec<u8>,
    /// The verdict comes with the second packet; the first one passes, and makes the source known.
    second: bool,
    /// Why the cell cannot exist.
    missing: fn(&Cell) -> Option<&'static str>,
}

/// What makes no difference to most rows.
const PLAIN: Row = Row {
    verdict: Passed,
    how: "",
    flags: 0,
    limits,
    rule: None,
    ban: None,
    own: None,
    is_proven: false,
    port: 443,
    change: |_, frame| frame,
    second: false,
    missing: out_of_scope,
};

fn out_of_scope(cell: &Cell) -> Option<&'static str> {
    let is_out = !cell.is_host && cell.reach() == Reach::None;
    is_out.then_some("no port, so out of scope \"listeners\": unguarded")
}

fn in_scope(cell: &Cell) -> Option<&'static str> {
    match cell.reach() {
        _ if cell.is_host => Some("all is in scope \"host\""),
        Reach::Unknown => Some("its port is unknown, so it is in scope"),
        Reach::Port | Reach::None => None,
    }
}

/// In IPv6, AH is no payload but one more header: it is among the networks.
fn is_header(cell: &Cell) -> Option<&'static str> {
    let is_ah = cell.network.is_ipv6 && cell.payload == Payload::Hidden("AH", 51);
    is_ah.then_some("AH is an extension header of IPv6, and among the networks")
}

fn no_syn(cell: &Cell) -> Option<&'static str> {
    let shows = cell.reach() == Reach::Port && cell.payload == Payload::Syn;
    (!shows).then_some("no SYN that can be seen")
}

fn no_guarded_port(cell: &Cell) -> Option<&'static str> {
    (cell.reach() == Reach::None).then_some("no port, so to no guarded one, and the budget of all is of those")
}

fn no_connection(cell: &Cell) -> Option<&'static str> {
    let shows = cell.reach() == Reach::Port && cell.payload == Payload::Tcp;
    (!shows).then_some("no packet of a connection that can be seen")
}

fn few(units: u64) -> Rate {
    Rate::per(1, 3_600_000_000_000, units).unwrap()
}

const ROWS: [Row; 28] = [
    Row { verdict: Allowed, how: "a rule, and banned", rule: Some(Rule::ALLOW), ban: Some(1), ..PLAIN },
    Row { verdict: Blocked, how: "its own entry", ban: Some(1), ..PLAIN },
    Row { verdict: Blocked, how: "a rule", rule: Some(Rule::DENY), ..PLAIN },
    Row { verdict: ShadowBlocked, how: "its own entry", ban: Some(1 | Ban::SHADOW), ..PLAIN },
    Row { verdict: ShadowBlocked, how: "a rule", rule: Some(Rule::SHADOW), ..PLAIN },
    Row { verdict: Passed, how: "nothing is said", ..PLAIN },
    Row { verdict: Unguarded, how: "another port, though banned", ban: Some(1), port: 22, missing: in_scope, ..PLAIN },
    Row { verdict: Malformed, how: "a length that lies", change: Cell::lying, ..PLAIN },
    Row {
        verdict: MalformedPassed,
        how: "a length that lies",
        flags: Limits::PASS_MALFORMED,
        change: Cell::lying,
        ..PLAIN
    },
    Row {
        verdict: Blocked,
        how: "a length that lies, where such pass",
        flags: Limits::PASS_MALFORMED,
        ban: Some(1),
        change: Cell::lying,
        ..PLAIN
    },
    Row {
        verdict: Unguarded,
        how: "a length that lies, to another port, though banned",
        ban: Some(1),
        port: 22,
        change: Cell::lying,
        missing: in_scope,
        ..PLAIN
    },
    Row {
        verdict: NotIp,
        how: "three tags, though banned",
        ban: Some(1),
        change: |cell, frame| {
            let more = [0x81, 0, 0, 1].repeat(3 - cell.link.1.len());
            [&frame[..12], &more, &frame[12..]].concat()
        },
        missing: |_| None,
        ..PLAIN
    },
    Row {
        verdict: NotIp,
        how: "a link-local address",
        change: |cell, frame| patched(frame, 14 + 4 * cell.link.1.len() + 8, &[0xfe, 0x80]),
        missing: |cell| (!cell.network.is_ipv6).then_some("IPv4 has none that neighbours are found by"),
        ..PLAIN
    },
    Row { verdict: OverPackets, limits: || Limits { packets: few(1), ..limits() }, second: true, ..PLAIN },
    Row { verdict: OverBytes, limits: bytes, second: true, ..PLAIN },
    Row { verdict: OverSyns, limits: syns, second: true, missing: no_syn, ..PLAIN },
    Row {
        verdict: ShadowOverPackets,
        flags: Limits::SHADOW_PACKETS,
        limits: || Limits { packets: few(1), ..limits() },
        second: true,
        ..PLAIN
    },
    Row { verdict: ShadowOverBytes, flags: Limits::SHADOW_BYTES, limits: bytes, second: true, ..PLAIN },
    Row { verdict: ShadowOverSyns, flags: Limits::SHADOW_SYNS, limits: syns, second: true, missing: no_syn, ..PLAIN },
    Row { verdict: CookieSent, limits: || Limits { all_syns: few(1), ..limits() }, missing: no_syn, ..PLAIN },
    Row {
        verdict: CookieRefused,
        how: "nobody listens",
        limits: || Limits { all_syns: few(1), ..limits() },
        port: 80,
        missing: no_syn,
        ..PLAIN
    },
    Row { verdict: Clamped, how: "a part of what all have", own: Some(Budget::CLAMP), second: true, ..PLAIN },
    Row { verdict: ShadowClamped, own: Some(Budget::CLAMP | Budget::SHADOW), second: true, ..PLAIN },
    Row { verdict: OverPackets, how: "the budget of a plan", own: Some(0), second: true, ..PLAIN },
    Row { verdict: OverTotal, limits: total, missing: no_guarded_port, ..PLAIN },
    Row { verdict: ShadowOverTotal, flags: Limits::SHADOW_ALL, limits: total, missing: no_guarded_port, ..PLAIN },
    Row { verdict: FastLane, limits: total, is_proven: true, missing: no_connection, ..PLAIN },
    Row {
        verdict: Blocked,
        how: "its own entry, though its connection proved itself",
        limits: total,
        ban: Some(1),
        is_proven: true,
        missing: no_connection,
        ..PLAIN
    },
];

fn total() -> Limits {
    Limits { all_packets: few(1), fast_lane: Rate::per_second(1_000_000, 1_000_000).unwrap(), ..limits() }
}

fn bytes() -> Limits {
    Limits { bytes: ByteRate { interval: 1 << 42, burst: 1 << 33 }, byte_shift: 0, ..limits() }
}

fn syns() -> Limits {
    Limits { syns: few(1), syn_weight: 0, ..limits() }
}

#[test]
pub(crate) fn every_verdict_in_every_encapsulation() {
    listening(|program| {
        anywhere();
        let mut missing = BTreeMap::new();
        let mut seen = BTreeMap::new();
        for (index, row) in ROWS.iter().enumerate() {
            for is_host in [false, true] {
                let at = 2 * index + usize::from(is_host);
                prepare(program, row, at, is_host);
                for cell in cells(is_host) {
                    if let Some(why) = is_header(&cell).or_else(|| (row.missing)(&cell)) {
                        *missing.entry((row.verdict.name(), why)).or_insert(0) += 1;
                        continue;
                    }
                    judge(program, row, &cell, at);
                    *seen.entry(row.verdict.name()).or_insert(0) += 1;
                }
            }
        }
        for verdict in Verdict::ALL {
            assert!(seen.contains_key(verdict.name()), "{} is in no row", verdict.name());
        }
        note(&format!("cells judged as expected: {seen:?}"));
        for ((verdict, why), cells) in missing {
            note(&format!("{verdict}: {cells} cells cannot exist: {why}"));
        }
    });
}

fn prepare(program: &mut Program, row: &Row, at: usize, is_host: bool) {
    let scope = if is_host { Limits::SCOPE_HOST } else { 0 };
    // So many sources are a flood, and one packet of it is nobody's own.
    program.calm();
    program.limits(Limits { flags: row.flags | scope, ..(row.limits)() });
    // Whatever the row does, the budget of all SYNs is used up.
    program.run(&Frame::syn("192.0.2.1", 443).bytes(), 2);
    if let Some(action) = row.rule {
        program.rule(&format!("{}.0.0.0/8", 20 + at), action, 0, FOREVER);
        program.rule(&format!("2001:{at:x}::/32"), action, 0, FOREVER);
    }
}

#[track_caller]
fn judge(program: &mut Program, row: &Row, cell: &Cell, at: usize) {
    let source = cell.source(at);
    if let Some(id) = row.ban {
        program.ban(&source, id, FOREVER);
    }
    if let Some(flags) = row.own {
        let packets = few(1);
        program.budget(&source, Budget { expires: FOREVER, flags, packets, ..Budget::default() });
    }
    let _connection = row.is_proven.then(|| proven(&source, gateway_common::maps::FAST_LANE));
    let frame = (row.change)(cell, cell.frame(&source, row.port));
    if row.second {
        assert_eq!(program.judge(&frame), Passed, "{}: the first packet", cell.name());
    }
    let verdict = program.judge(&frame);
    assert_eq!(verdict, row.verdict, "{} by {}: {}: {frame:02x?}", row.verdict.name(), row.how, cell.name());
    if row.ban.is_some() {
        program.unban(&source);
    }
    if row.own.is_some() {
        program.remove_budget(&source);
    }
}

#[test]
pub(crate) fn x05_cut_at_every_byte() {
    listening(|program| {
        let (mut cut, mut out_of_scope) = (0, 0);
        for is_host in [false, true] {
            let flags = if is_host { Limits::SCOPE_HOST } else { 0 };
            program.limits(Limits { flags, ..limits() });
            for cell in cells(is_host) {
                let frame = cell.frame(&cell.source(0), 443);
                let has_ports = cell.reach() != Reach::None && is_header(&cell).is_none();
                for length in 14..frame.len() {
                    let verdict = program.judge(&frame[..length]);
                    // What has no ports is out of scope as soon as that can be told.
                    let may_be_out = !is_host && !has_ports && verdict == Unguarded;
                    assert!(may_be_out || verdict == Malformed, "{}, cut to {length} bytes: {frame:02x?}", cell.name());
                    if may_be_out {
                        out_of_scope += 1;
                    } else {
                        cut += 1;
                    }
                }
            }
        }
        note(&format!("{cut} frames that were cut short were dropped, {out_of_scope} were out of scope"));
    });
}

/// What hosts of one link find each other by passes under every kind of link, banned or not.
#[test]
pub(crate) fn neighbours_are_found_under_every_link() {
    listening(|program| {
        program.limits(Limits { flags: Limits::SCOPE_HOST, ..limits() });
        let source = "2001:db8::7";
        program.ban(source, 1, FOREVER);
        program.ban("203.0.113.7", 1, FOREVER);
        for (name, tags, first) in LINKS {
            let tagged = |frame: Vec<u8>| {
                let tags: Vec<u8> = tags.iter().flat_map(|tag| [tag.to_be_bytes(), first].concat()).collect();
                [&frame[..12], &tags, &frame[12..]].concat()
            };
            program.check(&[(name, tagged(arp()), NotIp)]);
            for kind in 130..=140 {
                let message = |limit| Frame::of(source, ICMPV6, vec![kind; 24]).hop_limit(limit).bytes();
                let near = if (133..=137).contains(&kind) { NotIp } else { Blocked };
                program.check(&[(name, tagged(message(255)), near), (name, tagged(message(64)), Blocked)]);
            }
            for protocol in [TCP, UDP] {
                program.check(&[(name, tagged(Frame::of(source, protocol, vec![0; 40]).bytes()), Blocked)]);
            }
        }
    });
}
