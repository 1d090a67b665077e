//! What all requests of OTLP have in common (github.com/open-telemetry/opentelemetry-proto): whose telemetry it is,
//! attributes, and the response.

use crate::{observer::protobuf::Message, os::clock::Now};

/// The schema whose names are used: <https://github.com/open-telemetry/semantic-conventions>.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.45.0";

/// A request: `scoped` are its spans, metrics or log records, in field 2 each.
pub(super) fn request(service: &str, scoped: impl IntoIterator<Item = Message>) -> Vec<u8> {
    let mut scope = Message::default();
    scope.text(1, "gateway");
    scope.text(2, env!("CARGO_PKG_VERSION"));
    let mut all = Message::default();
    all.message(1, &scope);
    for one in scoped {
        all.message(2, &one);
    }
    all.text(3, SCHEMA);
    let mut resource = Message::default();
    for (key, value) in [("service.name", service), ("service.version", env!("CARGO_PKG_VERSION"))] {
        resource.message(1, &text(key, value));
    }
    let mut of_resource = Message::default();
    of_resource.message(1, &resource);
    of_resource.message(2, &all);
    of_resource.text(3, SCHEMA);
    let mut whole = Message::default();
    whole.message(1, &of_resource);
    whole.0
}

/// Nanoseconds since 1970.
pub(super) fn nanos() -> u64 {
    Now::read().unix_millis.saturating_mul(1_000_000)
}

/// An attribute that is a text.
pub(super) fn text(key: &str, value: &str) -> Message {
    pair(key, &text_value(value))
}

/// An attribute that is a number.
pub(super) fn number(key: &str, value: i64) -> Message {
    let mut any = Message::default();
    any.number(3, value.cast_unsigned());
    pair(key, &any)
}

/// An attribute that is a yes or no.
pub(super) fn boolean(key: &str, value: bool) -> Message {
    let mut any = Message::default();
    any.number(2, u64::from(value));
    pair(key, &any)
}

/// `AnyValue` of a text.
pub(super) fn text_value(value: &str) -> Message {
    let mut any = Message::default();
    any.text(1, value);
    any
}

fn pair(key: &str, value: &Message) -> Message {
    let mut pair = Message::default();
    pair.text(1, key);
    pair.message(2, value);
    pair
}

/// How many parts of a request a collector has refused, and why; `None`: it says nothing of that.
pub(super) fn partial_success(response: &[u8]) -> Option<(u64, String)> {
    let (_, partial) = fields(response).into_iter().find(|(field, _)| *field == 1)?;
    let (mut rejected, mut why) = (0, String::new());
    let WireField::Bytes(partial) = partial else { return None };
    for (field, value) in fields(partial) {
        match (field, value) {
            (1, WireField::Number(number)) => rejected = number,
            (2, WireField::Bytes(text)) => {
                why = String::from_utf8_lossy(text).chars().filter(|letter| !letter.is_control()).take(200).collect();
            }
            _ => {}
        }
    }
    Some((rejected, why))
}

/// What a field holds.
enum WireField<'bytes> {
    Bytes(&'bytes [u8]),
    Number(u64),
}

/// The fields of a message, as far as it is one.
fn fields(mut bytes: &[u8]) -> Vec<(u64, WireField<'_>)> {
    let mut fields = Vec::new();
    while let Some(key) = varint(&mut bytes) {
        let value = match key & 7 {
            0 => varint(&mut bytes).map(WireField::Number),
            2 => varint(&mut bytes).and_then(|length| {
                let (value, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
                bytes = rest;
                Some(WireField::Bytes(value))
            }),
            _ => None,
        };
        let Some(value) = value else { return fields };
        fields.push((key >> 3, value));
    }
    fields
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_read_safely() {
        for (bytes, expect) in [
            (&b""[..], None),
            (b"\x0a\x00", Some((0, ""))),
            (b"\x0a\x02\x08\x05", Some((5, ""))),
            (b"\x0a\x07\x08\x03\x12\x03a\nb", Some((3, "ab"))),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", None),
            (b"\x08\x01", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"not protobuf", None),
        ] {
            let expect = expect.map(|(rejected, why)| (rejected, why.to_owned()));
            assert_eq!(partial_success(bytes), expect, "{bytes:?}");
        }
    }
}
