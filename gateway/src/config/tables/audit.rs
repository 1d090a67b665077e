//! Reads `[audit]`: the audit chain's files, its checkpoints, and where these are sent.

use std::time::Duration;

use crate::{
    config::{
        reader::Keys,
        table::Table,
        value::{self, form::described, word::simple_name},
    },
    diagnostic::Diagnostic,
    settings::audit::{Anchor, Keep, Settings, Target},
};

/// The keys of `[audit]`.
pub(super) const KEYS: Keys = &[
    ("max_size", "A file of the audit chain that is larger than this is closed, and the next one begins."),
    ("checkpoint", "A record is signed at the latest after this time."),
    (
        "keep_files",
        "How many closed files are kept. The oldest are deleted. Without the three `keep_` keys: all are kept.",
    ),
    ("keep_size", "How large the closed files may be together. The oldest are deleted."),
    ("keep_for", "How long a closed file is kept after its last record."),
    ("anchor", "Where checkpoints are sent, so that a cut or replaced chain is found. See `docs/audit.md`."),
];

/// The keys of `[[audit.anchor]]`.
const ANCHOR_KEYS: Keys = &[
    ("name", "The anchor's name, for `status` and warnings."),
    (
        "file",
        "A file to append checkpoints to, one JSON object a line. Choose another machine's disk or one that only appends.",
    ),
    ("every", "Checkpoints are sent at most this often. The newest one vouches for all before."),
];

const SECOND: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(86_400);

/// No file is so small that there would be one for every few records.
const SMALLEST: u64 = 64 << 10;

/// More is read at no start, and fits on no disk.
const LARGEST: u64 = 16 << 30;

pub(super) fn read(table: Table<'_>) -> Settings {
    let defaults = Settings::default();
    let settings = Settings {
        max_size: table.or("max_size", defaults.max_size, value::size_in(SMALLEST..=LARGEST)),
        checkpoint: table.or("checkpoint", defaults.checkpoint, value::duration_in(SECOND..=DAY / 24)),
        keep: Keep {
            files: table.optional("keep_files", value::count(0..=100_000)),
            bytes: table.optional("keep_size", value::size_in(0..=1 << 50)),
            age: table.optional("keep_for", value::duration_in(DAY..=36_500 * DAY)),
        },
        anchors: anchors(table.tables("anchor", ANCHOR_KEYS)),
    };
    table.finish();
    settings
}

fn anchors(tables: Vec<Table<'_>>) -> Vec<Anchor> {
    let mut read: Vec<Anchor> = Vec::new();
    for table in tables {
        let name = table.required(
            "name",
            "\"vault\"",
            described("name", |value| {
                let name = value::text(value)?;
                simple_name(name).map(|()| name.to_owned())
            }),
        );
        if let Some(earlier) = read.iter().position(|anchor| Some(&anchor.name) == name.as_ref()) {
            let wrong = Diagnostic::bare(format!("the name is already used by audit.anchor[{earlier}]"));
            table.report("name", wrong.hint("give each anchor a name of its own"));
        }
        let anchor = Anchor {
            name: name.unwrap_or_default(),
            target: Target::File(table.required_path("file", "\"/mnt/vault/anchors.jsonl\"")),
            every: table.or("every", 60 * SECOND, value::duration_in(SECOND..=DAY)),
        };
        table.finish();
        read.push(anchor);
    }
    read
}
