//! Wrong and right settings of how requests are read.

use super::{PATH, key, load, spoiled, wrong};

/// BASE with this line in its route, as line 42.
#[track_caller]
fn line(text: &str, at: &str, message: &str, hint: &str) {
    wrong(PATH, &format!("{PATH}{text}\n"), 42, &key(at), message, hint);
}

#[track_caller]
fn right(text: &str) {
    load(&spoiled(PATH, &format!("{PATH}{text}\n"))).unwrap_or_else(|errors| panic!("{text}: {errors}"));
}

#[test]
fn t01_t02_headers_that_pass() {
    right("pass_headers = [\"X-User-Id\", \"x_tenant\", \"x.y\", \"proxy\", \"x_user\"]");
    right("pass_headers = [\"x_tenant\"]\nrequest_headers = { set = { x-other = \"1\" } }");
    let one = "pass_headers[0]";
    line("pass_headers = [\"a b\"]", one, "not a header name", "x-user-id");
    line("pass_headers = [\"x-auth-token\"]", one, "always passes", "leave it out");
    for own in ["x-forwarded-for", "X_Forwarded_For", "x.request.id", "Host", "te", "x-authenticated-principal"] {
        line(&format!("pass_headers = [{own:?}]"), one, "that the gateway sets", "trust it");
    }
    for edit in ["set = { x-tenant = \"1\" }", "remove = [\"x-tenant\"]", "add = { x-tenant = \"1\" }"] {
        let text = format!("pass_headers = [\"x_tenant\"]\nrequest_headers = {{ {edit} }}");
        line(&text, one, "as x-tenant", "one of them");
    }
}

#[test]
fn p01_p02_p03_what_paths_may_hold() {
    right("allow_in_path = [\"encoded_slashes\", \"parameters\", \"empty_segments\"]");
    line("allow_in_path = [\"encoded_slash\"]", "allow_in_path[0]", "unknown", "mean \"encoded_slashes\"?");
    line("allow_in_path = \"parameters\"", "allow_in_path", "expected an array", "brackets");
}

#[test]
fn limits_of_heads() {
    let limit = |text: &str, line: usize, at: &str, message: &str, hint: &str| {
        wrong("\"1MiB\"", &format!("\"1MiB\"\n{text}"), line, &format!("proxy.{at}"), message, hint);
    };
    limit("max_headers = 10", 16, "max_headers", "out of range", "from 20 to 500");
    limit("max_headers = 501", 16, "max_headers", "out of range", "from 20 to 500");
    limit("max_target = \"64KiB\"", 16, "max_target", "out of range", "32KiB");
    limit("max_target = 100", 16, "max_target", "out of range", "from 1024");
    limit("max_target = \"20KiB\"", 16, "max_target", "more than `max_header_bytes`", "max_header_bytes");
    load(&spoiled("\"1MiB\"", "\"1MiB\"\nmax_target = \"20KiB\"\nmax_header_bytes = \"32KiB\"\nmax_headers = 500"))
        .unwrap_or_else(|errors| panic!("{errors}"));
}

#[test]
fn the_server_as_a_whole_has_a_path() {
    load(&spoiled(PATH, "path = \"*\"\n")).unwrap_or_else(|errors| panic!("{errors}"));
    let at = key("path");
    wrong(PATH, "path = \"**\"\n", 41, &at, "does not start with a slash", "/items");
    wrong(PATH, "path = \"/*\"\n", 41, &at, "no whole segment", "{*rest}");
}
