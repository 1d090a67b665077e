use http::Request;

use super::*;

/// Reads a request of the given version, target and headers as it would come over TLS: `authority path?query`.
#[track_caller]
fn check(version: Version, target: &str, headers: &[(&str, &str)], expect: Result<&str, &str>) {
    let mut request = Request::builder().version(version).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    let read = Target::read(&head, "https");
    let read = read.map(|target| format!("{} {} {}", target.authority(), target.host(), target.origin()));
    let read = read.as_deref().map_err(|refusal| &*refusal.detail);
    assert_eq!(read, expect, "{version:?} {target} {headers:?}");
}

#[track_caller]
fn path(path: &str, expect: Result<&str, &str>) {
    let read = canonical_path(path).map(|changed| changed.unwrap_or_else(|| path.to_owned()));
    assert_eq!(read.as_deref().map_err(|refusal| &*refusal.detail), expect, "{path}");
}

#[test]
fn p01_one_path() {
    path("/", Ok("/"));
    path("/a/b", Ok("/a/b"));
    path("/a/b/", Ok("/a/b/"));
    path("/a.b/..c/...", Ok("/a.b/..c/..."));
    path("/%61dmin", Ok("/admin"));
    path("/a%2Db%7e", Ok("/a-b~"));
    path("/a%20b", Ok("/a%20b"));
    path("/a%3fb%5b", Ok("/a%3Fb%5B"));
    path("/%c3%a9", Ok("/%C3%A9"));
    path("/%e2%82%ac/x", Ok("/%E2%82%AC/x"));
    path("/Admin", Ok("/Admin"));
    path("/a:b@c!$&'()*+,=", Ok("/a:b@c!$&'()*+,="));
    for dots in ["/public/../admin", "/./a", "/a/.", "/a/..", "/%2e%2e/a", "/a/%2E", "/.%2e/a", "/%2e./"] {
        path(dots, Err("dot segment"));
    }
    for empty in ["//", "//admin", "/a//b", "/a//"] {
        path(empty, Err("empty segment"));
    }
    path("*", Err("path does not begin with /"));
    path("", Err("path does not begin with /"));
}

/// RFC 3986 3.3: what a segment may hold as it is. Each character and both cases of its escape are one spelling.
#[test]
fn p01_one_spelling_of_a_character() {
    for byte in 0x21..0x7f_u8 {
        let raw = char::from(byte);
        let stands = raw.is_ascii_alphanumeric() || "-._~!$&'()*+,=:@".contains(raw);
        for escape in [format!("%{byte:02x}"), format!("%{byte:02X}")] {
            let asked = format!("/v1/x{escape}y");
            match raw {
                '/' | '\\' => path(&asked, Err("encoded separator")),
                _ if stands => {
                    path(&asked, Ok(&format!("/v1/x{raw}y")));
                    path(&format!("/v1/x{raw}y"), Ok(&format!("/v1/x{raw}y")));
                }
                _ => path(&asked, Ok(&format!("/v1/x%{byte:02X}y"))),
            }
        }
    }
}

#[test]
fn p02_separators() {
    for encoded in ["/a%2fb", "/a%2Fb", "/a%5cb", "/%5C"] {
        path(encoded, Err("encoded separator"));
    }
    path("/a\\b", Err("character that no path may hold"));
}

#[test]
fn p03_path_parameters() {
    for parameter in ["/admin;x=1", "/..;/admin", "/.;/admin", "/a;"] {
        path(parameter, Err("path parameter"));
    }
    path("/a%3bb", Ok("/a%3Bb"));
}

