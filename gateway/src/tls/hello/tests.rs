//! Fingerprints that are published, and hellos of whatever bytes.

use proptest::prelude::*;

use super::*;

/// A hello as Chrome sends it, of the numbers in FoxIO's description of JA4.
fn chrome() -> Vec<u8> {
    let suites = "1a1a 1301 1302 1303 c02b c02f c02c c030 cca9 cca8 c013 c014 009c 009d 002f 0035";
    let extensions = [
        (0x4a4a, ""),
        (0x001b, "020002"),
        (0x0000, "000c00000961 2e6578616d706c65"),
        (0x0033, "0029aaaa000100001d0020 0000000000000000000000000000000000000000000000000000000000000000"),
        (0x0010, "000c 026832 08687474702f312e31"),
        (0x4469, "0003026832"),
        (0x0017, ""),
        (0x002d, "0101"),
        (0x000d, "0010 0403 0804 0401 0503 0805 0501 0806 0601"),
        (0x0005, "0100000000"),
        (0x0023, ""),
        (0x0012, ""),
        (0x002b, "06 2a2a 0304 0303"),
        (0xff01, "00"),
        (0x000b, "0100"),
        (0x000a, "0008 dada 001d 0017 0018"),
        (0xdada, "00"),
        (0x0015, "000000"),
    ];
    hello(0x0303, suites, Some(&extensions))
}

fn bytes(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

fn sized(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

/// The handshake message.
fn hello(version: u16, suites: &str, extensions: Option<&[(u16, &str)]>) -> Vec<u8> {
    let mut body = [&version.to_be_bytes()[..], &[7; 32], &[2, 1, 2], &sized(&bytes(suites)), &[1, 0]].concat();
    if let Some(extensions) = extensions {
        let one = |(kind, content): &(u16, &str)| [&kind.to_be_bytes()[..], &sized(&bytes(content))].concat();
        body.extend(sized(&extensions.iter().flat_map(one).collect::<Vec<_>>()));
    }
    [&[1, 0], &sized(&body)[..]].concat()
}

/// In records of at most so many bytes.
fn records(message: &[u8], most: usize) -> Vec<u8> {
    message.chunks(most).flat_map(|part| [&[22, 3, 1][..], &sized(part)].concat()).collect()
}

#[track_caller]
fn check(received: &[u8], expect: Option<&str>) {
    let made = ja4(received).map(|made| String::from_utf8(made.to_vec()).unwrap());
    assert_eq!(made.as_deref(), expect);
}

#[test]
fn published() {
    let expect = Some("t13d1516h2_8daaf6152771_e5627efa2ab1");
    check(&records(&chrome(), 16_384), expect);
    check(&records(&chrome(), 1), expect);
    check(&records(&chrome(), 100), expect);
    check(&[records(&chrome(), 16_384), b"\x14\x03\x03\0\x01\x01 and more".to_vec()].concat(), expect);
}

#[test]
fn the_parts() {
    let none = "000000000000";
    check(&records(&hello(0x0303, "", None), 99), Some(&format!("t12i000000_{none}_{none}")));
    check(&records(&hello(0x0301, "", Some(&[])), 99), Some(&format!("t10i000000_{none}_{none}")));
    check(&records(&hello(0x0999, "", Some(&[(0x0a0a, "")])), 99), Some(&format!("t00i000000_{none}_{none}")));
    let text = |received: &[u8]| String::from_utf8(ja4(received).unwrap().to_vec()).unwrap();
    for (protocols, letters) in
        [("0002 0168", "hh"), ("0003 02ab68", "a8"), ("0003 02 68ab", "6b"), ("0001 00", "00"), ("0003 022020", "20")]
    {
        let made = text(&records(&hello(0x0303, "1301", Some(&[(ALPN, protocols)])), 99));
        assert_eq!(&made[..10], format!("t12i0101{letters}"), "{protocols}");
    }
    let many: Vec<(u16, &str)> = (100..250).map(|kind| (kind, "")).collect();
    assert_eq!(&text(&records(&hello(0x0303, &"1301".repeat(120), Some(&many)), 9_999))[..10], "t12i999900");
    // Encrypted Client Hello (RFC 9849): its outer hello is a hello like any other.
    let ech = [(SERVER_NAME, "0000"), (0xfe0d, "00 0001 0001 07 0020")];
    assert_eq!(&text(&records(&hello(0x0303, "1301", Some(&ech)), 99))[..10], "t12d010200");
}

#[test]
fn no_hellos() {
    let good = records(&chrome(), 16_384);
    for length in 0..good.len() {
        check(&good[..length], None);
    }
    for bad in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\0\0", b"\x16\x03\x01\0\x04\x02\0\0\0", b"\x80\x2e\x01\0\x02"]
    {
        check(bad, None);
    }
    // Lengths that do not add up.
    for (kind, content) in [(SIGNATURE_ALGORITHMS, "0010 0403"), (ALPN, "0009 02"), (SUPPORTED_VERSIONS, "09 0304")] {
        check(&records(&hello(0x0303, "1301", Some(&[(kind, content)])), 999), None);
    }
}

proptest! {
    #[test]
    fn whatever_comes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        ja4(&bytes);
        ja4(&records(&[&[1, 0][..], &sized(&bytes)].concat(), 50));
    }

    #[test]
    fn damaged(place in 0_usize..400, byte: u8) {
        let mut damaged = records(&chrome(), 16_384);
        if let Some(at) = damaged.get_mut(place) {
            *at = byte;
        }
        let made = ja4(&damaged);
        prop_assert!(made.is_none_or(|made| made.is_ascii()));
    }
}
