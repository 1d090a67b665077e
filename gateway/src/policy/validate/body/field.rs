//! A member of a form, or a part of a multipart body.

use regex::Regex;

use super::media::MediaRange;
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
    /// The smallest, in bytes.
    pub(in crate::policy::validate) smallest: Option<u64>,
    /// The largest, in bytes.
    pub(in crate::policy::validate) largest: Option<u64>,
    /// What their names must match.
    pub(in crate::policy::validate) name: Option<Regex>,
}

impl FileLimits {
    /// Judges how long a file is, in bytes.
    ///
    /// # Errors
    /// The rule that it breaks, and what it must be.
    pub(in crate::policy::validate) fn judge_length(&self, length: u64) -> Result<(), (&'static str, &'static str)> {
        if self.largest.is_some_and(|largest| length > largest) {
            return Err(("maxSize", "must not be larger than a file may be here"));
        }
        if self.smallest.is_some_and(|smallest| length < smallest) {
            return Err(("minSize", "must not be smaller than a file may be here"));
        }
        Ok(())
    }
}
