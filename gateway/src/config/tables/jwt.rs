//! Reads `[jwt]`: which tokens prove who a client is.

use super::issuer;
use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value,
    },
    diagnostic::Diagnostic,
    settings::{detect::Rule, jwt::Settings, proxy},
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
pub(super) fn read(table: Table<'_>, issuers: Vec<(String, Table<'_>)>, reader: &Reader<'_>) -> Option<Settings> {
    let cache = table.or("cache", 10_000, value::count(1..=10_000_000));
    let mut all = issuer::read(issuers, reader);
    let is_issuer = issuer::KEYS.iter().any(|(key, _)| table.has(key));
    if table.is_present() && (is_issuer || all.is_empty() || reader.is_reference()) {
        all.insert(0, issuer::one(&table, None, reader));
    }
    issuer::tell_apart(&all, reader);
    table.finish();
    (!all.is_empty()).then_some(Settings { issuers: all, cache, kept: Vec::new() })
}

/// Warns where whoever guesses tokens may go on for ever.
pub(super) fn warn_of_guessing(proxy: &proxy::Settings, reader: &Reader<'_>) {
    let counts = |rule: &Rule| rule.signals.contains(&Signal::ForgedToken);
    if proxy.jwt.is_some() && proxy.address_limit.is_none() && !proxy.detect.rules.iter().any(counts) {
        let warning = Diagnostic::new("jwt", "nothing limits how many tokens an address can try");
        reader.warn(warning.hint("add [limit.address], or a [[rule]] with signals = [\"forged_token\"]"));
    }
}
