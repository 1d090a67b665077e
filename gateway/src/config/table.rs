//! How a table of the configuration is read: each key is asked for by its name, with its meaning and its default, and
//! whatever [`Keys`] does not name is unknown.
//!
//! *Invariant:* a fault never ends the reading. What is wrong is reported and stands in for by its default, so that
//! one run names everything; a configuration with a fault is refused as a whole in the end.

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    diagnostics::MISSING,
    document::join,
    reader::{Absent, Keys, Reader},
    value::{self, closest, form::Form, kind},
};
use crate::{diagnostic::Diagnostic, os::file::NamedFile};

/// A table that says nothing: what the reference is made from.
static EMPTY: LazyLock<DeTable<'static>> = LazyLock::new(DeTable::new);

/// One table, possibly absent: an absent table gives every default.
pub(super) struct Table<'r> {
    reader: &'r Reader<'r>,
    key: String,
    keys: Keys,
    content: Option<&'r DeTable<'r>>,
    /// The table that says what this one leaves out.
    inherits: Option<&'static str>,
}

/// What is `true`, `false`, or a table.
pub(super) enum Switch<'r> {
    Plain(bool),
    Table(Table<'r>),
}

/// What is an array, or a table.
pub(super) enum Entry<'r, T> {
    /// Its elements, each with its own key.
    List(Vec<(String, T)>),
    Table(Table<'r>),
}

impl<'r> Table<'r> {
    pub(super) const fn root(reader: &'r Reader<'r>, content: &'r DeTable<'r>, keys: Keys) -> Self {
        Self { reader, key: String::new(), keys, content: Some(content), inherits: None }
    }

    fn within(&self, key: String, keys: Keys, content: Option<&'r DeTable<'r>>) -> Self {
        Self { reader: self.reader, key, keys, content, inherits: None }
    }

