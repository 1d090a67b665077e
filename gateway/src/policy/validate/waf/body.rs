//! Takes a request body apart for inspection: forms, multipart, JSON, XML. What cannot be read is told, and what was read
//! until then is inspected all the same.
//!
//! *Invariant:* the number of values and the depth are bounded; nothing is copied more often than once.

use super::{
    charset, decode, multipart,
    parts::{MOST_VALUES, Pair, Parts},
    xml,
};
use crate::policy::validate::body::{
    file_type::{self, Likeness},
    media::MediaType,
};

/// The deepest JSON.
const DEEPEST: usize = 64;

/// The longest path of a value in JSON, in bytes: each value has a copy of its own.
const LONGEST_PATH: usize = 1_024;

/// How a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Form,
    Json,
    Multipart,
    Xml,
}

impl Format {
    /// What the `Content-Type` says.
    pub(super) fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match &*essence {
            "multipart/form-data" => Some(Self::Multipart),
            "text/xml" | "application/xml" => Some(Self::Xml),
            _ if essence.starts_with("application/json") || essence.ends_with("+json") => Some(Self::Json),
            _ if essence.ends_with("+xml") => Some(Self::Xml),
            _ if essence.starts_with("application/x-www-form-urlencoded") => Some(Self::Form),
            _ => None,
        }
    }

    /// What rules call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Form => "URLENCODED",
            Self::Json => "JSON",
            Self::Multipart => "MULTIPART",
            Self::Xml => "XML",
        }
    }
}

/// Takes a body apart.
pub(super) fn read(format: Option<Format>, content_type: &str, body: &[u8]) -> Parts {
    let mut parts = Parts::default();
    if body.is_empty() {
        return parts;
    }
    match format {
        Some(Format::Form) => (parts.fields, parts.is_cut) = form(body),
        Some(Format::Json) => parts.error = json(body, &mut parts).err(),
        Some(Format::Multipart) => parts.error = multipart::read(content_type, body, &mut parts).err(),
        Some(Format::Xml) => parts.error = xml::read(body, &mut parts).err(),
        // Some read it as a form all the same.
        None if !is_type(content_type) => (parts.fields, parts.is_cut) = form(body),
        None => {}
    }
    // Servers decode a form by the encoding that one of its fields names.
    if matches!(format, Some(Format::Form | Format::Multipart)) && !parts.fields.iter().all(has_known_charset) {
        parts.is_foreign = true;
    }
    parts
}

/// Whether a field is not the one by which a form names an encoding that is not inspected.
pub(super) fn has_known_charset((name, value): &Pair) -> bool {
    !name.eq_ignore_ascii_case(b"_charset_") || charset::is_known(value.trim_ascii())
}

/// Whether a body says that it is no text, and is of a known type that is none.
pub(super) fn is_binary(content_type: &str, body: &[u8]) -> bool {
    let media_type = MediaType::read(content_type);
    media_type.is_ok_and(|media_type| file_type::compare(&media_type, body) == Likeness::Binary)
}

/// What a body may be besides, for a server that does not believe its type: JSON, XML, a form, a multipart form.
pub(super) fn guess(format: Option<Format>, content_type: &str, body: &[u8], parts: &Parts) -> Option<Parts> {
    let is_read = format.is_some() && parts.error.is_none();
    let mut other = Parts { is_foreign: !is_read && charset::is_foreign(body), ..Parts::default() };
    let text = charset::unmarked(body).trim_ascii_start();
    let first = text.first()?;
    if matches!(first, b'{' | b'[' | b'"') && format != Some(Format::Json) && format != Some(Format::Multipart) {
        let _none = json(text, &mut other);
    } else if *first == b'<' && format != Some(Format::Xml) && format != Some(Format::Multipart) {
        let _none = xml::read(text, &mut other);
    } else if !is_read && content_type.to_ascii_lowercase().contains("multipart/") && format.is_none() {
        let _none = multipart::read(content_type, body, &mut other);
    } else if !is_read && is_type(content_type) && begins_as_form(text) {
        (other.fields, other.is_cut) = form(text);
    }
    Some(other)
}

