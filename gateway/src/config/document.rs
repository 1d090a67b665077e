//! The configuration's text, and where in it each key is.

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
    /// A text and the place of every key in it.
    pub(super) fn with_places(self, root: &DeTable<'_>) -> Self {
        let mut places = BTreeMap::new();
        note_table(String::new(), root, &mut places);
        Self { places: Arc::new(places), ..self }
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

    /// Where the value of `key` stands: `FILE:LINE`; the file alone where nothing is said of it.
    #[must_use]
    pub fn place(&self, key: &str) -> String {
        let path = self.path.display();
        self.places.get(key).map_or_else(|| path.to_string(), |at| format!("{path}:{}", self.position(at.start).0))
    }

    /// Whether the text says anything of `key`.
    #[must_use]
    pub fn names(&self, key: &str) -> bool {
        self.places.contains_key(key)
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
