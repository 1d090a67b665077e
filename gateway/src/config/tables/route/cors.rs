//! Reads `route.cors`: which `[cors.NAME]` counts.

use crate::{
    config::{
        reader::Table,
        tables::cors::{DEFAULT, NONE},
        value::{self, closest},
    },
    diagnostic::Diagnostic,
    settings::cors::Cors,
};

pub(super) fn read(table: &mut Table<'_>, groups: &[Cors]) -> Option<usize> {
    let find = |name: &str| groups.iter().position(|group| group.name == name);
    if !table.has("cors") {
        table.optional("cors", |_absent| Ok(()));
        return find(DEFAULT);
    }
    let named = table.optional("cors", |value| {
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
    });
    named.flatten()
}
