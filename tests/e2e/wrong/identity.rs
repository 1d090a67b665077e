//! Wrong configurations of who clients are and what they may do: each is refused, or warned of, at its place.

use std::{fs, path::Path};

use data_encoding::BASE64URL_NOPAD;
use serde_json::json;
use support::tokens;

/// A fault: what is replaced by what, the words that it must be shown at, its key, and a piece of message and hint.
pub(super) type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

const JWKS: &str = "jwks = \"jwks.json\"\n";
const ROLE: &str = "reader = [\"items:read\"]\n";
const READ: &str = "require = [\"items:read\"]\n";
const ME: &str = "path = \"/me\"\nmethods = [\"GET\"]\nrequire = [\"authenticated\"]\n";
const ROLES: &str = "[roles]\n";

/// In front of the roles: whole tables.
macro_rules! table {
    ($text:literal) => {
        concat!($text, "\n[roles]\n")
    };
}

/// Behind the key set of `[jwt]`.
macro_rules! jwt {
    ($text:literal) => {
        concat!("jwks = \"jwks.json\"\n", $text, "\n")
    };
}

/// Behind the first role.
macro_rules! role {
    ($text:literal) => {
        concat!("reader = [\"items:read\"]\n", $text, "\n")
    };
}

/// Behind what a route requires.
macro_rules! read {
    ($text:literal) => {
        concat!("require = [\"items:read\"]\n", $text, "\n")
    };
}

/// In a second issuer.
macro_rules! issuer {
    ($text:literal) => {
        concat!("[issuer.b]\nissuer = \"https://b.example\"\naudience = \"api\"\nroles = []\n", $text, "\n[roles]\n")
    };
}

/// In an introspection server.
macro_rules! server {
    ($text:literal) => {
        concat!(
            "[introspection.s]\nendpoint = \"https://s.example/introspect\"\nclient_id = \"g\"\nroles = []\n",
            $text,
            "\n[roles]\n"
        )
    };
}

