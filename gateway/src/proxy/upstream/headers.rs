//! Headers on their way through: hop-by-hop headers are removed, and headers such as `X-Forwarded-For` are the
//! gateway's own. A client cannot set what an upstream takes for the gateway's word.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{
    client::forwarded::ForwardedInfo,
    log::text::{address, hexadecimal},
    policy::auth::{Identity, IdentityHeaders, certificate::ClientCertificate},
    proxy::{
        memory::buffer_pool,
        raw_head::{RawHead, line},
    },
    web::{header_names, header_values, request_id::RequestId},
};

/// Hop-by-hop headers (RFC 9110 7.6.1), and those that the gateway writes itself.
static HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Common headers that pass without a closer look. `Host` is replaced in any case.
static HARMLESS: [HeaderName; 10] = [
    header::HOST,
    header::USER_AGENT,
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::ORIGIN,
    header::REFERER,
];

static X_AUTHENTICATED_PRINCIPAL: HeaderName = HeaderName::from_static("x-authenticated-principal");
static X_CLIENT_CERTIFICATE_FINGERPRINT: HeaderName = HeaderName::from_static("x-client-certificate-fingerprint");
static X_CLIENT_CERTIFICATE_SERIAL: HeaderName = HeaderName::from_static("x-client-certificate-serial");
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
static X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The most headers that the gateway adds: the map grows once.
const ADDED: usize = 10;

/// Headers that come too late as trailers: whole names, then prefixes of names.
const EARLY: [&str; 14] = [
    "age",
    "allow",
    "cache-control",
    "date",
    "expires",
    "location",
    "max-forwards",
    "pragma",
    "range",
    "retry-after",
    "set-cookie",
    "vary",
    "warning",
    "www-authenticate",
];
const EARLY_BEGINNINGS: [&str; 5] = ["accept", "access-control-", "content-", "if-", "sec-"];

/// What the gateway tells the upstream about a request.
pub(in crate::proxy) struct ForwardedHeaders<'a> {
    /// The client's address.
    pub(in crate::proxy) client: std::net::IpAddr,
    /// `http` or `https`, of the connection.
    pub(in crate::proxy) scheme: &'static str,
    /// What a trusted proxy in front of the gateway says instead.
    pub(in crate::proxy) forwarded: Option<&'a ForwardedInfo>,
    /// The canonical host with its port.
    pub(in crate::proxy) authority: &'a str,
    pub(in crate::proxy) id: RequestId,
    /// Who the client is, if that was proved.
    pub(in crate::proxy) identity: Option<&'a Identity>,
    /// What the upstream is told of that, besides the principal.
    pub(in crate::proxy) identity_headers: &'a IdentityHeaders,
    /// The token that was made for the upstream, and its header.
    pub(in crate::proxy) token: Option<(&'a HeaderName, HeaderValue)>,
    /// Names that only the gateway sets, by its configuration.
    pub(in crate::proxy) own: &'a [HeaderName],
    /// The client certificate that was shown for this host.
    pub(in crate::proxy) certificate: Option<&'a ClientCertificate>,
    /// Headers that the route lets pass although their names would not.
    pub(in crate::proxy) passing: &'a [HeaderName],
}

/// Turns a client's headers into those for the upstream.
pub(in crate::proxy) fn request(headers: &mut HeaderMap, told: &ForwardedHeaders<'_>) {
    clean(headers, told);
    headers.reserve(ADDED);
    tell(told, |name, value| {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(name, value);
        }
    });
}

/// The same, but the gateway's own headers are returned as lines of HTTP/1.1.
pub(in crate::proxy) fn request_by_lines(headers: &mut HeaderMap, told: &ForwardedHeaders<'_>) -> Vec<u8> {
    clean(headers, told);
    let mut out = buffer_pool::space();
    tell(told, |name, value| line(name.as_str(), value, &mut out));
    out
}

