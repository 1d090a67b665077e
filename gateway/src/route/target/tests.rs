use http::{Request, Version};

use super::*;
use crate::web::path::{canonical_path, canonical_path_by, escape_query};

const LIMIT: usize = 8 * 1_024;
const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 8_080);

/// Reads a request of the given version, target and headers as it would come over TLS: `authority path?query`.
#[track_caller]
fn check(version: Version, target: &str, headers: &[(&str, &str)], expect: Result<&str, &str>) {
    let mut request = Request::builder().version(version).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    let read = Target::read(&head, LOCAL, LIMIT);
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
            // What browsers leave as it is.
            if "[]^|".contains(raw) {
                path(&format!("/v1/x{raw}y"), Ok(&format!("/v1/x%{byte:02X}y")));
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
    for parameter in ["/admin;x=1", "/a;", "/a;b%2Fc"] {
        let expect = if parameter.contains("%2F") { "encoded separator" } else { "path parameter" };
        path(parameter, Err(expect));
    }
    for alone in ["/;x", "/a/;", "/;x/admin", "/a//;b"] {
        path(alone, Err("path parameter without a segment"));
    }
    for dots in ["/..;/admin", "/.;/admin", "/a/..;x=1", "/%2e%2e;/a", "/..%3bx/admin", "/a/%2e%3B", "/%2E%2E%3b/a"] {
        path(dots, Err("dot segment"));
    }
    for name in ["/...%3B", "/..a", "/.a%3B", "/%3B..", "/..%2520"] {
        let expect = if name.contains("%25") { Err("encoded twice") } else { Ok(name) };
        path(name, expect);
    }
    path("/a%3bb", Ok("/a%3Bb"));
}

/// What only some routes take: the rules that it needs, what is forwarded, and by which path its route is found.
#[track_caller]
fn odd(asked: &str, rules: [bool; 3], forwarded: &str, matched: &str) {
    let request = Request::builder().uri(asked).header("host", "a.example").body(()).unwrap();
    let target = Target::read(&request.into_parts().0, LOCAL, LIMIT).unwrap();
    let [encoded_slashes, parameters, empty_segments] = rules;
    assert_eq!(target.odd(), PathRules { encoded_slashes, parameters, empty_segments }, "{asked}");
    assert_eq!((target.path(), target.matched()), (forwarded, matched), "{asked}");
    assert!(canonical_path(asked).is_err());
    let canonical = canonical_path_by(asked, target.odd()).unwrap();
    assert_eq!(canonical.as_deref().unwrap_or(asked), forwarded, "{asked}");
}

#[test]
fn p01_p02_p03_what_only_some_routes_take() {
    odd("/a%2fb", [true, false, false], "/a%2Fb", "/a%2Fb");
    odd("/lists/https%3A%2F%2fx", [true, false, false], "/lists/https:%2F%2Fx", "/lists/https:%2F%2Fx");
    odd("/a;x=1/b;y", [false, true, false], "/a;x=1/b;y", "/a/b");
    odd("/a%3Bb;c", [false, true, false], "/a%3Bb;c", "/a%3Bb");
    odd("/a/x;y/", [false, true, false], "/a/x;y/", "/a/x/");
    odd("//admin", [false, false, true], "//admin", "/admin");
    odd("/a//b///", [false, false, true], "/a//b///", "/a/b/");
    odd("//", [false, false, true], "//", "/");
    odd("//x;/admin", [false, true, true], "//x;/admin", "/x/admin");
    odd("/%61//b;c%2Fd", [true, true, true], "/a//b;c%2Fd", "/a/b");
    // Whatever a route takes, nothing climbs and nothing is decoded twice.
    for rules in 0..8 {
        let bit = |bit: u8| rules & bit != 0;
        let rules = PathRules { encoded_slashes: bit(1), parameters: bit(2), empty_segments: bit(4) };
        for wrong in [
            "/a%2f..%2fb",
            "/..%2Fa",
            "/a%2f.",
            "/%2e%2e%2fa",
            "/a%2F%2e",
            "/..;x/a",
            "/a%2F..%3Bx",
            "/a/;x",
            "/;x/a",
            "//;/a",
            "/a;x%2F..",
            "/a%2F..;x",
            "//../a",
            "/a%5cb",
            "/a%252fb",
            "/a%00",
            "/a%c0%af",
        ] {
            assert!(canonical_path_by(wrong, rules).is_err(), "{wrong} {rules:?}");
        }
    }
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
    for raw in ["/\u{e9}", "/a\"b", "/<a>", "/{a}", "/a`b", "/[\"]"] {
        path(raw, Err("character that no path may hold"));
    }
    path("/a/[id]/b|c^d", Ok("/a/%5Bid%5D/b%7Cc%5Ed"));
    path("/%c3[%a9", Err("path is not UTF-8"));
    path("/[]/../a", Err("dot segment"));
    path("/%25[5b", Ok("/%25%5B5b"));
}

#[test]
fn queries() {
    let host = [("host", "a.example")];
    check(Version::HTTP_11, "/a?b=%41&c[]=%20", &host, Ok("a.example a.example /a?b=%41&c[]=%20"));
    check(Version::HTTP_11, "/%61?", &host, Ok("a.example a.example /a?"));
    check(Version::HTTP_11, "/a?b=%zz&c=100%&d=%", &host, Ok("a.example a.example /a?b=%zz&c=100%&d=%"));
    check(Version::HTTP_11, "/a?b=%%00", &host, Err("encoded NUL"));
    check(Version::HTTP_11, "/%zz?b", &host, Err("% without two hexadecimal digits"));
    check(Version::HTTP_11, "/a?b=%00", &host, Err("encoded NUL"));
    // What may not stand there, and is sent by hand.
    for (asked, expect) in [
        ("/a?b=c", None),
        ("/\"a", None),
        ("/a?", None),
        ("/a?\"", Some("/a?%22")),
        ("/<a?<b>=\"?\"", Some("/<a?%3Cb%3E=%22?%22")),
    ] {
        let escaped = escape_query(asked.as_bytes()).map(|escaped| String::from_utf8(escaped).unwrap());
        assert_eq!(escaped.as_deref(), expect, "{asked}");
    }
    let long = format!("/{}", "a".repeat(LIMIT));
    check(Version::HTTP_11, &long, &host, Err("target too long"));
}

/// RFC 9112 3.2, RFC 9113 8.3.1: each form of target has one reading, or none.
#[test]
fn f18_f19_forms_of_targets() {
    let host = [("host", "a.example")];
    let read = |text| Ok(text);
    for version in [Version::HTTP_11, Version::HTTP_2] {
        check(version, "http://a.example?x=1", &host, read("a.example a.example /?x=1"));
        check(version, "http://a.example?", &host, read("a.example a.example /?"));
        check(version, "http://a.example", &host, read("a.example a.example /"));
        check(version, "http://a.example/?x", &host, read("a.example a.example /?x"));
        check(version, "http://a.example?x=%zz", &host, read("a.example a.example /?x=%zz"));
        check(version, "http://a.example?x=%00", &host, Err("encoded NUL"));
        // Only some routes take that: the others refuse it.
        check(version, "http://a.example//b", &host, read("a.example a.example //b"));
    }
    check(Version::HTTP_11, "*", &host, Err("* with another method than OPTIONS"));
    check(Version::HTTP_11, "a.example:80", &host, Err("no path"));
    check(Version::HTTP_11, "a.example", &host, Err("no path"));
    let options = Request::builder().method("OPTIONS").uri("*").header("host", "a.example").body(()).unwrap();
    assert_eq!(Target::read(&options.into_parts().0, LOCAL, LIMIT).unwrap().origin(), "*");
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
    for (named, host) in [
        ("https://a.example/a", "A.Example."),
        ("https://a.example./a", "a.example:443"),
        ("https://a.example/a", "a.example:"),
        ("https://a.example:/a", "a.example:0443"),
        ("http://a.example/a", "a.example:80"),
        // An empty line names no other host.
        ("https://a.example/a", ""),
    ] {
        check(V::HTTP_11, named, &[("host", host)], Ok("a.example a.example /a"));
        check(V::HTTP_2, named, &[("host", host)], Ok("a.example a.example /a"));
    }
    check(V::HTTP_11, "/a", &[], Err("no Host"));
    check(V::HTTP_2, "/a", &[], Err("no Host"));
    check(V::HTTP_11, "https://a.example/a", &[], Err("no Host"));
    check(V::HTTP_11, "/a", &[("host", "a.example"), ("host", "a.example")], Err("more than one Host"));
    let differ = Err("Host and the target's authority differ");
    for (named, host) in [
        ("https://a.example/a", "b.example"),
        ("https://a.example/a", "a.example:80"),
        ("http://a.example/a", "a.example:443"),
        ("https://a.example:8443/a", "a.example"),
    ] {
        check(V::HTTP_11, named, &[("host", host)], differ);
        check(V::HTTP_2, named, &[("host", host)], differ);
    }
    // Which host is meant, HTTP/1.0 need not say.
    check(V::HTTP_10, "/a", &[], Ok("192.0.2.1:8080 192.0.2.1 /a"));
    check(V::HTTP_10, "/a", &[("host", "")], Ok("192.0.2.1:8080 192.0.2.1 /a"));
    check(V::HTTP_10, "http://a.example/a", &[], Ok("a.example a.example /a"));
    check(V::HTTP_10, "/a", &[("host", "a.example")], Ok("a.example a.example /a"));
    // Another hop's scheme says nothing of the host.
    check(V::HTTP_11, "http://a.example/a", &[("host", "a.example")], Ok("a.example a.example /a"));
    check(V::HTTP_2, "http://a.example/a", &[], Ok("a.example a.example /a"));
    check(V::HTTP_11, "ftp://a.example/a", &[("host", "a.example")], Err("scheme that is not served"));
    for (host, one) in [
        ("api.test.", "api.test"),
        ("API.test.:8443", "api.test:8443"),
        ("api.test:", "api.test"),
        ("api.test:0080", "api.test:80"),
        ("[2001:DB8:0::0001]", "[2001:db8::1]"),
        ("[2001:db8:0:0:0:0:0:1]:443", "[2001:db8::1]:443"),
        ("192.0.2.1.", "192.0.2.1"),
        ("a_b.example", "a_b.example"),
    ] {
        let name = one.strip_suffix(":8443").or(one.strip_suffix(":80")).or(one.strip_suffix(":443")).unwrap_or(one);
        check(V::HTTP_11, "/a", &[("host", host)], Ok(&format!("{one} {name} /a")));
    }
    check(V::HTTP_11, "/a", &[("host", "")], Err("no Host"));
    check(V::HTTP_2, "https://u@a.example/a", &[], Err("invalid Host"));
    check(V::HTTP_11, "https://u:p@a.example/a", &[("host", "a.example")], Err("invalid Host"));
    for host in [
        "user@a.example",
        "a.example,b.example",
        "a example",
        "a.example/x",
        "a.example:0",
        "a.example:00",
        "a.example:65536",
        "a.example:+80",
        "a.example:80:80",
        "a..example",
        ".example",
        "a.example..",
        ".",
        ".:80",
        ":80",
        "[::1",
        "[::1]x",
        "[::1].",
        "[v1.x]",
        "[]",
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
        assert_eq!(Target::read(&head, LOCAL, LIMIT).unwrap_err().reject, Reject::BadRequest);
    }
}
