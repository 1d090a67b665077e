//! Names and passwords: what of `[basic]` is refused, and what is warned of.

use super::super::{BASE, load, spoiled, wrong};

const JWT: &str = "jwks = \"jwks.json\"\n";
const REQUIRE: &str = "require = [\"items:read\"]";

/// BASE with `[basic]` and this line in it, as line 35.
#[track_caller]
fn basic(line: &str, key: &str, message: &str, hint: &str) {
    wrong(JWT, &format!("{JWT}[basic]\nusers = \"u.htpasswd\"\n\n{line}\n"), 35, key, message, hint);
}

#[test]
fn wrong_tables() {
    wrong(JWT, &format!("{JWT}[basic]\n"), 32, "basic.users", "missing", "users.htpasswd");
    let missing = format!("{JWT}[basic]\nusers = \"missing.htpasswd\"\n");
    wrong(JWT, &missing, 33, "basic.users", "cannot read", "relative paths");
    basic("realm = \"\"", "basic.realm", "empty", "quotation marks");
    basic("realm = 'a \"b\"'", "basic.realm", "quotation marks", "plain words");
    basic("realm = \"caf\u{e9}\"", "basic.realm", "beyond ASCII", "plain words");
    basic("default_roles = [\"raeder\"]", "basic.default_roles[0]", "no role", "mean \"reader\"?");
    basic("roles = { ada = [\"raeder\"] }", "basic.roles.ada", "no role", "mean \"reader\"?");
    basic("roles = { ada = \"reader\" }", "basic.roles.ada", "expected an array", "in brackets");
    basic("roles = [\"reader\"]", "basic.roles", "expected a table", "[basic.roles]");
    basic("cache = 0", "basic.cache", "out of range", "from 1");
    basic("remember = \"2d\"", "basic.remember", "out of range", "to \"1d\"");
    basic("max_waiting = 0", "basic.max_waiting", "out of range", "from 1");
    basic("max_waiting_per_source = 0", "basic.max_waiting_per_source", "out of range", "from 1");
    basic("forward = 1", "basic.forward", "expected a boolean", "`true` or `false`");
    basic("user = \"u\"", "basic.user", "unknown", "mean `users`?");
}

#[test]
fn one_header_has_one_credential() {
    let text = BASE.replace(JWT, &format!("{JWT}[basic]\nusers = \"u.htpasswd\"\n"));
    let with = |methods: &str| text.replace(REQUIRE, &format!("{REQUIRE}\nauthenticate = {methods}"));
    load(&with("[\"jwt\", \"basic\"]")).unwrap_or_else(|errors| panic!("{errors}"));
    let errors = load(&with("{ all = [\"jwt\", \"basic\"] }")).unwrap_err();
    let shown: Vec<_> = errors.shown().map(|one| (one.key.to_owned(), one.message.to_owned())).collect();
    let message = "\"jwt\" and \"basic\" cannot both be in the one Authorization of a request".to_owned();
    assert_eq!(shown, [("route[0].authenticate".to_owned(), message)], "{errors}");
    for line in ["scopes = [\"a\"]", "claims = { a = 1 }"] {
        let errors = load(&with(&format!("[\"basic\"]\n{line}"))).unwrap_err();
        assert!(errors.to_string().contains("by `authenticate`, no token says who the client is"), "{errors}");
    }
}

#[test]
fn unwise_tables() {
    let keys = |text: &str| {
        let config = load(text).unwrap_or_else(|errors| panic!("{errors}"));
        config.warnings.into_iter().map(|warning| format!("{}: {}", warning.key, warning.message)).collect::<Vec<_>>()
    };
    let with = |from: &str, to: &str| {
        let basic = format!("{JWT}[basic]\nusers = \"u.htpasswd\"\n");
        let text = if from.is_empty() { BASE.to_owned() } else { spoiled(from, to) };
        keys(&text.replace(JWT, &basic))
    };
    assert!(with("", "").is_empty());
    let guessing = "basic: nothing limits how many passwords an address can try";
    assert_eq!(with("[limit.address]\nrequests = 100\n", ""), [guessing]);
    let open = keys(&spoiled(JWT, &format!("{JWT}[basic]\nusers = \"open.key\"\n")));
    assert_eq!(open, ["basic.users: /etc/gateway/open.key is open to every user (mode 0644)"]);
}
