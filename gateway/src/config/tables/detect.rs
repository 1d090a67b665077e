//! Reads `[detect]`: how many sources rules keep count of.

use crate::{
    config::{reader::Table, value},
    settings::detect::{Rule, Settings},
};

pub(super) fn read(mut table: Table<'_>, rules: Vec<Rule>) -> Settings {
    let capacity = table.or("capacity", 100_000, value::count(1..=10_000_000));
    table.finish();
    Settings { capacity, rules }
}
