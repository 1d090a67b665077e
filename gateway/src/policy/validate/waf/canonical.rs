//! The forms of a value: as it came, and as each decoding makes it. A backend may decode once more than we know, so every
//! form on the way counts.
//!
//! *Invariant:* at most [`MOST_FORMS`] forms, each no longer than [`LONGEST`].

use std::borrow::Cow;

use super::decode::{self, Wide};

/// So often a value is decoded.
const DEPTH: usize = 4;

/// The most forms of a value.
const MOST_FORMS: usize = 8;

/// What of a value is inspected, in bytes.
pub(super) const LONGEST: usize = 1024 * 1024;

/// The shortest text that is tried as base64, without its padding: `'OR 1=1--`.
const SHORTEST_BASE64: usize = 12;

/// All forms of a value.
pub(super) struct Forms<'a> {
    pub(super) all: Vec<Cow<'a, [u8]>>,
    /// It is encoded more often than it was decoded, or in more ways.
    pub(super) is_too_deep: bool,
}

/// Decodes a value until nothing changes.
pub(super) fn forms(value: &[u8]) -> Forms<'_> {
    let value = value.get(..value.len().min(LONGEST)).unwrap_or_default();
    let mut forms = Forms { all: vec![Cow::Borrowed(value)], is_too_deep: false };
    let mut depths = vec![0_usize];
    // First what most backends make of it: nothing else takes the place of that.
    while let Some(form) = forms.all.last().and_then(|last| unescaped(last)) {
        if depths.len() > DEPTH {
            forms.is_too_deep = true;
            break;
        }
        depths.push(depths.len());
        forms.all.push(Cow::Owned(form));
    }
    let followed = depths.len();
    let mut index = 0;
    while let Some((form, &depth)) = forms.all.get(index).zip(depths.get(index)) {
        let first = if index < followed { None } else { unescaped(form) };
        let [text, spaced] = others(form);
        for form in [first, with_backslashes(form), text, spaced].into_iter().flatten() {
            if forms.all.iter().any(|known| **known == *form) {
                continue;
            }
            if depth == DEPTH || forms.all.len() >= MOST_FORMS {
                forms.is_too_deep = true;
                continue;
            }
            forms.all.push(Cow::Owned(form));
            depths.push(depth + 1);
        }
        index += 1;
    }
    forms
}

/// A form with everything in it decoded that is escaped, where that changes it.
fn unescaped(form: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = percent_and_entities(form);
    if has_escapes(&decoded) {
        decoded = Cow::Owned(decode::javascript(&decoded, Wide::Kept));
    }
    if decoded.iter().any(|byte| matches!(byte, 0xc0..=0xc2 | 0xe0 | 0xe2 | 0xe5 | 0xef)) {
        decoded = Cow::Owned(decode::fold_unicode(&decoded));
    }
    (*decoded != *form).then(|| decoded.into_owned())
}

/// A form with all decoded but escapes of scripts, where it has such: their backslashes may be separators of a path or of a
/// URL (`http:\\host\x`), which [`unescaped`] does not keep.
fn with_backslashes(form: &[u8]) -> Option<Vec<u8>> {
    let decoded = percent_and_entities(form);
    (has_escapes(&decoded) && *decoded != *form).then(|| decoded.into_owned())
}

/// Whether a form has escapes of scripts.
fn has_escapes(form: &[u8]) -> bool {
    memchr::memmem::find(form, b"\\u").is_some() || memchr::memmem::find(form, b"\\x").is_some()
}

/// A form with percent-encoding and HTML entities decoded.
fn percent_and_entities(form: &[u8]) -> Cow<'_, [u8]> {
    let mut decoded = Cow::Borrowed(form);
    if memchr::memchr(b'%', form).is_some() {
        decoded = Cow::Owned(percent(&decoded));
    }
    if memchr::memchr(b'&', &decoded).is_some() {
        decoded = Cow::Owned(decode::html_entities(&decoded));
    }
    decoded
}

