//! How faults in a configuration are shown: file, line and column, the line itself, and what would be right.

use std::{error::Error, fmt, io, ops::Range, path::Path};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::{Serialize, Serializer, ser::SerializeSeq as _};

use super::{document::Document, hidden};
use crate::diagnostic::Diagnostic;

/// What is said of a key that must be there and is not.
pub(super) const MISSING: &str = "is missing";

/// How wide lines of the file are shown; of longer ones the part that is about the fault.
const WIDTH: usize = 80;

/// Every fault of one configuration, in the order of their places.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    document: Document,
    diagnostics: Vec<Located>,
    readable: bool,
}

/// A fault and the bytes it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Located {
    diagnostic: Diagnostic,
    span: Range<usize>,
}

impl Located {
    pub(super) const fn new(diagnostic: Diagnostic, span: Range<usize>) -> Self {
        Self { diagnostic, span }
    }

    /// The key that it is about.
    pub(super) fn key(&self) -> &str {
        &self.diagnostic.key
    }

    /// Whether it says that `key` is not there.
    pub(super) fn is_missing(&self, key: &str) -> bool {
        self.diagnostic.key == key && self.diagnostic.message == MISSING
    }
}

/// One fault as `--json` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown<'a> {
    /// The configuration's path.
    pub file: String,
    /// From 1; absent where the file cannot be read.
    pub line: Option<usize>,
    /// From 1, in characters; absent where the file cannot be read.
    pub column: Option<usize>,
    /// The key as in [`Diagnostic::key`]; empty for faults of syntax.
    pub key: &'a str,
    /// What is wrong.
    pub message: &'a str,
    /// What would be right.
    pub hint: Option<&'a str>,
}

impl Diagnostics {
    /// Faults of a configuration that was read, each placed by its key.
    #[must_use]
    pub fn from_diagnostics(document: &Document, diagnostics: Vec<Diagnostic>) -> Self {
        let place = |diagnostic: Diagnostic| {
            let span = document.span(&diagnostic.key);
            Located::new(diagnostic, span)
        };
        Self::new(document.clone(), diagnostics.into_iter().map(place).collect())
    }

    pub(super) fn new(document: Document, mut diagnostics: Vec<Located>) -> Self {
        for Located { diagnostic, .. } in &mut diagnostics {
            let span = document.span(&diagnostic.key);
            if let Some((value, _)) = hidden::secret(&diagnostic.key, document.text(), &span) {
                diagnostic.message = hidden::without(&diagnostic.message, value);
                diagnostic.hint = diagnostic.hint.as_deref().map(|hint| hidden::without(hint, value));
            }
        }
        diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
        diagnostics.dedup();
        Self { document, diagnostics, readable: true }
    }

    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let document = Document::without_places(path, "".into());
        let diagnostic = Diagnostic::new("", format!("cannot read {}: {error}", path.display()));
        let diagnostic = match error.kind() {
            io::ErrorKind::NotFound => diagnostic.hint(format!(
                "name the file with --config PATH, or write a first one: `gateway init {}`",
                path.display()
            )),
            io::ErrorKind::PermissionDenied => diagnostic.hint("run as root, or give this user the right to read it"),
            _ => diagnostic,
        };
        Self { document, diagnostics: vec![Located::new(diagnostic, 0..0)], readable: false }
    }

    /// Whether the file could be read at all.
    #[must_use]
    pub const fn readable(&self) -> bool {
        self.readable
    }

    /// Each fault with its place.
    pub fn shown(&self) -> impl ExactSizeIterator<Item = Shown<'_>> {
        self.diagnostics.iter().map(|Located { diagnostic, span }| {
            let position = self.readable.then(|| self.document.position(span.start));
            Shown {
                file: self.document.path().display().to_string(),
                line: position.map(|(line, _)| line),
                column: position.map(|(_, column)| column),
                key: &diagnostic.key,
                message: &diagnostic.message,
                hint: diagnostic.hint.as_deref(),
            }
        })
    }

    /// As people read it, as errors.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        self.draw(&Level::ERROR, colour)
    }

    /// As people read it, as warnings.
    #[must_use]
    pub fn render_as_warnings(&self, colour: bool) -> String {
        self.draw(&Level::WARNING, colour)
    }

    fn draw(&self, level: &Level<'static>, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.term_width(WIDTH);
        let path = self.document.path().display().to_string();
        // A line that is shown for one fault may have the secret of another.
        let secrets = self.diagnostics.iter().filter_map(|Located { diagnostic, .. }| {
            let span = self.document.span(&diagnostic.key);
            hidden::secret(&diagnostic.key, self.document.text(), &span).map(|(_, place)| place)
        });
        let text = hidden::masked(self.document.text(), &secrets.collect::<Vec<_>>());
        let drawn = self.diagnostics.iter().map(|Located { diagnostic, span }| {
            let title = if diagnostic.key.is_empty() { diagnostic.message.clone() } else { diagnostic.to_string() };
            let mut group = Group::with_title(level.clone().primary_title(title));
            if self.readable {
                let annotation = AnnotationKind::Primary.span(span.clone());
                group = group.element(Snippet::source(&*text).path(&path).annotation(annotation));
            }
            if let Some(hint) = &diagnostic.hint {
                group = group.element(Level::HELP.message(hint));
            }
            renderer.render(&[group])
        });
        drawn.collect::<Vec<_>>().join("\n\n")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.render(false))
    }
}

impl Error for Diagnostics {}

impl Serialize for Diagnostics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(self.diagnostics.len()))?;
        for diagnostic in self.shown() {
            sequence.serialize_element(&diagnostic)?;
        }
        sequence.end()
    }
}
