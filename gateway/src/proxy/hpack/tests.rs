//! The examples of RFC 7541, what must not be read, and what the library of the upstreams' side makes of ours.

use http::StatusCode;
use proptest::prelude::*;

use super::*;

fn shown(field: &TableField) -> String {
    match &field.content {
        FieldValue::Authority(authority) => format!(":authority={authority}"),
        FieldValue::Header(name, value) => format!("{name}={}", String::from_utf8_lossy(value.as_bytes())),
        FieldValue::Method(method) => format!(":method={method}"),
        FieldValue::Path(path) => format!(":path={path}"),
        FieldValue::Scheme(is_secure) => format!(":scheme={}", if *is_secure { "https" } else { "http" }),
        FieldValue::Wrong(detail) => format!("!{detail}"),
    }
}

fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Undecodable> {
    let mut fields = Vec::new();
    decoder.decode(block, |field| fields.push(shown(field)))?;
    Ok(fields)
}

/// The bytes that `text` spells in hexadecimal.
fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter(char::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(&two.iter().collect::<String>(), 16).unwrap()).collect()
}

#[test]
fn the_examples_of_the_rfc() {
    let usual = [":method=GET", ":scheme=http", ":path=/", ":authority=www.example.com"];
    let third = [":method=GET", ":scheme=https", ":path=/index.html", ":authority=www.example.com"];
    // RFC 7541 C.3 and C.4: one connection each, plain and coded.
    for blocks in [
        [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ],
        [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ],
    ] {
        let mut decoder = Decoder::new();
        assert_eq!(read(&mut decoder, &bytes(blocks[0])).unwrap(), usual);
        assert_eq!(decoder.sizes(), (57, 57));
        let again = read(&mut decoder, &bytes(blocks[1])).unwrap();
        assert_eq!(again, [&usual[..], &["cache-control=no-cache"]].concat());
        assert_eq!(decoder.sizes(), (110, 110));
        let last = read(&mut decoder, &bytes(blocks[2])).unwrap();
        assert_eq!(last, [&third[..], &["custom-key=custom-value"]].concat());
        assert_eq!(decoder.sizes(), (164, 164));
    }
}

