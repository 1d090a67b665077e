//! Reads `[overload]`: what is refused while the gateway itself has too much to do.

use std::time::Duration;

use crate::{
    config::{reader::Keys, table::Table, value},
    settings::priority::Overload,
};

/// The keys of `[overload]`.
pub(super) const KEYS: Keys = &[(
    "delay",
    "A worker that is always so late has too much to do: requests of the lowest class are answered 503 first.",
)];

pub(super) fn read(table: Table<'_>) -> Option<Overload> {
    let is_present = table.is_present();
    let (least, most) = (Duration::from_millis(5), Duration::from_secs(10));
    let delay = table.or("delay", Duration::from_millis(25), value::duration_in(least..=most));
    table.finish();
    is_present.then_some(Overload { delay })
}
