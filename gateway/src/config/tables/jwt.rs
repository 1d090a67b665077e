//! Reads `[jwt]`: which tokens prove who a client is.

use super::issuer;
use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value,
    },
    diagnostic::Diagnostic,
    settings::{
        detect::Rule,
        jwt,
        limit::{KeyPart, Limit},
        proxy,
    },
    signal::Signal,
};

/// What `[jwt]` has besides the keys of `[issuer.NAME]`.
const CACHE: (&str, &str) = ("cache", "The number of verified tokens that are remembered, of all issuers.");

/// The keys of `[jwt]`.
pub(super) const KEYS: Keys = &with_cache();

const fn with_cache() -> [(&'static str, &'static str); issuer::KEYS.len() + 1] {
    let mut keys = [CACHE; issuer::KEYS.len() + 1];
    let (of_issuer, _) = keys.split_at_mut(issuer::KEYS.len());
    of_issuer.copy_from_slice(issuer::KEYS);
    keys
}

/// `[jwt]` is the one issuer of a gateway that has one, or says what all `[issuer.NAME]` share.
pub(super) fn read(table: Table<'_>, issuers: Vec<(String, Table<'_>)>, reader: &Reader<'_>) -> Option<jwt::Settings> {
    let cache = table.or("cache", 10_000, value::count(1..=10_000_000));
    let mut all = issuer::read(issuers, reader);
    let is_issuer = issuer::KEYS.iter().any(|(key, _)| table.has(key));
    if table.is_present() && (is_issuer || all.is_empty() || reader.is_reference()) {
        all.insert(0, issuer::one(&table, None, reader));
    }
    issuer::tell_apart(&all, reader);
    table.finish();
    (!all.is_empty()).then_some(jwt::Settings { issuers: all, cache, kept: Vec::new(), others: Vec::new() })
}

/// Warns where whoever guesses tokens or passwords may go on for ever.
pub(super) fn warn_of_guessing(proxy: &proxy::Settings, reader: &Reader<'_>) {
    let is_after = |limit: &Limit| limit.by.iter().any(KeyPart::needs_identity);
    let is_unlimited = proxy.limits.limits.iter().all(is_after);
    for (is_there, key, what, signal) in [
        (proxy.auth.jwt.is_some(), "jwt", "tokens", Signal::ForgedToken),
        (proxy.auth.basic.is_some(), "basic", "passwords", Signal::WrongPassword),
    ] {
        let counts = |rule: &Rule| rule.signals.contains(&signal);
        if is_there && is_unlimited && !proxy.detect.rules.iter().any(counts) {
            let warning = Diagnostic::new(key, format!("nothing limits how many {what} an address can try"));
            let hint = format!("add [limit.address], or a [[rule]] with signals = [{:?}]", signal.name());
            reader.warn(warning.hint(hint));
        }
    }
}