#[rustfmt::skip]
pub(super) const ROWS: [Row; 75] = [
    // Issuers and their keys.
    ("issuer = ", "issuer = \"\" # ", "\"\" # ", "jwt.issuer", "is empty", "between the quotation marks"),
    ("audience = \"api\"", "audience = []", "[]\njwks", "jwt.audience", "is empty", "at least one"),
    ("audience = \"api\"\n", "", "[jwt]", "jwt.audience", "is missing", "audience = \"api\""),
    (JWKS, "", "[jwt]", "jwt.jwks", "is missing", "jwks = "),
    (JWKS, "jwks = \"shared.jwks.json\"\n", "\"shared.jwks.json\"", "jwt.jwks", "shared secret", ""),
    (JWKS, "jwks = \"private.jwks.json\"\n", "\"private.jwks.json\"", "jwt.jwks", "a private key", ""),
    (JWKS, "jwks = \"mixed.jwks.json\"\n", "\"mixed.jwks.json\"", "jwt.jwks", "make it ES256", ""),
    (JWKS, "jwks = \"twice.jwks.json\"\n", "\"twice.jwks.json\"", "jwt.jwks", "is there twice", "`alg`"),
    (JWKS, "jwks = \"none.jwks.json\"\n", "\"none.jwks.json\"", "jwt.jwks", "no key of the set", "RSA, EC"),
    (JWKS, jwt!("secret = \"long.secret\""), "\"long.secret\"", "jwt.secret", "beside `jwks`", "its own issuer"),
    (JWKS, jwt!("provider = \"keyclock\""), "\"keyclock\"", "jwt.provider", "unknown", "mean \"keycloak\"?"),
    (JWKS, jwt!("max_lifetime = \"0s\""), "\"0s\"", "jwt.max_lifetime", "out of range", "from \"1s\""),
    (JWKS, jwt!("leeway = 30"), "30\ntype", "jwt.leeway", "expected a duration", "\"30s\""),
    (JWKS, jwt!("cache = 0"), "0\ntype", "jwt.cache", "out of range", "from 1"),
    (JWKS, jwt!("roles_claim = \"a.b.c.d.e.f.g.h.i\""), "\"a.b.c", "jwt.roles_claim", "no path of a claim", "dots between"),
    (JWKS, jwt!("roles_claim = \"realm_access.\""), "\"realm_access.\"", "jwt.roles_claim", "no path of a claim", "dots between"),
    (JWKS, jwt!("roles = [\"raeder\"]"), "\"raeder\"", "jwt.roles[0]", "no role", "mean \"reader\"?"),
    (JWKS, jwt!("claims = { email_verified = 1.5 }"), "1.5", "jwt.claims.email_verified", "found a float", ""),
    (JWKS, jwt!("claims = [\"email_verified\"]"), "[\"email_verified\"]", "jwt.claims", "expected a table", "[jwt.claims]"),
    (JWKS, jwt!("subject_claim = 7"), "7\ntype", "jwt.subject_claim", "expected a string", "quotation marks"),
    // Several of them.
    (ROLES, issuer!("secret = \"short.secret\""), "\"short.secret\"", "issuer.b.secret", "HS256 needs 32", "openssl rand"),
    (ROLES, issuer!("secret = \"server.key\""), "\"server.key\"\n[roles]", "issuer.b.secret", "key for something else", "`jwks`"),
    (ROLES, issuer!("secret = \"none.secret\""), "\"none.secret\"", "issuer.b.secret", "cannot read", "relative paths"),
    (ROLES, issuer!("jwks = \"jwks.json\"\ncache = 5"), "cache", "issuer.b.cache", "unknown", "known here"),
    (ROLES, table!("[issuer.b]\nissuer = \"https://issuer.example\"\naudience = \"b\"\njwks = \"jwks.json\"\nroles = []"), "\"https://issuer.example\"\naudience = \"b\"", "issuer.b.issuer", "that of jwt", "one table"),
    (ROLES, table!("[issuer.cert]\nissuer = \"b\"\naudience = \"b\"\njwks = \"jwks.json\"\nroles = []"), "[issuer.cert]", "issuer.cert", "how principals begin", "another name"),
    (ROLES, table!("[issuer.\"a b\"]\nissuer = \"b\"\naudience = \"b\"\njwks = \"jwks.json\"\nroles = []"), "[issuer.\"a b\"]", "issuer.\"a b\"", "not a name", "letters, digits"),
    // Servers that are asked.
    (ROLES, server!("client_secret = \"long.secret\""), "[introspection.s]", "introspection.s.audience", "made for others", "any_audience"),
    (ROLES, server!("audience = \"api\""), "[introspection.s]", "introspection.s.client_secret", "is missing", "client_secret = "),
    (ROLES, server!("audience = \"api\"\nclient_secret = \"two.secret\""), "\"two.secret\"", "introspection.s.client_secret", "not one line", "alone into the file"),
    (ROLES, server!("audience = \"api\"\nclient_secret = \"server.key\""), "\"server.key\"\n[roles]", "introspection.s.client_secret", "is a key", "`client_key`"),
    (ROLES, server!("audience = \"api\"\nclient_auth = \"private_key_jwt\"\nclient_key = \"server.crt\""), "\"server.crt\"\n[roles]", "introspection.s.client_key", "no private key", "openssl genpkey"),
    (ROLES, server!("audience = \"api\"\nclient_secret = \"long.secret\"\nclient_auth = \"none\""), "\"none\"", "introspection.s.client_auth", "unknown", "client_secret_basic"),
    (ROLES, server!("audience = \"api\"\nclient_auth = \"tls_client_auth\""), "[introspection.s]", "introspection.s.fetch", "has no certificate", "private_key"),
    (ROLES, server!("audience = \"api\"\nclient_secret = \"long.secret\"\nsigned = true"), "true\n[roles]", "introspection.s.signed", "issuer's keys", "[issuer.NAME]"),
    (ROLES, server!("audience = \"api\"\nclient_secret = \"long.secret\"\ncache_for = \"1d\""), "\"1d\"", "introspection.s.cache_for", "out of range", "to \"1h\""),
    (ROLES, table!("[introspection.s]\nendpoint = \"http://s.example/introspect\"\nclient_id = \"g\"\nroles = []\nany_audience = true\nclient_secret = \"long.secret\""), "\"http://s.example", "introspection.s.endpoint", "is http", "https://"),
    (ROLES, table!("[revocation]\nunavailable = \"serv\""), "\"serv\"", "revocation.unavailable", "unknown", "serve"),
    // Roles.
    (ROLE, role!("editor2 = { inherits = [\"raeder\"] }"), "\"raeder\"", "roles.editor2.inherits[0]", "no role", "mean \"reader\"?"),
    (ROLE, "reader = { permissions = [\"items:read\"], inherits = [\"reader\"] }\n", "\"reader\"] }", "roles.reader.inherits[0]", "inherits itself", "leave out"),
    (ROLE, "reader = [\"items:read\", \"items:r*\"]\n", "\"items:r*\"", "roles.reader[1]", "within a segment", "whole segment"),
    (ROLE, role!("all = [\"public\"]"), "\"public\"]\neditor", "roles.all[0]", "reserved", "another name"),
    (ROLE, role!("\"two words\" = [\"items:read\"]"), "[\"items:read\"]\neditor", "roles.\"two words\"", "not a role name", "one word"),
    (ROLE, role!("other = 7"), "7\neditor", "roles.other", "expected an array", "brackets"),
    (ROLE, role!("other = { permission = [\"items:read\"] }"), "permission = ", "roles.other.permission", "unknown", "mean `permissions`?"),
    // What routes ask for.
    (READ, "require = [\"items:raed\"]\n", "\"items:raed\"", "route[1].require[0]", "no role grants", "mean \"items:read\"?"),
    (READ, "require = [\"items:*\"]\n", "\"items:*\"", "route[1].require[0]", "has a `*`", "roles may have"),
    (READ, "require = [\"public\", \"items:read\"]\n", "\"public\", \"items:read\"", "route[1].require[0]", "cannot be combined", "alone"),
    (READ, "require = \"items:read\"\n", "\"items:read\"\nupstream", "route[1].require", "expected an array", "brackets"),
    (READ, "require = [\"certificate\"]\n", "\"certificate\"", "route[1].require[0]", "no [client_certificates.NAME]", "`ca` and `hosts`"),
    (READ, read!("scopes = [\"a b\"]"), "\"a b\"", "route[1].scopes[0]", "is no scope", "one word"),
    (READ, read!("claims = { tenant = [[1]] }"), "[[1]]", "route[1].claims.tenant", "found an array", ""),
    (READ, read!("claims = { \"a..b\" = true }"), "true }", "route[1].claims.\"a..b\"", "no path of a claim", "dots between"),
    ("path = \"/health\"\n", "path = \"/health\"\nscopes = [\"read\"]\n", "[\"read\"]\n", "route[0].scopes", "has no effect", "authenticated"),
    ("path = \"/health\"\n", "path = \"/health\"\nclaims = { a = 1 }\n", "{ a = 1 }", "route[0].claims", "has no effect", "authenticated"),
    // Conditions: what is compared has a type.
    (READ, read!("allow_if = [\"{id} == 7\"]"), "{id} == 7", "route[1].allow_if[0]", "{id} is a text, and 7 is a number", "write '7'"),
    (READ, read!("allow_if = [\"claim.level >= '3'\"]"), "claim.level >= '3'", "route[1].allow_if[0]", "only numbers have an order", "== or !="),
    (READ, read!("allow_if = [\"claim.a > 3 and claim.a == 'x'\"]"), "claim.a == 'x'", "route[1].allow_if[0]", "with a text here, and with a number before", "one type"),
    (READ, read!("allow_if = [\"{name} == claim.sub\"]"), "{name} == claim", "route[1].allow_if[0]", "which `path` has not", "`path` has {id}"),
    (READ, read!("allow_if = [\"source in home\"]"), "home\"]", "route[1].allow_if[0]", "there is no \"home\"", "[sources]"),
    (READ, read!("sources = [\"offise\"]"), "\"offise\"", "route[1].sources[0]", "there is no \"offise\"", "prefixes"),
    // Where clients are.
    (READ, read!("sources = [\"country:DE\"]"), "\"country:DE\"", "route[1].sources[0]", "no database", "[geo]"),
    (READ, read!("sources = [\"asn:AS\"]"), "\"asn:AS\"", "route[1].sources[0]", "no autonomous system", "asn:64500"),
    (READ, read!("sources = [\"country:Germany\"]"), "\"country:Germany\"", "route[1].sources[0]", "is no country", "two capital letters"),
    (ROLES, table!("[geo]\ndatabase = \"long.secret\""), "\"long.secret\"", "geo.database", "no whole database", "renaming"),
    (ROLES, table!("[geo]\ndatabase = \"none.mmdb\""), "\"none.mmdb\"", "geo.database", "cannot read", "relative paths"),
    (ROLES, table!("[sources]\noffice = { file = \"empty.list\" }"), "{ file = \"empty.list\" }", "sources.office", "nobody is in it", "one a line"),
    // By which methods.
    (READ, read!("authenticate = [\"jtw\"]"), "[\"jtw\"]", "route[1].authenticate", "unknown", "api_key"),
    (READ, read!("authenticate = [\"certificate\"]"), "[\"certificate\"]", "route[1].authenticate", "not configured", "[client_certificates.NAME]"),
    (READ, read!("authenticate = [\"introspection\"]"), "[\"introspection\"]", "route[1].authenticate", "not configured", "[introspection"),
    (READ, read!("authenticate = [\"jwt\", \"jwt\"]"), "[\"jwt\", \"jwt\"]", "route[1].authenticate", "twice", "once"),
    (READ, read!("authenticate = []"), "[]\nupstream", "route[1].authenticate", "is empty", "leave it out"),
    (READ, read!("authenticate = \"jwt\""), "\"jwt\"", "route[1].authenticate", "expected an array", "{ all = [...] }"),
    (READ, read!("authenticate = { any = [\"jwt\"] }"), "{ any = ", "route[1].authenticate", "something else than `all", "{ all = [...] }"),
    (ME, "path = \"/me\"\nmethods = [\"GET\"]\nrequire = [\"public\"]\nauthenticate = [\"jwt\"]\n", "[\"jwt\"]\nupstream", "route[3].authenticate", "asks for no identity", "authenticated"),
];

