//! Something that is replaced as a whole while others use it.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

/// A value that is replaced as a whole.
pub struct Swap<T>(RwLock<Arc<T>>);

impl<T> Swap<T> {
    /// Begins with `value`.
    pub fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// What is there now. Whoever has it keeps it, whatever is put there later.
    pub fn load(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts `value` in its place.
    pub fn store(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

impl<T> fmt::Debug for Swap<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Swap")
    }
}
