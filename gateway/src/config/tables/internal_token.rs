//! Reads `[internal_token]`: the token that the gateway makes for upstreams.

use std::time::Duration;

use http::{HeaderName, header::AUTHORIZATION};
use toml::de::DeValue;

use super::{certificate::warn_of_mode, identity_headers, issuer::claim_path, listener};
use crate::{
    config::{
        reader::{Keys, Reader},
        table::{Table, values},
        value::{self, form::described},
    },
    diagnostic::Diagnostic,
    identity::claim::ClaimPath,
    settings::{auth::Method, identity_headers::Settings as IdentityHeaders, internal_token, listener::Listener},
};

/// The keys of `[internal_token]`.
pub(super) const KEYS: Keys = &[
    ("issuer", "Its `iss`: how upstreams know the gateway."),
    ("audience", "Its `aud`. Without it: the name of the upstream that gets it."),
    ("private_key", "The file with the key that signs it: EC P-256 in PEM (PKCS#8), for ES256."),
    (
        "former_keys",
        "Files with public keys in PEM that are published, too: those before, until their tokens have expired.",
    ),
    ("lifetime", "How long it is good. It never outlives the identity."),
    (
        "header",
        "The header that it is sent in. In `authorization` it is a bearer token, and the client's own is removed.",
    ),
    ("claims", "Claims of the client's token that it repeats, by path."),
    (
        "jwks_path",
        "The path where every listener serves its public keys (JWKS). It comes before routes. Without it: none.",
    ),
    ("cache", "The number of tokens that are remembered."),
];

/// What it says itself.
const TAKEN: [&str; 10] = ["aud", "auth_method", "exp", "iat", "iss", "jti", "nbf", "roles", "scope", "sub"];

const SECOND: Duration = Duration::from_secs(1);

/// `None`: there is no such table. `methods`: those of authentication that are configured.
pub(super) fn read(table: Table<'_>, methods: &[Method], reader: &Reader<'_>) -> Option<internal_token::Settings> {
    if !table.is_present() {
        return None;
    }
    let issuer = table.required("issuer", "\"https://gateway.example.com\"", value::line);
    let audience = table.optional("audience", value::line);
    let private_key = table.required_file("private_key", "\"internal.key\"");
    warn_of_mode(&private_key, table.key("private_key"), reader);
    let former_keys =
        values(table.list("former_keys", described("path of a file", |value| reader.file(&value::path(value)?))));
    let lifetime = table.or("lifetime", 60 * SECOND, value::duration_in(10 * SECOND..=3_600 * SECOND));
    let default = HeaderName::from_static("x-internal-token");
    let header =
        table.or("header", default, described("header name", header).written(|name| format!("{:?}", name.as_str())));
    let claims = values(table.list("claims", described("path of a claim", claim)));
    let jwks_path = table.optional("jwks_path", described("path, such as `\"/.well-known/jwks.json\"`", jwks_path));
    let cache = table.or("cache", 10_000, value::count(1..=1_000_000));
    if methods.is_empty() && !reader.is_reference() {
        let wrong = Diagnostic::new(table.own_key(), "has no effect: nothing gives an identity");
        reader.report(wrong.hint("configure [jwt], [basic] or [client_certificates.NAME], or leave it out"));
    } else if !claims.is_empty() && !methods.iter().any(|method| method.is_token()) {
        let wrong = Diagnostic::bare("would never be there: there are no tokens");
        table.report("claims", wrong.hint("add a [jwt] table, or leave it out"));
    }
    table.finish();
    Some(internal_token::Settings {
        issuer: issuer.unwrap_or_default(),
        audience,
        private_key,
        former_keys,
        lifetime,
        header,
        claims,
        jwks_path,
        cache,
    })
}

/// Reports what other tables use, too.
pub(super) fn judge(
    token: &internal_token::Settings,
    headers: &IdentityHeaders,
    listeners: &[Listener],
    reader: &Reader<'_>,
) {
    if headers.iter().any(|header| header.name == token.header) {
        let wrong = Diagnostic::new("internal_token.header", format!("{} is in [identity_headers], too", token.header));
        reader.report(wrong.hint("choose another name"));
    }
    let health = |listener: &Listener| listener.health.is_some() && listener.health == token.jwks_path;
    if listeners.iter().any(health) {
        let wrong = Diagnostic::new("internal_token.jwks_path", "is the `health` of a listener, too");
        reader.report(wrong.hint("choose another path, as in \"/.well-known/jwks.json\""));
    }
}

fn header(value: &DeValue<'_>) -> Result<HeaderName, Diagnostic> {
    let text = value::line(value)?;
    if text.eq_ignore_ascii_case(AUTHORIZATION.as_str()) { Ok(AUTHORIZATION) } else { identity_headers::name(&text) }
}

fn claim(value: &DeValue<'_>) -> Result<ClaimPath, Diagnostic> {
    let text = value::line(value)?;
    if TAKEN.contains(&text.as_str()) {
        let wrong = Diagnostic::bare(format!("{text:?} is what the token says itself"));
        return Err(wrong.hint("leave it out; known are claims of the client's token, as in \"email\""));
    }
    claim_path(&text)
}

fn jwks_path(value: &DeValue<'_>) -> Result<String, Diagnostic> {
    listener::plain_path(value, "write a plain path: \"/.well-known/jwks.json\"")
}
