//! Lines by the Elastic Common Schema (<https://www.elastic.co/docs/reference/ecs/ecs-field-reference>), with names in
//! their dotted form. What the schema has no name for is below `gateway`.

use http::header;

use super::{
    parts::{JsonMember, LoggedHeaders},
    placeholder::Placeholder,
};
use crate::settings::access_log::{self, Field, Principal};

/// How every line begins: what is the same in all of them.
pub(super) const BEGINS: &str = "\"ecs.version\":\"8.17.0\",\"event.kind\":\"event\",\
    \"event.category\":[\"web\"],\"event.type\":[\"access\"],\"event.dataset\":\"gateway.access\"";

/// The members, in their order.
pub(super) fn members(settings: &access_log::Settings, headers: &mut LoggedHeaders) -> Vec<JsonMember> {
    let field = |name: &str, field: Field| JsonMember::new(name, Placeholder::Field(field));
    let user = match settings.principal {
        Principal::Hashed(_) => "user.hash",
        Principal::Plain => "user.name",
    };
    vec![
        field("@timestamp", Field::Time),
        JsonMember::new("event.duration", Placeholder::EcsDuration),
        JsonMember::new("event.outcome", Placeholder::EcsOutcome),
        field("event.reason", Field::Detail),
        field("source.ip", Field::Client),
        field("source.port", Field::ClientPort),
        field("http.request.id", Field::Id),
        field("http.request.method", Field::Method),
        field("http.request.body.bytes", Field::BytesIn),
        JsonMember::new("http.request.referrer", headers.of_request(&header::REFERER)),
        JsonMember::new("http.version", Placeholder::EcsHttpVersion),
        field("http.response.status_code", Field::Status),
        field("http.response.body.bytes", Field::BytesOut),
        field("url.scheme", Field::Scheme),
        field("url.domain", Field::Host),
        field("url.path", Field::Path),
        field("url.query", Field::Query),
        JsonMember::new("user_agent.original", headers.of_request(&header::USER_AGENT)),
        field(user, Field::Principal),
        JsonMember::new("tls.version", Placeholder::EcsTlsVersion),
        JsonMember::new("tls.version_protocol", Placeholder::EcsTlsProtocol),
        field("trace.id", Field::TraceId),
        field("rule.name", Field::Rule),
        field("gateway.verdict", Field::Verdict),
        field("gateway.reject", Field::Reject),
        field("gateway.limit", Field::Limit),
        field("gateway.would_deny", Field::WouldDeny),
        field("gateway.signal", Field::Signal),
        field("gateway.route", Field::Route),
        field("gateway.upstream", Field::Upstream),
        field("gateway.server", Field::Server),
        field("gateway.retries", Field::Retries),
        field("gateway.grpc_status", Field::GrpcStatus),
        field("gateway.listener", Field::Listener),
        field("gateway.relay", Field::Relay),
        field("gateway.request_id", Field::RequestId),
        field("gateway.ja4", Field::Ja4),
        field("source.geo.country_iso_code", Field::Country),
        field("source.as.number", Field::Asn),
    ]
}
