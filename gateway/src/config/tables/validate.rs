//! Reads `[validate]`: how requests are checked by the schemas and documents of routes.

use crate::{
    config::{reader::Keys, table::Table, value},
    settings::{
        proxy,
        validate::{Details, Formats},
    },
};

/// The keys of `[validate]`.
pub(super) const KEYS: Keys = &[
    ("formats", "What a `format` means that nobody knows: `annotate` ignores it, `strict` refuses the schema."),
    (
        "details",
        "What a client is told of a request that is refused: `all` (where, and what is expected), `places`, or `none`.",
    ),
    ("files", "Files that schemas and OpenAPI documents may refer to by `$ref`."),
];

pub(super) fn read(table: Table<'_>, proxy: &mut proxy::Settings) {
    let known = [("annotate", Formats::Annotate), ("strict", Formats::Strict)];
    proxy.formats = table.or("formats", Formats::default(), value::choice(&known));
    let known = [("all", Details::All), ("places", Details::Places), ("none", Details::None)];
    proxy.details = table.or("details", Details::default(), value::choice(&known));
    proxy.schema_files = table.files("files");
    table.finish();
}
