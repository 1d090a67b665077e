//! Reads `[[feed]]`: lists of sources to ban, in files.

use std::time::Duration;

use crate::{
    config::{
        errors::MISSING,
        reader::Table,
        value::{self, LONGEST_BAN, word::simple_name},
    },
    diagnostic::Diagnostic,
    settings::guard::{Feed, Format},
};

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn read(tables: Vec<Table<'_>>) -> Vec<Feed> {
    let mut read: Vec<Feed> = Vec::new();
    for mut table in tables {
        let name = table.required("name", "\"firehol-level1\"", |value| {
            let name = value::text(value)?;
            simple_name(name).map(|()| name.to_owned())
        });
        if let Some(earlier) = read.iter().position(|feed| Some(&feed.name) == name.as_ref()) {
            let wrong = Diagnostic::bare(format!("feed[{earlier}] has this name already"));
            table.report("name", wrong.hint("give each feed a name of its own"));
        }
        if !table.has("path") {
            table.report(
                "path",
                Diagnostic::bare(MISSING).hint("write, for example, `path = \"/var/lib/lists/drop.txt\"`"),
            );
        }
        let feed = Feed {
            name: name.unwrap_or_default(),
            path: table.path("path").unwrap_or_default(),
            format: table.optional("format", value::choice(&Format::NAMES)),
            ban: table.optional("ban", value::duration_in(SECOND..=LONGEST_BAN)),
            shadow: table.or("shadow", false, value::boolean),
        };
        table.finish();
        read.push(feed);
    }
    read
}
