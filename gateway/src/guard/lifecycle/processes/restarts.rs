//! How often processes of the gateway were started again: a guard goes on counting where the one before it died.

use serde::{Deserialize, Serialize};

/// How often processes had to be started again, since the launcher began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::guard::lifecycle) struct Restarts {
    pub(in crate::guard::lifecycle) proxy: u64,
    /// Those of a proxy that came to a standstill.
    pub(in crate::guard::lifecycle) standstills: u64,
    pub(in crate::guard::lifecycle) observer: u64,
}