/// What one block says to a client that was told nothing before.
#[track_caller]
fn check(block: &str, expect: Result<&[&str], Undecodable>) {
    let found = read(&mut Decoder::new(), &bytes(block));
    let found = found.as_ref().map(|fields| fields.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(found.as_deref().map_err(|error| **error), expect, "{block}");
}

/// `authorization` as a literal that is left out of the table: so often eight times `a`, which take five bytes.
fn token(eights: usize) -> Vec<u8> {
    let length = 5 * eights - 127;
    let seven = |bits: usize| u8::try_from(bits & 0x7f).unwrap();
    let head = [0x0f, 0x08, 0xff, seven(length) | 0x80, seven(length >> 7)];
    [&head[..], &[0x18_u8, 0xc6, 0x31, 0x8c, 0x63].repeat(eights)].concat()
}

/// `docs/limits.md` tells how much a connection remembers.
#[test]
fn what_is_repeated_is_bounded() {
    let mut decoder = Decoder::new();
    for eights in (300..=600).chain([405, 406, 407, 408]) {
        let fields = read(&mut decoder, &token(eights)).unwrap();
        assert_eq!(fields, [format!("authorization={}", "a".repeat(8 * eights))]);
        assert!(decoder.repeated() <= 2 * 5_500, "{eights}: {}", decoder.repeated());
    }
    assert!(decoder.repeated() > 2 * 5_000, "{}", decoder.repeated());
    assert_eq!(decoder.sizes(), (0, 0), "nothing of it is in the table");
}

#[test]
fn what_cannot_be_read() {
    let error = Err(Undecodable);
    check("", Ok(&[]));
    check("80", error);
    check("be", error);
    check("ff ff ff ff ff 0f", error);
    check("ff", error);
    check("40", error);
    check("40 01", error);
    check("40 01 78", error);
    check("40 05 78", error);
    check("00 01 78 7f ff ff ff 7f", error);
    check("00 01 78 81 00", error);
    // A size that was never allowed, and one that comes late; one that may be.
    check("3f e2 1f", error);
    check("82 20", error);
    check("20 3f e1 1f 82", Ok(&[":method=GET"]));
    // An index into a table that has just been emptied.
    check("40 01 78 01 79 be", Ok(&["x=y", "x=y"]));
    check("20 40 01 78 01 79 be", error);
}

#[test]
fn h11_h13_what_no_request_may_say() {
    for (block, detail) in [
        ("88", "pseudo header of no request"),
        ("00 04 3a666f6f 01 78", "pseudo header of no request"),
        ("00 01 58 01 78", "invalid header name"),
        ("00 00 01 78", "invalid header name"),
        ("00 03 612062 01 78", "invalid header name"),
        ("00 01 78 03 610d62", "invalid header value"),
        ("00 01 78 03 610062", "invalid header value"),
        ("00 01 78 02 2061", "header value with space around it"),
        ("00 01 78 02 6109", "header value with space around it"),
        ("04 02 2f23", "fragment in :path"),
        ("04 00", "invalid :path"),
        ("06 08 68747470733a2f2f", "invalid :scheme"),
        ("02 05 4745542078", "invalid :method"),
        ("81", "invalid :authority"),
    ] {
        check(block, Ok(&[&*format!("!{detail}")]));
    }
    // It is kept as the other side keeps it: what refers to it says the same.
    check("44 02 2f23 be", Ok(&["!fragment in :path", "!fragment in :path"]));
    check("44 02 2f23 7e 01 2f", Ok(&["!fragment in :path", ":path=/"]));
    check("40 01 58 01 78 7e 01 79", Ok(&["!invalid header name", "!invalid header name"]));
}

#[test]
fn ours_can_be_read() {
    let mut out = Vec::new();
    let long = "y".repeat(20_000);
    let fields =
        [("Content-Type", "text/plain"), ("Set-Cookie", "a=b"), ("X-Own", ""), ("Age", "0"), ("x-long", &*long)];
    for (name, value) in fields {
        field(name.as_bytes(), value.as_bytes(), &mut out);
    }
    let mut decoder = Decoder::new();
    let expect: Vec<_> = fields.iter().map(|(name, value)| format!("{}={value}", name.to_lowercase())).collect();
    assert_eq!(read(&mut decoder, &out).unwrap(), expect);
    assert_eq!(decoder.sizes(), (0, 0), "nothing to keep");
    for (code, expect) in [(200, &[0x88][..]), (404, &[0x8d]), (503, &[8, 3, b'5', b'0', b'3'])] {
        let mut out = Vec::new();
        status(StatusCode::from_u16(code).unwrap(), &mut out);
        assert_eq!(out, expect);
    }
    // Every name that is said by its place in the table stands there.
    for place in table::fields() {
        let FieldName::Header(name) = &place.name else { continue };
        let mut out = Vec::new();
        field(name.as_str().as_bytes(), b"x", &mut out);
        assert_eq!(read(&mut Decoder::new(), &out).unwrap(), [format!("{name}=x")]);
    }
}

proptest! {
    #[test]
    fn h04_whatever_comes_the_table_stays_small(
        blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..8),
    ) {
        let mut decoder = Decoder::new();
        for block in blocks {
            let mut count = 0;
            let read = decoder.decode(&block, |_| count += 1);
            let (counted, real) = decoder.sizes();
            prop_assert_eq!(counted, real);
            prop_assert!(real <= TABLE && count <= block.len());
            if read.is_err() {
                break;
            }
        }
    }
}

/// A literal that is not indexed: `name` as it is in a block, and a value of `length` times `letter`, not coded.
fn unindexed(name: &str, letter: u8, length: u8) -> Vec<u8> {
    assert!(length < 127, "its length is one byte");
    [bytes(name), vec![length], vec![letter; usize::from(length)]].concat()
}

#[test]
fn a_literal_that_comes_again_is_the_same_field() {
    let dynamic = "0f 2f";
    // Of the static table (authorization, never indexed), spelt out, and of the dynamic table.
    for (name, text) in [("1f 08", "authorization"), ("00 01 78", "x"), (dynamic, "y")] {
        let mut decoder = Decoder::new();
        read(&mut decoder, &bytes("40 01 79 01 7a")).unwrap();
        for (letter, length) in
            [(b'a', 100), (b'a', 100), (b'a', 101), (b'b', 100), (b'c', 100), (b'a', 100), (b'a', 3)]
        {
            let value = char::from(letter).to_string().repeat(usize::from(length));
            let block = [unindexed(name, letter, length), bytes("82")].concat();
            assert_eq!(read(&mut decoder, &block).unwrap(), [format!("{text}={value}"), ":method=GET".into()]);
        }
        // Cut short, it is no field.
        let whole = unindexed(name, b'a', 100);
        for end in 1..whole.len() {
            assert_eq!(read(&mut decoder, whole.get(..end).unwrap()), Err(Undecodable), "{name} {end}");
        }
        // The index of the dynamic table says another name now.
        read(&mut decoder, &bytes("40 01 71 01 7a")).unwrap();
        let now = if name == dynamic { "q" } else { text };
        assert_eq!(read(&mut decoder, &whole).unwrap(), [format!("{now}={}", "a".repeat(100))]);
    }
}
