//! Transformations: what is done to a value before an operator sees it.

use aws_lc_rs::digest;

use super::{super::decode as common, decode};

/// One transformation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Transform {
    Base64Decode,
    Base64DecodeExt,
    Base64Encode,
    CmdLine,
    CompressWhitespace,
    CssDecode,
    EscapeSeqDecode,
    HexDecode,
    HexEncode,
    HtmlEntityDecode,
    JsDecode,
    Length,
    Lowercase,
    NormalizePath,
    NormalizePathWin,
    RemoveComments,
    RemoveCommentsChar,
    RemoveNulls,
    RemoveWhitespace,
    ReplaceComments,
    ReplaceNulls,
    Sha1,
    SqlHexDecode,
    Trim,
    TrimLeft,
    TrimRight,
    Uppercase,
    UrlDecode,
    UrlDecodeUni,
    UrlEncode,
    Utf8ToUnicode,
}

impl Transform {
    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match &*name.to_ascii_lowercase() {
            "base64decode" => Self::Base64Decode,
            "base64decodeext" => Self::Base64DecodeExt,
            "base64encode" => Self::Base64Encode,
            "cmdline" => Self::CmdLine,
            "compresswhitespace" => Self::CompressWhitespace,
            "cssdecode" => Self::CssDecode,
            "escapeseqdecode" => Self::EscapeSeqDecode,
            "hexdecode" => Self::HexDecode,
            "hexencode" => Self::HexEncode,
            "htmlentitydecode" => Self::HtmlEntityDecode,
            "jsdecode" => Self::JsDecode,
            "length" => Self::Length,
            "lowercase" => Self::Lowercase,
            "normalizepath" | "normalisepath" => Self::NormalizePath,
            "normalizepathwin" | "normalisepathwin" => Self::NormalizePathWin,
            "removecomments" => Self::RemoveComments,
            "removecommentschar" => Self::RemoveCommentsChar,
            "removenulls" => Self::RemoveNulls,
            "removewhitespace" => Self::RemoveWhitespace,
            "replacecomments" => Self::ReplaceComments,
            "replacenulls" => Self::ReplaceNulls,
            "sha1" => Self::Sha1,
            "sqlhexdecode" => Self::SqlHexDecode,
            "trim" => Self::Trim,
            "trimleft" => Self::TrimLeft,
            "trimright" => Self::TrimRight,
            "uppercase" => Self::Uppercase,
            "urldecode" => Self::UrlDecode,
            "urldecodeuni" => Self::UrlDecodeUni,
            "urlencode" => Self::UrlEncode,
            "utf8tounicode" => Self::Utf8ToUnicode,
            _ => return None,
        })
    }

    /// The value afterwards.
    pub(super) fn apply(self, value: &[u8]) -> Vec<u8> {
        match self {
            Self::Base64Decode => common::base64(value, false, false).unwrap_or_default(),
            Self::Base64DecodeExt => common::base64(value, false, true).unwrap_or_default(),
            Self::Base64Encode => data_encoding::BASE64.encode(value).into_bytes(),
            Self::CmdLine => command_line(value),
            Self::CompressWhitespace => compress(value),
            Self::CssDecode => decode::css(value),
            Self::EscapeSeqDecode => decode::escape_sequences(value),
            Self::HexDecode => hex_decode(value),
            Self::HexEncode => data_encoding::HEXLOWER.encode(value).into_bytes(),
            Self::HtmlEntityDecode => common::basic_entities(value),
            Self::JsDecode => common::javascript(value, common::Wide::Cut),
            Self::Length => value.len().to_string().into_bytes(),
            Self::Lowercase => value.to_ascii_lowercase(),
            Self::NormalizePath => decode::path(value, false),
            Self::NormalizePathWin => decode::path(value, true),
            Self::RemoveComments => remove_comments(value),
            Self::RemoveCommentsChar => remove_comment_marks(value),
            Self::RemoveNulls => value.iter().copied().filter(|&byte| byte != 0).collect(),
            Self::RemoveWhitespace => {
                let is_space = |byte: u8| common::is_space(byte) || matches!(byte, 0xa0 | 0xc2);
                value.iter().copied().filter(|&byte| !is_space(byte)).collect()
            }
            Self::ReplaceComments => replace_comments(value),
            Self::ReplaceNulls => value.iter().map(|&byte| if byte == 0 { b' ' } else { byte }).collect(),
            Self::Sha1 => digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, value).as_ref().to_vec(),
            Self::SqlHexDecode => sql_hex(value),
            Self::Trim => trim_start(trim_end(value)).to_vec(),
            Self::TrimLeft => trim_start(value).to_vec(),
            Self::TrimRight => trim_end(value).to_vec(),
            Self::Uppercase => value.to_ascii_uppercase(),
            Self::UrlDecode => common::percent(value, true),
            Self::UrlDecodeUni => common::percent_unicode(value, common::Wide::Cut),
            Self::UrlEncode => url_encode(value),
            Self::Utf8ToUnicode => utf8_to_unicode(value),
        }
    }
}

/// A command as a shell may read it: without quotes and carets, separators as one space, none before `/` and `(`.
fn command_line(value: &[u8]) -> Vec<u8> {
    let (mut out, mut after_space) = (Vec::with_capacity(value.len()), false);
    for &byte in value {
        match byte {
            b'"' | b'\'' | b'\\' | b'^' => {}
            b' ' | b',' | b';' | b'\t' | b'\r' | b'\n' => {
                if !after_space {
                    out.push(b' ');
                }
                after_space = true;
            }
            b'/' | b'(' => {
                if after_space {
                    out.pop();
                }
                after_space = false;
                out.push(byte);
            }
            _ => {
                after_space = false;
                out.push(byte.to_ascii_lowercase());
            }
        }
    }
    out
}

