//! `multipart/form-data` (RFC 7578): its parts, their names, types and file names.
//!
//! *Invariant:* the parts are within the body that was received; how many, and how large their heads are, is bounded.
//! What two parsers could read differently is refused: two dispositions, bytes beside the parts, other line ends.

use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;

use super::{
    field::FormField,
    file_type,
    media::{self, MediaRange, MediaType},
};
use crate::{
    policy::validate::{
        parameter::{self, Coding, ValueError, decode::ParameterError, style::Texts},
        schema::{
            set::{SchemaSet, Shape},
            stand_in,
        },
    },
    refusal::violation::{RequestPart as Place, Violation},
};

/// The most parts of one body.
const MOST_PARTS: usize = 1_000;

/// The largest head of a part, in bytes.
const LARGEST_HEAD: usize = 4 * 1024;

/// The longest name of a file, in bytes.
const LONGEST_NAME: usize = 255;

/// The name of a part that says the charset of others.
const CHARSETS: &str = "_charset_";

/// One part.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::policy::validate) struct Part<'a> {
    pub(in crate::policy::validate) name: String,
    pub(in crate::policy::validate) file_name: Option<String>,
    pub(in crate::policy::validate) media_type: Option<MediaType>,
    /// Its headers, as they came.
    pub(in crate::policy::validate) head: &'a str,
    pub(in crate::policy::validate) content: &'a [u8],
}

impl Part<'_> {
    /// Whether it is what a browser sends for a file input in which nothing was chosen (HTML, "constructing the entry
    /// list"): an empty file name, an empty content and a type that says nothing.
    fn is_no_file(&self) -> bool {
        let says_nothing = self.media_type.as_ref().is_none_or(|it| it.is("application", "octet-stream"));
        self.file_name.as_deref() == Some("") && self.content.is_empty() && says_nothing
    }
}

/// Reads a whole body.
pub(in crate::policy::validate) fn read<'a>(
    body: &'a [u8],
    media_type: &MediaType,
) -> Result<Vec<Part<'a>>, ParameterError> {
    let boundary = media_type.parameter("boundary").filter(|boundary| is_boundary(boundary));
    let boundary =
        boundary.ok_or(ParameterError::new("boundary", "Content-Type must have a boundary of 1 to 70 characters"))?;
    let whole = ParameterError::new("multipart", "must be parts between its boundary, and nothing else");
    let delimiter = format!("\r\n--{boundary}");
    let first = delimiter.get(2..).unwrap_or_default().as_bytes();
    let mut rest = body.strip_prefix(first).ok_or(whole.clone())?;
    let finder = memmem::Finder::new(&delimiter);
    let mut parts = Vec::new();
    loop {
        if let Some(end) = rest.strip_prefix(b"--") {
            return if matches!(end, b"" | b"\r\n") { Ok(parts) } else { Err(whole) };
        }
        if parts.len() == MOST_PARTS {
            return Err(ParameterError::new("parts", "must have at most 1000 parts"));
        }
        let part = rest.strip_prefix(b"\r\n").ok_or(whole.clone())?;
        let end = finder.find(part).ok_or(whole.clone())?;
        let (part, behind) = part.split_at_checked(end).ok_or(whole.clone())?;
        // Some take that for the end of the part.
        let mut others = memmem::find_iter(part, first).filter_map(|begin| part.get(begin.checked_sub(1)?));
        if others.any(|before| matches!(before, b'\n' | b'\r')) {
            return Err(whole);
        }
        parts.push(read_part(part)?);
        rest = behind.get(delimiter.len()..).unwrap_or_default();
    }
}

/// RFC 2046 5.1.1.
fn is_boundary(text: &str) -> bool {
    (1..=70).contains(&text.len())
        && !text.ends_with(' ')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte))
}

fn read_part(part: &[u8]) -> Result<Part<'_>, ParameterError> {
    let bad = ParameterError::new("part", "must have a head with one Content-Disposition: form-data and a name");
    let end = memmem::find(part.get(..LARGEST_HEAD.min(part.len())).unwrap_or_default(), b"\r\n\r\n");
    let (head, content) = part.split_at_checked(end.ok_or(bad.clone())?).ok_or(bad.clone())?;
    let content = content.get(4..).unwrap_or_default();
    let head = std::str::from_utf8(head).map_err(|_other| bad.clone())?;
    let (mut disposition, mut media_type) = (None, None);
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or(bad.clone())?;
        let value = value.trim_matches([' ', '\t']);
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        if value.bytes().any(|byte| byte.is_ascii_control()) || !is_name {
            return Err(bad);
        }
        match name.to_ascii_lowercase().as_str() {
            "content-disposition" if disposition.is_none() => disposition = Some(read_disposition(value)?),
            "content-type" if media_type.is_none() => {
                media_type = Some(MediaType::read(value).map_err(|why| ParameterError::new("part", why))?);
            }
            "content-disposition" | "content-type" => return Err(bad),
            "content-transfer-encoding" if !matches!(value, "binary" | "8bit" | "7bit") => {
                return Err(ParameterError::new("part", "must not be encoded"));
            }
            _ => {}
        }
    }
    let (name, file_name) = disposition.ok_or(bad)?;
    Ok(Part { name, file_name, media_type, head, content })
}

