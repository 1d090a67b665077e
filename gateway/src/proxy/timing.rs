//! Time as a worker keeps it: one coarse clock for all deadlines, and the date of answers.

pub(super) mod date;
pub(super) mod deadline;