/// As `isspace` has it: with the vertical tab.
fn trim_start(value: &[u8]) -> &[u8] {
    let begin = value.iter().position(|byte| !common::is_space(*byte)).unwrap_or(value.len());
    value.get(begin..).unwrap_or_default()
}

fn trim_end(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|byte| !common::is_space(*byte)).map_or(0, |last| last + 1);
    value.get(..end).unwrap_or_default()
}

fn compress(value: &[u8]) -> Vec<u8> {
    let (mut out, mut after_space) = (Vec::with_capacity(value.len()), false);
    for &byte in value {
        let is_space = common::is_space(byte);
        if !(is_space && after_space) {
            out.push(if is_space { b' ' } else { byte });
        }
        after_space = is_space;
    }
    out
}

fn hex_decode(value: &[u8]) -> Vec<u8> {
    let pairs = value.chunks_exact(2).map_while(|pair| match pair {
        [high, low] => Some((common::hex(*high)? << 4) | common::hex(*low)?),
        _ => None,
    });
    pairs.collect()
}

/// `0x41` becomes `A`.
fn sql_hex(value: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(value.len()), 0);
    while let Some(&byte) = value.get(at) {
        // Digits are only counted behind `0x`: else a value of digits alone would take time by its square.
        let is_hex = byte == b'0' && matches!(value.get(at + 1), Some(b'x' | b'X'));
        let digits = if is_hex { value.get(at + 2..).unwrap_or_default() } else { &[] };
        let digits = digits.iter().take_while(|byte| byte.is_ascii_hexdigit()).count() / 2 * 2;
        if digits > 0 {
            out.extend(hex_decode(value.get(at + 2..at + 2 + digits).unwrap_or_default()));
            at += 2 + digits;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    out
}

/// `/* ... */` becomes a space; one that does not end, too.
fn replace_comments(value: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(value.len()), value);
    while let Some(begin) = memchr::memmem::find(rest, b"/*") {
        out.extend(rest.get(..begin).unwrap_or_default());
        out.push(b' ');
        let comment = rest.get(begin + 2..).unwrap_or_default();
        let Some(end) = memchr::memmem::find(comment, b"*/") else { return out };
        rest = comment.get(end + 2..).unwrap_or_default();
    }
    out.extend(rest);
    out
}

/// Removes comments of C, HTML and SQL.
fn remove_comments(value: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(value.len()), 0);
    while let Some(&byte) = value.get(at) {
        let rest = value.get(at..).unwrap_or_default();
        let until = |end: &[u8]| memchr::memmem::find(rest, end).map_or(value.len(), |found| at + found + end.len());
        if rest.starts_with(b"/*") {
            at = until(b"*/");
        } else if rest.starts_with(b"<!--") {
            at = until(b"-->");
        } else if rest.starts_with(b"--") || byte == b'#' {
            return out;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    out
}

/// Removes what begins and ends comments.
fn remove_comment_marks(value: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(value.len()), 0);
    while let Some(&byte) = value.get(at) {
        let rest = value.get(at..).unwrap_or_default();
        let marks: [&[u8]; 6] = [b"/*", b"*/", b"<!--", b"-->", b"--", b"#"];
        match marks.iter().find(|mark| rest.starts_with(mark)) {
            Some(mark) => at += mark.len(),
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

fn url_encode(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for &byte in value {
        match byte {
            b' ' => out.push(b'+'),
            b'*' => out.push(byte),
            _ if byte.is_ascii_alphanumeric() => out.push(byte),
            _ => out.extend(format!("%{byte:02x}").bytes()),
        }
    }
    out
}

/// Characters of more than one byte become `%uHHHH`.
fn utf8_to_unicode(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_ascii() {
                out.extend(character.encode_utf8(&mut [0; 4]).bytes());
            } else {
                out.extend(format!("%u{:04x}", u32::from(character)).bytes());
            }
        }
        out.extend(chunk.invalid());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transformation_does_what_its_name_says() {
        for (name, input, expect) in [
            ("cmdLine", "C^AT;; /etc/\"x\" (a", "cat/etc/x(a"),
            ("compressWhitespace", "a \t\n b", "a b"),
            ("replaceComments", "a/* b */c/*d", "a c "),
            ("removeComments", "a/* b */c<!-- x -->d--e", "acd"),
            ("removeCommentsChar", "a/*b*/c--d#", "abcd"),
            ("removeWhitespace", " a b\u{b}", "ab"),
            ("trim", "\u{b} a b\t\u{c}", "a b"),
            ("trimLeft", "\u{b}a ", "a "),
            ("trimRight", " \n", ""),
            ("utf8toUnicode", "aé＜", "a%u00e9%uff1c"),
            ("length", "abc", "3"),
            ("hexEncode", "\u{1}A", "0141"),
            ("sqlHexDecode", "0x4142 0xg", "AB 0xg"),
            ("urlDecodeUni", "%u0041+%42", "A B"),
            ("base64Decode", "QUI=", "AB"),
            ("normalisePath", "/a/./../b", "/b"),
        ] {
            let transform = Transform::named(name).unwrap();
            assert_eq!(String::from_utf8_lossy(&transform.apply(input.as_bytes())), expect, "{name} of {input:?}");
        }
        assert!(Transform::named("nothing").is_none());
    }
}
