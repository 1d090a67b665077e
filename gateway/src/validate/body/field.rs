//! A member of a form, or a part of a multipart body.

use super::media::MediaRange;
use crate::validate::parameter::Parameter;

/// A member of a form, or a part of a multipart body.
#[derive(Clone, Debug)]
pub(in crate::validate) struct FormField {
    pub(in crate::validate) parameter: Parameter,
    /// The media types that a part may have; empty: any.
    pub(in crate::validate) types: Vec<MediaRange>,
    /// Whether it is a file, of which the content is not judged.
    pub(in crate::validate) is_file: bool,
}
