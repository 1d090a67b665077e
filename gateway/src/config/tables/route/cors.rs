//! Reads `route.cors`: which `[cors.NAME]` counts.

use crate::{
    config::{
        table::Table,
        tables::cors::{DEFAULT, NONE},
        value::{self, closest, form::described},
    },
    diagnostic::Diagnostic,
    settings::cors::Cors,
};

pub(super) fn read(table: &Table<'_>, groups: &[Cors]) -> Option<usize> {
    let find = |name: &str| groups.iter().position(|group| group.name == name);
    let named = table.optional(
        "cors",
        described("name of a `[cors.NAME]`, or `\"none\"`", |value| {
            let name = value::text(value)?;
            if name == NONE {
                return Ok(None);
            }
            find(name).map(Some).ok_or_else(|| {
                let wrong = Diagnostic::bare(format!("there is no [cors.{name}]"));
                let names = groups.iter().map(|group| group.name.as_str()).chain([NONE]);
                match closest(name, names) {
                    Some(near) => wrong.hint(format!("did you mean {near:?}?")),
                    None => wrong.hint(format!("add `[cors.{name}]` with `origins`, or write {NONE:?}")),
                }
            })
        }),
    );
    if table.has("cors") { named.flatten() } else { find(DEFAULT) }
}
