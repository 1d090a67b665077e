//! Reads `[revocation]`: where revocations come from besides commands.

use crate::{
    config::{reader::Keys, table::Table},
    settings::revocation,
};

/// The keys of `[revocation]`.
pub(super) const KEYS: Keys =
    &[("file", "A file with one revocation a line. It is read again when it changes. See `docs/api-keys.md`.")];

pub(super) fn read(table: Table<'_>) -> revocation::Settings {
    let settings = revocation::Settings { file: table.path("file") };
    table.finish();
    settings
}
