//! Reads `[[feed]]`: lists of sources to ban, in files.

use std::time::Duration;

use crate::{
    config::{
        reader::Keys,
        table::Table,
        value::{self, form::described, word::simple_name},
    },
    diagnostic::Diagnostic,
    settings::guard::{Feed, LONGEST_BAN, ListFormat},
};

/// The keys of `[[feed]]`.
pub(super) const KEYS: Keys = &[
    ("name", "The list's name."),
    ("path", "The file of the list. It is loaded again when it changes."),
    ("format", "The format of the file. Without it: recognised by its content."),
    ("ban", "How long an entry lasts after it was loaded. Without it: as long as it is listed."),
    ("shadow", "`true` counts what would be dropped and drops nothing."),
];

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn read(tables: Vec<Table<'_>>) -> Vec<Feed> {
    let mut read: Vec<Feed> = Vec::new();
    for table in tables {
        let name = table.required(
            "name",
            "\"firehol-level1\"",
            described("name", |value| {
                let name = value::text(value)?;
                simple_name(name).map(|()| name.to_owned())
            }),
        );
        if let Some(earlier) = read.iter().position(|feed| Some(&feed.name) == name.as_ref()) {
            let wrong = Diagnostic::bare(format!("the name is already used by feed[{earlier}]"));
            table.report("name", wrong.hint("give each feed a name of its own"));
        }
        let feed = Feed {
            name: name.unwrap_or_default(),
            path: table.required_path("path", "\"/var/lib/lists/drop.txt\""),
            format: table.optional("format", value::choice(&ListFormat::NAMES)),
            ban: table.optional("ban", value::duration_in(SECOND..=LONGEST_BAN)),
            shadow: table.or("shadow", false, value::boolean()),
        };
        table.finish();
        read.push(feed);
    }
    read
}
