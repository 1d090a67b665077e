//! Wrong routes: hosts and conditions.

use super::{load, spoiled, wrong};

mod action;
mod api;
mod cors;
mod expectations;
mod reading;
mod waf;

const PATH: &str = "path = \"/items/{id}\"\n";

fn key(name: &str) -> String {
    format!("route[0].{name}")
}

/// BASE with this condition on its route, as line 42.
#[track_caller]
fn condition(text: &str, at: &str, message: &str, hint: &str) {
    wrong(PATH, &format!("{PATH}when = [{{ {text} }}]\n"), 42, &key(at), message, hint);
}

#[test]
fn methods_that_nobody_has_registered_are_told() {
    let warnings = |from: &str, to: &str| {
        let config = load(&spoiled(from, to)).unwrap_or_else(|errors| panic!("{errors}"));
        config.warnings.into_iter().map(|it| (it.key, it.message, it.hint.unwrap_or_default())).collect::<Vec<_>>()
    };
    for (slip, expect) in [
        ("GTE", "did you mean \"GET\"?"),
        ("PTU", "did you mean \"PUT\"?"),
        ("MKCLO", "did you mean \"MKCOL\"?"),
        ("PROPFINDS", "did you mean \"PROPFIND\"?"),
        ("FROB", "leave it so"),
    ] {
        let cors = format!("[cors.default]\norigins = [\"https://a.example\"]\nmethods = [{slip:?}]\n[[route]]\n");
        for (from, to, at) in [
            ("\"HEAD\"", format!("{slip:?}"), key("methods[1]")),
            ("[[route]]\n", cors, "cors.default.methods[0]".to_owned()),
        ] {
            let warned = warnings(from, &to);
            let [(key, message, hint)] = warned.as_slice() else { panic!("{slip}: {warned:?}") };
            assert_eq!(*key, at);
            assert!(message.contains("not a registered method") && hint.contains(expect), "{slip}: {warned:?}");
        }
    }
    for registered in ["PROPFIND", "PROPPATCH", "UPDATE", "QUERY", "VERSION-CONTROL", "PURGE"] {
        let warned = warnings("\"HEAD\"", &format!("{registered:?}"));
        assert!(warned.is_empty(), "{registered}: {warned:?}");
    }
}

#[test]
fn hosts() {
    let host = "\"api.example.com\"";
    for right in ["*.example.com", "*.com", "127.0.0.1", "*.xn--bcher-kva.example"] {
        load(&spoiled(host, &format!("{right:?}"))).unwrap_or_else(|errors| panic!("{errors}"));
    }
    for (text, message, hint) in [
        ("*", "wildcard", "first label"),
        ("a.*.example.com", "wildcard", "first label"),
        ("*.*.com", "wildcard", "first label"),
        ("*.10.0.0.1", "before an address", "address alone"),
        ("*.0.0.1", "before an address", "address alone"),
        ("*.[::1]", "before an address", "address alone"),
        ("*.example.com:443", "port", "every port"),
    ] {
        wrong(host, &format!("{text:?}"), 40, &key("host"), message, hint);
    }
}

#[test]
fn conditions() {
    load(&spoiled(PATH, &format!("{PATH}when = [{{ query = \"a\", prefix = \"x\" }}]\n")))
        .unwrap_or_else(|errors| panic!("{errors}"));
    condition("header = \"a b\", present = true", "when[0].header", "not a header name", "name alone");
    condition("header = \"Host\", present = true", "when[0].header", "`host` matches it", "write `host`");
    condition("header = \"a\", present = false", "when[0].present", "not supported", "other route");
    condition("header = \"a\"", "when[0].equals", "exactly one of", "one of");
    condition("header = \"a\", equals = \"1\", prefix = \"2\"", "when[0].equals", "exactly one of", "one of");
    condition("equals = \"1\"", "when[0].header", "one of `header` and `query`", "x-version");
    condition("header = \"a\", equals = 1", "when[0].equals", "found an integer", "");
    condition("header = \"a\", equal = \"1\", present = true", "when[0].equal", "unknown", "mean `equals`?");
    condition("header = \"a\", equal = \"1\"", "when[0].equal", "unknown", "mean `equals`?");
    condition("haeder = \"a\", equals = \"1\"", "when[0].haeder", "unknown", "mean `header`?");
    wrong(PATH, &format!("{PATH}access_log = 1\n"), 42, &key("access_log"), "found an integer", "`true` or `false`");
}
