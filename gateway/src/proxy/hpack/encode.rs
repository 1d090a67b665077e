//! The encoder: names by the static table where it has them, values as they are (RFC 7541 6.2). Huffman coding would
//! save a client some tens of bytes, and cost every response more than all the rest of its head.

use http::StatusCode;

/// The index of `:status` in the static table.
const STATUS: usize = 8;

/// A literal without indexing, and a literal that is never indexed (RFC 7541 6.2.2, 6.2.3).
const FORGOTTEN: u8 = 0x00;
const SECRET: u8 = 0x10;

/// Encodes the status of a response.
pub(in crate::proxy) fn status(status: StatusCode, out: &mut Vec<u8>) {
    let known = match status.as_u16() {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            integer(STATUS, 4, FORGOTTEN, out);
            return string(status.as_str().as_bytes(), out);
        }
    };
    out.push(0x80 | known);
}

/// Encodes a header field; its name is in lower case.
pub(in crate::proxy) fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let known = index(name);
    // A cookie is a secret: an attacker could guess it from a table that holds it (RFC 7541 7.1.3).
    integer(known, 4, if known == SET_COOKIE { SECRET } else { FORGOTTEN }, out);
    if known == 0 {
        integer(name.len(), 7, 0, out);
        out.extend(name.iter().map(u8::to_ascii_lowercase));
    }
    string(value, out);
}

const SET_COOKIE: usize = 55;

/// The index of a response header in the static table; 0: it has none. Sorted by length, in which most names differ.
fn index(name: &[u8]) -> usize {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match name.len() {
        3 if is(b"age") => 21,
        3 if is(b"via") => 60,
        4 if is(b"date") => 33,
        4 if is(b"etag") => 34,
        4 if is(b"vary") => 59,
        4 if is(b"link") => 45,
        5 if is(b"allow") => 22,
        6 if is(b"server") => 54,
        7 if is(b"expires") => 36,
        8 if is(b"location") => 46,
        10 if is(b"set-cookie") => SET_COOKIE,
        11 if is(b"retry-after") => 53,
        12 if is(b"content-type") => 31,
        13 if is(b"cache-control") => 24,
        13 if is(b"accept-ranges") => 18,
        13 if is(b"last-modified") => 44,
        13 if is(b"content-range") => 30,
        14 if is(b"content-length") => 28,
        16 if is(b"content-encoding") => 26,
        16 if is(b"content-language") => 27,
        16 if is(b"www-authenticate") => 61,
        19 if is(b"content-disposition") => 25,
        25 if is(b"strict-transport-security") => 56,
        27 if is(b"access-control-allow-origin") => 20,
        _ => 0,
    }
}

/// An integer behind the bits of `first` (RFC 7541 5.1).
fn integer(value: usize, bits: u8, first: u8, out: &mut Vec<u8>) {
    let mask = (1_u8 << bits) - 1;
    match u8::try_from(value) {
        Ok(small) if small < mask => out.push(first | small),
        _ => {
            out.push(first | mask);
            let mut rest = value.saturating_sub(usize::from(mask));
            while rest > 0x7f {
                out.push(low_bits(rest) | 0x80);
                rest >>= 7;
            }
            out.push(low_bits(rest));
        }
    }
}

/// The lowest seven bits.
fn low_bits(value: usize) -> u8 {
    u8::try_from(value & 0x7f).unwrap_or_default()
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    integer(text.len(), 7, 0, out);
    out.extend_from_slice(text);
}
