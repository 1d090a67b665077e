//! Wrong rewrites, redirects, answers, headers and deadlines of routes, each with what must be said about it.

use super::super::{load, spoiled, wrong};

const UPSTREAM: &str = "upstream = \"items\"\nschema = \"item.schema.json\"\n";

/// BASE with this line on its route, as line 45.
#[track_caller]
fn line(line: &str, at: &str, message: &str, hint: &str) {
    wrong(UPSTREAM, &format!("{UPSTREAM}{line}\n"), 46, &format!("route[0].{at}"), message, hint);
}

/// BASE with this line on its route instead of an upstream, as line 44.
#[track_caller]
fn instead(line: &str, at: &str, message: &str, hint: &str) {
    wrong(UPSTREAM, &format!("{line}\n"), 44, &format!("route[0].{at}"), message, hint);
}

#[test]
fn rewrites() {
    line("strip_prefix = \"/item\"", "strip_prefix", "not what \"/items/{id}\" begins with", "whole segments");
    line("strip_prefix = \"/items/\"", "strip_prefix", "ends with a slash", "\"/api\"");
    line("strip_prefix = \"items\"", "strip_prefix", "no path", "literal beginning");
    line("strip_prefix = 1", "strip_prefix", "found an integer", "quotation");
    line("rewrite = \"/v2/{name}\"", "rewrite", "names {name}, which `path` has not", "{id}; {path} is all of it");
    line("rewrite = \"/v2/{id\"", "rewrite", "without its `}`", "{name}");
    line("rewrite = \"v2/{id}\"", "rewrite", "makes no path", "from its start");
    line("rewrite = \"/../{id}\"", "rewrite", "dot segment", "as a client would ask");
    line("rewrite = \"/a//{id}\"", "rewrite", "empty segment", "as a client would ask");
    line("rewrite = \"/a%2f{id}\"", "rewrite", "encoded separator", "as a client would ask");
    line("rewrite = \"/a?id={id}\"", "rewrite", "query", "is kept");
    line("rewrite = \"{path}/x\"", "rewrite", "goes on after {path}", "at the end");
    line("rewrite = \"\"", "rewrite", "is empty", "something");
    wrong(
        UPSTREAM,
        &format!("{UPSTREAM}strip_prefix = \"/items\"\nrewrite = \"/x\"\n"),
        47,
        "route[0].rewrite",
        "combined with `strip_prefix`",
        "keep one",
    );
    let text = spoiled("path = \"/items/{id}\"", "path = \"items/{id}\"\nrewrite = \"/a/{id}\"");
    assert_eq!(load(&text).unwrap_err().shown().len(), 1, "the path alone is wrong");
}

#[test]
fn redirects() {
    let to = |to: &str, message: &str, hint: &str| {
        instead(&format!("redirect = {{ to = \"{to}\" }}"), "redirect.to", message, hint);
    };
    for open in ["//evil.example", "/\\\\evil.example", "/ evil"] {
        to(open, "makes no path", "from its start");
    }
    for open in ["https://{id}", "https://{id}.example.com/", "https://www.example.com{id}", "https://a@b.example/"] {
        to(open, "not a host name", "https://www.example.com{path}");
    }
    to("https://www.example.com{path}.evil", "not a host name", "{path}");
    to("https://www.example.com/a{path}.evil", "goes on after {path}", "at the end");
    to("https://www.example.com:0/", "no port", "{path}");
    to("https://www.example.com:080/", "no port", "{path}");
    to("ftp://a.example/", "neither a URL nor a path", "https://");
    to("www.example.com", "neither a URL nor a path", "https://");
    to("/a?x=1", "query", "is kept");
    to("/{name}", "names {name}", "{id}");
    to("https://a.example/\\r\\nx: y", "control characters", "one line");
    instead("redirect = { status = 308 }", "redirect.to", "missing", "https://www.example.com{path}");
    instead("redirect = { to = \"/\", status = 304 }", "redirect.status", "304 is not a redirect status", "308 or 307");
    instead("redirect = { to = \"/\", status = 200 }", "redirect.status", "out of range", "");
    instead("redirect = { to = \"/\", code = 301 }", "redirect.code", "unknown", "known here: status, to");
    instead("redirect = \"/new\"", "redirect", "expected a table", "");
    line("redirect = { to = \"/new\" }", "redirect", "combined with `upstream`", "keep one");
    let two = "redirect = { to = \"/\" }\nrespond = { }\n";
    wrong(UPSTREAM, two, 45, "route[0].respond", "combined with `redirect`", "keep one");
    let two = "redirect = { to = \"/\" }\nmax_body = \"1KiB\"\n";
    wrong(UPSTREAM, two, 45, "route[0].max_body", "without an `upstream`", "name an `upstream`");
    for right in ["https://a.example", "http://[::1]:8080/x", "/new/{id}", "https://a.example:8443{path}", "{path}"] {
        let text = spoiled(UPSTREAM, &format!("redirect = {{ to = \"{right}\" }}\n"));
        assert_eq!(load(&text).is_ok(), right != "{path}", "{right}");
    }
}

