//! Asks the store for what has ended. Decisions do without what cannot be read: a page that is damaged keeps nobody
//! from being banned, and no address from being explained.

use super::Journal;
use crate::guard::store::{BanStore, StoreError};

impl Journal {
    /// What the store says of what has ended.
    ///
    /// # Errors
    /// It cannot be read: why, for people. A file that is damaged is made anew within a second.
    pub(in super::super) fn recall<T>(
        &self,
        read: impl FnOnce(&BanStore) -> Result<T, StoreError>,
    ) -> Result<T, String> {
        read(&self.store).map_err(|error| {
            // One that is locked is free again in a moment.
            if !error.is_busy() {
                self.unrecalled.borrow_mut().note(&error);
            }
            error.to_string()
        })
    }

    /// Why the store is to be made anew, if a read has shown that.
    pub(super) fn take_damage(&self) -> Option<String> {
        self.unrecalled.borrow_mut().damage.take()
    }
}
