//! A type's name tells which type it is: one that stands more than once in a crate is written behind its module,
//! `jwt::Settings`, wherever it is used outside of its folder.
//!
//! Tests are left out, as everywhere in [`modules`](super::modules).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    modules::{File, Import, imports},
    tokens::{Token, tokens},
};

/// The faults of one crate. `root`: the folder of its sources; `name`: how binaries name its library.
pub(super) fn check(files: &[File], root: &str, name: &str) -> Vec<String> {
    let mut homes: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (at, file) in files.iter().enumerate() {
        for name in types(&file.code) {
            homes.entry(name.to_owned()).or_default().insert(at);
        }
    }
    let path = |at: usize| files.get(at).map_or("", |file| file.path.as_str());
    let is_fault = |import: &Import| {
        let homes = homes.get(&import.name).filter(|homes| homes.len() > 1 && homes.contains(&import.to));
        homes.is_some() && !is_near(path(import.from), path(import.to), root)
    };
    let faults = imports(files, root, name).into_iter().filter(is_fault).map(|Import { from, to, name }| {
        let (from, home) = (path(from), path(to));
        let module = home.trim_end_matches(".rs").rsplit('/').next().unwrap_or_default();
        format!(
            "{from}: imports `{name}` of {home} by a name that stands more than once: write `{module}::{name}`, or \
             give it a name of its own"
        )
    });
    faults.collect()
}

/// The types that a file defines, inline modules apart.
fn types(code: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut braces = 0_usize;
    let mut before = Token::Sign(' ');
    for token in tokens(code) {
        match (before, token) {
            (_, Token::Sign('{')) => braces += 1,
            (_, Token::Sign('}')) => braces = braces.saturating_sub(1),
            (Token::Word("struct" | "enum" | "union" | "trait" | "type"), Token::Word(name)) if braces == 0 => {
                names.push(name);
            }
            _ => {}
        }
        before = token;
    }
    names
}

/// Whether one file is in the folder of another. A file at the top of a crate is at home in the folder of its name.
fn is_near(path: &str, home: &str, root: &str) -> bool {
    let folder = home.rsplit_once('/').map(|(folder, _)| folder).filter(|folder| *folder != root);
    let folder = folder.unwrap_or_else(|| home.trim_end_matches(".rs"));
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(['/', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source;

    #[track_caller]
    fn finds(texts: &[(&str, &str)], expect: &[&str]) {
        let files: Vec<File> = texts.iter().map(|(path, text)| File::new(path, text, &source::code(text))).collect();
        let faults = check(&files, "src", "own");
        let all = expect.len() == faults.len() && faults.iter().zip(expect).all(|(fault, part)| fault.contains(part));
        assert!(all, "{faults:?}, not {expect:?}");
    }

    /// A crate of two folders that both define `Table`, and what a third file says of them.
    #[track_caller]
    fn says(path: &str, text: &str, expect: &[&str]) {
        let lib = ("src/lib.rs", "mod a; mod c; mod d;");
        let a = [("src/a.rs", "mod b; pub use b::Table;"), ("src/a/b.rs", "pub struct Table; pub enum Row {}")];
        let c = ("src/c.rs", "pub struct Table { row: u8 } impl X for Table { type Row = u8; }");
        finds(&[&[lib, a[0], a[1], c][..], &[(path, text)]].concat(), expect);
    }

    #[test]
    fn a_name_that_stands_twice_is_not_imported_from_afar() {
        says("src/d.rs", "use crate::a::b::Table;", &["src/d.rs: imports `Table` of src/a/b.rs"]);
        says("src/d.rs", "use crate::{a::Table as One, c};\nfn f(x: One, y: c::Table) {}", &[]);
        says("src/d.rs", "use super::c::{Table};", &["write `c::Table`"]);
        says("src/d.rs", "pub(crate) use crate::a::Table;", &["of src/a/b.rs"]);
    }

    #[test]
    fn a_folder_knows_its_own() {
        says("src/a/d.rs", "use super::b::Table;", &[]);
        says("src/c/d.rs", "use crate::c::Table;", &[]);
        says("src/c/d.rs", "use crate::a::b::Table;", &["src/c/d.rs"]);
    }

    #[test]
    fn other_names_and_tests_are_free() {
        says("src/d.rs", "use crate::a::b::Row;", &[]);
        says("src/d.rs", "#[cfg(test)]\nmod tests { use crate::a::b::Table; }", &[]);
        says("src/d/tests.rs", "use crate::a::b::Table;", &[]);
    }
}
