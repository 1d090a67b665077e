//! What of earlier bans could not be read, and why.

use crate::{guard::store::StoreError, text::counted::counted};

/// What could not be read since the start.
#[derive(Debug, Default)]
pub(super) struct Unrecalled {
    times: u64,
    /// Why not, the last time.
    why: String,
    /// The file is of no use any more: why.
    pub(super) damage: Option<String>,
}

impl Unrecalled {
    pub(super) fn note(&mut self, error: &StoreError) {
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
