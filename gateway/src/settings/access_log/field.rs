//! Decides what a line of the access log can say, and by what names.

/// One thing that a line can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is explained where it is listed, for operators too")]
pub enum Field {
    Asn,
    AuthUs,
    BytesIn,
    BytesOut,
    Client,
    ClientPort,
    ConnectUs,
    Country,
    Detail,
    DurationUs,
    FirstByteUs,
    GrpcStatus,
    Host,
    Id,
    Ja4,
    Limit,
    Listener,
    Method,
    Path,
    Principal,
    Protocol,
    Query,
    QueueUs,
    Reject,
    Relay,
    RequestId,
    Retries,
    Route,
    Rule,
    Scheme,
    Server,
    Signal,
    Source,
    Status,
    Time,
    TimeClf,
    Tls,
    TlsUs,
    TraceId,
    Upstream,
    Uri,
    Verdict,
    WouldDeny,
}

impl Field {
    /// All of them: the name, and what it says.
    pub const ALL: [(&'static str, Self, &'static str); 43] = [
        ("time", Self::Time, "When the request began: RFC 3339, UTC, with milliseconds."),
        ("time_clf", Self::TimeClf, "The same in the form of Apache: `24/Nov/2025:16:00:00 +0000`."),
        ("id", Self::Id, "The id of the request in every log, 32 digits."),
        ("client", Self::Client, "The address of the client, behind trusted proxies too."),
        ("client_port", Self::ClientPort, "The client's port."),
        ("country", Self::Country, "The country of the client's address, by two letters. It needs `geo.database`."),
        ("asn", Self::Asn, "The number of the autonomous system of the client's address. It needs `geo.database`."),
        ("source", Self::Source, "What bans and limits count the client by: its address, or its IPv6 prefix."),
        ("relay", Self::Relay, "The trusted proxy that named the client."),
        ("listener", Self::Listener, "The address of the listener."),
        ("scheme", Self::Scheme, "`http` or `https`, as the client used it."),
        ("protocol", Self::Protocol, "`HTTP/1.1`, `HTTP/2.0`."),
        ("tls", Self::Tls, "`TLSv1.3`, `TLSv1.2`."),
        ("ja4", Self::Ja4, "The JA4 fingerprint of the TLS hello. It needs `listener.ja4`."),
        ("host", Self::Host, "The host that was asked for."),
        ("method", Self::Method, "The method."),
        ("path", Self::Path, "The canonical path, without the query."),
        ("query", Self::Query, "The query, redacted."),
        ("uri", Self::Uri, "Path and query, redacted."),
        ("request_id", Self::RequestId, "The id that a trusted proxy gave the request."),
        ("trace_id", Self::TraceId, "The trace id of the request's `traceparent` header."),
        ("status", Self::Status, "The status of the response. 499: the client left. 0: there was no response."),
        ("verdict", Self::Verdict, "`served`, `refused` or `client_left`."),
        ("reject", Self::Reject, "The label of the refusal."),
        ("limit", Self::Limit, "The limit that the request is over, by its name."),
        ("detail", Self::Detail, "Why it was refused or would have been, or why a tunnel ended."),
        (
            "would_deny",
            Self::WouldDeny,
            "What would have refused the request, were it enforced: a requirement in shadow, `waf`, or `api`.",
        ),
        ("signal", Self::Signal, "What the request says about the source, where it says anything."),
        ("rule", Self::Rule, "The rule that asked for a ban because of this request."),
        ("principal", Self::Principal, "Whom the client has proved to be."),
        ("route", Self::Route, "The path of the route, as it is configured."),
        ("upstream", Self::Upstream, "The upstream that the request went to."),
        ("server", Self::Server, "The server of the upstream that answered, as it is configured."),
        ("retries", Self::Retries, "How often the request was sent again."),
        ("grpc_status", Self::GrpcStatus, "The status of a gRPC call."),
        ("bytes_in", Self::BytesIn, "Bytes of the request body that were received."),
        ("bytes_out", Self::BytesOut, "Bytes of the response body that were sent."),
        (
            "tls_us",
            Self::TlsUs,
            "The TLS handshake, for the first request of a connection. Microseconds, as all times.",
        ),
        ("auth_us", Self::AuthUs, "How long authentication and authorization took."),
        ("queue_us", Self::QueueUs, "How long the request waited for a free connection or stream to the server."),
        ("connect_us", Self::ConnectUs, "How long a new connection to the server took, TLS included."),
        ("first_byte_us", Self::FirstByteUs, "From the beginning until the server's response began."),
        ("duration_us", Self::DurationUs, "From the beginning until the response was sent."),
    ];

    /// What a JSON line says where the configuration does not choose.
    pub const DEFAULT: [Self; 28] = [
        Self::Time,
        Self::Id,
        Self::Client,
        Self::ClientPort,
        Self::Relay,
        Self::Listener,
        Self::Protocol,
        Self::Tls,
        Self::Ja4,
        Self::Host,
        Self::Method,
        Self::Path,
        Self::RequestId,
        Self::Status,
        Self::Reject,
        Self::Limit,
        Self::Detail,
        Self::WouldDeny,
        Self::Signal,
        Self::Rule,
        Self::Principal,
        Self::Route,
        Self::Upstream,
        Self::Server,
        Self::GrpcStatus,
        Self::BytesIn,
        Self::BytesOut,
        Self::DurationUs,
    ];

    /// The field of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _, _)| *known == name).map(|(_, field, _)| field)
    }

    /// Its name in the configuration, in JSON lines and in templates.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, field, _)| *field == self).map_or("", |(name, _, _)| name)
    }

    /// Whether it takes clocks to be read, and so is measured only where a line says it.
    #[must_use]
    pub const fn is_measured(self) -> bool {
        matches!(self, Self::AuthUs | Self::ConnectUs | Self::FirstByteUs | Self::QueueUs | Self::TlsUs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_one_name() {
        let names: std::collections::BTreeSet<_> = Field::ALL.iter().map(|(name, _, _)| name).collect();
        let fields: std::collections::HashSet<_> = Field::ALL.iter().map(|(_, field, _)| field).collect();
        assert_eq!((names.len(), fields.len()), (Field::ALL.len(), Field::ALL.len()));
        assert!(Field::ALL.iter().all(|(name, field, _)| field.name() == *name && Field::named(name) == Some(*field)));
    }
    #[test]
    fn the_page_explains_each_as_it_is_explained_here() {
        let page = include_str!("../../../../docs/logs.md");
        // Links lead further; their text is what is said.
        let plain = |line: &str| {
            let mut parts = line.split("](");
            let first = parts.next().unwrap_or_default().to_owned();
            let text = parts.fold(first, |all, part| all + part.split_once(')').map_or("", |(_, rest)| rest));
            text.replace('[', "")
        };
        let rows = page.lines().map(plain).filter(|line| line.starts_with("| `"));
        let rows: Vec<String> = rows.skip_while(|line| !line.starts_with("| `time` ")).take(Field::ALL.len()).collect();
        let expect = Field::ALL.map(|(name, _, text)| format!("| `{name}` | {text} |"));
        assert_eq!(rows, expect, "docs/logs.md");
    }
}