/// Adds the gateway's own headers.
fn tell(told: &ForwardedHeaders<'_>, mut add: impl FnMut(&HeaderName, &[u8])) {
    let mut client = buffer_pool::space();
    address(told.client, &mut client);
    add(&X_FORWARDED_FOR, &client);
    buffer_pool::keep_space(client);
    let forwarded = told.forwarded;
    let host = forwarded.and_then(|told| told.host.as_deref()).unwrap_or(told.authority);
    add(&X_FORWARDED_HOST, host.as_bytes());
    add(&X_FORWARDED_PROTO, forwarded.and_then(|told| told.scheme).unwrap_or(told.scheme).as_bytes());
    match forwarded.and_then(|told| told.id.as_ref()) {
        Some(id) => add(&X_REQUEST_ID, id.as_bytes()),
        None => add(&X_REQUEST_ID, &hexadecimal(told.id)),
    }
    if let Some(port) = forwarded.and_then(|told| told.port) {
        add(&X_FORWARDED_PORT, port.to_string().as_bytes());
    }
    if let Some(prefix) = forwarded.and_then(|told| told.prefix.as_deref()) {
        add(&X_FORWARDED_PREFIX, prefix.as_bytes());
    }
    let certificate = told.certificate;
    for (name, value) in [
        (&X_AUTHENTICATED_PRINCIPAL, told.identity.map(Identity::principal)),
        (&X_CLIENT_CERTIFICATE_FINGERPRINT, certificate.map(|shown| &*shown.fingerprint)),
        (&X_CLIENT_CERTIFICATE_SERIAL, certificate.map(|shown| &*shown.serial)),
    ] {
        // Only a principal can hold what no header may: it is then not told, which proves nobody's identity.
        let fits = |value: &&str| value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
        if let Some(value) = value.filter(fits) {
            add(name, value.as_bytes());
        }
    }
    if let Some((name, token)) = &told.token {
        add(name, token.as_bytes());
    }
    if let Some(identity) = told.identity {
        told.identity_headers.tell(identity, add);
    }
}

/// Removes the headers that do not pass, and sets the canonical host.
fn clean(headers: &mut HeaderMap, told: &ForwardedHeaders<'_>) {
    let mut unwanted = nominated(headers);
    let stays = |name: &HeaderName| (passes(name) || told.passing.contains(name)) && !told.own.contains(name);
    unwanted.extend(headers.keys().filter(|name| !stays(name)).cloned());
    for name in unwanted {
        headers.remove(name);
    }
    join_cookies(headers);
    // Mostly it is the canonical one already.
    if headers.get(header::HOST).is_none_or(|host| host.as_bytes() != told.authority.as_bytes())
        && let Ok(host) = HeaderValue::from_str(told.authority)
    {
        headers.insert(header::HOST, host);
    }
}

/// Turns an upstream's headers into those for the client.
pub(in crate::proxy) fn response(headers: &mut HeaderMap, id: HeaderValue) {
    let mut unwanted = nominated(headers);
    unwanted.extend(headers.keys().filter(|name| HOP_BY_HOP.contains(name)).cloned());
    for name in unwanted {
        headers.remove(name);
    }
    headers.insert(&X_REQUEST_ID, id);
}

/// The same for an interim response: it has no body, and the gateway's own word comes with the final one.
pub(in crate::proxy) fn interim(headers: &mut HeaderMap, id: HeaderValue) {
    response(headers, id);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::STRICT_TRANSPORT_SECURITY);
}

/// The same for a head that is passed on as it came.
pub(in crate::proxy) fn lines(lines: &mut RawHead, own: RequestId, forwarded: Option<&ForwardedInfo>) {
    match forwarded.and_then(|told| told.id.as_ref()) {
        Some(id) => lines.add(X_REQUEST_ID.as_str(), id.as_bytes()),
        None => lines.add(X_REQUEST_ID.as_str(), &hexadecimal(own)),
    }
}

/// The trailers that may pass, in either direction: none that frames, routes, authorises, or changes what came before
/// (RFC 9110 6.5.1, F11), nor any of the gateway's `own`. `None`: nothing is left.
pub(in crate::proxy) fn trailers(mut trailers: HeaderMap, own: &[HeaderName]) -> Option<HeaderMap> {
    let unwanted: Vec<_> = trailers.keys().filter(|name| !trails(name) || own.contains(name)).cloned().collect();
    for name in unwanted {
        trailers.remove(name);
    }
    (!trailers.is_empty()).then_some(trailers)
}

fn trails(name: &HeaderName) -> bool {
    let text = name.as_str();
    let is_early = EARLY.contains(&text) || EARLY_BEGINNINGS.iter().any(|beginning| text.starts_with(beginning));
    // What is harmless as a header need not be so behind the body: it would come too late to be judged.
    !is_early && !HARMLESS.contains(name) && passes(name)
}

/// Whether the client takes trailers (RFC 9110 10.1.4).
pub(in crate::proxy) fn takes_trailers(headers: &HeaderMap) -> bool {
    header_values::has_member(headers, header::TE, b"trailers")
}

fn passes(name: &HeaderName) -> bool {
    if HARMLESS.contains(name) {
        return true;
    }
    if HOP_BY_HOP.contains(name) {
        return false;
    }
    header_names::kind(name.as_str()) == header_names::HeaderKind::Message
}

/// The headers that `Connection` names as its own (RFC 9110 7.6.1). Ours are set afterwards, so naming them is in
/// vain (T03).
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    // What most lines name is no header, or goes anyway.
    let names = header_values::members(headers, header::CONNECTION)
        .filter(|name| !name.eq_ignore_ascii_case(b"keep-alive") && !name.eq_ignore_ascii_case(b"close"));
    names.filter_map(|name| HeaderName::from_bytes(name).ok()).collect()
}

