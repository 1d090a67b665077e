//! Reads a configuration's text and finds its faults of syntax.

use std::{path::Path, sync::Arc};

use toml::de::DeTable;

use super::{
    diagnostics::{Diagnostics, Located},
    document::Document,
    files::Files,
};
use crate::diagnostic::Diagnostic;

/// Reads the file. Faults of syntax are found here, faults of meaning are not.
///
/// # Errors
/// The file cannot be read, is not UTF-8, or is not TOML.
pub(super) fn read(path: &Path, files: &dyn Files) -> Result<Document, Diagnostics> {
    let content = files.read(path).map_err(|error| Diagnostics::unreadable(path, &error))?;
    let text = match str::from_utf8(&content) {
        Ok(text) => Arc::<str>::from(text),
        Err(error) => {
            let valid = content.get(..error.valid_up_to()).unwrap_or_default();
            let document = Document::without_places(path, String::from_utf8_lossy(valid).into());
            let end = document.text().len();
            let diagnostic =
                Diagnostic::new("", "not UTF-8 from here on").hint("save the file as UTF-8, without a BOM");
            return Err(Diagnostics::new(document, vec![Located::new(diagnostic, end..end)]));
        }
    };
    let document = Document::without_places(path, text);
    let (root, mut broken) = DeTable::parse_recoverable(document.text());
    broken.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    if !broken.is_empty() {
        // The parser recovers within a line or two; what it says until then is a consequence of the first.
        let (mut diagnostics, mut quiet) = (Vec::new(), 0);
        for error in &broken {
            let span = error.span().unwrap_or(0..0);
            let (line, _) = document.position(span.start);
            // A header that is broken leaves its keys to the table before, where they are there twice.
            let follows = !diagnostics.is_empty() && error.message().starts_with("duplicate key");
            if line > quiet && !follows {
                let diagnostic = Diagnostic::new("", format!("not TOML: {}", error.message()));
                diagnostics.push(Located::new(diagnostic, span));
                quiet = line + 1;
            }
        }
        return Err(Diagnostics::new(document.clone(), diagnostics));
    }
    Ok(document.clone().with_places(root.get_ref()))
}
