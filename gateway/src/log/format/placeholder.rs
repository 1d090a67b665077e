//! What each place of a line says of a request.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

use http::HeaderValue;

use crate::{
    log::{
        line::{LogLine, Timings},
        redact::{Hash, Redactor},
        text,
    },
    net::geo::Geo,
    settings::access_log::Field,
    text::digits::append_decimal,
    web::request_id::RequestId,
};

/// What is written at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placeholder {
    Field(Field),
    RequestHeader(usize),
    ResponseHeader(usize),
    /// The bytes of the response, with `-` in the place of 0.
    ClfBytes,
    /// The first line of the request.
    ClfRequest,
    /// The status by three digits, as nginx writes it: 000 where nothing was answered.
    ClfStatus,
    /// Nanoseconds.
    EcsDuration,
    /// `1.1`, `2`.
    EcsHttpVersion,
    /// `success`, `failure`.
    EcsOutcome,
    /// `tls`.
    EcsTlsProtocol,
    /// `1.3`, `1.2`.
    EcsTlsVersion,
}

/// What a place says of a request.
pub(super) enum Value<'a> {
    None,
    Address(IpAddr),
    Digits([u8; 32]),
    Id(RequestId),
    Number(u64),
    /// We wrote it ourselves: it has nothing to escape.
    Ours(&'a str),
    Socket(SocketAddr),
    /// A client or an operator wrote it.
    Theirs(Cow<'a, str>),
    Time(u64),
    TimeClf(u64),
}

impl Placeholder {
    pub(super) const fn field(self) -> Option<Field> {
        if let Self::Field(field) = self { Some(field) } else { None }
    }

    /// Whether it is a string in JSON.
    pub(super) const fn is_text(self) -> bool {
        match self {
            Self::Field(field) => !matches!(
                field,
                Field::Asn
                    | Field::AuthUs
                    | Field::BytesIn
                    | Field::BytesOut
                    | Field::ClientPort
                    | Field::ConnectUs
                    | Field::DurationUs
                    | Field::FirstByteUs
                    | Field::GrpcStatus
                    | Field::QueueUs
                    | Field::Retries
                    | Field::Status
                    | Field::TlsUs
            ),
            Self::EcsDuration => false,
            _ => true,
        }
    }
}

/// A request, and what of it is not to be seen.
pub(in crate::log) struct PlaceholderReader<'a> {
    pub(in crate::log) redact: &'a Redactor,
    pub(in crate::log) hash: Option<&'a Hash>,
    pub(in crate::log) geo: &'a Geo,
    pub(in crate::log) line: &'a LogLine<'a>,
}

