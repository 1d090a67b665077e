//! What the guard has the compiler do, and what that answers.

use serde::{Deserialize, Serialize};

use crate::snapshot::ContractLoss;

/// A configuration is to be compiled. Carries the [`Bundle`](super::Bundle) as a sealed memory file, and that of the
/// configuration in force where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileTask {
    /// So many bytes it may take.
    pub memory: u64,
    /// So much of a processor's time.
    pub seconds: u64,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompileResult {
    /// It can be compiled, within the limits.
    Compiled {
        /// What it takes away of what OpenAPI documents in force protect.
        losses: Vec<ContractLoss>,
    },
    /// It is not valid.
    Refused {
        /// Its faults, for people; at most [`MAX_REASON`](super::MAX_REASON) bytes.
        faults: String,
    },
}
