//! Takes a multipart form apart (RFC 7578): names and values of fields, names of files, headers of parts. What is in files
//! is not looked at, unless they cannot be of the type that they name.
//!
//! *Invariant:* what two parsers could read differently is an error: text before, between or after the parts, line ends
//! other than CRLF, two dispositions. A part is a file only where every parser takes it for one.

use super::{
    charset,
    parts::{MOST_VALUES, Pair, Parts},
};
use crate::policy::validate::body::{
    file_type::{self, Likeness},
    media::MediaType,
};

/// The most headers of one part, and the most parameters of its disposition.
const MOST_HEADERS: usize = 16;

/// Reads `body` into `parts`.
pub(super) fn read(content_type: &str, body: &[u8], parts: &mut Parts) -> Result<(), &'static str> {
    let media_type = MediaType::read(content_type).map_err(|_why| "multipart: Content-Type cannot be read")?;
    let boundary = media_type.parameter("boundary").ok_or("multipart: no boundary")?;
    if names_boundary(content_type) != 1 {
        return Err("multipart: some parsers find another boundary");
    }
    if !(1..=70).contains(&boundary.len()) || boundary.ends_with(' ') || !boundary.bytes().all(is_of_boundary) {
        return Err("multipart: the boundary must have 1 to 70 characters of RFC 2046");
    }
    let delimiter = format!("\r\n--{boundary}");
    let first = delimiter.get(2..).unwrap_or_default();
    // Some parsers end a part at a boundary behind a line feed, or behind a carriage return.
    let lenient = memchr::memmem::find_iter(body, first).skip(1);
    let bytes_before = |at: usize| at.checked_sub(2).and_then(|begin| body.get(begin..at));
    if lenient.map(bytes_before).any(|before| before.is_some_and(|it| it != b"\r\n" && ends_line(it))) {
        return Err("multipart: a boundary behind another line end than CRLF");
    }
    let mut rest = body.strip_prefix(first.as_bytes()).ok_or("multipart: the body must begin with its boundary")?;
    let finder = memchr::memmem::Finder::new(&delimiter);
    loop {
        if let Some(end) = rest.strip_prefix(b"--") {
            return if matches!(end, b"" | b"\r\n") { Ok(()) } else { Err("multipart: text behind the last part") };
        }
        let part = rest.strip_prefix(b"\r\n").ok_or("multipart: text behind a boundary")?;
        let end = finder.find(part).ok_or("multipart: the last part does not end")?;
        let at = body.len() - part.len();
        let (part, behind) = part.split_at_checked(end).unwrap_or_default();
        one(part, at, parts)?;
        rest = behind.get(delimiter.len()..).unwrap_or_default();
    }
}

/// How often a `Content-Type` names a boundary, as far as any parser may see it: some look for the word alone.
fn names_boundary(content_type: &str) -> usize {
    const WORD: &[u8] = b"boundary";
    let text = content_type.as_bytes().to_ascii_lowercase();
    let values = memchr::memmem::find_iter(&text, WORD).filter_map(|at| text.get(at + WORD.len()..));
    values.filter(|rest| matches!(rest.trim_ascii_start().first(), Some(b'=' | b'*'))).count()
}

/// Whether a boundary may have this byte (RFC 2046 5.1.1).
const fn is_of_boundary(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'\'' | b'(' | b')' | b'+' | b'_' | b',' | b'-' | b'.' | b'/' | b':' | b'=' | b'?' | b' ')
}

fn ends_line(bytes: &[u8]) -> bool {
    matches!(bytes.last(), Some(b'\r' | b'\n'))
}

