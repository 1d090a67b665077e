//! Decoders of text that attackers hide attacks in: percent-encoding, HTML entities, escapes of scripts, base64. Each takes bytes and returns bytes, never more of them than it got, or a few more.

/// The value of a hexadecimal digit.
pub(super) const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The number of hexadecimal digits from `at`, at most `most`, and their value without overflow.
pub(super) fn hex_run(input: &[u8], at: usize, most: usize) -> (usize, u32) {
    let digits = input.iter().skip(at).take(most).map_while(|&byte| hex(byte));
    digits.fold((0, 0), |(count, value), digit| (count + 1, (value << 4) | u32::from(digit)))
}

/// What `isspace` of C takes for white space.
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

pub(super) const fn low_byte(value: u32) -> u8 {
    value.to_le_bytes()[0]
}

/// Full-width forms (U+FF01 to U+FF5E) are the ASCII characters that they look like.
pub(super) const fn narrow(code: u32) -> u8 {
    let low = low_byte(code);
    if (code >> 8) & 0xff == 0xff && low > 0 && low < 0x5f { low.wrapping_add(0x20) } else { low }
}

/// What becomes of an escaped character beyond U+00FF. Full-width forms become ASCII in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wide {
    /// It is cut to its last byte, as ModSecurity does.
    Cut,
    /// It is written as UTF-8, as whoever reads it does; a half of a pair of UTF-16 as what stands for it.
    Kept,
}

impl Wide {
    fn append(self, out: &mut Vec<u8>, code: u32) {
        match code {
            0..=0xff => out.push(low_byte(code)),
            0xff01..=0xff5e => out.push(narrow(code)),
            _ if self == Self::Cut => out.push(low_byte(code)),
            _ => {
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
    }
}

/// Decodes `%HH`, and `+` as a space where it means one. Whatever is no escape stays.
pub(super) fn percent(input: &[u8], plus: bool) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(input.len()), 0);
    while let Some(&byte) = input.get(at) {
        at += 1;
        match byte {
            b'+' if plus => out.push(b' '),
            b'%' => match hex_run(input, at, 2) {
                (2, value) => {
                    out.push(low_byte(value));
                    at += 2;
                }
                _ => out.push(byte),
            },
            _ => out.push(byte),
        }
    }
    out
}

/// As [`percent`] with `+`, and `%uHHHH`.
pub(super) fn percent_unicode(input: &[u8], wide: Wide) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(input.len()), 0);
    while let Some(&byte) = input.get(at) {
        at += 1;
        match byte {
            b'+' => out.push(b' '),
            b'%' if matches!(input.get(at), Some(b'u' | b'U')) => match hex_run(input, at + 1, 4) {
                (4, code) => {
                    wide.append(&mut out, code);
                    at += 5;
                }
                _ => out.push(byte),
            },
            b'%' => match hex_run(input, at, 2) {
                (2, value) => {
                    out.push(low_byte(value));
                    at += 2;
                }
                _ => out.push(byte),
            },
            _ => out.push(byte),
        }
    }
    out
}

/// Named entities that attacks are made of. The first five are those that ModSecurity reads.
const NAMED: [(&str, u8); 18] = [
    ("quot", b'"'),
    ("amp", b'&'),
    ("lt", b'<'),
    ("gt", b'>'),
    ("nbsp", 0xa0),
    ("apos", b'\''),
    ("colon", b':'),
    ("tab", b'\t'),
    ("newline", b'\n'),
    ("lpar", b'('),
    ("rpar", b')'),
    ("sol", b'/'),
    ("equals", b'='),
    ("semi", b';'),
    ("period", b'.'),
    ("lbrace", b'{'),
    ("lcub", b'{'),
    ("bsol", b'\\'),
];

/// Decodes HTML entities: all numeric ones, and [`NAMED`].
pub(super) fn html_entities(input: &[u8]) -> Vec<u8> {
    entities(input, &NAMED, Wide::Kept)
}

/// Decodes the HTML entities that ModSecurity reads.
pub(super) fn basic_entities(input: &[u8]) -> Vec<u8> {
    let known = NAMED.first_chunk::<5>().map_or(&[][..], |known| known);
    entities(input, known, Wide::Cut)
}

