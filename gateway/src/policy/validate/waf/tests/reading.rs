//! What of a request the rules look at, for whoever knows what a strict reader finds in it: used by
//! the tests here, and by a fuzzer.

use super::{
    parts::Pair,
    request::{Values, WafRequest},
};

/// What is looked at.
pub(in crate::policy::validate) struct Inspected {
    pub(in crate::policy::validate) fields: Vec<Pair>,
    pub(in crate::policy::validate) files: Vec<Pair>,
    /// Names of what is not looked at, as it is no text.
    pub(in crate::policy::validate) unread: Vec<Vec<u8>>,
    /// Not all of it was read.
    pub(in crate::policy::validate) is_broken: bool,
    /// It is refused by itself.
    pub(in crate::policy::validate) is_refused: bool,
}

/// Takes a request apart.
pub(in crate::policy::validate) fn inspected(request: WafRequest<'_>) -> Inspected {
    let Values { parts, other, is_cut, .. } = Values::read(request);
    let is_refused = is_cut || parts.is_foreign || other.is_foreign;
    let is_broken = parts.error.is_some();
    let fields = parts.fields.into_iter().chain(other.fields).collect();
    let files = parts.files.into_iter().chain(other.files).collect();
    let unread = parts.unread.into_iter().chain(other.unread).collect();
    Inspected { fields, files, unread, is_broken, is_refused }
}