/// What is unwise: what is replaced by what, the key, and a piece of message and hint.
#[rustfmt::skip]
pub(super) const WARNINGS: [(&str, &str, &str, &str, &str); 6] = [
    (ROLES, "[issuer.b]\nissuer = \"https://b.example\"\naudience = \"api\"\njwks = \"jwks.json\"\n[roles]\n", "issuer.b", "may name every role", "roles = "),
    (ROLES, server!("any_audience = true\nclient_secret = \"open.secret\""), "introspection.s.client_secret", "open to every user", "chmod 0600"),
    (ROLES, "[introspection.s]\nendpoint = \"https://s.example/introspect\"\nclient_id = \"g\"\nany_audience = true\nclient_secret = \"long.secret\"\n[roles]\n", "introspection.s", "may name every role", "roles = "),
    ("reader = [\"items:read\"]\neditor = [\"items:read\", \"items:write\"]", "reader = [\"items:*\"]\neditor = [\"items:reed\", \"items:write\"]", "route[1].require[0]", "by patterns of roles alone", "mean \"items:reed\"?"),
    ("signals = [\"forged_token\"]", "signals = [\"unknown_route\"]", "jwt", "how many tokens an address can try", "[limit.address]"),
    ("path = \"/me\"\nmethods = [\"GET\"]\nrequire = [\"authenticated\"]\n", "path = \"/me\"\nmethods = [\"GET\"]\n", "route[3].require", "nobody has access", "permissions"),
];

