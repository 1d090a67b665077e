//! Reads `[validate]`: how bodies are checked by the schemas of routes.

use crate::{
    config::{reader::Table, value},
    settings::validate::Formats,
};

pub(super) fn read(mut table: Table<'_>) -> Formats {
    let known = [("annotate", Formats::Annotate), ("strict", Formats::Strict)];
    let formats = table.or("formats", Formats::default(), value::choice(&known));
    table.finish();
    formats
}
