//! Tokens of WebSocket handshakes. A browser cannot set headers on them, so the token comes among the subprotocols or in a
//! cookie. Each is read only if `route.websocket_token` says so, and never from the query.
//!
//! *Invariant:* exactly one token is looked at. A request that carries two is refused (J15), a cookie counts only for a
//! page whose `Origin` is allowed, and no upstream and no log sees the protocol that is a token.

use std::borrow::Cow;

use data_encoding::BASE64URL_NOPAD;
use http::{
    HeaderMap, HeaderValue, Method, Version,
    header::{self, SEC_WEBSOCKET_PROTOCOL},
    request::Parts,
};

use super::upgrade::{connects, one};
use crate::{
    refusal::{BearerError, Refusal, Reject, TokenFault},
    settings::route::{TokenSource, Upgrade},
    web::header_values,
};

/// The prefix of a plain token: a JWT has only characters that a subprotocol may have.
const PLAIN: &[u8] = b"authorization.bearer.";

/// The prefix of a token in base64url without padding, as Kubernetes uses it.
const ENCODED: &[u8] = b"base64url.bearer.authorization.k8s.io.";

/// The token of a WebSocket handshake. `None`: it has none, or the request is no handshake.
///
/// # Errors
/// [`Reject::BadRequest`]: there are several tokens, or the token is the only subprotocol. [`Reject::ForeignOrigin`]: a
/// cookie on behalf of a page of another origin. [`Reject::InvalidToken`]: it cannot be decoded.
pub(in crate::proxy) fn find<'h>(head: &'h Parts, allowed: &Upgrade) -> Result<Option<Cow<'h, [u8]>>, Refusal> {
    if allowed.tokens.is_empty() || !is_handshake(head) {
        return Ok(None);
    }
    let mut found = None;
    for source in &allowed.tokens {
        let token = match source {
            TokenSource::Cookie(name) => of_cookie(&head.headers, name, allowed)?,
            TokenSource::Protocol => of_protocol(&head.headers)?,
        };
        if token.is_some() && found.is_some() {
            return Err(Refusal::ambiguous("a token in two places"));
        }
        found = found.or(token);
    }
    Ok(found)
}

/// Removes tokens from the subprotocols that the upstream is offered.
pub(in crate::proxy) fn hide(headers: &mut HeaderMap, allowed: &Upgrade) {
    let is_hidden = allowed.tokens.contains(&TokenSource::Protocol) && headers.contains_key(SEC_WEBSOCKET_PROTOCOL);
    if !is_hidden || !protocols(headers).any(is_token) {
        return;
    }
    let others: Vec<&[u8]> = protocols(headers).filter(|protocol| !is_token(protocol)).collect();
    match HeaderValue::from_bytes(&others.join(&b", "[..])) {
        Ok(others) if !others.is_empty() => headers.insert(SEC_WEBSOCKET_PROTOCOL, others),
        _ => headers.remove(SEC_WEBSOCKET_PROTOCOL),
    };
}

fn is_handshake(head: &Parts) -> bool {
    let is_websocket = |protocol: &HeaderValue| protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
    head.version == Version::HTTP_11
        && head.method == Method::GET
        && connects(&head.headers)
        && one(&head.headers, &header::UPGRADE).is_some_and(is_websocket)
}

fn of_protocol(headers: &HeaderMap) -> Result<Option<Cow<'_, [u8]>>, Refusal> {
    let mut tokens = protocols(headers).filter(|protocol| is_token(protocol));
    let Some(protocol) = tokens.next() else { return Ok(None) };
    if tokens.next().is_some() {
        return Err(Refusal::ambiguous("more than one token among the protocols"));
    }
    // A browser gives up if none of its subprotocols is chosen, and the token never is.
    if protocols(headers).all(is_token) {
        return Err(Refusal::new(Reject::BadRequest, "the token is the only protocol that is offered"));
    }
    if begins(protocol, PLAIN) {
        return Ok(protocol.get(PLAIN.len()..).map(Cow::Borrowed));
    }
    let token = BASE64URL_NOPAD.decode(protocol.get(ENCODED.len()..).unwrap_or_default());
    // A library that pads is no attacker: `=` may not stand in a subprotocol (RFC 6455 4.1), so it stays refused.
    let malformed = || Refusal::token(TokenFault::Malformed, "the token is not in base64url without padding");
    let token = token.map_err(|_no_base64| malformed().with(BearerError::InvalidToken))?;
    Ok(Some(Cow::Owned(token)))
}

fn of_cookie<'h>(headers: &'h HeaderMap, name: &str, allowed: &Upgrade) -> Result<Option<Cow<'h, [u8]>>, Refusal> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b';')).map(<[u8]>::trim_ascii);
    let mut values = pairs.filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::ambiguous("the cookie of the token is there twice"));
    }
    // A browser sends the cookie for any page: only `Origin` tells whose page asks.
    let origin = one(headers, &header::ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default();
    if !allowed.origins.contains(origin) {
        return Err(Refusal::new(Reject::ForeignOrigin, "a token in a cookie, and no Origin that is allowed"));
    }
    Ok(Some(Cow::Borrowed(value)))
}

/// The subprotocols that are offered, without empty ones.
fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    header_values::members(headers, SEC_WEBSOCKET_PROTOCOL).filter(|protocol| !protocol.is_empty())
}

fn is_token(protocol: &[u8]) -> bool {
    begins(protocol, PLAIN) || begins(protocol, ENCODED)
}

