//! Decoders that only SecLang asks for: escapes of C and of style sheets, and paths.

use super::super::decode::{control, hex_run, is_space, low_byte, narrow, octal};

/// Decodes escapes of C: as those of JavaScript without Unicode; what is no escape stays as it is.
pub(super) fn escape_sequences(input: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(input.len()), 0);
    while let Some(&byte) = input.get(at) {
        let (decoded, length) = match (byte, input.get(at + 1).copied()) {
            (b'\\', Some(b'x' | b'X')) if hex_run(input, at + 2, 2).0 == 2 => {
                (low_byte(hex_run(input, at + 2, 2).1), 4)
            }
            (b'\\', Some(first @ b'0'..=b'7')) => octal(input, at + 1, first),
            (b'\\', Some(escaped)) => match control(escaped) {
                Some(known) => (known, 2),
                None if matches!(escaped, b'\\' | b'?' | b'\'' | b'"') => (escaped, 2),
                None => (byte, 1),
            },
            _ => (byte, 1),
        };
        out.push(decoded);
        at += length;
    }
    out
}

/// Decodes escapes of style sheets: `\` and up to six hexadecimal digits.
pub(super) fn css(input: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(input.len()), 0);
    while let Some(&byte) = input.get(at) {
        at += 1;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match hex_run(input, at, 6) {
            (0, _) => match input.get(at) {
                Some(b'\n') => at += 1,
                Some(&escaped) => {
                    out.push(escaped);
                    at += 1;
                }
                None => {}
            },
            (count, code) => {
                out.push(if count >= 4 && code <= 0xffff { narrow(code) } else { low_byte(code) });
                at += count;
                if input.get(at).is_some_and(|&after| is_space(after)) {
                    at += 1;
                }
            }
        }
    }
    out
}

/// Removes `.`, `..` and empty segments of a path. `windows`: backslashes are slashes.
pub(super) fn path(input: &[u8], windows: bool) -> Vec<u8> {
    let input: Vec<u8> = input.iter().map(|&byte| if windows && byte == b'\\' { b'/' } else { byte }).collect();
    if input.is_empty() {
        return input;
    }
    let (is_absolute, is_folder) = (input.first() == Some(&b'/'), input.last() == Some(&b'/'));
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in input.split(|&byte| byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." if kept.last().is_some_and(|last| *last != b"..") => {
                kept.pop();
            }
            b".." if is_absolute => {}
            _ => kept.push(segment),
        }
    }
    let mut out = Vec::with_capacity(input.len());
    if is_absolute {
        out.push(b'/');
    }
    out.extend(kept.join(&b'/'));
    if is_folder && !kept.is_empty() {
        out.push(b'/');
    }
    out
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
        check(escape_sequences, &[("\\x41\\101\\q\\\\", "AA\\q\\")]);
        check(css, &[("\\3c b\\ff1c\\q\\", "<b<q"), ("\\000041x", "Ax")]);
        check(
            |it| path(it, false),
            &[
                ("/a/../b", "/b"),
                ("/../../etc/passwd", "/etc/passwd"),
                ("a/./b//c/", "a/b/c/"),
                ("../a", "../a"),
                ("/", "/"),
                ("", ""),
            ],
        );
        check(|it| path(it, true), &[("\\a\\..\\b", "/b")]);
    }
}
