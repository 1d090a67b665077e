//! Decides how bans are kept from doing harm, as `[guard]` says it.

use std::time::Duration;

use super::{table::Table, value};
use crate::guard::settings::Safety;

const DAY: Duration = Duration::from_secs(86_400);

/// Reads those settings of `[guard]` that are about the safety of bans.
pub(super) fn read(guard: &mut Table<'_>) -> Safety {
    let defaults = Safety::default();
    Safety { unban_grace: guard.or("unban_grace", defaults.unban_grace, value::duration_in(Duration::ZERO..=30 * DAY)) }
}