/// Whether a text begins with a name and `=`.
fn begins_as_form(text: &[u8]) -> bool {
    let name = text.iter().take_while(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'=' | b'&')).count();
    (1..=LONGEST_PATH).contains(&name) && text.get(name) == Some(&b'=')
}

/// Whether it has the form of a media type.
fn is_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    essence.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

/// The fields of a query or a form; whether there are too many.
pub(super) fn form(text: &[u8]) -> (Vec<Pair>, bool) {
    let (mut fields, mut is_cut) = (Vec::new(), false);
    for field in text.split(|&byte| byte == b'&').filter(|field| !field.is_empty()) {
        if fields.len() >= MOST_VALUES {
            is_cut = true;
            break;
        }
        let end = memchr::memchr(b'=', field);
        let (name, value) = match end {
            Some(end) => (field.get(..end).unwrap_or_default(), field.get(end + 1..).unwrap_or_default()),
            None => (field, &b""[..]),
        };
        fields.push((decode::percent(name, true), decode::percent(value, true)));
    }
    (fields, is_cut)
}

/// The scalars of JSON by their paths, `json.a.array_0`, and what is empty. What some parsers read besides is an error, and
/// is read on all the same: comments, single quotes, names without quotes, `NaN`, commas before an end.
fn json(text: &[u8], parts: &mut Parts) -> Result<(), &'static str> {
    let text = charset::unmarked(text);
    let mut reader = Json { text, at: 0, path: b"json".to_vec(), tolerated: None, parts };
    reader.value(0)?;
    reader.space()?;
    if reader.at < text.len() {
        return Err("JSON: more than one value");
    }
    reader.tolerated.map_or(Ok(()), Err)
}

struct Json<'a> {
    text: &'a [u8],
    at: usize,
    path: Vec<u8>,
    /// What strict parsers refuse.
    tolerated: Option<&'static str>,
    parts: &'a mut Parts,
}

