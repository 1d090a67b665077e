//! What became of a notification.

/// What became of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observer::alert) enum Outcome {
    /// It is worth another try, after so many milliseconds at least.
    Failed { why: String, wait: u64 },
    /// The receiver does not want it: it would not the next time either.
    Refused(String),
    /// It was taken.
    Sent,
}
