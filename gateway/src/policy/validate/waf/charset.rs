//! In which encodings bodies are inspected: those that have ASCII where ASCII is. Another one hides an attack from every
//! rule.

use super::decode;

/// The encodings in which bodies are inspected.
const KNOWN: [&[u8]; 6] = [b"utf-8", b"utf8", b"us-ascii", b"ascii", b"iso-8859-1", b"latin1"];

/// The mark of UTF-8 at the beginning of a text.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// How text begins in UTF-16, UTF-32, UTF-7, GB 18030, SCSU, BOCU-1 and UTF-EBCDIC, and `<?xm` in EBCDIC.
const FOREIGN: [&[u8]; 10] = [
    b"\xfe\xff",
    b"\xff\xfe",
    b"\0\0\xfe\xff",
    b"+/v",
    b"+ADw",
    b"\x84\x31\x95\x33",
    b"\x0e\xfe\xff",
    b"\xfb\xee\x28",
    b"\xdd\x73\x66\x73",
    b"\x4c\x6f\xa7\x94",
];

/// Whether text with this label is inspected as it is read.
pub(super) fn is_known(label: &[u8]) -> bool {
    KNOWN.iter().any(|known| known.eq_ignore_ascii_case(label))
}

/// Whether text of this media type is inspected as it is read: what is `charset`, as far as any parser may see it, is a
/// known one.
pub(super) fn has_known(content_type: &[u8]) -> bool {
    let text = content_type.to_ascii_lowercase();
    memchr::memmem::find_iter(&text, b"charset").all(|at| {
        let rest = text.get(at + b"charset".len()..).unwrap_or_default().trim_ascii_start();
        let Some(value) = rest.strip_prefix(b"=") else { return !rest.starts_with(b"*") };
        let value = value.split(|byte| matches!(byte, b';' | b',')).next().unwrap_or_default().trim_ascii();
        is_known(value.strip_prefix(b"\"").map_or(value, |value| value.strip_suffix(b"\"").unwrap_or(value)))
    })
}

/// Text without the mark of UTF-8.
pub(super) fn unmarked(text: &[u8]) -> &[u8] {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// Whether text shows by its beginning that it has another encoding.
pub(super) fn is_foreign(text: &[u8]) -> bool {
    let start = text.get(..text.len().min(4)).unwrap_or_default();
    let is_wide = start.contains(&0) && start.iter().any(|byte| matches!(byte, b'<' | b'{' | b'[' | b'"'));
    is_wide || FOREIGN.iter().any(|mark| text.starts_with(mark))
}

/// Whether `text`, of which its type says that it is XML, is in another encoding.
pub(super) fn is_foreign_xml(text: &[u8]) -> bool {
    let first = unmarked(text).iter().find(|byte| !decode::is_space(**byte));
    is_foreign(text) || first.is_some_and(|byte| *byte != b'<') && std::str::from_utf8(text).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_charsets_that_are_inspected_as_they_are_read() {
        for (content_type, expect) in [
            ("text/plain", true),
            ("application/json; charset=utf-8", true),
            ("application/json; Charset=\"UTF-8\"", true),
            ("text/xml;charset = ISO-8859-1; a=b", true),
            ("text/plain; charset=us-ascii", true),
            ("application/charset+json", true),
            ("application/json; charset=utf-16", false),
            ("application/json; charset=\"utf-7\"", false),
            ("application/x-www-form-urlencoded; charset=ibm037", false),
            ("application/json; charset=utf-8; charset=utf-16", false),
            ("application/json;charset=", false),
            ("application/json;charset*=utf-8''utf-16", false),
            ("a; charset=utf-16, application/json", false),
            ("\u{a0}; charset='utf-16'", false),
        ] {
            assert_eq!(has_known(content_type.as_bytes()), expect, "{content_type}");
        }
    }

    #[test]
    fn other_encodings_are_known_by_their_beginning() {
        for (text, is_any, is_xml) in [
            (&b""[..], false, false),
            (b"<?xml", false, false),
            (b"\xef\xbb\xbf <?xml", false, false),
            (b"{\"a\":\"\xc3\xa9\"}", false, false),
            (b"L\xe0-bas", false, true),
            (b"<\0?\0", true, true),
            (b"\0<\0?", true, true),
            (b"\0\0\0<", true, true),
            (b"\xff\xfe<\0", true, true),
            (b"+ADw-a+AD4-", true, true),
            (b"\x4c\x6f\xa7\x94\x93", true, true),
            (b"\x4c\x81\x6e", false, true),
        ] {
            assert_eq!((is_foreign(text), is_foreign_xml(text)), (is_any, is_xml), "{text:?}");
        }
    }
}