#[test]
fn answers() {
    instead("respond = { status = 100 }", "respond.status", "interim status", "200 to 299");
    instead("respond = { status = 302 }", "respond.status", "redirect status", "`redirect`");
    instead("respond = { status = 600 }", "respond.status", "out of range", "");
    instead("respond = { status = 204, body = \"x\" }", "respond.body", "has no body", "status = 200");
    instead("respond = { content_type = \"text/html\" }", "respond.content_type", "without `body`", "leave it out");
    instead("respond = { body = \"x\", content_type = \"text\" }", "respond.content_type", "media type", "text/plain");
    instead("respond = { body = 1 }", "respond.body", "found an integer", "");
    let long = format!("respond = {{ body = \"{}\" }}", "x".repeat(65_537));
    instead(&long, "respond.body", "65537 bytes", "at most 64KiB");
    let text = "respond = { status = 503, body = \"later\" }\nresponse_headers = { set = { retry-after = \"60\" } }\n";
    let effective = load(&spoiled(UPSTREAM, text)).unwrap().effective();
    assert_eq!(effective["route"][0]["respond"]["content_type"], "text/plain; charset=utf-8");
    assert_eq!(effective["route"][0]["response_headers"]["set"]["retry-after"], "60");
}

#[test]
fn headers() {
    let request = |text: &str, at: &str, message: &str, hint: &str| {
        line(&format!("request_headers = {{ {text} }}"), &format!("request_headers.{at}"), message, hint);
    };
    for name in ["transfer-encoding", "Content-Length", "connection", "upgrade", "te", "sec-websocket-key"] {
        request(&format!("remove = [\"{name}\"]"), "remove[0]", "frames a message", "to the gateway");
        let response = format!("response_headers = {{ add = {{ {name} = \"1\" }} }}");
        line(&response, &format!("response_headers.add.{name}"), "frames a message", "to the gateway");
    }
    for name in ["x-forwarded-for", "X-Authenticated-Principal", "x-client-certificate-serial", "x-request-id"] {
        request(&format!("set = {{ {name} = \"1\" }}"), &format!("set.{name}"), "gateway's own", "to the gateway");
    }
    request("set = { host = \"a\" }", "set.host", "`host_header`", "");
    request("set = { x_user = \"a\" }", "set.x_user", "another header", "hyphens");
    request("set = { \"a b\" = \"a\" }", "set.\"a b\"", "not a header name", "name alone");
    request("set = { a = \"b\\r\\nc: d\" }", "set.a", "control characters", "one line");
    request("set = { a = \"bücher\" }", "set.a", "beyond ASCII", "ASCII");
    request("set = { a = \" b\" }", "set.a", "space", "leave");
    request("set = { a = \"\" }", "set.a", "is empty", "");
    request("set = { a = 1 }", "set.a", "found an integer", "");
    request("set = { a = \"1\", A = \"2\" }", "set.a", "set twice", "once");
    request("remove = [\"a\"], set = { a = \"1\" }", "set.a", "set twice", "once");
    request("sett = { a = \"1\" }", "sett", "unknown", "mean `set`?");
    let secret = "request_headers = { set = { authorization = \"Basic c2VjcmV0\", x-a = \"1\" } }\n";
    let effective = load(&spoiled(UPSTREAM, &format!("{UPSTREAM}{secret}"))).unwrap().effective().to_string();
    assert!(!effective.contains("c2VjcmV0") && effective.contains("(not shown)"), "{effective}");
    let comparable = |text: &str| load(&spoiled(UPSTREAM, &format!("{UPSTREAM}{text}"))).unwrap().comparable();
    let headers = &comparable(secret)["route"][0]["request_headers"]["set"];
    for name in ["authorization", "x-a"] {
        assert!(crate::config::sensitive(&headers[name]).is_some(), "{headers}");
    }
    let rotated = secret.replace("c2VjcmV0", "cm90YXRlZA");
    assert_ne!(comparable(secret), comparable(&rotated));
}

#[test]
fn deadlines_and_hosts() {
    line("timeouts = { response = \"0s\" }", "timeouts.response", "out of range", "");
    line("timeouts = { idle = \"1s\" }", "timeouts.idle", "unknown", "");
    line("timeouts = { tunnel_idle = \"1s\" }", "timeouts.tunnel_idle", "without `upgrade`", "websocket");
    let timeouts = "timeouts = { response = \"5m\" }\n";
    let config = load(&spoiled(UPSTREAM, &format!("{UPSTREAM}{timeouts}"))).unwrap();
    assert_eq!(config.effective()["route"][0]["timeouts"]["response"], "5m");
    let [route] = config.proxy.routes.as_slice() else { panic!("one route") };
    assert_eq!(route.timeouts.as_ref().unwrap().idle, config.proxy.timeouts.idle);

    let servers = "servers = [\"127.0.0.1:9000\"]";
    for wrong_host in ["http://a", "a b", "*.a.example", ""] {
        let text = format!("{servers}\nhost_header = {wrong_host:?}");
        wrong(servers, &text, 27, "upstream.items.host_header", "", "\"client\", \"server\"");
    }
    for right in ["client", "server", "items.internal", "items.internal:9000", "[::1]", "[::1]:80"] {
        let text = spoiled(servers, &format!("{servers}\nhost_header = {right:?}"));
        assert_eq!(load(&text).unwrap().effective()["upstream"]["items"]["host_header"], right);
    }
}