    /// The same table, whose defaults are what `table` says.
    pub(super) fn inheriting(self, table: &'static str) -> Self {
        Self { inherits: Some(table), ..self }
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

    /// Reports a fault at `name`.
    pub(super) fn report(&self, name: &str, wrong: Diagnostic) {
        self.reader.report(wrong.at(self.key(name)));
    }

    fn value(&self, name: &'static str) -> Option<&'r Spanned<DeValue<'r>>> {
        self.content?.get(name)
    }

    fn note(&self, name: &'static str, note: impl FnOnce() -> (String, Absent)) {
        self.reader.note(&self.key, self.keys, name, note);
    }

    fn read<T>(&self, name: &'static str, form: &impl Form<T>) -> Option<T> {
        form.read(self.value(name)?.get_ref()).map_err(|wrong| self.report(name, wrong)).ok()
    }

    /// What `name` says; `None` where it is absent or wrong.
    pub(super) fn optional<T>(&self, name: &'static str, form: impl Form<T>) -> Option<T> {
        self.note(name, || (form.takes(), Absent::None));
        self.read(name, &form)
    }

    /// What `name` says, or `default`.
    pub(super) fn or<T>(&self, name: &'static str, default: T, form: impl Form<T>) -> T {
        self.note(name, || {
            let written = || form.write(&default).map_or(Absent::None, Absent::Value);
            (form.takes(), self.inherits.map_or_else(written, Absent::Inherited))
        });
        self.read(name, &form).unwrap_or(default)
    }

    /// What `name` says. It must be there; `example` shows how.
    pub(super) fn required<T>(&self, name: &'static str, example: &str, form: impl Form<T>) -> Option<T> {
        self.note(name, || (form.takes(), Absent::Required(example.to_owned())));
        if !self.has(name) {
            self.report(name, missing(name, example));
        }
        self.read(name, &form)
    }

    /// The elements of the array `name`, each with its own key; empty where it is absent. Elements that are wrong are
    /// left out.
    pub(super) fn list<T>(&self, name: &'static str, form: impl Form<T>) -> Vec<(String, T)> {
        self.list_or(name, Vec::new(), form)
    }

    /// As [`Self::list`], and these where it is absent.
    pub(super) fn list_or<T>(&self, name: &'static str, default: Vec<T>, form: impl Form<T>) -> Vec<(String, T)> {
        self.note(name, || {
            let words: Vec<String> = default.iter().filter_map(|element| form.write(element)).collect();
            (format!("array of: {}", form.takes()), Absent::Value(format!("[{}]", words.join(", "))))
        });
        match self.value(name) {
            Some(value) => elements(self.reader, self.key(name), value.get_ref(), &form),
            None => default.into_iter().map(|element| (self.key(name), element)).collect(),
        }
    }

    /// As [`Self::list`], of at least one element; `example` shows how.
    pub(super) fn required_list<T>(&self, name: &'static str, example: &str, form: impl Form<T>) -> Vec<(String, T)> {
        self.note(name, || (format!("array of: {}", form.takes()), Absent::Required(example.to_owned())));
        match self.value(name).map(Spanned::get_ref) {
            None => self.report(name, missing(name, example)),
            Some(DeValue::Array(elements)) if elements.is_empty() => {
                let wrong = Diagnostic::bare("is empty");
                self.report(name, wrong.hint(format!("write, for example, `{name} = {example}`")));
            }
            Some(_) => {}
        }
        self.value(name).map_or_else(Vec::new, |value| elements(self.reader, self.key(name), value.get_ref(), &form))
    }

    /// The path `name`, from the configuration's folder.
    pub(super) fn path(&self, name: &'static str) -> Option<PathBuf> {
        self.note(name, || ("path".to_owned(), Absent::None));
        Some(self.reader.resolve(&self.read(name, &value::path)?))
    }

    /// As [`Self::path`], or `default`.
    pub(super) fn path_or(&self, name: &'static str, default: &str) -> PathBuf {
        self.note(name, || ("path".to_owned(), Absent::Value(format!("{default:?}"))));
        self.read(name, &value::path).map_or_else(|| default.into(), |text| self.reader.resolve(&text))
    }

    /// As [`Self::path`]. It must be there; `example` shows how.
    pub(super) fn required_path(&self, name: &'static str, example: &str) -> PathBuf {
        self.note(name, || ("path".to_owned(), Absent::Required(example.to_owned())));
        if !self.has(name) {
            self.report(name, missing(name, example));
        }
        self.path(name).unwrap_or_default()
    }

    /// The file `name`, read. It must be there.
    pub(super) fn required_file(&self, name: &'static str, example: &str) -> NamedFile {
        self.note(name, || ("path of a file".to_owned(), Absent::Required(example.to_owned())));
        if !self.has(name) {
            self.report(name, missing(name, example));
        }
        self.file(name).unwrap_or_else(|| NamedFile { path: PathBuf::new(), bytes: Arc::default() })
    }

    /// The file `name`, read.
    pub(super) fn file(&self, name: &'static str) -> Option<NamedFile> {
        self.note(name, || ("path of a file".to_owned(), Absent::None));
        let text = self.read(name, &value::path)?;
        let file = self.reader.file(&text).map_err(|wrong| self.report(name, wrong)).ok();
        // Reading goes on after a fault; an empty file stands in for one that cannot be read.
        Some(file.unwrap_or_else(|| NamedFile { path: self.reader.resolve(&text), bytes: Arc::default() }))
    }

    /// The files of the array `name`, read.
    pub(super) fn files(&self, name: &'static str) -> Vec<NamedFile> {
        let paths = self.list(name, value::form::described("path of a file", value::path));
        let read =
            |(key, text): (String, String)| self.reader.file(&text).map_err(|wrong| self.reader.report(wrong.at(key)));
        paths.into_iter().filter_map(|path| read(path).ok()).collect()
    }

    /// The table `[name]`.
    pub(super) fn table(&self, name: &'static str, keys: Keys) -> Self {
        self.note(name, || ("table".to_owned(), Absent::None));
        let key = self.key(name);
        let content = self.value(name).and_then(|value| self.as_table(&key, value.get_ref()));
        let content = content.or_else(|| self.reader.is_reference().then_some(&*EMPTY));
        self.within(key, keys, content)
    }

    /// `name`, which is `true`, `false`, or the table `[name]`.
    pub(super) fn switch(&self, name: &'static str, keys: Keys) -> Switch<'r> {
        self.note(name, || ("boolean or table".to_owned(), Absent::Value("false".to_owned())));
        let is_table = self.value(name).is_some_and(|value| matches!(value.get_ref(), DeValue::Table(_)));
        if is_table || self.reader.is_reference() {
            return Switch::Table(self.table(name, keys));
        }
        Switch::Plain(self.or(name, false, value::boolean()))
    }

    /// The tables `[[name]]`.
    pub(super) fn tables(&self, name: &'static str, keys: Keys) -> Vec<Self> {
        self.note(name, || ("array of tables".to_owned(), Absent::None));
        let key = self.key(name);
        let elements = match self.value(name).map(Spanned::get_ref) {
            None if self.reader.is_reference() => return vec![self.within(format!("{key}[0]"), keys, Some(&EMPTY))],
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
            Some(self.within(key, keys, Some(content)))
        };
        elements.iter().enumerate().filter_map(table).collect()
    }

    /// The tables `[name.ANYTHING]`, in the order of their names.
    pub(super) fn named_tables(&self, name: &'static str, keys: Keys) -> Vec<(String, Self)> {
        let parent = self.table(name, &[]);
        if self.reader.is_reference() {
            return vec![("NAME".to_owned(), self.within(parent.key("NAME"), keys, Some(&EMPTY)))];
        }
        let mut tables = Vec::new();
        for (name, value) in parent.content.into_iter().flatten() {
            let (key, name) = (parent.key(name.get_ref()), name.get_ref().to_string());
            if let Some(content) = self.as_table(&key, value.get_ref()) {
                tables.push((name, self.within(key, keys, Some(content))));
            }
        }
        tables
    }

    /// The tables `[name.ANYTHING]` as [`Self::named_tables`] has them, or the tables `[[name]]`, which have no name here.
    pub(super) fn named_or_listed_tables(&self, name: &'static str, keys: Keys) -> Vec<(Option<String>, Self)> {
        if self.value(name).is_some_and(|value| matches!(value.get_ref(), DeValue::Array(_))) {
            return self.tables(name, keys).into_iter().map(|table| (None, table)).collect();
        }
        self.named_tables(name, keys).into_iter().map(|(name, table)| (Some(name), table)).collect()
    }

    /// The arrays and tables in this table, by name: for tables whose keys are the operator's own. `keys` are those of
    /// the tables.
    pub(super) fn named_entries<T>(self, form: impl Form<T>, keys: Keys) -> Vec<(String, Entry<'r, T>)> {
        self.note_any(|| format!("array of: {}, or table", form.takes()));
        if let Some((any, _)) = self.keys.first().filter(|_| self.reader.is_reference()) {
            return vec![((*any).to_owned(), Entry::Table(self.within(self.key(any), keys, Some(&EMPTY))))];
        }
        let mut entries = Vec::new();
        for (name, value) in self.content.into_iter().flatten() {
            let key = self.key(name.get_ref());
            let entry = match value.get_ref() {
                DeValue::Table(table) => Entry::Table(self.within(key, keys, Some(table))),
                value => Entry::List(elements(self.reader, key, value, &form)),
            };
            entries.push((name.get_ref().to_string(), entry));
        }
        entries
    }

    /// The values in this table, by key and name: for tables whose keys are the operator's own.
    pub(super) fn named_values<T>(self, form: impl Form<T>) -> Vec<(String, String, Result<T, Diagnostic>)> {
        self.note_any(|| form.takes());
        let values = self.content.into_iter().flatten();
        let read = values
            .map(|(name, value)| (self.key(name.get_ref()), name.get_ref().to_string(), form.read(value.get_ref())));
        read.collect()
    }

    /// Notes the one name that stands for the operator's own.
    fn note_any(&self, takes: impl FnOnce() -> String) {
        if let Some((any, _)) = self.keys.first() {
            self.note(any, || (takes(), Absent::None));
        }
    }

    fn as_table(&self, key: &str, value: &'r DeValue<'r>) -> Option<&'r DeTable<'r>> {
        if let DeValue::Table(table) = value {
            return Some(table);
        }
        let wrong = Diagnostic::bare(format!("expected a table, found {}", kind(value)));
        self.reader.report(wrong.hint(format!("write `[{key}]` on a line of its own")).at(key));
        None
    }

    fn unknown(&self) -> impl Iterator<Item = &'r Spanned<toml::de::DeString<'r>>> {
        let keys = self.keys;
        let names = self.content.into_iter().flat_map(DeTable::keys);
        names.filter(move |name| !keys.iter().any(|(known, _)| *known == &**name.get_ref()))
    }

    /// Whether there is an unknown key: it may stand for one that seems to be missing.
    pub(super) fn has_unknown(&self) -> bool {
        self.unknown().next().is_some()
    }

    /// Reports every unknown key.
    pub(super) fn finish(self) {
        let known = || self.keys.iter().map(|(name, _)| *name);
        for name in self.unknown() {
            let text: &str = name.get_ref();
            let wrong = Diagnostic::bare("is unknown");
            let wrong = match closest(text, known()) {
                Some(known) => {
                    self.reader.withdraw_missing(&self.key(known));
                    wrong.hint(format!("did you mean `{known}`?"))
                }
                None => wrong.hint(format!("known here: {}", known().collect::<Vec<_>>().join(", "))),
            };
            self.reader.report_at(wrong.at(self.key(text)), name.span());
        }
    }
}

fn missing(name: &str, example: &str) -> Diagnostic {
    Diagnostic::bare(MISSING).hint(format!("write, for example, `{name} = {example}`"))
}

/// What a list says, without the keys of its elements.
pub(super) fn values<T>(list: Vec<(String, T)>) -> Vec<T> {
    list.into_iter().map(|(_, value)| value).collect()
}

fn elements<T>(reader: &Reader<'_>, key: String, value: &DeValue<'_>, form: &impl Form<T>) -> Vec<(String, T)> {
    let DeValue::Array(elements) = value else {
        let wrong = Diagnostic::bare(format!("expected an array, found {}", kind(value)));
        reader.report(wrong.hint("put it in brackets: `[...]`").at(key));
        return Vec::new();
    };
    let element = |(index, element): (usize, &Spanned<DeValue<'_>>)| {
        let key = format!("{key}[{index}]");
        match form.read(element.get_ref()) {
            Ok(value) => Some((key, value)),
            Err(wrong) => {
                reader.report(wrong.at(key));
                None
            }
        }
    };
    elements.iter().enumerate().filter_map(element).collect()
}
