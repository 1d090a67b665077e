//! Reads `[validate]`: how bodies are checked by the schemas of routes.

use crate::{
    config::{reader::Keys, table::Table, value},
    settings::validate::Formats,
};

/// The keys of `[validate]`.
pub(super) const KEYS: Keys = &[(
    "formats",
    "What `format` in a schema means: `annotate` ignores it, `strict` refuses values that do not match.",
)];

pub(super) fn read(table: Table<'_>) -> Formats {
    let known = [("annotate", Formats::Annotate), ("strict", Formats::Strict)];
    let formats = table.or("formats", Formats::default(), value::choice(&known));
    table.finish();
    formats
}