/// The name and the file name.
fn read_disposition(text: &str) -> Result<(String, Option<String>), ParameterError> {
    let bad = ParameterError::new("part", "Content-Disposition must be form-data with one quoted name");
    let mut rest = text.strip_prefix("form-data").ok_or(bad.clone())?;
    let (mut name, mut file_name) = (None, None);
    while !rest.is_empty() {
        let parameter = rest.strip_prefix(';').ok_or(bad.clone())?.trim_start_matches([' ', '\t']);
        let (key, after) = parameter.split_once('=').ok_or(bad.clone())?;
        let after = after.strip_prefix('"').ok_or(bad.clone())?;
        let (value, behind) = quoted(after).ok_or(bad.clone())?;
        rest = behind;
        match key.to_ascii_lowercase().as_str() {
            "name" if name.is_none() => name = Some(value),
            "filename" if file_name.is_none() => file_name = Some(value),
            // `filename*` is another name for the same file, which only some read (RFC 7578 4.2).
            _ => return Err(bad),
        }
    }
    if let Some(file) = &file_name {
        // Not every parser takes a backslash for an escape: a quote may end the name.
        let is_plain = file.len() <= LONGEST_NAME && !file.contains(['/', '\\', '"']) && file != ".." && file != ".";
        if !is_plain || file.chars().any(char::is_control) {
            return Err(ParameterError::new("filename", "the name of a file must be one name of at most 255 bytes"));
        }
    }
    let name = name.filter(|name| !name.contains(['"', '\\']));
    Ok((name.ok_or(bad)?, file_name))
}

/// A string up to its closing quote, and what stands behind it. Browsers write a quote as `%22`.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match characters.next()?.1 {
                escaped @ ('"' | '\\') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

/// What a file breaks: the rule, and what it must be.
fn judge_file(field: &FormField, part: &Part<'_>) -> Result<(), (&'static str, &'static str)> {
    let length = u64::try_from(part.content.len()).unwrap_or(u64::MAX);
    field.files.lengths.judge(length)?;
    let Some(pattern) = &field.files.name else { return Ok(()) };
    if part.file_name.as_deref().is_some_and(|name| pattern.is_match(name)) {
        return Ok(());
    }
    Err(("filename", "must be a file with a name that matches the pattern"))
}

/// Judges the headers of a part that its field declares.
fn judge_headers(field: &FormField, schemas: &SchemaSet, part: &Part<'_>) -> Result<(), ValueError> {
    let wrong = |name: &str, rule, expected: &str| {
        let violation = Violation::new(Place::Body, "", rule, format!("header {name}: {expected}"));
        ValueError::Violations([violation.at(&format!("/{}", part.name))].into())
    };
    let lines = part.head.split("\r\n").filter_map(|line| line.split_once(':'));
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let line = name.parse::<HeaderName>().ok().zip(HeaderValue::from_str(value.trim_matches([' ', '\t'])).ok());
        if let Some((name, value)) = line {
            headers.append(name, value);
        }
    }
    for header in &field.headers {
        let judged = match parameter::style::of_header(header, &headers) {
            Ok(None) if header.is_required => Err(ParameterError::new("required", "must be there").into()),
            Ok(None) => Ok(()),
            Ok(Some(texts)) => {
                let place = (Place::Body, "");
                parameter::judge(schemas, header.schema, &header.shape, &texts, place, parameter::LIMITS)
            }
            Err(fault) => Err(fault.into()),
        };
        judged.map_err(|fault| match fault {
            ValueError::Fault(fault) => wrong(&header.name, fault.rule, fault.expected),
            ValueError::Violations(found) => match found.first() {
                Some(first) => wrong(&header.name, first.rule, &first.expected),
                None => wrong(&header.name, "schema", "must be as its schema says"),
            },
            other @ (ValueError::Charset | ValueError::TooComplex) => other,
        })?;
    }
    Ok(())
}

