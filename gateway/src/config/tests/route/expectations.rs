//! Wrong and right settings of what a route's requests may have.

use super::{PATH, key, load, spoiled, wrong};

/// BASE with this line in its route, as line 42.
#[track_caller]
fn line(text: &str, at: &str, message: &str, hint: &str) {
    wrong(PATH, &format!("{PATH}{text}\n"), 42, &key(at), message, hint);
}

#[test]
fn media_types_of_bodies() {
    line("content_types = [\"pdf\"]", "content_types[0]", "is no media type", "image/png");
    line("content_types = \"application/pdf\"", "content_types", "expected an array", "brackets");
    for wrong in ["image/pn*", "im*ge/png", "*/png", "image/(png)", "image/png; a=b", "a/b/c", "/png", "a,b/c"] {
        line(&format!("content_types = [\"{wrong}\"]"), "content_types[0]", "is no media type", "image/png");
    }
    line(
        "content_types = [\"text/plain\"]",
        "content_types[0]",
        "refused by `schema`, which reads JSON",
        "leave it out",
    );
    line("content_type = [\"text/plain\"]", "content_type", "unknown", "did you mean `content_types`?");
    let text = format!("{PATH}content_types = [\"application/json\"]\n");
    let config = load(&spoiled(PATH, &text)).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.effective()["route"][0]["content_types"][0], "application/json");
}

#[test]
fn what_nobody_has_named() {
    line("unknown_headers = \"deny\"", "unknown_headers", "\"deny\" is unknown", "refuse");
    line("unknown_cookies = true", "unknown_cookies", "found a boolean", "");
    line("unknown_header = \"refuse\"", "unknown_header", "unknown", "did you mean `unknown_headers`?");
    let text = format!("{PATH}unknown_headers = \"refuse\"\nunknown_cookies = \"refuse\"\n");
    let config = load(&spoiled(PATH, &text)).unwrap_or_else(|errors| panic!("{errors}"));
    let route = &config.effective()["route"][0];
    assert_eq!((&route["unknown_headers"], &route["unknown_cookies"]), (&"refuse".into(), &"refuse".into()));
    assert!(route["unknown_query"].is_null(), "{route}");
}

#[test]
fn rules_that_nothing_fits() {
    for (table, rules, at, message) in [
        ("query.x", "type = \"integer\"\nminimum = 3\nmaximum = 1", "query.x.maximum", "is less than `minimum`"),
        ("query.x", "min_length = 3\nmax_length = 1", "query.x.max_length", "is less than `min_length`"),
        ("cookie.\"a;b=c\"", "required = true", "cookie", "is no name of a cookie"),
        ("header.\"a b\"", "required = true", "header", "is no name of a header"),
    ] {
        let text = spoiled(PATH, &format!("{PATH}[route.{table}]\n{rules}\n"));
        let errors = load(&text).unwrap_err();
        let told = errors.to_string();
        assert!(told.contains(message) && told.contains(&key(at)), "{table}: {told}");
    }
}
