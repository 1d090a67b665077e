//! Reads `[jwt]`: which tokens prove who a client is.

use std::time::Duration;

use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::{self, form::described},
    },
    diagnostic::Diagnostic,
    settings::{detect::Rule, jwt::Settings, proxy},
    signal::Signal,
};

/// The keys of `[jwt]`.
pub(super) const KEYS: Keys = &[
    ("issuer", "What a token's `iss` must be."),
    ("audience", "What a token's `aud` must be or contain."),
    ("jwks", "The file with the public keys (JWKS): RS256, ES256 or EdDSA."),
    ("leeway", "How far the issuer's clock may be off."),
    ("max_lifetime", "The longest lifetime of a token. Without it: any."),
    ("type", "What the token header's `typ` must be. Without it: any."),
    ("roles_claim", "The claim that names the client's roles."),
    ("cache", "The number of verified tokens that are remembered."),
];

const SECOND: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn read(table: Table<'_>) -> Option<Settings> {
    if !table.is_present() {
        return None;
    }
    let issuer = table.required("issuer", "\"https://issuer.example\"", value::line);
    let audience = table.required("audience", "\"api\"", value::line);
    let jwks = table.required_file("jwks", "\"jwks.json\"");
    let leeway = table.or("leeway", 30 * SECOND, value::duration_in(Duration::ZERO..=600 * SECOND));
    let max_lifetime = table.optional("max_lifetime", value::duration_in(SECOND..=365 * DAY));
    let typ = table.optional("type", value::line);
    let roles_claim = table.or(
        "roles_claim",
        "roles".to_owned(),
        described("string", value::line).written(|name| format!("{name:?}")),
    );
    let cache = table.or("cache", 10_000, value::count(1..=10_000_000));
    // Only a configuration with a fault has none of these, and it is refused in the end.
    let settings = Settings {
        issuer: issuer.unwrap_or_default(),
        audience: audience.unwrap_or_default(),
        jwks,
        leeway,
        max_lifetime,
        typ,
        roles_claim,
        cache,
    };
    table.finish();
    Some(settings)
}

/// Warns where whoever guesses tokens may go on for ever.
pub(super) fn warn_of_guessing(proxy: &proxy::Settings, reader: &Reader<'_>) {
    let counts = |rule: &Rule| rule.signals.contains(&Signal::ForgedToken);
    if proxy.jwt.is_some() && proxy.address_limit.is_none() && !proxy.detect.rules.iter().any(counts) {
        let warning = Diagnostic::new("jwt", "nothing limits how many tokens an address can try");
        reader.warn(warning.hint("add [limit.address], or a [[rule]] with signals = [\"forged_token\"]"));
    }
}
