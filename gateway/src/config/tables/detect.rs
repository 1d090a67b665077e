//! Reads `[detect]`: how many sources rules keep count of.

use crate::{
    config::{reader::Keys, table::Table, value},
    settings::detect::{Rule, Settings},
};

/// The keys of `[detect]`.
pub(super) const KEYS: Keys = &[("capacity", "The number of sources whose signals are counted at once.")];

pub(super) fn read(table: Table<'_>, rules: Vec<Rule>) -> Settings {
    let capacity = table.or("capacity", 100_000, value::count(1..=10_000_000));
    table.finish();
    Settings { capacity, rules }
}
