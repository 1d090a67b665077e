//! Decides where in the configuration's text a key is.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Errors, Files, errors::Located};
use crate::fault::Fault;

/// The configuration's text and the place of every key in it. Cheap to clone.
#[derive(Clone)]
pub struct Document {
    path: PathBuf,
    text: Arc<str>,
    places: Arc<BTreeMap<String, Range<usize>>>,
}

impl fmt::Debug for Document {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} ({} bytes)", self.path, self.text.len())
    }
}

impl Document {
    /// Reads the file. Faults of syntax are found here, faults of meaning are not.
    ///
    /// # Errors
    /// The file cannot be read, is not UTF-8, or is not TOML.
    pub(super) fn read(path: &Path, files: &dyn Files) -> Result<Self, Errors> {
        let content = files.read(path).map_err(|error| Errors::unreadable(path, &error))?;
        let text = match str::from_utf8(&content) {
            Ok(text) => Arc::<str>::from(text),
            Err(error) => {
                let valid = content.get(..error.valid_up_to()).unwrap_or_default();
                let document = Self::without_places(path, String::from_utf8_lossy(valid).into());
                let end = document.text.len();
                let fault = Fault::new("", "not UTF-8 from here on").hint("save the file as UTF-8, without a BOM");
                return Err(Errors::new(document, vec![Located::new(fault, end..end)]));
            }
        };
        let document = Self::without_places(path, text);
        let (root, mut broken) = DeTable::parse_recoverable(&document.text);
        broken.sort_by_key(|error| error.span().map_or(0, |span| span.start));
        if !broken.is_empty() {
            // The parser recovers within a line or two; what it says until then is a consequence of the first.
            let (mut faults, mut quiet) = (Vec::new(), 0);
            for error in &broken {
                let span = error.span().unwrap_or(0..0);
                let (line, _) = document.position(span.start);
                // A header that is broken leaves its keys to the table before, where they are there twice.
                let follows = !faults.is_empty() && error.message().starts_with("duplicate key");
                if line > quiet && !follows {
                    let fault = Fault::new("", format!("not TOML: {}", error.message()));
                    faults.push(Located::new(fault, span));
                    quiet = line + 1;
                }
            }
            return Err(Errors::new(document.clone(), faults));
        }
        let mut places = BTreeMap::new();
        note_table(String::new(), root.get_ref(), &mut places);
        Ok(Self { places: Arc::new(places), ..document.clone() })
    }

    pub(super) fn without_places(path: &Path, text: Arc<str>) -> Self {
        Self { path: path.to_owned(), text, places: Arc::default() }
    }

    /// Where it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The bytes of the value at `key`; of the nearest table around it where the key is missing.
    pub(super) fn span(&self, key: &str) -> Range<usize> {
        let mut key = key;
        loop {
            if let Some(place) = self.places.get(key) {
                return place.clone();
            }
            let Some(end) = key.rfind(['.', '[']) else { return 0..0 };
            key = key.get(..end).unwrap_or_default();
        }
    }

    /// The line, from 1, at which the value of `key` begins.
    #[must_use]
    pub fn line(&self, key: &str) -> usize {
        self.position(self.span(key).start).0
    }

    /// The line and the column, both from 1, the latter in characters, of the byte at `offset`.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

/// The key `name` inside the table `parent`, as one would write it in TOML.
pub(super) fn join(parent: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let name = if bare { name.to_owned() } else { format!("{name:?}") };
    if parent.is_empty() { name } else { format!("{parent}.{name}") }
}

fn note_table(parent: String, table: &DeTable<'_>, places: &mut BTreeMap<String, Range<usize>>) {
    for (name, value) in table {
        note(join(&parent, name.get_ref()), value, places);
    }
}

fn note(key: String, value: &Spanned<DeValue<'_>>, places: &mut BTreeMap<String, Range<usize>>) {
    match value.get_ref() {
        DeValue::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                note(format!("{key}[{index}]"), element, places);
            }
        }
        DeValue::Table(table) => note_table(key.clone(), table, places),
        _ => {}
    }
    places.insert(key, value.span());
}
