//! Asks the store for what has ended. Decisions do without what cannot be read: a page that is damaged keeps nobody
//! from being banned, and no address from being explained.

use super::Journal;
use crate::{
    guard::store::{BanStore, StoreError},
    text::counted::counted,
};

/// What could not be read since the start.
#[derive(Debug, Default)]
pub(super) struct Unrecalled {
    times: u64,
    /// Why not, the last time.
    why: String,
    /// The file is of no use any more: why.
    damage: Option<String>,
}

impl Unrecalled {
    fn note(&mut self, error: &StoreError) {
        if self.times == 0 {
            tracing::error!(%error, "earlier bans cannot be read: decisions do without them");
        }
        self.times += 1;
        self.why = error.to_string();
        if error.is_damage() {
            self.damage = Some(self.why.clone());
        }
    }

    /// What an operator should know.
    pub(super) fn warning(&self) -> Option<String> {
        (self.times > 0).then(|| {
            format!(
                "earlier bans could not be read {} since the start: bans did not grow by them, and `gateway why` did \
                 not tell of them: {}",
                counted(self.times, "time", "times"),
                self.why
            )
        })
    }
}

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
