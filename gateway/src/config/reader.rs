//! What the readers of all tables share: the text, the files that it names, and the diagnostics so far.

use std::{
    cell::RefCell,
    ops::Range,
    path::{Path, PathBuf},
};

use super::{diagnostics::Located, document::Document, files::Files};
use crate::{diagnostic::Diagnostic, os::file::NamedFile, text::wildcard};

/// What a reader knows of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// The key of its table.
    pub(super) table: String,
    /// All that the table knows.
    pub(super) keys: Keys,
    pub(super) name: &'static str,
    /// Type, bounds, words.
    pub(super) takes: String,
    pub(super) default: Absent,
}

/// What it means that a key is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// What this table says.
    Inherited(&'static str),
    /// Nothing.
    None,
    /// A fault; an example of what could be there.
    Required(String),
    /// This, as TOML.
    Value(String),
}

/// The keys of a table, each with a sentence of the reference that says what it is for.
pub(super) type Keys = &'static [(&'static str, &'static str)];

/// What is shared by all tables of one configuration.
pub(super) struct Reader<'a> {
    document: &'a Document,
    files: &'a dyn Files,
    diagnostics: RefCell<Vec<Located>>,
    warnings: RefCell<Vec<Diagnostic>>,
    /// What the readers of all tables know; `None`: nobody wants the reference.
    notes: Option<RefCell<Vec<Note>>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(document: &'a Document, files: &'a dyn Files) -> Self {
        Self { document, files, diagnostics: RefCell::default(), warnings: RefCell::default(), notes: None }
    }

    /// A reader that finds every table, each of them empty, and notes what is asked for.
    pub(super) fn for_reference(document: &'a Document, files: &'a dyn Files) -> Self {
        Self { notes: Some(RefCell::default()), ..Self::new(document, files) }
    }

    pub(super) const fn is_reference(&self) -> bool {
        self.notes.is_some()
    }

    /// Notes that the table at `key` was asked for `name`.
    pub(super) fn note(&self, key: &str, keys: Keys, name: &'static str, note: impl FnOnce() -> (String, Absent)) {
        let Some(notes) = &self.notes else { return };
        if !notes.borrow().iter().any(|known| known.table == key && known.name == name) {
            let (takes, default) = note();
            notes.borrow_mut().push(Note { table: key.to_owned(), keys, name, takes, default });
        }
    }

    /// What was noted, in the order in which it was asked for.
    pub(super) fn into_notes(self) -> Vec<Note> {
        self.notes.unwrap_or_default().into_inner()
    }

    /// Reports a fault at its key.
    pub(super) fn report(&self, diagnostic: Diagnostic) {
        let span = self.document.span(&diagnostic.key);
        self.report_at(diagnostic, span);
    }

    pub(super) fn report_at(&self, diagnostic: Diagnostic, span: Range<usize>) {
        self.diagnostics.borrow_mut().push(Located::new(diagnostic, span));
    }

    /// Reports a fault of a part of the string at its key, where the file has the string as it is, without escapes.
    pub(super) fn report_within(&self, diagnostic: Diagnostic, text: &str, part: Range<usize>) {
        let span = self.document.span(&diagnostic.key);
        let written = self.document.text().get(span.clone()).unwrap_or_default();
        let marks = [("\"", "\""), ("'", "'")];
        let is_plain = marks
            .iter()
            .any(|(begin, end)| written.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end)) == Some(text));
        // At the end of a text there is its closing mark to point at.
        let part = span.start + 1 + part.start..span.start + 1 + part.end.max(part.start + 1);
        self.report_at(diagnostic, if is_plain { part } else { span });
    }

    /// A key that is missing because it is misspelt is told of once, where it is.
    pub(super) fn withdraw_missing(&self, key: &str) {
        self.diagnostics.borrow_mut().retain(|diagnostic| !diagnostic.is_missing(key));
    }

    pub(super) fn warn(&self, warning: Diagnostic) {
        self.warnings.borrow_mut().push(warning);
    }

    /// All faults, then all warnings.
    pub(super) fn finish(self) -> (Vec<Located>, Vec<Diagnostic>) {
        (self.diagnostics.into_inner(), self.warnings.into_inner())
    }

    /// A path of the configuration, counted from the configuration's own folder.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.document.path().parent().unwrap_or(Path::new("")).join(path)
    }

    /// The permission bits of a file.
    pub(super) fn mode(&self, path: &Path) -> Option<u32> {
        self.files.mode(path)
    }

    /// The first of these files that can be read.
    pub(super) fn first_of(&self, paths: &[&str]) -> Option<NamedFile> {
        paths.iter().map(PathBuf::from).find_map(|path| {
            let bytes = self.files.read(&path).ok()?;
            Some(NamedFile { path, bytes })
        })
    }

    /// The files that a path names, whose last part may have a `*`, in their order.
    pub(super) fn named_files(&self, path: &Path) -> std::io::Result<Vec<PathBuf>> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(vec![path.to_owned()]) };
        let name = name.to_string_lossy();
        if !name.contains('*') {
            return Ok(vec![path.to_owned()]);
        }
        let mut found = self.files.list(folder)?;
        found.retain(|path| path.file_name().is_some_and(|own| wildcard::matches(&own.to_string_lossy(), &name)));
        found.sort_unstable();
        Ok(found)
    }

    pub(super) fn file(&self, text: &str) -> Result<NamedFile, Diagnostic> {
        self.file_at(self.resolve(text), Path::new(text).is_relative())
    }

    /// A file by its path. `is_relative`: it was written as one from the configuration's folder.
    pub(super) fn file_at(&self, path: PathBuf, is_relative: bool) -> Result<NamedFile, Diagnostic> {
        match self.files.read(&path) {
            Ok(bytes) => Ok(NamedFile { path, bytes }),
            Err(error) => {
                let shown = path.display();
                let wrong = Diagnostic::bare(format!("cannot read {shown}: {error}"));
                Err(match error.kind() {
                    std::io::ErrorKind::NotFound if is_relative => {
                        wrong.hint("relative paths count from the folder of the configuration file")
                    }
                    std::io::ErrorKind::NotFound => wrong.hint("check the path, and that the file exists"),
                    std::io::ErrorKind::PermissionDenied => {
                        wrong.hint("run as root, or give this user the right to read the file and enter its folders")
                    }
                    _ => wrong.hint("name a regular file of at most 16 MiB"),
                })
            }
        }
    }
}
