//! How a line is laid out: as a JSON object, or as text with fields in it.

use http::HeaderName;

use self::{
    parts::{JsonMember, LoggedHeaders, TextPart},
    placeholder::{Placeholder, Value},
};
use super::text;
use crate::settings::access_log::{self, Field, LineFormat, TemplatePart};

pub(super) use placeholder::PlaceholderReader;

mod combined;
mod ecs;
mod parts;
mod placeholder;
mod standard;

/// What every line consists of.
pub(super) struct Layout {
    form: LineEncoding,
    /// Headers of requests, by the places that [`Placeholder::RequestHeader`] names.
    pub(super) request_headers: Box<[HeaderName]>,
    /// The same for responses.
    pub(super) response_headers: Box<[HeaderName]>,
    /// Whether a line says the trace id.
    pub(super) has_trace_id: bool,
    /// Whether a line says how long steps took.
    pub(super) is_timed: bool,
}

enum LineEncoding {
    /// A JSON object: how it begins, and its members.
    Json(Box<str>, Box<[JsonMember]>),
    /// The JSON object that is written where nothing is chosen.
    Standard,
    Text(Box<[TextPart]>),
}

impl Layout {
    pub(super) fn new(settings: &access_log::Settings) -> Self {
        let mut headers = LoggedHeaders::default();
        let form = match &settings.format {
            LineFormat::Combined => LineEncoding::Text(combined::parts(&mut headers)),
            LineFormat::Ecs => {
                let mut members = ecs::members(settings, &mut headers);
                members.extend(header_members("gateway.", settings, &mut headers));
                LineEncoding::Json(ecs::BEGINS.into(), members.into())
            }
            LineFormat::Json(fields) if *fields == Field::DEFAULT && has_no_headers(settings) => LineEncoding::Standard,
            LineFormat::Json(fields) => {
                let of_field = |field: &Field| JsonMember::new(field.name(), Placeholder::Field(*field));
                let mut members: Vec<JsonMember> = fields.iter().map(of_field).collect();
                members.extend(header_members("", settings, &mut headers));
                LineEncoding::Json("".into(), members.into())
            }
            LineFormat::Template(pieces) => {
                let mut is_quoted = false;
                let part = |piece: &TemplatePart| {
                    let place = match piece {
                        TemplatePart::Text(text) => {
                            is_quoted ^= text.bytes().filter(|byte| *byte == b'"').count() % 2 == 1;
                            return TextPart::Text(text.as_str().into());
                        }
                        TemplatePart::Field(field) => Placeholder::Field(*field),
                        TemplatePart::RequestHeader(name) => headers.of_request(name),
                        TemplatePart::ResponseHeader(name) => headers.of_response(name),
                    };
                    // Between quotation marks a value may have spaces.
                    if is_quoted { TextPart::Quoted(place) } else { TextPart::Plain(place) }
                };
                LineEncoding::Text(pieces.iter().map(part).collect())
            }
        };
        let has = |wanted: &dyn Fn(Field) -> bool| match &form {
            LineEncoding::Standard => false,
            LineEncoding::Json(_, members) => members.iter().any(|member| member.place.field().is_some_and(wanted)),
            LineEncoding::Text(parts) => parts.iter().any(|part| match part {
                TextPart::Text(_) => false,
                TextPart::Plain(place) | TextPart::Quoted(place) => place.field().is_some_and(wanted),
            }),
        };
        Self {
            has_trace_id: has(&|field| field == Field::TraceId),
            is_timed: has(&Field::is_measured),
            form,
            request_headers: headers.request.into(),
            response_headers: headers.response.into(),
        }
    }

    /// Appends the line.
    pub(super) fn write(&self, reader: &PlaceholderReader<'_>, out: &mut Vec<u8>) {
        match &self.form {
            LineEncoding::Json(begins, members) => write_json(reader, begins, members, out),
            LineEncoding::Standard => reader.write_standard(out),
            LineEncoding::Text(parts) => write_text(reader, parts, out),
        }
        out.push(b'\n');
    }
}

fn has_no_headers(settings: &access_log::Settings) -> bool {
    settings.request_headers.is_empty() && settings.response_headers.is_empty()
}

/// Members for the headers that the settings name.
fn header_members(prefix: &str, settings: &access_log::Settings, headers: &mut LoggedHeaders) -> Vec<JsonMember> {
    let mut members = Vec::new();
    for name in &settings.request_headers {
        members.push(JsonMember::new(&format!("{prefix}request.{name}"), headers.of_request(name)));
    }
    for name in &settings.response_headers {
        members.push(JsonMember::new(&format!("{prefix}response.{name}"), headers.of_response(name)));
    }
    members
}

fn write_json(reader: &PlaceholderReader<'_>, begins: &str, members: &[JsonMember], out: &mut Vec<u8>) {
    out.push(b'{');
    out.extend_from_slice(begins.as_bytes());
    // The first member brings no comma.
    let mut skipped = usize::from(begins.is_empty());
    for member in members {
        let value = reader.value(member.place);
        if matches!(value, Value::None) {
            continue;
        }
        out.extend_from_slice(member.begins.as_bytes().get(skipped..).unwrap_or_default());
        skipped = 0;
        match value {
            Value::Theirs(value) => text::escape(&value, out),
            value => value.write_ours(out),
        }
        if member.is_text {
            out.push(b'"');
        }
    }
    out.push(b'}');
}

fn write_text(reader: &PlaceholderReader<'_>, parts: &[TextPart], out: &mut Vec<u8>) {
    for part in parts {
        let (place, is_quoted) = match part {
            TextPart::Text(text) => {
                out.extend_from_slice(text.as_bytes());
                continue;
            }
            TextPart::Quoted(place) => (*place, true),
            TextPart::Plain(place) => (*place, false),
        };
        match reader.value(place) {
            Value::None => out.push(b'-'),
            Value::Theirs(value) if value.is_empty() => out.push(b'-'),
            Value::Theirs(value) => text::escape_log(&value, is_quoted, out),
            value => value.write_ours(out),
        }
    }
}
