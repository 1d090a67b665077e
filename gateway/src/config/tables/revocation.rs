//! Reads `[revocation]`: where revocations come from besides commands, and what counts while they cannot be read.

use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value,
    },
    diagnostic::Diagnostic,
    settings::{
        auth,
        revocation::{self, Unavailable},
    },
};

/// The keys of `[revocation]`.
pub(super) const KEYS: Keys = &[
    ("file", "A file with one revocation a line. It is read again when it changes. See `docs/api-keys.md`."),
    (
        "unavailable",
        "What becomes of requests with tokens while it is not known which are revoked, as `credentials.db` cannot be \
         opened or read, or `file` could not be read since the start: `\"refuse\"` with status 503, or `\"serve\"`.",
    ),
];

pub(super) fn read(table: Table<'_>) -> revocation::Settings {
    let choices = [("refuse", Unavailable::Refuse), ("serve", Unavailable::Serve)];
    let settings = revocation::Settings {
        file: table.path("file"),
        unavailable: table.or("unavailable", Unavailable::Refuse, value::choice(&choices)),
    };
    table.finish();
    settings
}

/// Warns of a file that can revoke nothing: nobody comes with what it is about.
pub(super) fn warn_of_no_effect(settings: &revocation::Settings, auth: &auth::Settings, reader: &Reader<'_>) {
    if settings.file.is_some() && !auth.has_revocable() {
        let warning = Diagnostic::new("revocation.file", "has no effect: neither tokens nor API keys are configured");
        reader.warn(warning.hint("leave it out, or add [jwt], [introspection.NAME] or [api_keys]"));
    }
}
