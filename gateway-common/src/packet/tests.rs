//! Every form of a packet, against a parser by other authors.

extern crate std;
use std::{vec, vec::Vec};

use etherparse::PacketBuilder;
use proptest::{collection::vec as bytes, prelude::*};

use self::agreement::{Bytes, disagreement};
use super::*;

mod agreement;
mod corpus;

fn read(frame: &[u8]) -> Parsed {
    parse(&Bytes { frame, readable: frame.len() })
}

const SOURCE: Address = Address::V4(0xcb00_7107);
const SOURCE6: Address = Address::V6(0x2001_0db8_0000_0000, 7);

fn tcp4() -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([203, 0, 113, 7], [198, 51, 100, 1], 64);
    builder.tcp(40_000, 443, 1, 1_000).write(&mut frame, &[]).unwrap();
    frame
}

fn udp6() -> Vec<u8> {
    let (mut source, mut frame) = ([0; 16], Vec::new());
    source[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    source[15] = 7;
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv6(source, [0xfd; 16], 64)
        .udp(40_000, 443)
        .write(&mut frame, &[1, 2, 3])
        .unwrap();
    frame
}

/// A frame with other bytes at an offset.
fn patched(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}

/// A frame with bytes put in at an offset.
fn inserted(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame.splice(offset..offset, bytes.iter().copied());
    frame
}

#[track_caller]
fn check(what: &str, frame: &[u8], expect: Parsed) {
    assert_eq!(read(frame), expect, "{what}: {frame:02x?}");
}

#[test]
fn forms() {
    let (to_443, unknown) = (Parsed::Ip(SOURCE, Port::Tcp(443)), Parsed::Ip(SOURCE, Port::Unknown));
    let (bad, bad6) = (Parsed::Malformed(Some(SOURCE)), Parsed::Malformed(Some(SOURCE6)));
    check("IPv4", &tcp4(), to_443);
    check("IPv6", &udp6(), Parsed::Ip(SOURCE6, Port::Udp(443)));
    check("one tag", &inserted(tcp4(), 12, &[0x81, 0, 0, 1]), to_443);
    check("two tags", &inserted(tcp4(), 12, &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 1]), to_443);
    check("three tags", &inserted(tcp4(), 12, &[0x81, 0, 0, 1].repeat(3)), Parsed::NotIp);
    check("ARP", &patched(tcp4(), 12, &[8, 6]), Parsed::NotIp);
    check("first fragment", &patched(tcp4(), 20, &[0x20, 0]), unknown);
    check("later fragment", &patched(tcp4(), 20, &[0, 1]), unknown);
    check("do not fragment", &patched(tcp4(), 20, &[0x40, 0]), to_443);
    check("encrypted", &patched(tcp4(), 23, &[50]), unknown);
    check("authenticated", &patched(tcp4(), 23, &[51]), unknown);
    check("ICMP", &patched(tcp4(), 23, &[1]), Parsed::Ip(SOURCE, Port::None));
    check("x01 header length", &patched(tcp4(), 14, &[0x44]), bad);
    check("x01 version", &patched(tcp4(), 14, &[0x65]), bad);
    check("x01 total length short", &patched(tcp4(), 16, &[0, 19]), bad);
    check("x01 total length long", &patched(tcp4(), 16, &[0, 41]), bad);
    check("x01 IPv6 version", &patched(udp6(), 14, &[0x40]), bad6);
    check("x01 IPv6 payload length long", &patched(udp6(), 18, &[0, 12]), bad6);
    check("x04 extension header longer than the packet", &patched(udp6(), 20, &[60]), bad6);
    check("x04 jumbogram", &patched(udp6(), 18, &[0, 0]), Parsed::Ip(SOURCE6, Port::Udp(443)));
    check("link-local", &patched(udp6(), 22, &[0xfe, 0x80]), Parsed::NotIp);
    check("empty", &[], Parsed::Malformed(None));
}

/// The port decides whether a malformed packet is in scope: it is read where the headers say that it should be.
#[test]
fn malformed_packets_have_a_port_where_one_can_be_read() {
    for (what, frame, protocol, port) in [
        ("header length", patched(tcp4(), 14, &[0x44]), TCP, 443),
        ("version", patched(tcp4(), 14, &[0x65]), TCP, 443),
        ("total length long", patched(tcp4(), 16, &[0xff, 0xff]), TCP, 443),
        ("total length 0", patched(tcp4(), 16, &[0, 0]), TCP, 443),
        ("total length short", patched(tcp4(), 16, &[0, 21]), TCP, 443),
        ("a fragment", patched(patched(tcp4(), 16, &[0xff, 0xff]), 20, &[0x20, 0]), Headers::ANY, 0),
        ("ICMP", patched(patched(tcp4(), 16, &[0xff, 0xff]), 23, &[1]), 0, 0),
        ("cut behind the port", tcp4()[..38].to_vec(), TCP, 443),
        ("cut in the port", tcp4()[..37].to_vec(), Headers::ANY, 0),
        ("IPv6 version", patched(udp6(), 14, &[0x40]), UDP, 443),
        ("IPv6 payload length", patched(udp6(), 18, &[0, 12]), UDP, 443),
        ("IPv6, cut", udp6()[..57].to_vec(), Headers::ANY, 0),
        ("IPv6, a header that is longer than the packet", patched(udp6(), 20, &[60]), 0, 0),
    ] {
        let mut headers = Headers::default();
        assert_eq!(
            super::read(&Bytes { frame: &frame, readable: frame.len() }, &mut headers),
            PacketKind::Malformed,
            "{what}"
        );
        assert_eq!((headers.protocol, headers.port, headers.asks), (protocol, port, false), "{what}");
    }
}