/// The object that the parts stand for. Of files only their types and sizes are judged.
pub(super) fn members_of(
    fields: &[FormField],
    schemas: &SchemaSet,
    parts: Vec<Part<'_>>,
    shape: &Shape,
) -> Result<Texts, ValueError> {
    let mut members: Vec<(String, Vec<Texts>)> = Vec::new();
    for part in parts {
        let field = fields.iter().find(|field| *field.parameter.name == *part.name);
        if field.is_some_and(|field| field.is_file) && part.is_no_file() {
            continue;
        }
        if let Some(field) = field.filter(|field| !field.headers.is_empty()) {
            judge_headers(field, schemas, &part)?;
        }
        let value = value_of(field, &part)?;
        match members.iter_mut().find(|(name, _)| *name == part.name) {
            Some((_, values)) => values.push(value),
            None => members.push((part.name, vec![value])),
        }
    }
    let mut read = Vec::new();
    for (name, mut values) in members {
        let is_list = shape.member(&name).is_some_and(|member| member.takes_arrays());
        let first_is_json = matches!(values.as_slice(), [Texts::Json(text)] if text.trim_start().starts_with('['));
        let value = match values.pop() {
            Some(one) if values.is_empty() && (!is_list || first_is_json) => one,
            Some(last) if is_list => {
                values.push(last);
                Texts::List(values)
            }
            _ => {
                let violation = Violation::new(Place::Body, "", "once", "must be there once");
                return Err(ValueError::Violations([violation.at(&format!("/{name}"))].into()));
            }
        };
        read.push((name, value));
    }
    Ok(Texts::Members(read))
}

/// The value of a part, once it is as its field says.
fn value_of(field: Option<&FormField>, part: &Part<'_>) -> Result<Texts, ValueError> {
    let wrong = |rule, expected: &str| {
        let violation = Violation::new(Place::Body, "", rule, expected).at(&format!("/{}", part.name));
        ValueError::Violations([violation].into())
    };
    let types: &[MediaRange] = field.map_or(&[], |field| &field.types);
    let is_text = |media_type: &MediaType| media_type.is("text", "plain");
    let is_read_as_json = matches!(field.map(|field| &field.parameter.coding), Some(Coding::Json));
    let is_declared = |range: &MediaRange| match &part.media_type {
        Some(media_type) => range.has(media_type),
        // Without a type of its own, a part is text (RFC 7578 4.4). What is read as JSON needs none to be judged.
        None => is_read_as_json || range.has_text(),
    };
    if !types.is_empty() && !types.iter().any(is_declared) {
        return Err(wrong("contentType", "must have a Content-Type that is declared"));
    }
    let is_file = field.is_some_and(|field| field.is_file);
    // As of a whole body. A part of this name says it of all that do not say it themselves (RFC 7578 4.6).
    let is_utf_8 = part.media_type.as_ref().is_none_or(MediaType::is_utf_8);
    if !is_file && !is_utf_8 || part.name == CHARSETS && !media::is_utf_8(part.content.trim_ascii()) {
        return Err(ValueError::Charset);
    }
    let claims_json = part.media_type.as_ref().is_some_and(|media_type| media_type.is("application", "json"));
    // A text is none because it says so: the upstream may believe it.
    let takes_json = |field: &FormField| {
        let shape = &field.parameter.shape;
        is_read_as_json || !field.types.is_empty() || shape.takes_objects() || shape.takes_arrays()
    };
    if !is_file && claims_json && !field.is_none_or(takes_json) {
        return Err(wrong("contentType", "must be text/plain, as its schema is no object"));
    }
    if part.media_type.as_ref().is_some_and(|media_type| !file_type::is_plausible(media_type, part.content)) {
        return Err(wrong("contentType", "must be what its Content-Type says"));
    }
    // Of several types that are declared, a part has the one that it says.
    let says_text = part.media_type.as_ref().is_some_and(is_text) && types.iter().any(MediaRange::has_text);
    let is_json = claims_json || is_read_as_json && !says_text;
    if let Some(field) = field.filter(|_| is_file) {
        judge_file(field, part).map_err(|(rule, expected)| wrong(rule, expected))?;
        return Ok(Texts::One(stand_in::of_file(part.content.len())));
    }
    let readable = is_json || part.media_type.as_ref().is_none_or(is_text);
    let text = std::str::from_utf8(part.content).ok().filter(|_| readable && part.file_name.is_none());
    let text = text.ok_or_else(|| wrong("type", "must be text, and no file"))?.to_owned();
    Ok(if is_json { Texts::Json(text) } else { Texts::One(text) })
}
