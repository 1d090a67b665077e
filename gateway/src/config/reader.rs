//! How a table of the configuration is read: each key is asked for once, with its meaning and its default, and whatever
//! nobody asked for is unknown.
//!
//! *Invariant:* a fault never ends the reading. What is wrong is reported and stands in for by its default, so that
//! one run names everything; a configuration with a fault is refused as a whole in the end.

use std::{
    cell::RefCell,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    document::{Document, join},
    errors::{Located, MISSING},
    files::Files,
    value::{closest, kind},
};
use crate::{diagnostic::Diagnostic, file::NamedFile};

/// What is shared by all tables of one configuration.
pub(super) struct Reader<'a> {
    document: &'a Document,
    files: &'a dyn Files,
    faults: RefCell<Vec<Located>>,
    warnings: RefCell<Vec<Diagnostic>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(document: &'a Document, files: &'a dyn Files) -> Self {
        Self { document, files, faults: RefCell::default(), warnings: RefCell::default() }
    }

    /// Reports a fault at its key.
    pub(super) fn report(&self, fault: Diagnostic) {
        let span = self.document.span(&fault.key);
        self.report_at(fault, span);
    }

    fn report_at(&self, fault: Diagnostic, span: Range<usize>) {
        self.faults.borrow_mut().push(Located::new(fault, span));
    }

    /// A key that is missing because it is misspelt is told of once, where it is.
    fn withdraw_missing(&self, key: &str) {
        self.faults.borrow_mut().retain(|fault| !fault.is_missing(key));
    }

    pub(super) fn warn(&self, warning: Diagnostic) {
        self.warnings.borrow_mut().push(warning);
    }

    /// All faults, then all warnings.
    pub(super) fn finish(self) -> (Vec<Located>, Vec<Diagnostic>) {
        (self.faults.into_inner(), self.warnings.into_inner())
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

    fn file(&self, text: &str) -> Result<NamedFile, Diagnostic> {
        let path = self.resolve(text);
        match self.files.read(&path) {
            Ok(bytes) => Ok(NamedFile { path, bytes }),
            Err(error) => {
                let shown = path.display();
                let wrong = Diagnostic::bare(format!("cannot read {shown}: {error}"));
                Err(match error.kind() {
                    std::io::ErrorKind::NotFound if Path::new(text).is_relative() => {
                        wrong.hint("relative paths count from the folder of the configuration file")
                    }
                    std::io::ErrorKind::NotFound => wrong.hint("check the path, and that the file was put there"),
                    std::io::ErrorKind::PermissionDenied => {
                        wrong.hint("run as root, or give this user the right to read the file and enter its folders")
                    }
                    _ => wrong.hint("name a regular file of at most 16 MiB"),
                })
            }
        }
    }
}

/// One table, possibly absent: an absent table gives every default.
pub(super) struct Table<'r> {
    reader: &'r Reader<'r>,
    key: String,
    content: Option<&'r DeTable<'r>>,
    asked: Vec<&'static str>,
}

impl<'r> Table<'r> {
    pub(super) const fn root(reader: &'r Reader<'r>, content: &'r DeTable<'r>) -> Self {
        Self { reader, key: String::new(), content: Some(content), asked: Vec::new() }
    }

    /// The whole key of `name` in this table.
    pub(super) fn key(&self, name: &str) -> String {
        join(&self.key, name)
    }

    /// The table's own key.
    pub(super) fn own_key(&self) -> &str {
        &self.key
    }

    /// Whether the table is in the file.
    pub(super) const fn is_present(&self) -> bool {
        self.content.is_some()
    }

    /// Whether `name` is in the table, well written or not.
    pub(super) fn has(&self, name: &str) -> bool {
        self.content.is_some_and(|content| content.contains_key(name))
    }

    /// Whether `name` is a table.
    pub(super) fn is_table(&self, name: &str) -> bool {
        let value = self.content.and_then(|content| content.get(name));
        value.is_some_and(|value| matches!(value.get_ref(), DeValue::Table(_)))
    }