impl Json<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Strict parsers refuse it.
    fn tolerate(&mut self, what: &'static str) {
        self.tolerated.get_or_insert(what);
    }

    fn space(&mut self) -> Result<(), &'static str> {
        loop {
            while self.peek().is_some_and(decode::is_space) {
                self.at += 1;
            }
            let rest = self.text.get(self.at..).unwrap_or_default();
            let end = if rest.starts_with(b"//") || rest.starts_with(b"#") {
                memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len())
            } else if rest.starts_with(b"/*") {
                memchr::memmem::find(rest, b"*/").ok_or("JSON: a comment does not end")? + 2
            } else {
                return Ok(());
            };
            self.at += end;
            self.tolerate("JSON: a comment");
        }
    }

    fn scalar(&mut self, value: Vec<u8>) -> Result<(), &'static str> {
        if self.parts.fields.len() >= MOST_VALUES {
            return self.cut("JSON: too many values");
        }
        self.parts.fields.push((self.path.clone(), value));
        Ok(())
    }

    /// It has more than is inspected.
    fn cut<T>(&mut self, why: &'static str) -> Result<T, &'static str> {
        self.parts.is_cut = true;
        Err(why)
    }

    /// An object or an array that ends at once: its name is inspected all the same.
    fn empty(&mut self, depth: usize) -> Result<(), &'static str> {
        self.at += 1;
        if depth == 0 { Ok(()) } else { self.scalar(Vec::new()) }
    }

    fn value(&mut self, depth: usize) -> Result<(), &'static str> {
        self.space()?;
        match self.peek() {
            Some(b'{' | b'[') if depth >= DEEPEST => self.cut("JSON: too deep"),
            Some(b'{') => self.members(depth),
            Some(b'[') => self.elements(depth),
            Some(quote @ (b'"' | b'\'')) => {
                let text = self.string(quote)?;
                self.scalar(text)
            }
            Some(_) => self.literal(),
            None => Err("JSON: it ends early"),
        }
    }

    /// Goes on behind a word without quotes.
    fn word(&mut self) {
        let is_of_word =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.' | b'_' | b'$' | 0x80..);
        while self.peek().is_some_and(is_of_word) {
            self.at += 1;
        }
    }

    fn literal(&mut self) -> Result<(), &'static str> {
        let begin = self.at;
        self.word();
        let word = self.text.get(begin..self.at).unwrap_or_default().to_vec();
        let is_number = word.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-')
            && std::str::from_utf8(&word).is_ok_and(|word| word.parse::<f64>().is_ok());
        match &*word {
            b"null" => self.scalar(Vec::new()),
            b"true" | b"false" => self.scalar(word),
            _ if is_number => self.scalar(word),
            b"" => Err("JSON: no value"),
            _ => {
                self.tolerate("JSON: a word without quotes");
                self.scalar(word)
            }
        }
    }

    fn members(&mut self, depth: usize) -> Result<(), &'static str> {
        self.at += 1;
        let above = self.path.len();
        self.space()?;
        if self.peek() == Some(b'}') {
            return self.empty(depth);
        }
        loop {
            if self.ends_early(b'}')? {
                return Ok(());
            }
            let name = self.name()?;
            self.path.push(b'.');
            self.path.extend(name);
            if self.path.len() > LONGEST_PATH {
                return self.cut("JSON: names are too long");
            }
            self.space()?;
            if self.peek() != Some(b':') {
                return Err("JSON: no colon");
            }
            self.at += 1;
            self.value(depth + 1)?;
            self.path.truncate(above);
            if self.ends(b'}')? {
                return Ok(());
            }
        }
    }

    fn elements(&mut self, depth: usize) -> Result<(), &'static str> {
        self.at += 1;
        let above = self.path.len();
        self.space()?;
        if self.peek() == Some(b']') {
            return self.empty(depth);
        }
        for index in 0_usize.. {
            if self.ends_early(b']')? {
                break;
            }
            self.path.extend(format!(".array_{index}").bytes());
            self.value(depth + 1)?;
            self.path.truncate(above);
            if self.ends(b']')? {
                break;
            }
        }
        Ok(())
    }

    /// The name of a member.
    fn name(&mut self) -> Result<Vec<u8>, &'static str> {
        if let Some(quote @ (b'"' | b'\'')) = self.peek() {
            return self.string(quote);
        }
        let begin = self.at;
        self.word();
        match self.text.get(begin..self.at) {
            None | Some(b"") => Err("JSON: no member name"),
            Some(name) => {
                let name = name.to_vec();
                self.tolerate("JSON: a name without quotes");
                Ok(name)
            }
        }
    }

    /// Before a member or an element: commas that nothing follows, and whether that was the end.
    fn ends_early(&mut self, closing: u8) -> Result<bool, &'static str> {
        self.space()?;
        while self.peek() == Some(b',') {
            self.tolerate("JSON: a comma too many");
            self.at += 1;
            self.space()?;
        }
        let ends = self.peek() == Some(closing);
        if ends {
            self.tolerate("JSON: a comma too many");
            self.at += 1;
        }
        Ok(ends)
    }

    /// After a member or an element: whether it was the last.
    fn ends(&mut self, closing: u8) -> Result<bool, &'static str> {
        self.space()?;
        let found = self.peek();
        self.at += 1;
        match found {
            Some(b',') => Ok(false),
            Some(byte) if byte == closing => Ok(true),
            _ => Err("JSON: no comma"),
        }
    }

    fn string(&mut self, quote: u8) -> Result<Vec<u8>, &'static str> {
        if quote != b'"' {
            self.tolerate("JSON: single quotes");
        }
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let byte = self.peek().ok_or("JSON: a string does not end")?;
            self.at += 1;
            match byte {
                _ if byte == quote => return Ok(out),
                b'\\' => self.escape(&mut out)?,
                _ => {
                    if byte < b' ' {
                        self.tolerate("JSON: a control character in a string");
                    }
                    out.push(byte);
                }
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        let letter = self.peek().ok_or("JSON: a string does not end")?;
        self.at += 1;
        match letter {
            b'"' | b'\\' | b'/' => out.push(letter),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let code = self.code()?;
                let is_pair = (0xd800..0xdc00).contains(&code) && self.text.get(self.at..self.at + 2) == Some(b"\\u");
                let code = if is_pair {
                    self.at += 2;
                    0x1_0000 + ((code - 0xd800) << 10) + (self.code()?.wrapping_sub(0xdc00) & 0x3ff)
                } else {
                    code
                };
                let character = char::from_u32(code).unwrap_or('?');
                out.extend(character.encode_utf8(&mut [0; 4]).bytes());
            }
            b'\'' => {
                self.tolerate("JSON: an unknown escape");
                out.push(letter);
            }
            _ => {
                self.tolerate("JSON: an unknown escape");
                out.extend([b'\\', letter]);
            }
        }
        Ok(())
    }

    fn code(&mut self) -> Result<u32, &'static str> {
        let digits = self.text.get(self.at..self.at + 4).ok_or("JSON: a string does not end")?;
        self.at += 4;
        digits
            .iter()
            .try_fold(0, |code, &digit| Some((code << 4) | u32::from(decode::hex(digit)?)))
            .ok_or("JSON: an unknown escape")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a body of this type, and whether there is more than that.
    #[track_caller]
    fn check(content_type: &str, body: &str, expect: &[(&str, &str)]) {
        let parts = read(Format::of(content_type), content_type, body.as_bytes());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let found: Vec<_> = parts.fields.iter().map(|(name, value)| (text(name), text(value))).collect();
        let expect: Vec<_> = expect.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!((found, parts.is_cut), (expect, false), "{content_type}: {body}");
    }

    #[test]
    fn every_name_and_value_is_there() {
        let json = "application/json";
        check(json, "{\"a\":{\"b\":[1,\"x\"]}}", &[("json.a.b.array_0", "1"), ("json.a.b.array_1", "x")]);
        check(json, "{\"' or 1=1--\":[ ]}", &[("json.' or 1=1--", "")]);
        check(json, "{\"$where\":{}, \"b\": null}", &[("json.$where", ""), ("json.b", "")]);
        check(json, "[[],{}]", &[("json.array_0", ""), ("json.array_1", "")]);
        // What strict parsers refuse hides nothing.
        check(
            json,
            "/* a */ {'a': NaN, b$: 'c\\'d', // e\n \"f\": [1,,0x2,], \"g\": \"h\ti\\qj\",}",
            &[
                ("json.a", "NaN"),
                ("json.b$", "c'd"),
                ("json.f.array_0", "1"),
                ("json.f.array_1", "0x2"),
                ("json.g", "h\ti\\qj"),
            ],
        );
        check(json, "{a b: 1}", &[]);
        check(json, "{\"a\":1} # b", &[("json.a", "1")]);
        check(json, "{\"a\":1 /* b", &[("json.a", "1")]);
        check(json, "{}", &[]);
        for content_type in ["", "form", "/", "a b/c", "application/"] {
            check(content_type, "a=b+c&d", &[("a", "b c"), ("d", "")]);
        }
        for content_type in ["text/plain", "application/octet-stream; a=b"] {
            check(content_type, "a=b+c&d", &[]);
        }
    }

    #[test]
    fn only_what_is_over_a_limit_is_cut() {
        let list = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        let form = |count: usize| vec!["a"; count].join("&");
        let name = |length: usize| format!("{{\"{}\":[1,1,1]}}", "a".repeat(length));
        let (json, plain) = ("application/json", "application/x-www-form-urlencoded");
        for (content_type, body, values, is_cut) in [
            (json, list(MOST_VALUES), MOST_VALUES, false),
            (json, list(MOST_VALUES + 1), MOST_VALUES, true),
            (plain, form(MOST_VALUES), MOST_VALUES, false),
            (plain, form(MOST_VALUES + 1), MOST_VALUES, true),
            (json, name(1_000), 3, false),
            (json, name(125_000), 0, true),
            (json, "[".repeat(100), 0, true),
            (json, format!("{}{}", "[".repeat(DEEPEST), "]".repeat(DEEPEST)), 1, false),
            (json, format!("{}{}", "[".repeat(DEEPEST + 1), "]".repeat(DEEPEST + 1)), 0, true),
            (json, format!("{}1{}", "{\"a\":".repeat(DEEPEST), "}".repeat(DEEPEST)), 1, false),
            (json, format!("{}{{}}{}", "{\"a\":".repeat(DEEPEST), "}".repeat(DEEPEST)), 0, true),
        ] {
            let parts = read(Format::of(content_type), content_type, body.as_bytes());
            assert_eq!((parts.fields.len(), parts.is_cut), (values, is_cut), "{content_type}: {}", body.len());
        }
    }
}
