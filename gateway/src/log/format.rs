//! How a line is laid out: as a JSON object, or as text with fields in it.

use http::HeaderName;

use self::{
    parts::{Headers, Member, Part},
    place::{Place, Value},
};
use super::text;
use crate::settings::access_log::{Field, Format, Piece, Settings};

pub(super) use place::Reader;

mod combined;
mod ecs;
mod parts;
mod place;
mod standard;

/// What every line consists of.
pub(super) struct Layout {
    form: Form,
    /// Headers of requests, by the places that [`Place::RequestHeader`] names.
    pub(super) request_headers: Box<[HeaderName]>,
    /// The same for responses.
    pub(super) response_headers: Box<[HeaderName]>,
    /// Whether a line says the trace id.
    pub(super) has_trace_id: bool,
    /// Whether a line says how long steps took.
    pub(super) is_timed: bool,
}

enum Form {
    /// A JSON object: how it begins, and its members.
    Json(Box<str>, Box<[Member]>),
    /// The JSON object that is written where nothing is chosen.
    Standard,
    Text(Box<[Part]>),
}

impl Layout {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut headers = Headers::default();
        let form = match &settings.format {
            Format::Combined => Form::Text(combined::parts(&mut headers)),
            Format::Ecs => {
                let mut members = ecs::members(settings, &mut headers);
                members.extend(header_members("gateway.", settings, &mut headers));
                Form::Json(ecs::BEGINS.into(), members.into())
            }
            Format::Json(fields) if *fields == Field::DEFAULT && has_no_headers(settings) => Form::Standard,
            Format::Json(fields) => {
                let of_field = |field: &Field| Member::new(field.name(), Place::Field(*field));
                let mut members: Vec<Member> = fields.iter().map(of_field).collect();
                members.extend(header_members("", settings, &mut headers));
                Form::Json("".into(), members.into())
            }
            Format::Template(pieces) => {
                let mut is_quoted = false;
                let part = |piece: &Piece| {
                    let place = match piece {
                        Piece::Text(text) => {
                            is_quoted ^= text.bytes().filter(|byte| *byte == b'"').count() % 2 == 1;
                            return Part::Text(text.as_str().into());
                        }
                        Piece::Field(field) => Place::Field(*field),
                        Piece::RequestHeader(name) => headers.of_request(name),
                        Piece::ResponseHeader(name) => headers.of_response(name),
                    };
                    // Between quotation marks a value may have spaces.
                    if is_quoted { Part::Quoted(place) } else { Part::Plain(place) }
                };
                Form::Text(pieces.iter().map(part).collect())
            }
        };
        let has = |wanted: &dyn Fn(Field) -> bool| match &form {
            Form::Standard => false,
            Form::Json(_, members) => members.iter().any(|member| member.place.field().is_some_and(wanted)),
            Form::Text(parts) => parts.iter().any(|part| match part {
                Part::Text(_) => false,
                Part::Plain(place) | Part::Quoted(place) => place.field().is_some_and(wanted),
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
    pub(super) fn write(&self, reader: &Reader<'_>, out: &mut Vec<u8>) {
        match &self.form {
            Form::Json(begins, members) => write_json(reader, begins, members, out),
            Form::Standard => reader.write_standard(out),
            Form::Text(parts) => write_text(reader, parts, out),
        }
        out.push(b'\n');
    }
}

fn has_no_headers(settings: &Settings) -> bool {
    settings.request_headers.is_empty() && settings.response_headers.is_empty()
}

/// Members for the headers that the settings name.
fn header_members(prefix: &str, settings: &Settings, headers: &mut Headers) -> Vec<Member> {
    let mut members = Vec::new();
    for name in &settings.request_headers {
        members.push(Member::new(&format!("{prefix}request.{name}"), headers.of_request(name)));
    }
    for name in &settings.response_headers {
        members.push(Member::new(&format!("{prefix}response.{name}"), headers.of_response(name)));
    }
    members
}

fn write_json(reader: &Reader<'_>, begins: &str, members: &[Member], out: &mut Vec<u8>) {
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

fn write_text(reader: &Reader<'_>, parts: &[Part], out: &mut Vec<u8>) {
    for part in parts {
        let (place, is_quoted) = match part {
            Part::Text(text) => {
                out.extend_from_slice(text.as_bytes());
                continue;
            }
            Part::Quoted(place) => (*place, true),
            Part::Plain(place) => (*place, false),
        };
        match reader.value(place) {
            Value::None => out.push(b'-'),
            Value::Theirs(value) if value.is_empty() => out.push(b'-'),
            Value::Theirs(value) => text::escape_log(&value, is_quoted, out),
            value => value.write_ours(out),
        }
    }
}