    /// Reports a fault at `name`.
    pub(super) fn report(&self, name: &str, wrong: Diagnostic) {
        self.reader.report(wrong.at(self.key(name)));
    }

    fn value(&mut self, name: &'static str) -> Option<&'r Spanned<DeValue<'r>>> {
        if !self.asked.contains(&name) {
            self.asked.push(name);
        }
        self.content?.get(name)
    }

    /// What `name` says; `None` where it is absent or wrong.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, Diagnostic>,
    ) -> Option<T> {
        let value = self.value(name)?;
        read(value.get_ref()).map_err(|wrong| self.report(name, wrong)).ok()
    }

    /// What `name` says, or `default`.
    pub(super) fn or<T>(
        &mut self,
        name: &'static str,
        default: T,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, Diagnostic>,
    ) -> T {
        self.optional(name, read).unwrap_or(default)
    }

    /// What `name` says. It must be there; `example` shows how.
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        example: &str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, Diagnostic>,
    ) -> Option<T> {
        if !self.has(name) {
            self.report(name, Diagnostic::bare(MISSING).hint(format!("write, for example, `{name} = {example}`")));
        }
        self.optional(name, read)
    }

    /// The elements of the array `name`, each with its own key; empty where it is absent. Elements that are wrong are
    /// left out.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Diagnostic>,
    ) -> Vec<(String, T)> {
        let Some(value) = self.value(name) else { return Vec::new() };
        elements(self.reader, self.key(name), value.get_ref(), read)
    }

    /// As [`Self::list`], of at least one element; `example` shows how.
    pub(super) fn required_list<T>(
        &mut self,
        name: &'static str,
        example: &str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Diagnostic>,
    ) -> Vec<(String, T)> {
        let missing = match self.value(name).map(Spanned::get_ref) {
            None => Some(MISSING),
            Some(DeValue::Array(elements)) if elements.is_empty() => Some("is empty"),
            Some(_) => None,
        };
        if let Some(missing) = missing {
            self.report(name, Diagnostic::bare(missing).hint(format!("write, for example, `{name} = {example}`")));
        }
        self.list(name, read)
    }

    /// The path `name`, from the configuration's folder.
    pub(super) fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        let text = self.optional(name, super::value::path)?;
        Some(self.reader.resolve(&text))
    }

    /// The file `name`, read. It must be there.
    pub(super) fn required_file(&mut self, name: &'static str, example: &str) -> NamedFile {
        if !self.has(name) {
            self.report(name, Diagnostic::bare(MISSING).hint(format!("write, for example, `{name} = {example}`")));
        }
        self.file(name).unwrap_or_else(|| NamedFile { path: PathBuf::new(), bytes: Arc::default() })
    }

    /// The file `name`, read.
    pub(super) fn file(&mut self, name: &'static str) -> Option<NamedFile> {
        let text = self.optional(name, super::value::path)?;
        let file = self.reader.file(&text).map_err(|wrong| self.report(name, wrong)).ok();
        // Reading goes on after a fault; an empty file stands in for one that cannot be read.
        Some(file.unwrap_or_else(|| NamedFile { path: self.reader.resolve(&text), bytes: Arc::default() }))
    }

    /// The table `[name]`.
    pub(super) fn table(&mut self, name: &'static str) -> Self {
        let key = self.key(name);
        let content = self.value(name).and_then(|value| self.as_table(&key, value.get_ref()));
        Self { reader: self.reader, key, content, asked: Vec::new() }
    }

    /// The tables `[[name]]`.
    pub(super) fn tables(&mut self, name: &'static str) -> Vec<Self> {
        let key = self.key(name);
        let elements = match self.value(name).map(Spanned::get_ref) {
            None => return Vec::new(),
            Some(DeValue::Array(elements)) => elements,
            Some(_) => {
                let wrong = Diagnostic::bare("is a table, and there can be several of them");
                self.report(name, wrong.hint(format!("write `[[{key}]]` with two brackets")));
                return Vec::new();
            }
        };
        let table = |(index, element): (usize, &'r Spanned<DeValue<'r>>)| {
            let key = format!("{key}[{index}]");
            let content = self.as_table(&key, element.get_ref())?;
            Some(Self { reader: self.reader, key, content: Some(content), asked: Vec::new() })
        };
        elements.iter().enumerate().filter_map(table).collect()
    }

    /// The tables `[name.ANYTHING]`, in the order of their names.
    pub(super) fn named_tables(&mut self, name: &'static str) -> Vec<(String, Self)> {
        let parent = self.table(name);
        let mut tables = Vec::new();
        for (name, value) in parent.content.into_iter().flatten() {
            let (key, name) = (parent.key(name.get_ref()), name.get_ref().to_string());
            if let Some(content) = self.as_table(&key, value.get_ref()) {
                tables.push((name, Self { reader: self.reader, key, content: Some(content), asked: Vec::new() }));
            }
        }
        tables
    }

    /// The arrays in this table, by name: for tables whose keys are the operator's own.
    pub(super) fn named_lists<T>(
        self,
        read: impl Fn(&DeValue<'_>) -> Result<T, Diagnostic>,
    ) -> Vec<(String, Vec<(String, T)>)> {
        let mut lists = Vec::new();
        for (name, value) in self.content.into_iter().flatten() {
            let elements = elements(self.reader, self.key(name.get_ref()), value.get_ref(), &read);
            lists.push((name.get_ref().to_string(), elements));
        }
        lists
    }

    /// The values in this table, by key and name: for tables whose keys are the operator's own.
    pub(super) fn named_values<T>(
        self,
        read: impl Fn(&DeValue<'_>) -> Result<T, Diagnostic>,
    ) -> Vec<(String, String, Result<T, Diagnostic>)> {
        let values = self.content.into_iter().flatten();
        let values =
            values.map(|(name, value)| (self.key(name.get_ref()), name.get_ref().to_string(), read(value.get_ref())));
        values.collect()
    }

    fn as_table(&self, key: &str, value: &'r DeValue<'r>) -> Option<&'r DeTable<'r>> {
        if let DeValue::Table(table) = value {
            return Some(table);
        }
        let wrong = Diagnostic::bare(format!("expected a table, found {}", kind(value)));
        self.reader.report(wrong.hint(format!("write `[{key}]` on a line of its own")).at(key));
        None
    }

    /// Whether there is a key that nobody has asked for so far: it stands for one that seems to be missing.
    pub(super) fn has_unknown(&self) -> bool {
        self.content.into_iter().flat_map(DeTable::keys).any(|name| !self.asked.contains(&&**name.get_ref()))
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        for name in self.content.into_iter().flat_map(DeTable::keys) {
            let text: &str = name.get_ref();
            if self.asked.contains(&text) {
                continue;
            }
            let wrong = Diagnostic::bare("is unknown");
            let wrong = match closest(text, self.asked.iter().copied()) {
                Some(known) => {
                    self.reader.withdraw_missing(&self.key(known));
                    wrong.hint(format!("did you mean `{known}`?"))
                }
                None => wrong.hint(format!("known here: {}", self.asked.join(", "))),
            };
            self.reader.report_at(wrong.at(self.key(text)), name.span());
        }
    }
}

/// What a list says, without the keys of its elements.
pub(super) fn values<T>(list: Vec<(String, T)>) -> Vec<T> {
    list.into_iter().map(|(_, value)| value).collect()
}

fn elements<T>(
    reader: &Reader<'_>,
    key: String,
    value: &DeValue<'_>,
    read: impl Fn(&DeValue<'_>) -> Result<T, Diagnostic>,
) -> Vec<(String, T)> {
    let DeValue::Array(elements) = value else {
        let wrong = Diagnostic::bare(format!("expected an array, found {}", kind(value)));
        reader.report(wrong.hint("put it in brackets: `[...]`").at(key));
        return Vec::new();
    };
    let element = |(index, element): (usize, &Spanned<DeValue<'_>>)| {
        let key = format!("{key}[{index}]");
        match read(element.get_ref()) {
            Ok(value) => Some((key, value)),
            Err(wrong) => {
                reader.report(wrong.at(key));
                None
            }
        }
    };
    elements.iter().enumerate().filter_map(element).collect()
}
