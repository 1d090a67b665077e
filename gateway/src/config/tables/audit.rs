//! Reads `[audit]`: the audit chain's files and its checkpoints.

use std::time::Duration;

use crate::{
    config::{reader::Keys, table::Table, value},
    settings::audit::{Keep, Settings},
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
    };
    table.finish();
    settings
}
