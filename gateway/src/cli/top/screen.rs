//! What the user of `gateway top` has chosen: sort order, filter, selection.

use gateway_common::source::Source;

/// What blocks are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// Packets in a second.
    #[default]
    Rate,
    /// Packets since it began.
    Packets,
    /// Who ends first.
    Left,
    /// The youngest first.
    Age,
}

impl Sort {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rate => "packets/s",
            Self::Packets => "packets",
            Self::Left => "time left",
            Self::Age => "age",
        }
    }

    pub(super) const fn next(self) -> Self {
        match self {
            Self::Rate => Self::Packets,
            Self::Packets => Self::Left,
            Self::Left => Self::Age,
            Self::Age => Self::Rate,
        }
    }
}

/// What the user has chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Screen {
    pub(super) sort: Sort,
    pub(super) is_paused: bool,
    /// Of blocks, those alone that contain this.
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) is_typing: bool,
    pub(super) selected: usize,
    /// Whom to unblock, once that is confirmed.
    pub(super) asks: Option<Source>,
    pub(super) shows_help: bool,
    /// What came of the last action.
    pub(super) says: Option<String>,
}
