//! Messages of DNS (RFC 1035): one question, and what an answer says to it. Pure.
//!
//! *Invariant:* whatever a name server sends, reading it ends: each name goes back only to what is before it. A name is taken
//! only if it is made of letters, digits, `-` and `_`: a label may hold a dot, which would make it look like another name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name, and the longest label, in bytes.
const LONGEST: usize = 253;
const LONGEST_LABEL: usize = 63;

/// How many records of one answer are looked at.
const MOST: usize = 64;

/// How many other names a name may stand for, one after the other.
const ALIASES: usize = 8;

/// How long an answer may be that the server is told of, in bytes: what no path cuts in pieces (RFC 9715).
const SIZE: u16 = 1_232;

const CLASS_INTERNET: u16 = 1;
const CNAME: u16 = 5;
const OPTIONS: u16 = 41;

/// Which records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy::lookup) enum RecordKind {
    A,
    Aaaa,
    Ptr,
}

impl RecordKind {
    const fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
            Self::Ptr => 12,
        }
    }
}

/// The records of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy::lookup) struct FoundRecords {
    /// In lower case, without a dot at the end.
    pub(in crate::proxy::lookup) names: Vec<String>,
    pub(in crate::proxy::lookup) addresses: Vec<IpAddr>,
    /// For how many seconds they hold.
    pub(in crate::proxy::lookup) seconds: u32,
}

/// What a datagram says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// There are these records; `None`: there are none.
    Answer(Option<FoundRecords>),
    /// The server does not say, and why.
    Failed(&'static str),
    /// It answers something else.
    Other,
}

/// A question; `None`: no name is so long.
pub(super) fn write(id: u16, name: &str, kind: RecordKind) -> Option<Vec<u8>> {
    if name.is_empty() || name.len() > LONGEST {
        return None;
    }
    let mut bytes = id.to_be_bytes().to_vec();
    // The server is to ask others for us. One question, and one record behind it that says how long an answer may be.
    for number in [0x0100_u16, 1, 0, 0, 1] {
        bytes.extend(number.to_be_bytes());
    }
    for label in name.split('.') {
        let length =
            u8::try_from(label.len()).ok().filter(|length| (1..=LONGEST_LABEL).contains(&usize::from(*length)))?;
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    for number in [kind.number(), CLASS_INTERNET] {
        bytes.extend(number.to_be_bytes());
    }
    // The root, the size, no flags, no options (RFC 6891 6.1.2).
    bytes.push(0);
    for number in [OPTIONS, SIZE, 0, 0, 0] {
        bytes.extend(number.to_be_bytes());
    }
    Some(bytes)
}

/// What a datagram says to a question.
pub(super) fn read(bytes: &[u8], id: u16, name: &str, kind: RecordKind) -> Reading {
    let mut cursor = Cursor { bytes, at: 0 };
    match cursor.head(id, name, kind) {
        Some(Head { code: 0 | 3, is_cut: false, records }) => {
            // A name that does not exist may be what another name stands for.
            match cursor.records(records) {
                Some(found) => Reading::Answer(choose(&found, name, kind)),
                None => Reading::Failed("the name server's answer is broken"),
            }
        }
        Some(Head { is_cut: true, .. }) => Reading::Failed("the name server's answer is too long"),
        Some(Head { code: 2, .. }) => Reading::Failed("the name server has failed"),
        Some(Head { code: 5, .. }) => Reading::Failed("the name server refuses to answer"),
        Some(_) => Reading::Failed("the name server does not understand the question"),
        None => Reading::Other,
    }
}

/// What is read of the beginning.
struct Head {
    code: u16,
    is_cut: bool,
    records: u16,
}

/// One record.
struct Record {
    owner: Option<String>,
    seconds: u32,
    value: Value,
}

enum Value {
    Address(IpAddr),
    Alias(Option<String>),
    Name(Option<String>),
    Other,
}

/// The records of a name, over the names that it stands for.
fn choose(records: &[Record], name: &str, kind: RecordKind) -> Option<FoundRecords> {
    let is_of = |record: &&Record, name: &str| record.owner.as_deref() == Some(name);
    let (mut name, mut seconds) = (name.to_ascii_lowercase(), u32::MAX);
    for _ in 0..ALIASES {
        let mut of_name = records.iter().filter(|record| is_of(record, &name));
        let alias = |record: &'_ Record| match &record.value {
            Value::Alias(to) => Some((to.clone(), record.seconds)),
            _ => None,
        };
        let Some((to, lasts)) = of_name.find_map(alias) else { break };
        seconds = seconds.min(lasts);
        name = to?;
    }
    let mut found = FoundRecords { seconds, ..FoundRecords::default() };
    for record in records.iter().filter(|record| is_of(record, &name)) {
        match (&record.value, kind) {
            (Value::Address(address), RecordKind::A | RecordKind::Aaaa) => found.addresses.push(*address),
            (Value::Name(Some(name)), RecordKind::Ptr) => found.names.push(name.clone()),
            _ => continue,
        }
        found.seconds = found.seconds.min(record.seconds);
    }
    (!found.names.is_empty() || !found.addresses.is_empty()).then_some(found)
}

