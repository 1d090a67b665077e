//! What is written to the kernel program's maps: bans, rules, budgets and limits.

pub(super) mod batch;
pub(super) mod bits;
pub(super) mod budgets;
pub(super) mod limits;
pub(super) mod tries;
