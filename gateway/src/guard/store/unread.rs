//! Reads rows one by one: a row that somebody else has written costs itself alone, and an operator is told of it.
//!
//! *Invariant:* bans in force and allowances are not read so. Where one of those cannot be read, the store is made anew
//! of what can be read, and the kernel and the audit chain know the rest.

use rusqlite::{Row, Rows};

use super::{database::BanStore, error::StoreError};
use crate::{guard::state_files::sqlite::is_of_a_row, text::counted::counted};

impl BanStore {
    /// Reads rows of a table. Those that cannot be read are left out.
    ///
    /// # Errors
    /// [`StoreError::Database`]: the file itself fails.
    pub(super) fn legible<T>(
        &self,
        table: &str,
        rows: Rows<'_>,
        read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let (all, done) = self.legible_until(table, rows, read);
        done.map(|()| all)
    }

    /// As [`Self::legible`], with what was read before the file failed.
    pub(super) fn legible_until<T>(
        &self,
        table: &str,
        mut rows: Rows<'_>,
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> (Vec<T>, Result<(), StoreError>) {
        let mut all = Vec::new();
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => return (all, Ok(())),
                Err(error) => return (all, Err(error.into())),
            };
            match read(row) {
                Ok(one) => all.push(one),
                Err(error) if error.is_of_a_row() => self.unread.note(table, &error),
                Err(error) => return (all, Err(error)),
            }
        }
    }

    /// What an operator should know of rows that were left out.
    pub(crate) fn unread_warning(&self) -> Option<String> {
        let known = self.unread.0.borrow();
        let first = known.first()?;
        let rows = counted(
            known.len(),
            "row of the ban store cannot be read and is",
            "rows of the ban store cannot be read and are",
        );
        Some(format!("{rows} left out. The first is in the table {first}"))
    }
}

impl StoreError {
    /// A row holds what this program never wrote. The others are as good as before.
    pub(super) fn is_of_a_row(&self) -> bool {
        match self {
            Self::Row { .. } => true,
            Self::Database(error) => is_of_a_row(error),
            _ => false,
        }
    }
}
