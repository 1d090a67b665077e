//! Time as a worker keeps it: one coarse clock for all deadlines, the date of responses, minimum rates, and when to write.

pub(super) mod date;
pub(super) mod deadline;
pub(super) mod min_rate;
pub(super) mod throttle;
pub(super) mod write_batching;