#[test]
fn p04_encodings() {
    for twice in ["/%252e%252e/", "/%25%32e", "/%252%65", "/%25%32%65", "/%25%34%31dmin", "/a/%25%61%66"] {
        path(twice, Err("encoded twice"));
    }
    path("/%252", Ok("/%252"));
    path("/%25%25", Ok("/%25%25"));
    path("/100%25", Ok("/100%25"));
    path("/%c0%ae", Err("path is not UTF-8"));
    path("/%c3/%a9", Err("path is not UTF-8"));
    path("/%ff", Err("path is not UTF-8"));
    path("/%00", Err("encoded control character"));
    path("/%0d%0a", Err("encoded control character"));
    path("/%7f", Err("encoded control character"));
    for broken in ["/%zz", "/%", "/%4", "/a%+1"] {
        path(broken, Err("% without two hexadecimal digits"));
    }
    for raw in ["/\u{e9}", "/a\"b", "/<a>", "/{a}", "/a|b", "/[a]", "/a^b", "/a`b"] {
        path(raw, Err("character that no path may hold"));
    }
}

#[test]
fn queries() {
    let host = [("host", "a.example")];
    check(Version::HTTP_11, "/a?b=%41&c[]=%20", &host, Ok("a.example a.example /a?b=%41&c[]=%20"));
    check(Version::HTTP_11, "/%61?", &host, Ok("a.example a.example /a?"));
    check(Version::HTTP_11, "/a?b=%zz", &host, Err("% without two hexadecimal digits"));
    check(Version::HTTP_11, "/a?b=%00", &host, Err("encoded NUL"));
    let long = format!("/{}", "a".repeat(MAX_LENGTH));
    check(Version::HTTP_11, &long, &host, Err("target too long"));
}

#[test]
fn f18_one_host() {
    use Version as V;
    check(V::HTTP_11, "/a", &[("host", "API.Example:8443")], Ok("api.example:8443 api.example /a"));
    check(V::HTTP_11, "/a", &[("host", "192.0.2.1")], Ok("192.0.2.1 192.0.2.1 /a"));
    check(V::HTTP_11, "/a", &[("host", "[2001:db8::1]:443")], Ok("[2001:db8::1]:443 [2001:db8::1] /a"));
    check(V::HTTP_11, "https://A.example/a", &[("host", "a.example")], Ok("a.example a.example /a"));
    check(V::HTTP_2, "https://A.example/a", &[], Ok("a.example a.example /a"));
    check(V::HTTP_2, "https://a.example/a", &[("host", "a.example")], Ok("a.example a.example /a"));
    check(V::HTTP_11, "/a", &[], Err("no Host"));
    check(V::HTTP_10, "/a", &[], Err("no Host"));
    check(V::HTTP_11, "https://a.example/a", &[], Err("no Host"));
    check(V::HTTP_11, "/a", &[("host", "a.example"), ("host", "a.example")], Err("more than one Host"));
    let differ = Err("Host and the target's authority differ");
    check(V::HTTP_11, "https://a.example/a", &[("host", "b.example")], differ);
    check(V::HTTP_2, "https://a.example/a", &[("host", "b.example")], differ);
    check(V::HTTP_2, "https://a.example/a", &[("host", "a.example:443")], differ);
    check(V::HTTP_11, "http://a.example/a", &[("host", "a.example")], Err("scheme does not match the connection"));
    for host in [
        "",
        "user@a.example",
        "a.example,b.example",
        "a example",
        "a.example/x",
        "a.example:",
        "a.example:0",
        "a.example:080",
        "a.example:65536",
        "a.example:+80",
        "a.example:80:80",
        "a..example",
        ".example",
        "a.example.",
        "[::1",
        "[::1]x",
        "[::1%25eth0]",
        "::1",
        "a\texample",
        "a#b",
        "a?b",
        "%61.example",
    ] {
        check(V::HTTP_11, "/a", &[("host", host)], Err("invalid Host"));
    }
}

#[test]
fn f13_methods_never_served() {
    for method in [Method::CONNECT, Method::TRACE] {
        let (head, ()) = Request::builder().method(method).uri("/").header("host", "a").body(()).unwrap().into_parts();
        assert_eq!(Target::read(&head, "https").unwrap_err().reject, Reject::BadRequest);
    }
}