fn entities(input: &[u8], named: &[(&str, u8)], wide: Wide) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(input.len()), 0);
    while let Some(&byte) = input.get(at) {
        if byte == b'&'
            && let Some((decoded, mut length)) = entity(input.get(at + 1..).unwrap_or_default(), named)
        {
            if input.get(at + 1 + length) == Some(&b';') {
                length += 1;
            }
            wide.append(&mut out, decoded);
            at += 1 + length;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    out
}

/// The entity after an ampersand, without its semicolon, and how long it is.
fn entity(rest: &[u8], named: &[(&str, u8)]) -> Option<(u32, usize)> {
    /// The longest run of digits or letters that is looked at.
    const MOST: usize = 32;
    if rest.first() == Some(&b'#') {
        if matches!(rest.get(1), Some(b'x' | b'X')) {
            let (count, value) = hex_run(rest, 2, MOST);
            return (count > 0).then_some((value, 2 + count));
        }
        let digits = rest.iter().skip(1).take(MOST).take_while(|byte| byte.is_ascii_digit());
        let (count, value) = digits.fold((0, 0u32), |(count, value), &digit| {
            (count + 1, value.wrapping_mul(10).wrapping_add(u32::from(digit - b'0')))
        });
        return (count > 0).then_some((value, 1 + count));
    }
    let length = rest.iter().take(MOST).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let name = rest.get(..length)?;
    named
        .iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()))
        .map(|(_, byte)| (u32::from(*byte), length))
}

/// Decodes escapes of JavaScript: `\uHHHH` (two of them for a character beyond U+FFFF), `\xHH`, `\OOO`, `\n`. Another escaped
/// character stands for itself.
pub(super) fn javascript(input: &[u8], wide: Wide) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(input.len()), 0);
    while let Some(&byte) = input.get(at) {
        let next = input.get(at + 1).copied();
        let (decoded, length) = match (byte, next) {
            (b'\\', Some(b'u')) if hex_run(input, at + 2, 4).0 == 4 => {
                let (code, length) = match wide {
                    Wide::Kept => utf16(input, at),
                    Wide::Cut => (hex_run(input, at + 2, 4).1, 6),
                };
                wide.append(&mut out, code);
                at += length;
                continue;
            }
            (b'\\', Some(b'x')) if hex_run(input, at + 2, 2).0 == 2 => (low_byte(hex_run(input, at + 2, 2).1), 4),
            (b'\\', Some(first @ b'0'..=b'7')) => octal(input, at + 1, first),
            (b'\\', Some(escaped)) => (control(escaped).unwrap_or(escaped), 2),
            _ => (byte, 1),
        };
        out.push(decoded);
        at += length;
    }
    out
}

/// The character of `\uHHHH` at `at`, or of the pair that it begins, and the length of the escape.
fn utf16(input: &[u8], at: usize) -> (u32, usize) {
    let (_, first) = hex_run(input, at + 2, 4);
    let (count, second) = hex_run(input, at + 8, 4);
    let is_pair = input.get(at + 6..at + 8) == Some(b"\\u") && count == 4;
    match (first, second) {
        (0xd800..=0xdbff, 0xdc00..=0xdfff) if is_pair => (0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00), 12),
        _ => (first, 6),
    }
}

/// Octal digits from `at` on, of which the first is `first`, and the length of the escape.
pub(super) fn octal(input: &[u8], at: usize, first: u8) -> (u8, usize) {
    let most = if first > b'3' { 2 } else { 3 };
    let digits = input.iter().skip(at).take(most).take_while(|byte| matches!(byte, b'0'..=b'7'));
    let (count, value) =
        digits.fold((0, 0u32), |(count, value), digit| (count + 1, value * 8 + u32::from(digit - b'0')));
    (low_byte(value), 1 + count)
}

/// The control character that is escaped by a letter.
pub(super) const fn control(letter: u8) -> Option<u8> {
    Some(match letter {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        _ => return None,
    })
}

/// Decodes base64 up to the first character that is none; `None` where nothing was decoded. `both`: the alphabet of URLs
/// counts too. With `is_lenient`, characters that are none are skipped.
pub(super) fn base64(input: &[u8], both: bool, is_lenient: bool) -> Option<Vec<u8>> {
    let (mut out, mut bits, mut held) = (Vec::with_capacity(input.len() / 4 * 3 + 3), 0u32, 0u32);
    for &byte in input {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'-' if both => 62,
            b'_' if both => 63,
            _ if is_lenient => continue,
            _ => break,
        };
        bits = ((bits << 6) | u32::from(value)) & 0x00ff_ffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(low_byte(bits >> held));
        }
    }
    (!out.is_empty()).then_some(out)
}