impl<'a> PlaceholderReader<'a> {
    /// What a place says of the request.
    #[inline]
    pub(super) fn value(&self, place: Placeholder) -> Value<'a> {
        let noted = self.line.noted;
        match place {
            Placeholder::Field(field) => self.field(field),
            Placeholder::RequestHeader(place) => self.header(noted.and_then(|noted| noted.request.get(place))),
            Placeholder::ResponseHeader(place) => self.header(noted.and_then(|noted| noted.response.get(place))),
            other => self.derived(other),
        }
    }

    /// What one format alone has.
    fn derived(&self, place: Placeholder) -> Value<'a> {
        let line = self.line;
        match place {
            Placeholder::Field(_) | Placeholder::RequestHeader(_) | Placeholder::ResponseHeader(_) => Value::None,
            Placeholder::ClfBytes if line.bytes_out == 0 => Value::None,
            Placeholder::ClfBytes => Value::Number(line.bytes_out),
            Placeholder::ClfRequest => {
                let Some((method, uri)) = line.method.zip(self.uri()) else { return Value::None };
                Value::Theirs(Cow::Owned([method, " ", &uri, " ", line.protocol.unwrap_or("HTTP/1.1")].concat()))
            }
            Placeholder::ClfStatus if line.status == 0 => Value::Ours("000"),
            Placeholder::ClfStatus => Value::Number(line.status.into()),
            Placeholder::EcsDuration => Value::Number(line.duration_us.saturating_mul(1_000)),
            Placeholder::EcsHttpVersion => ours(line.protocol.map(|protocol| match protocol {
                "HTTP/1.0" => "1.0",
                "HTTP/2.0" => "2",
                _ => "1.1",
            })),
            Placeholder::EcsOutcome => {
                let has_failed = line.reject.is_some() || line.status >= 400;
                Value::Ours(if has_failed { "failure" } else { "success" })
            }
            Placeholder::EcsTlsProtocol => ours(line.tls.map(|_version| "tls")),
            Placeholder::EcsTlsVersion => {
                ours(line.tls.map(|version| if version == "TLSv1.2" { "1.2" } else { "1.3" }))
            }
        }
    }

    fn header(&self, value: Option<&'a Option<HeaderValue>>) -> Value<'a> {
        let value = value.and_then(Option::as_ref);
        value.map_or(Value::None, |value| Value::Theirs(self.redact.header(String::from_utf8_lossy(value.as_bytes()))))
    }

    #[inline]
    fn field(&self, field: Field) -> Value<'a> {
        let line = self.line;
        match field {
            Field::Time => Value::Time(line.unix_millis),
            Field::TimeClf => Value::TimeClf(line.unix_millis),
            Field::Id => Value::Id(line.id),
            Field::Client => Value::Address(line.client.ip().to_canonical()),
            Field::Country => match self.geo.country(line.client.ip()) {
                Some(country) => Value::Theirs(country.as_str().to_owned().into()),
                None => Value::None,
            },
            Field::Asn => self.geo.asn(line.client.ip()).map_or(Value::None, |asn| Value::Number(asn.into())),
            Field::ClientPort => Value::Number(line.client.port().into()),
            Field::Source => Value::Theirs(line.source.to_string().into()),
            Field::Relay => line.relay.map_or(Value::None, Value::Address),
            Field::Listener => Value::Socket(line.listener),
            Field::Scheme => Value::Ours(line.scheme),
            Field::Protocol => ours(line.protocol),
            Field::Tls => ours(line.tls),
            Field::Ja4 => ours(line.ja4),
            Field::Host => theirs(line.host),
            Field::Method => theirs(line.method),
            Field::Path => line.path.map_or(Value::None, |path| Value::Theirs(self.redact.path(path))),
            Field::Query => line.query.map_or(Value::None, |query| Value::Theirs(self.redact.query(query))),
            Field::Uri => self.uri().map_or(Value::None, Value::Theirs),
            Field::RequestId => theirs(line.request_id),
            Field::TraceId => line.noted.and_then(|noted| noted.trace_id).map_or(Value::None, Value::Digits),
            Field::Status => Value::Number(line.status.into()),
            Field::Verdict => Value::Ours(match (line.reject, line.status) {
                (Some(_), _) => "refused",
                (None, 499) => "client_left",
                (None, _) => "served",
            }),
            Field::Reject => ours(line.reject),
            Field::Limit => theirs(line.limit),
            Field::Detail => theirs(line.detail),
            Field::WouldDeny => theirs(line.would_deny),
            Field::Signal => ours(line.signal),
            Field::Rule => theirs(line.rule),
            Field::Principal => match (line.principal, self.hash) {
                (Some(principal), Some(hash)) => Value::Theirs(hash.of(principal).into()),
                (principal, _) => theirs(principal),
            },
            Field::Route => theirs(line.route),
            Field::Upstream => theirs(line.upstream),
            Field::Server => theirs(line.server),
            Field::Retries => number(line.retries),
            Field::GrpcStatus => number(line.grpc_status),
            Field::BytesIn => Value::Number(line.bytes_in),
            Field::BytesOut => Value::Number(line.bytes_out),
            Field::TlsUs => self.timing(|timings| timings.tls),
            Field::AuthUs => self.timing(|timings| timings.auth),
            Field::QueueUs => self.timing(|timings| timings.queue),
            Field::ConnectUs => self.timing(|timings| timings.connect),
            Field::FirstByteUs => self.timing(|timings| timings.first_byte),
            Field::DurationUs => Value::Number(line.duration_us),
        }
    }

    fn timing(&self, of: impl FnOnce(Timings) -> Option<u64>) -> Value<'a> {
        let nanos = self.line.noted.and_then(|noted| noted.timings).and_then(of);
        nanos.map_or(Value::None, |nanos| Value::Number(nanos / 1_000))
    }

    /// The path with its query, as far as they are to be seen.
    fn uri(&self) -> Option<Cow<'a, str>> {
        let path = self.redact.path(self.line.path?);
        Some(match self.line.query {
            Some(query) => Cow::Owned([&path, "?", &self.redact.query(query)].concat()),
            None => path,
        })
    }
}

const fn ours(text: Option<&str>) -> Value<'_> {
    match text {
        Some(text) => Value::Ours(text),
        None => Value::None,
    }
}

const fn theirs(text: Option<&str>) -> Value<'_> {
    match text {
        Some(text) => Value::Theirs(Cow::Borrowed(text)),
        None => Value::None,
    }
}

fn number(number: Option<u32>) -> Value<'static> {
    number.map_or(Value::None, |number| Value::Number(number.into()))
}

impl Value<'_> {
    /// Appends what has nothing to escape.
    #[inline]
    pub(super) fn write_ours(self, out: &mut Vec<u8>) {
        match self {
            Self::None | Self::Theirs(_) => {}
            Self::Address(address) => text::address(address, out),
            Self::Digits(digits) => out.extend_from_slice(&digits),
            Self::Id(id) => out.extend_from_slice(&text::hexadecimal(id)),
            Self::Number(value) => append_decimal(value, out),
            Self::Ours(value) => out.extend_from_slice(value.as_bytes()),
            Self::Socket(SocketAddr::V4(address)) => {
                text::address(IpAddr::V4(*address.ip()), out);
                out.push(b':');
                append_decimal(address.port().into(), out);
            }
            Self::Socket(SocketAddr::V6(address)) => text::put(format_args!("{address}"), out),
            Self::Time(millis) => text::time(millis, out),
            Self::TimeClf(millis) => text::time_clf(millis, out),
        }
    }
}