/// HTTP/2 may send cookies crumb by crumb; HTTP/1.1 knows one line of them (RFC 9113 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs = headers.get_all(header::COOKIE);
    if crumbs.iter().nth(1).is_none() {
        return;
    }
    let mut joined = Vec::new();
    // Behind an empty one the line would end with a space, which its reader drops.
    for crumb in crumbs.iter().filter(|crumb| !crumb.is_empty()) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        proxy::raw_head::HeadFormat,
        settings::identity_headers::{HeaderPart, IdentityHeader},
    };

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static(value))
        };
        headers.iter().map(pair).collect()
    }

    #[track_caller]
    fn check(sent: &[(&'static str, &'static str)], expect: &[(&'static str, &'static str)]) {
        let mut headers = map(sent);
        let alice = Identity::of_token("alice", &["a", "b"], &[], Vec::new());
        let template = |name, piece| IdentityHeader { name: HeaderName::from_static(name), value: vec![piece] };
        let templates = vec![template("x-tenant-id", HeaderPart::Roles), template("x-empty", HeaderPart::Scopes)];
        let identity_headers = IdentityHeaders::new(&templates, &[]);
        let x_token = HeaderName::from_static("x-token");
        let told = ForwardedHeaders {
            client: "203.0.113.7".parse().unwrap(),
            scheme: "https",
            forwarded: None,
            authority: "a.example",
            id: RequestId(0xab),
            identity: Some(&alice),
            identity_headers: &identity_headers,
            token: Some((&x_token, HeaderValue::from_static("a.b.c"))),
            own: &["x-tenant-id", "x-empty", "x-token"].map(HeaderName::from_static),
            certificate: None,
            passing: &["x-user-name", "x_tenant"].map(HeaderName::from_static),
        };
        request(&mut headers, &told);
        let mut all = map(expect);
        all.extend(map(&[
            ("host", "a.example"),
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-host", "a.example"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "000000000000000000000000000000ab"),
            ("x-authenticated-principal", "alice"),
            ("x-tenant-id", "a,b"),
            ("x-token", "a.b.c"),
        ]));
        assert_eq!(headers, all, "{sent:?}");
        let mut headers = map(sent);
        let lines = String::from_utf8(request_by_lines(&mut headers, &told)).unwrap();
        for line in lines.strip_suffix("\r\n").unwrap().split("\r\n") {
            let (name, value) = line.split_once(": ").unwrap();
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            assert!(headers.insert(name, value.parse().unwrap()).is_none(), "{line:?} twice");
        }
        assert_eq!(headers, all, "{sent:?} by lines");
    }

    #[test]
    fn what_no_header_may_hold_is_told_to_nobody() {
        let hostile = Identity::of("alice\r\nX-Own: 1", &[]);
        let bob = Identity::of("bob", &[]);
        let mut told = ForwardedHeaders {
            client: "2001:db8::7".parse().unwrap(),
            scheme: "http",
            forwarded: None,
            authority: "a.example:8080",
            id: RequestId(1),
            identity: Some(&hostile),
            identity_headers: &IdentityHeaders::default(),
            token: None,
            own: &[],
            certificate: None,
            passing: &[],
        };
        let lines = String::from_utf8(request_by_lines(&mut HeaderMap::new(), &told)).unwrap();
        assert!(!lines.contains("alice") && lines.starts_with("x-forwarded-for: 2001:db8::7\r\n"), "{lines}");
        told.identity = Some(&bob);
        let mut headers = HeaderMap::new();
        let lines = String::from_utf8(request_by_lines(&mut headers, &told)).unwrap();
        assert!(lines.ends_with("x-authenticated-principal: bob\r\n"), "{lines}");
        assert_eq!(headers, map(&[("host", "a.example:8080")]));
    }

    #[test]
    fn requests() {
        let passing = [("accept", "*/*"), ("authorization", "Bearer x"), ("x-tenant", "1"), ("accept", "text/html")];
        check(&passing, &passing);
        let passing = [("x-auth-token", "1"), ("x-user-agent", "1"), ("x-user-name", "1"), ("x_tenant", "1")];
        check(&passing, &passing);
        for (name, value) in [
            ("X-Forwarded-For", "10.0.0.1"),
            ("X-Forwarded-Prefix", "/x"),
            ("Forwarded", "for=10.0.0.1"),
            ("X-Real-IP", "10.0.0.1"),
            ("True-Client-IP", "10.0.0.1"),
            ("X-Request-Id", "1"),
            ("X-User", "root"),
            ("X-User-Id", "0"),
            ("X-Role", "admin"),
            ("Proxy", "http://evil.example"),
            ("X_Tenant_Id", "1"),
            ("X.Tenant.Id", "1"),
            ("X_User_Name", "1"),
            ("Client-Cert", ":MIIB:"),
            ("Ssl-Client-Verify", "SUCCESS"),
            ("X-Client-Certificate-Fingerprint", "00"),
            ("X-Forwarded-Client-Cert", "Hash=00"),
            ("X-SSL-Client-S-DN", "CN=root"),
            ("X-Roles", "admin"),
            ("X-Tenant-Id", "other"),
            ("X-Empty", "1"),
            ("X-Token", "1"),
            ("X-Consumer-Username", "root"),
            ("X-Authenticated-Principal", "root"),
            ("X_User", "root"),
            ("X.User", "root"),
            ("x_forwarded_for", "10.0.0.1"),
            ("X-HTTP-Method-Override", "DELETE"),
            ("X-Original-URL", "/admin"),
            ("X-Rewrite-URL", "/admin"),
            ("Host", "b.example"),
            ("Content-Length", "5"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
            ("TE", "trailers"),
            ("Trailer", "x"),
            ("Expect", "100-continue"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Authorization", "Basic x"),
            ("Proxy-Connection", "keep-alive"),
        ] {
            check(&[(name, value), ("accept", "*/*")], &[("accept", "*/*")]);
        }
    }

    #[test]
    fn t03_connection_cannot_name_ours_away() {
        let named = [("connection", "close, X-Forwarded-For,x-authenticated-principal, x-own , host"), ("x-own", "1")];
        check(&named, &[]);
        check(&[("connection", "accept"), ("connection", "x-own"), ("x-own", "1"), ("accept", "*/*")], &[]);
    }

    #[test]
    fn cookies_are_one_line() {
        check(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")], &[("cookie", "a=1; b=2; c=3")]);
        check(&[("cookie", ""), ("cookie", "b=2"), ("cookie", ""), ("cookie", "c=3")], &[("cookie", "b=2; c=3")]);
        check(&[("cookie", "a=1"), ("cookie", "")], &[("cookie", "a=1")]);
    }

    #[test]
    fn f11_trailers() {
        let own = [HeaderName::from_static("x-tenant-id")];
        let passing = [("grpc-status", "0"), ("grpc-message", "ok"), ("x-checksum", "1"), ("server-timing", "a;dur=1")];
        assert_eq!(trailers(map(&passing), &own), Some(map(&passing)));
        assert_eq!(trailers(map(&[("x-tenant-id", "1")]), &own), None);
        assert!(trailers(map(&[("x-tenant-id", "1")]), &[]).is_some());
        for name in [
            "content-length",
            "content-type",
            "content-encoding",
            "transfer-encoding",
            "trailer",
            "te",
            "host",
            "connection",
            "keep-alive",
            "upgrade",
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "x-forwarded-for",
            "x_forwarded_for",
            "forwarded",
            "x-authenticated-principal",
            "x-client-certificate-serial",
            "x-request-id",
            "x-http-method-override",
            "location",
            "cache-control",
            "if-match",
            "range",
            "expect",
            "accept-encoding",
        ] {
            assert_eq!(trailers(map(&[(name, "1")]), &own), None, "{name}");
            assert_eq!(trailers(map(&[(name, "1"), ("x-own", "1")]), &own), Some(map(&[("x-own", "1")])), "{name}");
        }
        for (te, expect) in [("trailers", true), ("gzip, Trailers", true), ("trailers;q=1", false), ("", false)] {
            assert_eq!(takes_trailers(&map(&[("te", te)])), expect, "{te:?}");
        }
    }

    #[test]
    fn what_belongs_to_one_connection_never_passes_by_its_line() {
        for name in &HOP_BY_HOP {
            let line = |name, value| httparse::Header { name, value };
            let lines = [line("content-length", &b"5"[..]), line(name.as_str(), &b"x"[..])];
            let passed = RawHead::of((http::StatusCode::OK, None), &lines, HeadFormat::Lines, b"");
            let out = passed.map(|passed| String::from_utf8(passed.out.clone()).unwrap());
            assert!(!out.is_some_and(|out| out.contains(name.as_str())), "{name}");
        }
    }

    #[test]
    fn responses() {
        let mut headers = map(&[
            ("content-type", "text/plain"),
            ("content-length", "5"),
            ("connection", "x-own"),
            ("x-own", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("strict-transport-security", "max-age=1"),
            ("x-request-id", "theirs"),
        ]);
        let id = HeaderValue::from_static("00000000000000000000000000000001");
        response(&mut headers, id.clone());
        let plain = ("content-type", "text/plain");
        let framed = [plain, ("content-length", "5"), ("strict-transport-security", "max-age=1")];
        let ours = [("x-request-id", "00000000000000000000000000000001")];
        assert_eq!(headers, map(&[&framed[..], &ours].concat()));
        interim(&mut headers, id);
        assert_eq!(headers, map(&[&[plain][..], &ours].concat()));
    }
}