/// BIG TCP: what the host has joined is longer than a length of IPv4 can say, and says 0.
#[test]
fn joined_packets() {
    let joined = |mut frame: Vec<u8>, length: usize| {
        frame.resize(length, 0);
        patched(frame, 16, &[0, 0])
    };
    let to_443 = Parsed::Ip(SOURCE, Port::Tcp(443));
    assert_eq!(read(&joined(tcp4(), 14 + 65_536)), to_443);
    assert_eq!(read(&joined(tcp4(), 200_000)), to_443);
    assert_eq!(read(&joined(tcp4(), 14 + 65_535)), Parsed::Malformed(Some(SOURCE)));
    assert_eq!(read(&patched(joined(tcp4(), 200_000), 14, &[0x44])), Parsed::Malformed(Some(SOURCE)));
    let joined6 = |mut frame: Vec<u8>| {
        frame.resize(200_000, 0);
        patched(frame, 18, &[0, 0])
    };
    assert_eq!(read(&joined6(udp6())), Parsed::Ip(SOURCE6, Port::Udp(443)));
}

#[test]
fn who_asks_for_a_connection_and_where_it_says_so() {
    for (flags, opens) in [
        (0x02, true),
        (0xc2, true),
        (0x2a, true),
        (0x12, false),
        (0x06, false),
        (0x03, false),
        (0x10, false),
        (0, false),
    ] {
        let frame = patched(tcp4(), 47, &[flags]);
        let check = |what: &str, frame: &[u8], network, transport| {
            let mut headers = Headers::default();
            assert_eq!(super::read(&Bytes { frame, readable: frame.len() }, &mut headers), PacketKind::Ip);
            assert_eq!((headers.source(), headers.port()), (SOURCE, Port::Tcp(443)), "{what}: {flags:x}");
            let expect = if opens { (true, network, transport) } else { (false, 0, 0) };
            assert_eq!((headers.asks, headers.network, headers.transport), expect, "{what}: {flags:x}");
            let mut headers = Headers { locates: true, ..Headers::default() };
            assert_eq!(super::read(&Bytes { frame, readable: frame.len() }, &mut headers), PacketKind::Ip);
            let found = (headers.asks, headers.network, headers.transport);
            assert_eq!(found, (opens, network, transport), "{what}, located: {flags:x}");
        };
        check("plain", &frame, 14, 34);
        check("tagged", &inserted(frame.clone(), 12, &[0x81, 0, 0, 1]), 18, 38);
        check("options", &inserted(patched(patched(frame, 14, &[0x46]), 16, &[0, 44]), 34, &[1; 4]), 14, 38);
    }
}

/// Frames that are nearly right: valid ones under tags, with options or extension headers, and a few bytes changed.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let tag = prop_oneof![Just([0x81, 0, 0, 1]), Just([0x88, 0xa8, 0, 1]), Just([0x91, 0, 0, 1])];
    let headers = bytes((prop_oneof![Just(0_u8), Just(43), Just(44), Just(51), Just(60)], 0_u8..3), 0..8);
    let changes = bytes((any::<proptest::sample::Index>(), any::<u8>()), 0..4);
    (any::<bool>(), bytes(tag, 0..4), headers, changes, any::<proptest::sample::Index>(), 0_usize..4).prop_map(
        |(is_ipv6, tags, headers, changes, cut, whole)| {
            let mut frame = if is_ipv6 { udp6() } else { tcp4() };
            if is_ipv6 {
                for (kind, units) in headers {
                    let length = if kind == 44 { 8 } else { 8 * (usize::from(units) + 1) };
                    let mut header = vec![0; length];
                    // The new header comes first: it names the one that was.
                    header[0] = frame[20];
                    header[1] = if kind == 51 { units * 2 } else { units };
                    frame = patched(inserted(frame, 54, &header), 20, &[kind]);
                    let payload = u16::try_from(frame.len() - 54).unwrap();
                    frame = patched(frame, 18, &payload.to_be_bytes());
                }
            }
            for tag in tags {
                frame = inserted(frame, 12, &tag);
            }
            for (index, byte) in changes {
                let at = index.index(frame.len());
                frame[at] = byte;
            }
            if whole == 0 {
                frame.truncate(cut.index(frame.len() + 1));
            }
            frame
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Whatever another parser finds is found here, and nothing else.
    #[test]
    fn x05_another_parser_finds_the_same_source(frame in frames()) {
        prop_assert_eq!(disagreement(&frame), Ok(()));
    }

    /// Frames without any sense, behind an Ethernet type that has some.
    #[test]
    fn x05_another_parser_finds_the_same_source_in_noise(kind in 0_usize..4, noise in bytes(any::<u8>(), 0..120)) {
        let mut frame = vec![2; 12];
        frame.extend([&[8, 0][..], &[0x86, 0xdd], &[0x81, 0], &[]][kind]);
        frame.extend(noise);
        prop_assert_eq!(disagreement(&frame), Ok(()));
    }

    /// No bytes whatever make it panic or read beyond them.
    #[test]
    fn x05_any_bytes_have_a_reading(frame in bytes(any::<u8>(), 0..200), readable in 0_usize..200) {
        let _parsed = parse(&Bytes { frame: &frame, readable });
    }
}