/// One part: its headers and its body. `at`: where it begins.
fn one(part: &[u8], at: usize, parts: &mut Parts) -> Result<(), &'static str> {
    if parts.fields.len() + parts.files.len() + parts.unread.len() >= MOST_VALUES {
        parts.is_cut = true;
        return Err("multipart: too many parts");
    }
    let end = memchr::memmem::find(part, b"\r\n\r\n").ok_or("multipart: headers do not end")?;
    let (head, content) = (part.get(..end).unwrap_or_default(), part.get(end + 4..).unwrap_or_default());
    let (mut disposition, mut headers, mut types) = (None, Vec::new(), Vec::new());
    for line in lines(head) {
        if headers.len() >= MOST_HEADERS {
            return Err("multipart: too many headers of a part");
        }
        let colon = memchr::memchr(b':', line).ok_or("multipart: a header of a part without a colon")?;
        let (name, value) = (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default());
        // A line that goes on has no name of its own.
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) || value.iter().any(|byte| is_control(*byte)) {
            return Err("multipart: a header of a part cannot be read");
        }
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case(b"content-disposition") && disposition.replace(value).is_some() {
            return Err("multipart: two dispositions of a part");
        }
        let is_plain = || [&b"binary"[..], b"8bit", b"7bit"].iter().any(|plain| value.eq_ignore_ascii_case(plain));
        if name.eq_ignore_ascii_case(b"content-transfer-encoding") && !is_plain() {
            return Err("multipart: a part is encoded");
        }
        if name.eq_ignore_ascii_case(b"content-type") {
            if !charset::has_known(value) {
                return Err("multipart: the charset of a part is none of UTF-8, US-ASCII, ISO-8859-1");
            }
            types.push(value);
        }
        headers.push(line);
    }
    let disposition = disposition.ok_or("multipart: a part without Content-Disposition")?;
    let parameters = parameters(disposition);
    let of = |wanted: &[u8]| parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let name = of(b"name").ok_or("multipart: a part without a name")?;
    for line in headers {
        parts.part_headers.push((name.clone(), line.to_vec()));
    }
    for (_, file) in parameters.iter().filter(|(name, _)| matches!(&**name, b"filename" | b"filename*")) {
        parts.files.push((name.clone(), file.clone()));
    }
    match (likeness(&types, content), is_file(disposition)) {
        (Likeness::Binary, true) => {
            parts.files_size += content.len();
            let begin = at + end + 4;
            parts.binary.push(begin..begin + content.len());
            parts.unread.push(name);
        }
        (Likeness::Unknown, true) => {
            parts.files_size += content.len();
            parts.unread.push(name);
        }
        // Many frameworks ignore the type of a field.
        (Likeness::Lying, _) | (Likeness::Binary | Likeness::Unknown, false) => {
            parts.is_foreign |= charset::is_foreign(content);
            parts.fields.push((name, content.to_vec()));
        }
    }
    Ok(())
}

/// What a part is, by its one type.
fn likeness(types: &[&[u8]], content: &[u8]) -> Likeness {
    let [text] = types else { return Likeness::Unknown };
    let media_type = std::str::from_utf8(text).ok().and_then(|text| MediaType::read(text).ok());
    media_type.map_or(Likeness::Unknown, |media_type| file_type::compare(&media_type, content))
}

/// The lines of a head.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let head = rest?;
        let Some(end) = memchr::memmem::find(head, b"\r\n") else { return rest.take() };
        rest = head.get(end + 2..);
        head.get(..end)
    })
}

const fn is_control(byte: u8) -> bool {
    byte < b' ' && byte != b'\t' || byte == 0x7f
}

/// Whether every parser takes a part with this disposition for a file: `form-data; name="..."; filename="..."`, in any
/// order, without backslashes.
fn is_file(disposition: &[u8]) -> bool {
    let Some(mut rest) = disposition.strip_prefix(b"form-data") else { return false };
    let (mut names, mut files) = (0, 0);
    while !rest.is_empty() {
        let Some(parameter) = rest.strip_prefix(b";").map(<[u8]>::trim_ascii_start) else { return false };
        let (count, value) = if let Some(value) = parameter.strip_prefix(b"name=\"") {
            (&mut names, value)
        } else if let Some(value) = parameter.strip_prefix(b"filename=\"") {
            (&mut files, value)
        } else {
            return false;
        };
        let Some(end) = memchr::memchr2(b'"', b'\\', value).filter(|end| *end > 0) else { return false };
        let Some(after) = value.get(end..).and_then(|value| value.strip_prefix(b"\"")) else { return false };
        *count += 1;
        rest = after.trim_ascii_start();
    }
    (names, files) == (1, 1)
}

