//! The files of a rule set: SecLang and lists of words, by their paths.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use crate::{os::file::NamedFile, text::wildcard};

/// All files that were read.
#[derive(Clone, Copy)]
pub(super) struct RuleFiles<'a>(pub(super) &'a [NamedFile]);

impl<'a> RuleFiles<'a> {
    /// The text of a file.
    pub(super) fn text(&self, path: &Path) -> Option<Cow<'a, str>> {
        let path = clean(path);
        let file = self.0.iter().find(|file| clean(&file.path) == path)?;
        Some(String::from_utf8_lossy(&file.bytes))
    }

    /// The files that a path names, whose last part may have a `*`, in their order.
    pub(super) fn named(&self, path: &Path) -> Vec<&'a Path> {
        let path = clean(path);
        let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else { return Vec::new() };
        let fits = |file: &&NamedFile| {
            let own = clean(&file.path);
            own.parent() == path.parent()
                && own.file_name().is_some_and(|own| wildcard::matches(&own.to_string_lossy(), &name))
        };
        let mut found: Vec<&Path> = self.0.iter().filter(fits).map(|file| file.path.as_path()).collect();
        found.sort_unstable();
        found
    }
}

/// A path without `.` in it.
fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}
