//! `[limit.address]`: how many requests a source may make.

/// `[limit.address]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `requests` per `per`, with bursts of up to `burst`.
    pub rate: gateway_common::limit::Rate,
    /// `capacity`: how many sources are kept count of at once.
    pub capacity: usize,
    /// `shadow`: what would have been refused is counted, and served.
    pub shadow: bool,
}