/// What a form may be besides: base64, or text with pluses for spaces.
fn others(form: &[u8]) -> [Option<Vec<u8>>; 2] {
    let text = carried_text(form);
    // Spaces, where a form was encoded as one once more than it was decoded.
    let is_joined = memchr::memchr(b'+', form).is_some() && memchr::memchr(b' ', form).is_none();
    let spaced = is_joined.then(|| form.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect());
    [text, spaced]
}

/// The text of the base64 that a form is, or that it carries in `data:` URLs (RFC 2397): of all of them, one behind another.
fn carried_text(form: &[u8]) -> Option<Vec<u8>> {
    if may_be_base64(form) {
        return base64_text(form);
    }
    let (mut texts, mut rest) = (Vec::new(), form);
    while let Some(at) = memchr::memchr(b';', rest) {
        rest = rest.get(at + 1..).unwrap_or_default();
        let Some(carried) = behind_mark(rest) else { continue };
        let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=');
        let end = carried.iter().position(|byte| !is_letter(byte)).unwrap_or(carried.len());
        let carried = carried.get(..end).filter(|carried| carried.len() >= 4);
        if let Some(text) = carried.and_then(base64_text) {
            texts.extend(text);
            texts.push(b' ');
        }
    }
    texts.pop().map(|_space| texts)
}

/// What stands behind `base64,`, which is read without regard to case, and with spaces around it.
fn behind_mark(text: &[u8]) -> Option<&[u8]> {
    const MARK: &[u8] = b"base64";
    let (mark, rest) = text.trim_ascii_start().split_at_checked(MARK.len())?;
    let rest = rest.trim_ascii_start().strip_prefix(b",")?;
    mark.eq_ignore_ascii_case(MARK).then_some(rest)
}

/// A command as a shell reads it: without quotes, backslashes, carets and empty variables inside of words. `None`: nothing
/// of that kind stands where it could hide a command.
pub(super) fn unquoted(form: &[u8]) -> Option<Vec<u8>> {
    let begins = form.iter().position(|byte| matches!(byte, b';' | b'|' | b'&' | b'\n' | b'`' | b'('))?;
    let is_mark = |byte: u8| matches!(byte, b'\'' | b'"' | b'\\' | b'^' | b'$');
    let is_word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let command = form.get(begins..).unwrap_or_default();
    let hides = |(at, &byte): (usize, &u8)| is_mark(byte) && at > 0 && is_word(command.get(at - 1));
    if !command.iter().enumerate().any(hides) {
        return None;
    }
    let (mut out, mut at) = (Vec::with_capacity(form.len()), 0);
    while let Some(&byte) = form.get(at) {
        let rest = form.get(at..).unwrap_or_default();
        let (kept, length) = match (byte, rest.get(1)) {
            (b'$', _) if rest.starts_with(b"${IFS}") => (Some(b' '), 6),
            (b'$', _) if rest.starts_with(b"$IFS$9") => (Some(b' '), 6),
            (b'$', _) if rest.starts_with(b"$IFS") => (Some(b' '), 4),
            (b'$', Some(b'@' | b'*' | b'1'..=b'9')) => (None, 2),
            (b'\'' | b'"' | b'\\' | b'^', _) => (None, 1),
            _ => (Some(byte), 1),
        };
        out.extend(kept);
        at += length;
    }
    Some(out)
}

/// Percent-encoding, with `%uHHHH`; a `+` stays, as it was decoded where it means a space.
fn percent(form: &[u8]) -> Vec<u8> {
    if memchr::memmem::find(form, b"%u").is_some() || memchr::memmem::find(form, b"%U").is_some() {
        let kept = form.iter().flat_map(|&byte| if byte == b'+' { b"%2b".to_vec() } else { vec![byte] });
        return decode::percent_unicode(&kept.collect::<Vec<u8>>(), Wide::Kept);
    }
    decode::percent(form, false)
}

