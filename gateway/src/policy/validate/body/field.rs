//! A member of a form, or a part of a multipart body.

use regex::Regex;

use super::{file_lengths::FileLengths, media::MediaRange};
use crate::policy::validate::parameter::Parameter;

/// A member of a form, or a part of a multipart body.
#[derive(Clone, Debug)]
pub(in crate::policy::validate) struct FormField {
    pub(in crate::policy::validate) parameter: Parameter,
    /// The media types that a part may have; empty: any.
    pub(in crate::policy::validate) types: Vec<MediaRange>,
    /// What headers a part must have.
    pub(in crate::policy::validate) headers: Vec<Parameter>,
    /// Whether it is a file, of which the content is not judged.
    pub(in crate::policy::validate) is_file: bool,
    /// What its files must be.
    pub(in crate::policy::validate) files: FileLimits,
}

/// What files must be besides their types.
#[derive(Clone, Debug, Default)]
pub(in crate::policy::validate) struct FileLimits {
    /// How long they may be.
    pub(in crate::policy::validate) lengths: FileLengths,
    /// What their names must match.
    pub(in crate::policy::validate) name: Option<Regex>,
}