/// Where reading is.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn take<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let taken = self.bytes.get(self.at..)?.first_chunk()?;
        self.at += LENGTH;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    /// The beginning, if it answers this question.
    fn head(&mut self, id: u16, name: &str, kind: RecordKind) -> Option<Head> {
        let (number, flags) = (self.number()?, self.number()?);
        let (questions, records) = (self.number()?, self.number()?);
        let _other_sections = (self.number()?, self.number()?);
        // An answer, to a plain question.
        let is_answer = flags & 0x8000 != 0 && flags & 0x7800 == 0;
        if number != id || !is_answer || questions != 1 {
            return None;
        }
        let asked = (self.name()?, self.number()?, self.number()?);
        let is_ours = asked == (Some(name.to_ascii_lowercase()), kind.number(), CLASS_INTERNET);
        is_ours.then_some(Head { code: flags & 0x000f, is_cut: flags & 0x0200 != 0, records })
    }

    fn records(&mut self, many: u16) -> Option<Vec<Record>> {
        (0..many).take(MOST).map(|_| self.record()).collect()
    }

    fn record(&mut self) -> Option<Record> {
        let (owner, kind, class) = (self.name()?, self.number()?, self.number()?);
        let (seconds, length) = (u32::from_be_bytes(self.take()?), usize::from(self.number()?));
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        let value = match (class, kind) {
            (CLASS_INTERNET, 1) if length == 4 => Value::Address(Ipv4Addr::from(self.take::<4>()?).into()),
            (CLASS_INTERNET, 28) if length == 16 => Value::Address(Ipv6Addr::from(self.take::<16>()?).into()),
            (CLASS_INTERNET, CNAME) => Value::Alias(self.name()?),
            (CLASS_INTERNET, 12) => Value::Name(self.name()?),
            _ => Value::Other,
        };
        self.at = end;
        // A time with its highest bit set is none (RFC 2181 8).
        let seconds = if seconds > u32::MAX / 2 { 0 } else { seconds };
        Some(Record { owner, seconds, value })
    }

    /// A name, in lower case; `None` in it: it has bytes that no host's name has. Each step back goes further back, so that
    /// it ends.
    fn name(&mut self) -> Option<Option<String>> {
        let (mut name, mut is_plain) = (String::new(), true);
        let (mut at, mut behind) = (self.at, None);
        let mut least = self.at;
        loop {
            let length = *self.bytes.get(at)?;
            match length {
                0 => {
                    self.at = behind.unwrap_or(at + 1);
                    return Some((is_plain && !name.is_empty()).then_some(name));
                }
                1..=0x3f => {
                    let label = self.bytes.get(at + 1..at + 1 + usize::from(length))?;
                    // Reverse zones of less than 256 addresses have a slash in the names that they lead to (RFC 2317).
                    let is_host = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/');
                    is_plain &= label.iter().all(is_host);
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
                    if name.len() > 4 * LONGEST {
                        return None;
                    }
                    at += 1 + usize::from(length);
                }
                0xc0.. => {
                    let rest = *self.bytes.get(at + 1)?;
                    behind = behind.or(Some(at + 2));
                    at = usize::from(u16::from_be_bytes([length & 0x3f, rest]));
                    if at >= least {
                        return None;
                    }
                    least = at;
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTR: &str = "1.2.0.192.in-addr.arpa";

    fn encode(name: &str) -> Vec<u8> {
        let labels =
            name.split('.').flat_map(|label| [&[u8::try_from(label.len()).unwrap()][..], label.as_bytes()].concat());
        labels.chain([0]).collect()
    }

    fn number(kind: &str) -> u16 {
        match kind {
            "A" => 1,
            "CNAME" => 5,
            "PTR" => 12,
            "AAAA" => 28,
            _ => 16,
        }
    }

    /// An answer with these records: owner, kind, seconds, value.
    fn answer(flags: u16, name: &str, kind: RecordKind, records: &[(&str, &str, u32, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in [7, flags, 1, u16::try_from(records.len()).unwrap(), 0, 0] {
            bytes.extend(u16::to_be_bytes(part));
        }
        bytes.extend(encode(name));
        bytes.extend([kind.number().to_be_bytes(), [0, 1]].concat());
        for (owner, kind, seconds, value) in records {
            // `@`: the name of the question, as servers shorten it.
            bytes.extend(if *owner == "@" { vec![0xc0, 12] } else { encode(owner) });
            bytes.extend([number(kind).to_be_bytes(), [0, 1]].concat());
            bytes.extend(seconds.to_be_bytes());
            let value = match value.parse::<IpAddr>() {
                Ok(IpAddr::V4(address)) => address.octets().to_vec(),
                Ok(IpAddr::V6(address)) => address.octets().to_vec(),
                Err(_) => encode(value),
            };
            bytes.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            bytes.extend(value);
        }
        bytes
    }

    fn names(names: &[&str], seconds: u32) -> Reading {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Reading::Answer(Some(FoundRecords { names, addresses: Vec::new(), seconds }))
    }

    #[test]
    fn questions() {
        let bytes = write(0x1234, "a.example", RecordKind::Aaaa).unwrap();
        let head = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        let end = [0, 28, 0, 1, 0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0];
        assert_eq!(bytes, [&head[..], &encode("a.example"), &end].concat());
        for name in ["", "a..b", ".a", "a.", &"a".repeat(64), &"a.".repeat(127)] {
            assert_eq!(write(1, name, RecordKind::A), None, "{name}");
        }
    }

    #[test]
    fn names_of_an_address() {
        let ok = 0x8180;
        for (flags, records, expect) in [
            (ok, &[("@", "PTR", 60, "Crawl-1.Googlebot.COM")][..], names(&["crawl-1.googlebot.com"], 60)),
            (
                ok,
                &[("@", "PTR", 60, "a.example"), ("@", "PTR", 30, "b.example")],
                names(&["a.example", "b.example"], 30),
            ),
            // Delegated to a part of a network (RFC 2317).
            (
                ok,
                &[
                    ("@", "CNAME", 10, "1.0-7.2.0.192.in-addr.arpa"),
                    ("1.0-7.2.0.192.in-addr.arpa", "PTR", 60, "a.example"),
                ],
                names(&["a.example"], 10),
            ),
            // What somebody else has is of no interest.
            (ok, &[("2.2.0.192.in-addr.arpa", "PTR", 60, "a.googlebot.com")], Reading::Answer(None)),
            (ok, &[("@", "A", 60, "192.0.2.1")], Reading::Answer(None)),
            (ok, &[("@", "TXT", 60, "a.example"), ("@", "PTR", 60, "b.example")], names(&["b.example"], 60)),
            (ok, &[("@", "PTR", u32::MAX, "a.example")], names(&["a.example"], 0)),
            (ok, &[], Reading::Answer(None)),
            (0x8183, &[], Reading::Answer(None)),
            (0x8182, &[], Reading::Failed("the name server has failed")),
            (0x8185, &[], Reading::Failed("the name server refuses to answer")),
            (0x8184, &[], Reading::Failed("the name server does not understand the question")),
            (0x8380, &[("@", "PTR", 60, "a.example")], Reading::Failed("the name server's answer is too long")),
            // No answer, and one to an update.
            (0x0100, &[("@", "PTR", 60, "a.example")], Reading::Other),
            (0xa980, &[("@", "PTR", 60, "a.example")], Reading::Other),
        ] {
            let bytes = answer(flags, PTR, RecordKind::Ptr, records);
            assert_eq!(read(&bytes, 7, PTR, RecordKind::Ptr), expect, "{flags:x} {records:?}");
        }
    }

    #[test]
    fn addresses_of_a_name() {
        let name = "a.googlebot.com";
        for (kind, records, expect) in [
            (
                RecordKind::A,
                &[("@", "A", 60, "192.0.2.1"), ("@", "A", 50, "192.0.2.2")][..],
                &["192.0.2.1", "192.0.2.2"][..],
            ),
            (RecordKind::Aaaa, &[("@", "AAAA", 60, "2001:db8::1")], &["2001:db8::1"]),
            (RecordKind::A, &[("@", "CNAME", 60, "b.example"), ("b.example", "A", 50, "192.0.2.1")], &["192.0.2.1"]),
            // In any order.
            (RecordKind::A, &[("b.example", "A", 50, "192.0.2.1"), ("@", "CNAME", 60, "b.example")], &["192.0.2.1"]),
            (RecordKind::A, &[("b.example", "A", 50, "192.0.2.1")], &[]),
            // Round and round.
            (RecordKind::A, &[("@", "CNAME", 60, "b.example"), ("b.example", "CNAME", 60, "a.googlebot.com")], &[]),
        ] {
            let bytes = answer(0x8180, name, kind, records);
            let found = match read(&bytes, 7, name, kind) {
                Reading::Answer(found) => found.unwrap_or_default().addresses,
                other => panic!("{other:?}"),
            };
            let expect: Vec<IpAddr> = expect.iter().map(|address| address.parse().unwrap()).collect();
            assert_eq!(found, expect, "{records:?}");
        }
    }

    #[test]
    fn only_the_answer_to_this_question() {
        let bytes = answer(0x8180, PTR, RecordKind::Ptr, &[("@", "PTR", 60, "a.example")]);
        for (id, name, kind) in
            [(8, PTR, RecordKind::Ptr), (7, "2.2.0.192.in-addr.arpa", RecordKind::Ptr), (7, PTR, RecordKind::A)]
        {
            assert_eq!(read(&bytes, id, name, kind), Reading::Other, "{id} {name} {kind:?}");
        }
    }

    /// A label may hold a dot: what is one label of a domain of the attacker's must not look like a name of Google's.
    #[test]
    fn names_that_only_look_like_others() {
        for value in
            [&b"\x0fx.googlebot.com\x07example\x00"[..], b"\x0fx.googlebot.com\x00", b"\x03a b\x03com\x00", b"\x00"]
        {
            let mut bytes = answer(0x8180, PTR, RecordKind::Ptr, &[]);
            bytes[7] = 1;
            bytes.extend([0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 60, 0, u8::try_from(value.len()).unwrap()]);
            bytes.extend(value);
            assert_eq!(read(&bytes, 7, PTR, RecordKind::Ptr), Reading::Answer(None), "{value:?}");
        }
    }

    #[test]
    fn broken_answers() {
        let whole = answer(0x8180, PTR, RecordKind::Ptr, &[("@", "PTR", 60, "a.example")]);
        for length in 0..whole.len() {
            let read = read(&whole[..length], 7, PTR, RecordKind::Ptr);
            assert!(matches!(read, Reading::Other | Reading::Failed(_)), "{length}: {read:?}");
        }
        // Names that point at themselves, forwards, and at each other.
        for pointer in [40_u8, 200, 41] {
            let mut bytes = answer(0x8180, PTR, RecordKind::Ptr, &[]);
            bytes[7] = 1;
            bytes.extend([0xc0, pointer, 0, 12, 0, 1, 0, 0, 0, 60, 0, 2, 0xc0, 12]);
            assert!(
                matches!(read(&bytes, 7, PTR, RecordKind::Ptr), Reading::Failed(_) | Reading::Answer(None)),
                "{pointer}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), at in 0_usize..60) {
            let _ = read(&bytes, 7, PTR, RecordKind::Ptr);
            let mut changed = answer(0x8180, PTR, RecordKind::Ptr, &[("@", "CNAME", 6, "b.example"), ("b.example", "PTR", 60, "a.example")]);
            let places = at..(at + bytes.len().min(4)).min(changed.len());
            let count = places.len();
            changed[places].copy_from_slice(&bytes[..count]);
            let _ = read(&changed, 7, PTR, RecordKind::Ptr);
        }
    }
}
