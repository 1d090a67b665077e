//! What became of a notification.

/// What became of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observer::alert) enum NotificationOutcome {
    /// It is worth another try, after so many milliseconds at least. `taken`: so many of its alerts, the first ones, have
    /// arrived, where the receiver is told of each by itself.
    Failed { why: String, wait: u64, taken: usize },
    /// The receiver does not want it: it would not the next time either.
    Refused(String),
    /// It was taken.
    Sent,
}

impl NotificationOutcome {
    /// A failure of all of it, and nothing is known of when to try again.
    pub(in crate::observer::alert) const fn failed(why: String) -> Self {
        Self::Failed { why, wait: 0, taken: 0 }
    }

    /// How many of so many alerts have arrived.
    pub(super) const fn taken(&self, all: usize) -> usize {
        match self {
            Self::Failed { taken, .. } => *taken,
            Self::Refused(_) | Self::Sent => all,
        }
    }
}
