//! Writes protobuf messages: fields with their numbers (<https://protobuf.dev/programming-guides/encoding/>). This small,
//! because the formats that the observer writes need five kinds of fields.

/// A message.
#[derive(Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    pub(super) fn number(&mut self, field: usize, value: u64) {
        varint(&mut self.0, field << 3);
        varint_u64(&mut self.0, value);
    }

    /// `sint32` and `sint64`.
    pub(super) fn signed(&mut self, field: usize, value: i64) {
        self.number(field, (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned());
    }

    pub(super) fn double(&mut self, field: usize, value: f64) {
        self.fixed(field, value.to_bits());
    }

    /// `fixed64`.
    pub(super) fn fixed(&mut self, field: usize, value: u64) {
        varint(&mut self.0, field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, field: usize, value: &[u8]) {
        varint(&mut self.0, field << 3 | 2);
        varint(&mut self.0, value.len());
        self.0.extend(value);
    }

    pub(super) fn text(&mut self, field: usize, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    pub(super) fn message(&mut self, field: usize, value: &Self) {
        self.bytes(field, &value.0);
    }
}

/// A length.
pub(super) fn varint(out: &mut Vec<u8>, value: usize) {
    varint_u64(out, u64::try_from(value).unwrap_or(u64::MAX));
}

fn varint_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}
