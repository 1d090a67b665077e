//! What became of a notification.

/// What became of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observer::alert) enum NotificationOutcome {
    /// It is worth another try, after so many milliseconds at least. `taken`: so many of its alerts, the first ones, were
    /// answered, where the receiver is told of each by itself. `refused`: which of those it does not want.
    Failed { why: String, wait: u64, taken: usize, refused: Vec<usize> },
    /// The receiver does not want it as it is: the next try waits longer.
    Refused { why: String, alerts: RefusedAlerts },
    /// It was taken.
    Sent,
}

/// Which alerts of a notification nobody has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observer::alert) enum RefusedAlerts {
    /// All: they were in one request.
    All,
    /// These of them, by their place. None: somebody has each of them, and others do not want it.
    Only(Vec<usize>),
}

/// What became of one alert of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AlertOutcome {
    Failed,
    Refused,
    Taken,
}

impl NotificationOutcome {
    /// A failure of all of it, and nothing is known of when to try again.
    pub(in crate::observer::alert) const fn failed(why: String) -> Self {
        Self::Failed { why, wait: 0, taken: 0, refused: Vec::new() }
    }

    /// Nothing of it is wanted.
    pub(in crate::observer::alert) const fn refused(why: String) -> Self {
        Self::Refused { why, alerts: RefusedAlerts::All }
    }

    /// Why it was not taken.
    pub(in crate::observer::alert) fn why(&self) -> Option<&str> {
        match self {
            Self::Failed { why, .. } | Self::Refused { why, .. } => Some(why),
            Self::Sent => None,
        }
    }

    /// What became of the alert at this place.
    pub(super) fn of(&self, place: usize) -> AlertOutcome {
        match self {
            Self::Failed { taken, .. } if place >= *taken => AlertOutcome::Failed,
            Self::Refused { alerts: RefusedAlerts::All, .. } => AlertOutcome::Refused,
            Self::Failed { refused, .. } | Self::Refused { alerts: RefusedAlerts::Only(refused), .. }
                if refused.contains(&place) =>
            {
                AlertOutcome::Refused
            }
            _ => AlertOutcome::Taken,
        }
    }
}