/// Whom nobody reaches, as `check --online` tells it: what is put in front of the roles, the key, and a piece of what is
/// told and of the hint.
#[rustfmt::skip]
pub(super) const UNREACHABLE: [(&str, &str, &str, &str); 2] = [
    ("[issuer.b]\nissuer = \"http://127.0.0.1:1\"\naudience = \"api\"\nroles = []\ndiscovery = true\nfetch = { allow_http = true, timeout = \"1s\" }", "issuer.b", "refused", "firewall"),
    ("[introspection.s]\nendpoint = \"http://127.0.0.1:1/introspect\"\nclient_id = \"g\"\nroles = []\nany_audience = true\nclient_secret = \"long.secret\"\nfetch = { allow_http = true, timeout = \"1s\" }", "introspection.s", "", "see whether the URL is right"),
];

/// Writes the files that the rows name.
pub(super) fn write_files(folder: &Path) {
    let set = tokens::ISSUERS.jwks();
    let ec = set["keys"][1].clone();
    let changed = |member: &str, value: serde_json::Value| {
        let mut key = ec.clone();
        key[member] = value;
        json!({ "keys": [key] })
    };
    let encryption = changed("use", json!("enc"));
    // The example of RFC 7517 A.1, by the same id.
    let mut other = ec.clone();
    other["x"] = json!("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4");
    other["y"] = json!("4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM");
    let shared = json!({"keys": [{"kty": "oct", "kid": "a", "k": BASE64URL_NOPAD.encode(&[7; 32])}]});
    for (name, content) in [
        ("shared.jwks.json", shared.to_string()),
        ("private.jwks.json", changed("d", json!("AAAA")).to_string()),
        ("mixed.jwks.json", changed("alg", json!("RS256")).to_string()),
        ("twice.jwks.json", json!({"keys": [ec, other]}).to_string()),
        ("none.jwks.json", encryption.to_string()),
        ("short.secret", "hunter2".to_owned()),
        ("long.secret", "7".repeat(64)),
        ("open.secret", "7".repeat(64)),
        ("empty.list", "# nobody\n".to_owned()),
        ("two.secret", "one\ntwo\n".to_owned()),
    ] {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        let mode = if name == "open.secret" { 0o644 } else { 0o600 };
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
}