/// The parameters of a header, names in lower case, values without quotes.
fn parameters(text: &[u8]) -> Vec<Pair> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(begin) = memchr::memchr(b';', rest) {
        rest = rest.get(begin + 1..).unwrap_or_default();
        let Some(equals) = memchr::memchr(b'=', rest) else { break };
        let name = rest.get(..equals).unwrap_or_default().trim_ascii().to_ascii_lowercase();
        rest = rest.get(equals + 1..).unwrap_or_default().trim_ascii_start();
        let value = match rest.first() {
            Some(&quote @ (b'"' | b'\'')) => {
                let (value, length) = quoted(rest.get(1..).unwrap_or_default(), quote);
                rest = rest.get(1 + length..).unwrap_or_default();
                value
            }
            _ => {
                let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
                let value = rest.get(..end).unwrap_or_default().trim_ascii().to_vec();
                rest = rest.get(end..).unwrap_or_default();
                value
            }
        };
        found.push((name, value));
        if found.len() >= MOST_HEADERS {
            break;
        }
    }
    found
}

/// Text up to its closing quote, without backslashes before quotes; and how much of it was read.
fn quoted(text: &[u8], quote: u8) -> (Vec<u8>, usize) {
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(&byte) = text.get(at) {
        at += 1;
        match (byte, text.get(at)) {
            (b'\\', Some(&next)) if next == quote || next == b'\\' => {
                out.push(next);
                at += 1;
            }
            _ if byte == quote => break,
            _ => out.push(byte),
        }
    }
    (out, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields and files of a body, and whether it is one of parts.
    #[track_caller]
    fn check(body: &str, fields: &[(&str, &str)], files: &[&str], is_good: bool) {
        let mut parts = Parts::default();
        let read = read("multipart/form-data; boundary=b", body.as_bytes(), &mut parts);
        assert_eq!(read.is_ok(), is_good, "{body:?}: {read:?}");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let found: Vec<_> = parts.fields.iter().map(|(name, value)| (text(name), text(value))).collect();
        let expect: Vec<_> = fields.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(found, expect, "{body:?}");
        assert_eq!(parts.files.iter().map(|(_, file)| text(file)).collect::<Vec<_>>(), files, "{body:?}");
    }

    fn file(content: &str) -> String {
        format!("--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\n{content}\r\n--b--")
    }

    fn part(disposition: &str) -> String {
        format!("--b\r\nContent-Disposition: {disposition}\r\n\r\nv\r\n--b--\r\n")
    }

    #[test]
    fn what_is_not_parts_alone_is_an_error() {
        let field = "--b\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\nv\r\n--b";
        let v = [("q", "v")];
        check(&format!("{field}--\r\n"), &v, &[], true);
        check(&format!("{field}--"), &v, &[], true);
        check("--b--", &[], &[], true);
        let latin = "\r\nContent-Type: text/plain; charset=ISO-8859-1\r\n\r\n";
        check(&format!("{}--", field.replace("\r\n\r\n", latin)), &v, &[], true);
        for (body, fields) in [
            (format!("x--b--\r\n{field}--"), &[][..]),
            (format!("\r\n{field}--"), &[]),
            (format!("{field}--\r\n{field}--"), &v),
            (format!("{field}--x"), &v),
            (format!("{field} \r\n"), &v),
            (format!("{field}X\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\nw\r\n--b--"), &v),
            (field.replace("\r\n", "\n"), &[]),
            (field.replace("\r\n\r\n", "\r\nContent-Disposition: form-data; name=\"r\"\r\n\r\n"), &[]),
            (field.replace("\r\n\r\n", "\r\n folded\r\n\r\n"), &[]),
            (field.replace("\r\n\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\n"), &[]),
            (field.replace("\r\n\r\n", "\r\nContent-Type: text/plain; charset=utf-7\r\n\r\n"), &[]),
            (field.replace("\r\n\r\n", "\r\nContent-Type: text/plain;Charset=\"ibm037\"\r\n\r\n"), &[]),
            (field.replace("name=", "\nname="), &[]),
            ("--b\r\n\r\nv\r\n--b--".to_owned(), &[]),
            (file("x\n--b\nContent-Disposition: form-data; name=\"q\"\n\nw\n--b--"), &[]),
            (file("\n--b--"), &[]),
            (file("x\r--b\rContent-Disposition: form-data; name=\"q\"\r\rw"), &[]),
            (field.replace("\r\nv", "\r\nv\n--b\n\nw"), &[]),
            (field.replace("\r\nv", "\r\nv\r--b--"), &[]),
            ("--b\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\nv".to_owned(), &[]),
            (String::new(), &[]),
        ] {
            check(&body, fields, &[], false);
        }
        check(&file("x--b, -\n-b and\n--c"), &[], &["a"], true);
        for (content_type, body, is_good) in [
            ("multipart/form-data; boundary=b", "--b--", true),
            ("multipart/form-data; boundary=\"a (b)\"", "--a (b)--", true),
            ("multipart/form-data; boundary=--WebKitFormBoundaryX", "----WebKitFormBoundaryX--", true),
            ("multipart/form-data", "--b--", false),
            ("multipart/form-data; boundary=b; boundary=c", "--b--", false),
            ("multipart/form-data; x=\"boundary=a\"; boundary=b", "--b--", false),
            ("multipart/form-data; boundary=b; boundary*=a", "--b--", false),
            ("multipart/form-data; boundary=b; xBoundary =a", "--b--", false),
            ("multipart/form-data; boundary=\"a&b\"", "--a&b--", false),
        ] {
            assert_eq!(read(content_type, body.as_bytes(), &mut Parts::default()).is_ok(), is_good, "{content_type}");
        }
    }

    #[test]
    fn only_what_is_surely_a_file_is_not_looked_at() {
        check(&part("form-data; name=\"f\"; filename=\"a.png\""), &[], &["a.png"], true);
        check(&part("form-data; filename=\"a.png\";name=\"f\""), &[], &["a.png"], true);
        for (disposition, files) in [
            ("form-data; name=\"f\"; filename=\"\"", &[""][..]),
            ("form-data; name=\"f\"; filename*=UTF-8''x", &["UTF-8''x"]),
            ("form-data; name=\"f\"; filename=\"a\"; filename*=UTF-8''x", &["a", "UTF-8''x"]),
            ("form-data; name=\"f\"; filename=\"a\"; filename=\"b\"", &["a", "b"]),
            ("form-data; name=\"f\"; filename=a", &["a"]),
            ("attachment; name=\"f\"; filename=\"a\"", &["a"]),
            ("form-data; name=\"f\"; filename=\"\\\\a\"", &["\\a"]),
        ] {
            check(&part(disposition), &[("f", "v")], files, true);
        }
    }

    #[test]
    fn what_is_no_text_is_not_looked_at_and_what_lies_is() {
        const PNG: &str = "\u{89}PNG\r\n\u{1a}\n\0\0\0\rIHDR";
        let png: Vec<u8> = PNG.chars().map(|character| u8::try_from(u32::from(character)).unwrap()).collect();
        for (name, media_type, content, is_field) in [
            ("name=\"f\"", "image/png", &*png, true),
            ("name=\"f\"; filename=\"a.png\"", "image/png", &*png, false),
            ("name=\"f\"; filename*=UTF-8''a", "image/png", &*png, true),
            ("name=\"f\"", "application/octet-stream", &*png, true),
            ("name=\"f\"", "image/jpeg", &*png, true),
            ("name=\"f\"", "text/plain", &*png, true),
            ("name=\"f\"", "", &*png, true),
            ("name=\"f\"", "image/png\r\nContent-Type: text/plain", &*png, true),
            ("name=\"f\"", "image/png", b"<script>", true),
            ("name=\"f\"; filename=\"a.png\"", "image/png", b"<script>", true),
            ("name=\"f\"; filename=\"a.png\"", "image/png", b"GIF89a=<script>", true),
            ("name=\"f\"; filename=\"a.txt\"", "text/plain", b"<script>", false),
            ("name=\"f\"; filename=\"a.heic\"", "image/heic", b"<script>", false),
            ("name=\"f\"; filename=\"a.png\"", "image/png", b"", false),
        ] {
            let kind = if media_type.is_empty() { String::new() } else { format!("\r\nContent-Type: {media_type}") };
            let head = format!("--b\r\nContent-Disposition: form-data; {name}{kind}\r\n\r\n");
            let body = [head.as_bytes(), content, b"\r\n--b--\r\n"].concat();
            let mut parts = Parts::default();
            assert_eq!(read("multipart/form-data; boundary=b", &body, &mut parts), Ok(()), "{name} {media_type}");
            assert_eq!(parts.fields.len(), usize::from(is_field), "{name} {media_type} {content:?}");
            let text = parts.text_of(&body);
            let is_there = content.is_empty() || memchr::memmem::find(&text, content).is_some();
            assert_eq!(is_there, parts.binary.is_empty(), "{name} {media_type}");
            assert!(text.starts_with(head.as_bytes()) && text.ends_with(b"\r\n--b--\r\n"), "{name} {media_type}");
        }
    }
}
