//! Reads `[geo]`: databases that say where addresses are.

use super::issuer::strings;
use crate::{
    config::{
        reader::{Keys, Reader},
        table::Table,
        value::form::described,
    },
    diagnostic::Diagnostic,
    net::geo::Geo,
};

/// The keys of `[geo]`.
pub(super) const KEYS: Keys = &[(
    "database",
    "A file in the MMDB format, or several of them: countries, autonomous systems. It is read again when it changes.",
)];

/// The most databases.
const MOST: usize = 4;

pub(super) fn read(table: Table<'_>, is_there: bool, reader: &Reader<'_>) -> Geo {
    let example = "\"/var/lib/geo/country.mmdb\"";
    let form = described("path of a file, or array of paths", strings);
    let is_there = is_there || reader.is_reference();
    let paths = if is_there { table.required("database", example, form) } else { table.optional("database", form) };
    let paths = paths.unwrap_or_default();
    let key = table.key("database");
    let wrong = |wrong: Diagnostic| reader.report(wrong.at(&key));
    if paths.len() > MOST {
        wrong(Diagnostic::bare(format!("names over {MOST} files")).hint("name one of countries and one of systems"));
    }
    let files = paths.iter().take(MOST).map(|path| reader.file(path)).collect::<Result<Vec<_>, _>>();
    let geo = match files {
        Ok(files) => Geo::new(files).map_err(|(at, why)| {
            let path = paths.get(at).map_or("", String::as_str);
            let message = format!("{path} is no whole database in the MMDB format: {why}");
            Diagnostic::bare(message).hint("fetch it again, and put it there by renaming it")
        }),
        Err(unreadable) => Err(unreadable),
    };
    table.finish();
    geo.map_err(wrong).unwrap_or_else(|()| Geo::unreadable())
}
