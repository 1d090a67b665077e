//! The reference of the configuration, `docs/reference/configuration.md`: made from what the readers of all tables know.

use std::{fmt::Write as _, io, path::Path, sync::Arc};

use toml::de::DeTable;

use super::{
    document::Document,
    files::Files,
    reader::{Absent, Note, Reader},
    table::Table,
    tables,
};

const HEAD: &str = "\
# Configuration reference

<!-- Written by `cargo xtask reference` from the code. Change the code instead. -->

Every table and every key of `gateway.toml`. Unknown keys are errors. `gateway check` validates a file and prints the
values in force.

- A duration is a string: `\"500ms\"`, `\"10s\"`, `\"5m\"`, `\"1h30m\"`, `\"7d\"`.
- A size is a string or a number of bytes: `\"64KiB\"`, `\"1MiB\"`, `\"1GiB\"`, `65536`.
- A relative path starts at the folder of the configuration file.
- `[[name]]` is a table that may be there several times. `NAME` stands for a name that you choose.
";

/// The whole page.
pub(super) fn page() -> String {
    let notes = notes();
    let mut page = HEAD.to_owned();
    for note in notes.iter().filter(|note| note.table.is_empty()) {
        section(&mut page, &notes, note);
    }
    page
}

/// What all readers ask for when every table is there and empty, sorted as [`tables::KEYS`] and its like are.
fn notes() -> Vec<Note> {
    struct Empty;
    impl Files for Empty {
        fn read(&self, _path: &Path) -> io::Result<Arc<[u8]>> {
            Ok(Arc::default())
        }
    }
    let document = Document::without_places(Path::new("gateway.toml"), "".into());
    let reader = Reader::for_reference(&document, &Empty);
    let content = DeTable::new();
    tables::read(Table::root(&reader, &content, tables::KEYS), &reader);
    let mut notes = reader.into_notes();
    notes.sort_by_key(|note| note.keys.iter().position(|(name, _)| *name == note.name));
    notes
}

/// The table that `note` names, and the tables in it.
fn section(page: &mut String, notes: &[Note], note: &Note) {
    let key = if note.table.is_empty() { note.name.to_owned() } else { format!("{}.{}", note.table, note.name) };
    // A table that can be there several times, or whose name is the operator's, has its keys one step below.
    let below = [key.clone(), format!("{key}[0]"), format!("{key}.NAME")];
    let keys: Vec<&Note> = notes.iter().filter(|note| below.contains(&note.table)).collect();
    let Some(first) = keys.first() else { return };
    let level = if note.table.is_empty() { "##" } else { "###" };
    let header = header(&first.table);
    // Writing to a text cannot fail.
    writeln!(page, "\n{level} `{header}`\n\n{}\n", sentence(note)).unwrap_or_default();
    page.push_str("| Key | Type | Default | Meaning |\n|---|---|---|---|\n");
    for key in &keys {
        let default = match &key.default {
            Absent::Inherited(table) => format!("as in {table}"),
            Absent::None => "none".to_owned(),
            Absent::Required(example) if example.len() > 60 => "required".to_owned(),
            Absent::Required(example) => format!("required, such as `{example}`"),
            Absent::Value(text) => format!("`{text}`"),
        };
        let row = [format!("`{}`", key.name), key.takes.clone(), default, sentence(key).to_owned()];
        let row = row.map(|cell| cell.replace('|', "\\|"));
        writeln!(page, "| {} |", row.join(" | ")).unwrap_or_default();
    }
    for key in keys {
        section(page, notes, key);
    }
}

/// `route[0].when[0]` as one writes it: `[[route.when]]`.
fn header(key: &str) -> String {
    let name = key.replace("[0]", "");
    if key.ends_with("[0]") { format!("[[{name}]]") } else { format!("[{name}]") }
}

fn sentence(note: &Note) -> &'static str {
    note.keys.iter().find(|(name, _)| *name == note.name).map_or("", |(_, sentence)| sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No reader asks for a key that its table does not name, and no table names a key that its reader ignores.
    #[test]
    fn tables_and_readers_agree() {
        let notes = notes();
        for note in &notes {
            assert!(!sentence(note).is_empty(), "{}.{} has no sentence", note.table, note.name);
            let asked = |name: &str| notes.iter().any(|other| other.table == note.table && other.name == name);
            for (name, _) in note.keys {
                assert!(asked(name), "nobody reads {name} of {}", note.table);
            }
        }
        assert!(notes.len() > 150, "{}", notes.len());
    }

    #[test]
    fn headers() {
        for (key, expect) in [
            ("guard", "[guard]"),
            ("route[0]", "[[route]]"),
            ("route[0].when[0]", "[[route.when]]"),
            ("upstream.NAME.tls", "[upstream.NAME.tls]"),
        ] {
            assert_eq!(header(key), expect);
        }
    }
}