/// Folds overlong UTF-8 of ASCII (`C0 AF` for `/`), full-width forms, and what looks like a slash, a dot, a letter or a
/// digit into the characters that they stand for. A space without break is a space.
pub(super) fn fold_unicode(input: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(input.len()), 0);
    while let Some(&byte) = input.get(at) {
        let (second, third) = (input.get(at + 1).copied(), input.get(at + 2).copied());
        match (byte, second, third) {
            (0xc0 | 0xc1, Some(low @ 0x80..=0xbf), _) => {
                out.push(((byte & 1) << 6) | (low & 0x3f));
                at += 2;
            }
            (0xe0, Some(middle @ 0x80 | middle @ 0x81), Some(low @ 0x80..=0xbf)) => {
                out.push(((middle & 1) << 6) | (low & 0x3f));
                at += 3;
            }
            (0xef, Some(middle @ 0xbc | middle @ 0xbd), Some(low @ 0x80..=0xbf)) => {
                let code = 0xf000 | (u32::from(middle & 0x3f) << 6) | u32::from(low & 0x3f);
                match code {
                    0xff01..=0xff5e => out.push(narrow(code)),
                    _ => out.extend([byte, middle, low]),
                }
                at += 3;
            }
            (0xc2, Some(0xa0), _) => {
                out.push(b' ');
                at += 2;
            }
            (0xe2, Some(0x80), Some(0xa5)) => {
                out.extend_from_slice(b"..");
                at += 3;
            }
            (0xe2, Some(middle), Some(low)) => {
                match look_alike(middle, low) {
                    Some(plain) => out.push(plain),
                    None => out.extend([byte, middle, low]),
                }
                at += 3;
            }
            // Some servers cut U+560A and U+560D down to their last bytes: line ends.
            (0xe5, Some(0x98), Some(low @ (0x8a | 0x8d))) => {
                out.push(low & 0x0f);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// What a character of U+2000 to U+2FFF stands for where a name is normalized: the last two of its three bytes. Digits and
/// letters stand in circles.
const fn look_alike(middle: u8, low: u8) -> Option<u8> {
    Some(match (middle, low) {
        (0x80, 0xa4) => b'.',
        (0x81, 0x84) | (0x88, 0x95) => b'/',
        (0x88, 0x96) => b'\\',
        (0x91, 0xa0..=0xa8) => b'1' + (low - 0xa0),
        (0x92, 0xb6..=0xbf) => b'A' + (low - 0xb6),
        (0x93, 0x80..=0x8f) => b'K' + (low - 0x80),
        (0x93, 0x90..=0xa9) => b'a' + (low - 0x90),
        (0x93, 0xaa) => b'0',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(decode: fn(&[u8]) -> Vec<u8>, table: &[(&str, &str)]) {
        for (input, expect) in table {
            assert_eq!(String::from_utf8_lossy(&decode(input.as_bytes())), *expect, "{input:?}");
        }
    }

    #[test]
    fn every_decoder_reads_its_escapes_and_leaves_the_rest() {
        check(|it| percent(it, true), &[("a+b%20c%zz%4", "a b c%zz%4"), ("%", "%"), ("%41%", "A%")]);
        check(
            |it| percent_unicode(it, Wide::Kept),
            &[("%u0041%uff1c%u00", "A<%u00"), ("%u4e00%u0100", "\u{4e00}\u{100}"), ("%75%u", "u%u")],
        );
        check(
            html_entities,
            &[
                ("&lt;a&#62;&#x3e;&#x3C&amp", "<a>><&"),
                ("&", "&"),
                ("&#;&#x;&zz;", "&#;&#x;&zz;"),
                ("&#99999999999;", "\u{fffd}"),
                ("&#128512;&#x4e00;&#256;&#xd83d;", "\u{1f600}\u{4e00}\u{100}\u{fffd}"),
            ],
        );
        check(|it| javascript(it, Wide::Cut), &[("\\u003cb\\u013cx\\uff1c", "<b<x<")]);
        check(|it| percent_unicode(it, Wide::Cut), &[("%u013cx", "<x")]);
        check(
            |it| javascript(it, Wide::Kept),
            &[
                ("\\u003cb\\x41\\101\\n\\q\\", "<bAA\nq\\"),
                ("\\uff1c", "<"),
                ("\\u00", "u00"),
                ("\\ud83d\\ude00\\u4e00\\ud83d\\u0041", "\u{1f600}\u{4e00}\u{fffd}A"),
            ],
        );
        check(
            |it| base64(it, true, false).unwrap_or_default(),
            &[("PHNjcmlwdD4=", "<script>"), ("!", ""), ("QQ", "A")],
        );
        check(
            fold_unicode,
            &[
                ("\u{2024}\u{2025}\u{2044}a\u{2215}\u{2216}\u{a0}\u{2019}", ".../a/\\ \u{2019}"),
                ("\u{2460}\u{2468}\u{24ea}\u{24d0}\u{24e9}\u{24b6}\u{24bf}\u{24c0}\u{24cf}", "190azAJKZ"),
            ],
        );
        assert_eq!(fold_unicode(b"\xc0\xae\xc0\xae\xc0\xaf\xef\xbc\x9cx\xc3\xa9\xe0\x80\xaf"), b"../<x\xc3\xa9/");
    }
}
