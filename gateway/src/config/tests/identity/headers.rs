//! What upstreams are told of clients: names that stay the gateway's, and values that say something.

use super::super::{BASE, load, spoiled, wrong};

const ROLES: &str = "[roles]\n";

/// BASE with this line in `[identity_headers]`, as line 34.
#[track_caller]
fn header(line: &str, key: &str, message: &str, hint: &str) {
    let key = format!("identity_headers.{key}");
    wrong(ROLES, &format!("[identity_headers]\n{line}\n{ROLES}"), 34, &key, message, hint);
}

#[test]
fn wrong_headers() {
    header("\"x user\" = \"{principal}\"", "\"x user\"", "not a header name", "name alone");
    header("x_user = \"{principal}\"", "x_user", "as another header", "hyphens");
    header("host = \"{principal}\"", "host", "is what `host_header`", "x-user");
    header("x-request-id = \"{principal}\"", "x-request-id", "gateway's own", "x-user");
    header("x-forwarded-user = \"{principal}\"", "x-forwarded-user", "gateway's own", "x-user");
    header("connection = \"{principal}\"", "connection", "frames a message", "x-user");
    header("cookie = \"{principal}\"", "cookie", "something else", "x-user");
    header("content-type = \"{principal}\"", "content-type", "something else", "x-user");
    header("authorization = \"{principal}\"", "authorization", "something else", "x-user");
    header("x-user = \"\"", "x-user", "empty", "between the quotation marks");
    header("x-user = 1", "x-user", "expected a string", "quotation marks");
    header("x-user = \"yes\"", "x-user", "no field", "{principal}");
    header("x-user = \"{principle}\"", "x-user", "{principle} is unknown", "mean `{principal}`?");
    header("x-user = \"{email}\"", "x-user", "{email} is unknown", "{claims.PATH}");
    header("x-user = \"{claims.}\"", "x-user", "no path", "dots between");
    header("x-user = \"{principal\"", "x-user", "not closed", "{principal}");
    header("x-user = \"{principal}}\"", "x-user", "closes nothing", "{principal}");
    header("x-user = \"{principal} caf\u{e9}\"", "x-user", "beyond ASCII", "ASCII");
}

#[test]
fn headers_that_routes_change() {
    let text = spoiled(ROLES, &format!("[identity_headers]\nx-user = \"{{principal}}\"\n{ROLES}"));
    let route = |line: &str| {
        let errors = load(&text.replace("upstream = \"items\"\n", &format!("upstream = \"items\"\n{line}\n")));
        errors.unwrap_err().shown().map(|one| format!("{}: {}", one.key, one.message)).collect::<Vec<_>>()
    };
    for (line, expect) in [
        ("request_headers.set = { x-user = \"a\" }", "route[0].request_headers: changes x-user"),
        ("request_headers.remove = [\"x-user\"]", "route[0].request_headers: changes x-user"),
        ("pass_headers = [\"x-user\"]", "route[0].pass_headers: lets x-user pass"),
        ("pass_headers = [\"X_User\"]", "route[0].pass_headers: lets x_user pass"),
    ] {
        let found = route(line);
        assert!(found.len() == 1 && found[0].starts_with(expect), "{line}: {found:?}");
    }
}

#[test]
fn what_is_never_told() {
    let (start, end) = (BASE.find("[jwt]").unwrap(), BASE.find("[roles]").unwrap());
    let without = BASE.replace(&BASE[start..end], "").replace("require = [\"items:read\"]", "require = [\"public\"]");
    let of = |more: &str| {
        let errors = load(&format!("{without}\n{more}")).unwrap_err();
        errors.shown().map(|one| format!("{}: {}", one.key, one.message)).collect::<Vec<_>>()
    };
    let nothing = ["identity_headers: has no effect: nothing gives an identity"];
    assert_eq!(of("[identity_headers]\nx-user = \"{principal}\""), nothing);
    let basic = "[basic]\nusers = \"u.htpasswd\"\n[identity_headers]\nx-user = \"{principal}\"\n";
    let never = ["identity_headers.x-mail: would never be set: there are no tokens"];
    assert_eq!(of(&format!("{basic}x-mail = \"{{claims.email}}\"")), never);
}
