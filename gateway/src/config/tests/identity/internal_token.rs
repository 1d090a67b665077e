//! The token that the gateway makes for upstreams: what of `[internal_token]` is refused.

use super::super::wrong;

const ROLES: &str = "[roles]\n";

/// BASE with `[internal_token]` and this line in it, as line 36.
#[track_caller]
fn token(line: &str, key: &str, message: &str, hint: &str) {
    let table = "[internal_token]\nissuer = \"https://gateway.example\"\nprivate_key = \"internal.key\"";
    let key = format!("internal_token.{key}");
    wrong(ROLES, &format!("{table}\n{line}\n{ROLES}"), 36, &key, message, hint);
}

#[test]
fn wrong_tables() {
    let alone = |line: &str| format!("[internal_token]\n{line}\n{ROLES}");
    let key = "internal_token.private_key";
    wrong(ROLES, &alone("issuer = \"a\""), 33, key, "missing", "internal.key");
    wrong(ROLES, &alone("private_key = \"k\""), 33, "internal_token.issuer", "missing", "https://gateway.example.com");
    wrong(ROLES, &alone("issuer = \"a\"\nprivate_key = \"missing.key\""), 35, key, "cannot read", "relative paths");
    token("lifetime = \"5s\"", "lifetime", "out of range", "from \"10s\"");
    token("lifetime = \"2h\"", "lifetime", "out of range", "to \"1h\"");
    token("audience = \"\"", "audience", "empty", "quotation marks");
    token("former_keys = [\"missing.pem\"]", "former_keys[0]", "cannot read", "relative paths");
    token("header = \"cookie\"", "header", "something else", "x-user");
    token("header = \"x_token\"", "header", "as another header", "hyphens");
    token("header = \"x-request-id\"", "header", "gateway's own", "x-user");
    token("claims = [\"sub\"]", "claims[0]", "says itself", "email");
    token("claims = [\"a.\"]", "claims[0]", "no path", "dots between");
    token("jwks_path = \"keys\"", "jwks_path", "not a plain path", "/.well-known/jwks.json");
    token("jwks_path = \"/a/../b\"", "jwks_path", "not a plain path", "/.well-known/jwks.json");
    token("cache = 0", "cache", "out of range", "from 1");
    token("key = \"k\"", "key", "unknown", "");
    let both = "header = \"x-user\"\n[identity_headers]\nx-user = \"{principal}\"";
    token(both, "header", "in [identity_headers], too", "another name");
}
