//! Writes numbers, addresses, times and texts of clients into a line, so that no text can end a value or a line.
//!
//! *Invariant:* what a client sent never gets control characters, quotes or line ends into a line unescaped.

use std::{cell::Cell, fmt, io::Write as _, net::IpAddr};

use jiff::Timestamp;

use crate::{
    text::{digits::append_decimal, terminal::is_obeyed},
    web::request_id::RequestId,
};

/// The longest text of a client that a line takes over, in bytes.
pub(super) const MAX_TEXT: usize = 2_048;

/// As much of `text` as a line takes over.
fn bounded(text: &str) -> &str {
    if text.len() > MAX_TEXT { text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default() } else { text }
}

/// Appends `text` as the inside of a JSON string, at most [`MAX_TEXT`] bytes of it. What a terminal would obey is escaped.
pub fn escape(text: &str, out: &mut Vec<u8>) {
    let text = bounded(text);
    // All of it, however it begins: what never stops early is done many bytes at a time.
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) & (byte != b'"') & (byte != b'\\');
    if text.bytes().fold(true, |all, byte| all & is_plain(byte)) {
        return out.extend_from_slice(text.as_bytes());
    }
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend([b'\\', letter as u8]),
            _ if is_obeyed(letter) => put(format_args!("\\u{:04x}", u32::from(letter)), out),
            _ => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Appends `text` as Apache does in its log: `\"`, `\\`, and `\xhh` for every byte that is no printable ASCII.
/// `is_quoted`: it stands between quotation marks, so it may have spaces.
pub(super) fn escape_log(text: &str, is_quoted: bool, out: &mut Vec<u8>) {
    for &byte in bounded(text).as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b' ' if is_quoted => out.push(b' '),
            b'!'..=b'~' => out.push(byte),
            _ => put(format_args!("\\x{byte:02x}"), out),
        }
    }
}

/// Appends `address` as it is written: IPv4 by hand, as it is what most are.
pub fn address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                append_decimal(u64::from(octet), out);
            }
        }
        IpAddr::V6(address) => put(format_args!("{address}"), out),
    }
}

pub(super) fn put(text: fmt::Arguments<'_>, out: &mut Vec<u8>) {
    // Writing into memory does not fail.
    out.write_fmt(text).unwrap_or_default();
}

/// The 32 digits of a request id. Every request has them written three times, so they are made eight at a time: what is
/// stored byte by byte cannot be loaded as a whole at once.
#[inline]
#[must_use]
pub fn hexadecimal(id: RequestId) -> [u8; 32] {
    let (mut text, bytes) = ([0; 32], id.0.to_be_bytes());
    for (digits, bytes) in text.as_chunks_mut::<8>().0.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *digits = eight_digits(u32::from_be_bytes(*bytes)).to_be_bytes();
    }
    text
}

/// The digits of `value`, the first in the highest byte.
#[inline]
fn eight_digits(value: u32) -> u64 {
    // A byte for each nibble: the upper half of what stands together moves up, again and again.
    let mut nibbles = u64::from(value);
    for (bits, mask) in [(16, 0x0000_ffff_0000_ffff), (8, 0x00ff_00ff_00ff_00ff), (4, 0x0f0f_0f0f_0f0f_0f0f)] {
        nibbles = (nibbles | nibbles << bits) & mask;
    }
    // 1 where a nibble is over nine: six more, and it no longer fits into four bits.
    let letters = (nibbles + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    // Behind `9` come other characters before `a`.
    nibbles + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'9' - 1)
}

thread_local! {
    /// The last second that was written, and how.
    static SECOND: Cell<(u64, [u8; 20])> = const { Cell::new((u64::MAX, [0; 20])) };
}

/// Appends a moment as RFC 3339 has it, UTC, with milliseconds.
pub(super) fn time(unix_millis: u64, out: &mut Vec<u8>) {
    let (seconds, millis) = (unix_millis / 1_000, unix_millis % 1_000);
    let (known, mut text) = SECOND.get();
    if known != seconds {
        text = second(seconds);
        SECOND.set((seconds, text));
    }
    out.extend_from_slice(&text);
    let digit = |value: u64| b'0' + u8::try_from(value % 10).unwrap_or_default();
    out.extend_from_slice(&[digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
}

/// A second up to the dot before its parts.
fn second(seconds: u64) -> [u8; 20] {
    let moment = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let mut text = *b"0000-00-00T00:00:00.";
    let written = format!("{:.0}", moment.unwrap_or(Timestamp::MAX));
    for (place, byte) in text.iter_mut().zip(written.trim_end_matches('Z').bytes()) {
        *place = byte;
    }
    text
}

/// Appends a moment as the Common Log Format has it, UTC: `24/Nov/2025:16:00:00 +0000`.
pub(super) fn time_clf(unix_millis: u64, out: &mut Vec<u8>) {
    let seconds = i64::try_from(unix_millis / 1_000).unwrap_or(i64::MAX);
    let moment = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    put(format_args!("{}", moment.strftime("%d/%b/%Y:%H:%M:%S +0000")), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (millis, expect, clf) in [
            (0, "1970-01-01T00:00:00.000Z", "01/Jan/1970:00:00:00 +0000"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z", "28/Feb/2000:23:59:59 +0000"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z", "29/Feb/2000:00:00:00 +0000"),
            (1_709_251_200_001, "2024-03-01T00:00:00.001Z", "01/Mar/2024:00:00:00 +0000"),
            (4_102_444_799_000, "2099-12-31T23:59:59.000Z", "31/Dec/2099:23:59:59 +0000"),
        ] {
            let (mut out, mut other) = (Vec::new(), Vec::new());
            time(millis, &mut out);
            time_clf(millis, &mut other);
            assert_eq!(
                (String::from_utf8(out).unwrap(), String::from_utf8(other).unwrap()),
                (expect.into(), clf.into())
            );
        }
    }

    #[test]
    fn digits_of_ids() {
        let mixed = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210;
        for id in [0, 1, 9, 10, 15, mixed, mixed << 4 | 9, 0x9a9a << 112, u128::MAX] {
            assert_eq!(hexadecimal(RequestId(id)), *format!("{id:032x}").as_bytes());
        }
    }

    #[test]
    fn long_texts_are_cut_between_letters() {
        let mut out = Vec::new();
        escape(&"\u{20ac}".repeat(MAX_TEXT), &mut out);
        assert!(out.len() <= MAX_TEXT && std::str::from_utf8(&out).is_ok());
    }
}
