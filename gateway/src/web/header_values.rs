//! Reads the values of headers that are lists, wherever they stand (RFC 9110 5.6.1): the one place that takes them apart.

use std::time::Duration;

use http::{
    HeaderMap,
    header::{self, AsHeaderName},
};

/// The members of a list, which may be spread over several lines, without the blanks around them.
pub fn members(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
}

/// Whether `member` is among the members of a list, in upper or lower case.
pub fn has_member(headers: &HeaderMap, name: impl AsHeaderName, member: &[u8]) -> bool {
    members(headers, name).any(|known| known.eq_ignore_ascii_case(member))
}

/// What comes after a scheme, in any case, and at least one space (RFC 9110 11.4, RFC 6750 2.1). `None`: it is another
/// scheme.
pub fn credentials<'a>(line: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(scheme.len())?;
    let mut credentials = rest.strip_prefix(b" ").filter(|_| start.eq_ignore_ascii_case(scheme))?;
    while let Some(rest) = credentials.strip_prefix(b" ") {
        credentials = rest;
    }
    Some(credentials)
}

/// How long a server keeps a connection on which nothing passes, by its `Keep-Alive: timeout=5, max=100` (RFC 2068 19.7.1.1).
pub fn keeps_for(line: &[u8]) -> Option<Duration> {
    let parameters = line.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let mut digits = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_at_checked(b"timeout=".len())?;
        name.eq_ignore_ascii_case(b"timeout=").then_some(value)
    });
    let seconds: u32 = std::str::from_utf8(digits.next()?).ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

/// Headers of the connection itself: no upstream gets them, whether `Connection` names them or not.
const OF_CONNECTIONS: [&str; 6] = ["connection", "http2-settings", "keep-alive", "proxy-connection", "te", "upgrade"];

/// Whether `Connection` names a header, which is removed then (RFC 9110 7.6.1): the upstream gets the request without it.
pub fn is_nominated(headers: &HeaderMap, name: &str) -> bool {
    headers.contains_key(header::CONNECTION)
        && has_member(headers, header::CONNECTION, name.as_bytes())
        && !OF_CONNECTIONS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(lines: &[&'static str], expect: &[&str]) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::CONNECTION, HeaderValue::from_static(line));
        }
        let found: Vec<_> = members(&headers, header::CONNECTION).map(|it| std::str::from_utf8(it).unwrap()).collect();
        assert_eq!(found, expect, "{lines:?}");
        for member in expect {
            assert!(has_member(&headers, &header::CONNECTION, member.to_ascii_uppercase().as_bytes()), "{lines:?}");
        }
        assert!(!has_member(&headers, header::CONNECTION, b"other"), "{lines:?}");
    }

    #[test]
    fn what_comes_after_a_scheme() {
        for (line, expect) in [
            ("Basic eDp5", Some("eDp5")),
            ("basic   eDp5", Some("eDp5")),
            ("BASIC \teDp5", Some("\teDp5")),
            ("Basic ", Some("")),
            ("Basic", None),
            ("BasiceDp5", None),
            ("Basic\teDp5", None),
            (" Basic eDp5", None),
            ("Basis eDp5", None),
            ("", None),
        ] {
            let found = credentials(line.as_bytes(), b"Basic");
            assert_eq!(found, expect.map(str::as_bytes), "{line:?}");
        }
    }

    #[test]
    fn how_long_a_server_keeps_a_connection() {
        for (line, expect) in [
            ("timeout=5", Some(5)),
            ("timeout=5, max=100", Some(5)),
            ("max=100 , Timeout=65", Some(65)),
            ("timeout=0", Some(0)),
            ("timeout=", None),
            ("timeout=-1", None),
            ("timeout=5s", None),
            ("timeout=99999999999", None),
            ("max=100", None),
            ("115", None),
            ("", None),
        ] {
            assert_eq!(keeps_for(line.as_bytes()).map(|kept| kept.as_secs()), expect, "{line:?}");
        }
    }

    #[test]
    fn connection_removes_what_it_names_and_is_no_header_of_its_own() {
        for (line, name, expect) in [
            ("close, X-Mode", "x-mode", true),
            ("close, x-mode", "X-Mode", true),
            ("close", "x-mode", false),
            ("upgrade", "upgrade", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONNECTION, HeaderValue::from_static(line));
            assert_eq!(is_nominated(&headers, name), expect, "{line} {name}");
        }
    }

    #[test]
    fn lists_over_several_lines() {
        check(&[], &[]);
        check(&["close"], &["close"]);
        check(&["close, keep-alive"], &["close", "keep-alive"]);
        check(&[" a ,\tb", "c"], &["a", "b", "c"]);
        check(&[",a,,", ""], &["", "a", "", "", ""]);
    }
}
