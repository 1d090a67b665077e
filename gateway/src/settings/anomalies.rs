//! `[anomalies]`: how far from what is usual something must be for somebody to be told.

use serde::{Deserialize, Serialize};

/// `[anomalies]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// `sensitivity`: how many deviations.
    pub sensitivity: f64,
    /// `minutes`: for how many minutes in a row.
    pub minutes: u32,
    /// `time_zone`: the name of the zone by whose hours of the week it is judged.
    pub zone: String,
}

/// The sensitivity is a whole number.
impl Eq for Settings {}