/// Whether it has the letters and the length of base64.
pub(super) fn may_be_base64(form: &[u8]) -> bool {
    let text = form.trim_ascii_end();
    let unpadded = text.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1);
    unpadded >= SHORTEST_BASE64
        && unpadded % 4 != 1
        && text.len() - unpadded <= 2
        && text.iter().take(unpadded).all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_'))
        // A word or a number is not worth the try.
        && text.iter().any(u8::is_ascii_uppercase)
}

/// What base64 decodes to, where that is text.
fn base64_text(form: &[u8]) -> Option<Vec<u8>> {
    let decoded = decode::base64(form, true, false)?;
    let is_text = |byte: &u8| byte.is_ascii_graphic() || decode::is_space(*byte);
    let text = decoded.iter().filter(|byte| is_text(byte)).count();
    // Serialized objects begin with bytes that are none. Those of Python are known by their first bytes and their last.
    let is_pickle = matches!(decoded.as_slice(), [0x80, 2..=5, .., b'.']);
    (is_pickle || text == decoded.len() || std::str::from_utf8(&decoded).is_ok() && text * 10 >= decoded.len() * 9)
        .then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expect: &[&str]) {
        let forms = forms(value.as_bytes());
        let forms: Vec<_> = forms.all.iter().map(|form| String::from_utf8_lossy(form).into_owned()).collect();
        assert_eq!(forms, expect, "{value:?}");
    }

    #[test]
    fn every_form_on_the_way_counts() {
        check("plain words", &["plain words"]);
        check("%252e%252e%252f", &["%252e%252e%252f", "%2e%2e%2f", "../"]);
        check("&#x3c;b%3E", &["&#x3c;b%3E", "<b>"]);
        check("\\u003cscript", &["\\u003cscript", "<script"]);
        check(
            "PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==",
            &["PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==", "<script>alert(1)</script>"],
        );
        check(
            "DaTa:text/plain;BaSe64 ,YWFhYQ==, data:;x=y; base64,YmJiYg==",
            &["DaTa:text/plain;BaSe64 ,YWFhYQ==, data:;x=y; base64,YmJiYg==", "aaaa bbbb"],
        );
        check("..\u{2215}x\u{a0}y", &["..\u{2215}x\u{a0}y", "../x y"]);
        check("%u003ca+b", &["%u003ca+b", "<a+b", "%u003ca b", "<a b"]);
    }

    #[test]
    fn a_command_is_read_as_a_shell_reads_it() {
        for (form, expect) in [
            ("plain 'text'", None),
            ("'text'; more", None),
            ("a; w'h'o\\ami", Some("a; whoami")),
            ("a;cat$IFS/x", Some("a;cat /x")),
            ("a|c^md", Some("a|cmd")),
            ("`c$@at x`", Some("`cat x`")),
        ] {
            let found = unquoted(form.as_bytes()).map(|found| String::from_utf8_lossy(&found).into_owned());
            assert_eq!(found.as_deref(), expect, "{form:?}");
        }
    }

    #[test]
    fn the_full_decoding_is_never_left_out() {
        let mut value = "'+or+1=1--+<".to_owned();
        for _ in 0..DEPTH {
            value = value.replace('%', "%25").replace('<', "%3c");
        }
        let forms = forms(value.as_bytes());
        assert!(forms.all.iter().any(|form| **form == *b"'+or+1=1--+<"), "{value}");
        assert!(forms.is_too_deep && forms.all.len() == MOST_FORMS, "{value}");
        assert!(!super::forms(b"%2525253c").is_too_deep && super::forms(b"%252525253c").is_too_deep);
    }

    #[test]
    fn what_is_encoded_without_end_is_told_and_bounded() {
        let mut value = "<".to_owned();
        for _ in 0..12 {
            value = value.replace('%', "%25").replace('<', "%3c");
        }
        let forms = forms(value.as_bytes());
        assert!(forms.is_too_deep && forms.all.len() <= MOST_FORMS);
        assert!(super::forms("%".repeat(LONGEST * 2).as_bytes()).all.iter().all(|form| form.len() <= LONGEST));
    }
}