/// Ignores case: a token must not be logged somewhere because its prefix was written in capitals.
fn begins(protocol: &[u8], start: &[u8]) -> bool {
    protocol.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::{settings::cors::Origins, signal::Signal};

    const ORIGIN: (&str, &str) = ("origin", "https://app.example");

    fn allowed() -> Upgrade {
        Upgrade {
            protocols: vec!["websocket".to_owned()],
            origins: Origins::new(vec!["https://app.example".to_owned()]),
            outlives_token: false,
            tokens: vec![TokenSource::Protocol, TokenSource::Cookie("session".to_owned())],
        }
    }

    /// The token of a handshake with these headers, or why it is refused, and the protocols that the upstream sees.
    #[track_caller]
    fn check(more: &[(&str, &str)], expect: Result<Option<&str>, &str>, offered: &[&str]) {
        let mut request = Request::builder().header("upgrade", "websocket").header("connection", "upgrade");
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let found = find(&head, &allowed());
        let text = |token: Cow<'_, [u8]>| String::from_utf8(token.into_owned()).unwrap();
        let found = found.map(|token| token.map(text)).map_err(|refusal| refusal.detail.into_owned());
        let found = found.as_ref().map(Option::as_deref).map_err(String::as_str);
        assert_eq!(found, expect, "{more:?}");
        hide(&mut head.headers, &allowed());
        let lines: Vec<_> = head.headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().collect();
        assert_eq!(lines, offered, "{more:?}");
    }

    #[test]
    fn j15_where_the_token_of_a_websocket_is() {
        const P: &str = "sec-websocket-protocol";
        const A: &str = "authorization.bearer.a.b.c";
        const K: &str = "base64url.bearer.authorization.k8s.io.YS5iLmM";
        let (two, alone) =
            ("more than one token among the protocols", "the token is the only protocol that is offered");
        check(&[], Ok(None), &[]);
        check(&[(P, "chat.v1, chat.v2")], Ok(None), &["chat.v1, chat.v2"]);
        check(&[(P, "chat.v1, authorization.bearer.a.b.c")], Ok(Some("a.b.c")), &["chat.v1"]);
        check(&[(P, A), (P, "chat.v1"), (P, " chat.v2 ,")], Ok(Some("a.b.c")), &["chat.v1, chat.v2"]);
        check(&[(P, K), (P, "chat.v1")], Ok(Some("a.b.c")), &["chat.v1"]);
        check(&[(P, "x, authorization.bearer.")], Ok(Some("")), &["x"]);
        let padded = [(P, "x, base64url.bearer.authorization.k8s.io.YS5iLmM=")];
        check(&padded, Err("the token is not in base64url without padding"), &["x"]);
        check(&[(P, "x, Authorization.Bearer.a.b.c")], Ok(Some("a.b.c")), &["x"]);
        check(&[(P, A)], Err(alone), &[]);
        check(&[(P, A), (P, " , ")], Err(alone), &[]);
        check(&[(P, A), (P, K), (P, "x")], Err(two), &["x"]);
        check(&[(P, A), (P, A), (P, "x")], Err(two), &["x"]);
        let (twice, foreign) =
            ("the cookie of the token is there twice", "a token in a cookie, and no Origin that is allowed");
        check(&[("cookie", "a=1; session=a.b.c; session2=x"), ORIGIN], Ok(Some("a.b.c")), &[]);
        check(&[("cookie", "xsession=a.b.c; Session=x; session"), ORIGIN], Ok(None), &[]);
        check(&[("cookie", "session=a; b=c;session=d"), ORIGIN], Err(twice), &[]);
        check(&[("cookie", "session=a"), ("cookie", "session=d"), ORIGIN], Err(twice), &[]);
        check(&[("cookie", "session=a.b.c")], Err(foreign), &[]);
        check(&[("cookie", "session=a.b.c"), ("origin", "https://evil.example")], Err(foreign), &[]);
        check(&[("cookie", "session=a.b.c"), ("origin", "null")], Err(foreign), &[]);
        check(&[("cookie", "session=a.b.c"), ORIGIN, ORIGIN], Err(foreign), &[]);
        check(&[("cookie", "session=a.b.c"), ORIGIN, (P, A), (P, "x")], Err("a token in two places"), &["x"]);
        // What is no handshake has none, and still no upstream sees it.
        check(&[("upgrade", "h2c"), (P, A), (P, "x"), ("cookie", "session=a")], Ok(None), &["x"]);
        let (head, ()) = Request::builder().header(P, A).header("cookie", "session=a").body(()).unwrap().into_parts();
        assert_eq!(find(&head, &allowed()), Ok(None));
    }

    /// Nobody forges a token by padding it: rules against forgers do not count it.
    #[test]
    fn what_cannot_be_decoded_is_malformed() {
        for encoded in ["YS5iLmM=", "YS5iL*M", "Y", "YS5iLmN+"] {
            let protocols = format!("x, base64url.bearer.authorization.k8s.io.{encoded}");
            let request = Request::builder().header("upgrade", "websocket").header("connection", "upgrade");
            let (head, ()) = request.header(SEC_WEBSOCKET_PROTOCOL, protocols).body(()).unwrap().into_parts();
            let signal = find(&head, &allowed()).unwrap_err().row().signal;
            assert_eq!(signal, Some(Signal::MalformedToken), "{encoded}");
        }
    }

    #[test]
    fn nothing_is_looked_at_that_is_not_named() {
        let none = Upgrade { tokens: Vec::new(), ..allowed() };
        let request = Request::builder().header("upgrade", "websocket").header("connection", "upgrade");
        let request = request.header("sec-websocket-protocol", "x, authorization.bearer.a.b.c");
        let (mut head, ()) = request.header("cookie", "session=a").body(()).unwrap().into_parts();
        assert_eq!(find(&head, &none), Ok(None));
        hide(&mut head.headers, &none);
        assert_eq!(head.headers[SEC_WEBSOCKET_PROTOCOL], "x, authorization.bearer.a.b.c");
    }
}
