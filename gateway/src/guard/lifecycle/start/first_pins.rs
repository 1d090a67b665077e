//! What the first start on this host pins in the kernel, until it is known that the gateway serves.
//!
//! *Invariant:* what was pinned before the start stays, whatever becomes of the start: bans go on.

use std::path::{Path, PathBuf};

use crate::guard::kernel::{self, KernelError};

/// Takes out of the kernel what a start has pinned, unless that is kept or something was pinned before.
pub(in crate::guard::lifecycle) struct FirstPins {
    pin_dir: PathBuf,
    is_first: bool,
}

impl FirstPins {
    /// To be made before anything is pinned, and dropped after whatever is attached there.
    pub(in crate::guard::lifecycle) fn of(pin_dir: &Path) -> Self {
        Self { pin_dir: pin_dir.to_owned(), is_first: !kernel::is_pinned(pin_dir) }
    }

    /// Nothing is taken out of the kernel any more; whether all that is pinned is of this start.
    pub(in crate::guard::lifecycle) fn keep(&mut self) -> bool {
        std::mem::take(&mut self.is_first)
    }
}

impl Drop for FirstPins {
    fn drop(&mut self) {
        if !self.is_first {
            return;
        }
        let dir = &self.pin_dir;
        match kernel::hold(dir).and_then(|hold| hold.map(|_hold| kernel::remove(dir)).transpose()) {
            Ok(_) | Err(KernelError::NotPermitted { .. } | KernelError::Shared(_)) => {}
            Err(error) => tracing::warn!(%error, "what a start that failed has pinned stays: see `gateway detach`"),
        }
    }
}
