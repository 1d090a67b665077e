//! Reads `waf.NAME.rules`: files in SecLang, what they include, and the lists of words that they name.

use std::path::{Path, PathBuf};

use crate::{
    config::{
        reader::Reader,
        table::Table,
        value::{self, form::described},
    },
    diagnostic::Diagnostic,
    os::file::NamedFile,
};

/// The most files of one rule set.
const MOST: usize = 500;

/// The paths that are named, and all files.
pub(super) fn read(table: &Table<'_>, reader: &Reader<'_>) -> (Vec<PathBuf>, Vec<NamedFile>) {
    let named = table.list("rules", described("path of a file, its last part with or without `*`", value::path));
    let mut files = Collected { reader, files: Vec::new(), faults: Vec::new() };
    let mut roots = Vec::new();
    for (key, text) in named {
        let path = reader.resolve(&text);
        files.add_all(&path, true);
        for fault in files.faults.drain(..) {
            reader.report(fault.at(key.clone()));
        }
        roots.push(path);
    }
    (roots, files.files)
}

struct Collected<'a, 'r> {
    reader: &'a Reader<'r>,
    files: Vec<NamedFile>,
    faults: Vec<Diagnostic>,
}

impl Collected<'_, '_> {
    /// Every file that a path names. `must`: there is one at least.
    fn add_all(&mut self, path: &Path, must: bool) {
        match self.reader.named_files(path) {
            Ok(found) if found.is_empty() && must => {
                let wrong = Diagnostic::bare(format!("no file is {}", path.display()));
                self.faults.push(wrong.hint("check the path, and that the rules are installed"));
            }
            Ok(found) => found.iter().for_each(|path| self.add(path, must)),
            Err(error) if must => {
                let wrong = Diagnostic::bare(format!("cannot read {}: {error}", path.display()));
                self.faults.push(wrong.hint("check the path, and that the rules are installed"));
            }
            Err(_) => {}
        }
    }

    fn add(&mut self, path: &Path, must: bool) {
        if self.files.iter().any(|file| file.path == path) {
            return;
        }
        if self.files.len() >= MOST {
            self.faults
                .push(Diagnostic::bare(format!("the rules have more than {MOST} files")).hint("name fewer files"));
            return;
        }
        let file = match self.reader.file_at(path.to_owned(), false) {
            Ok(file) => file,
            Err(wrong) => {
                if must {
                    self.faults.push(wrong);
                }
                return;
            }
        };
        let text = String::from_utf8_lossy(&file.bytes).into_owned();
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        self.files.push(file);
        for line in text.lines().map(str::trim) {
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let rest = rest.trim().trim_matches('"');
            // What may be missing is not missed here: who compiles the rules names what they lack.
            match &*word.to_ascii_lowercase() {
                "include" => self.add_all(&folder.join(rest), true),
                "includeoptional" => self.add_all(&folder.join(rest), false),
                _ => lists(line).for_each(|name| self.add(&folder.join(name), false)),
            }
        }
    }
}

/// The files that operators on a line of SecLang read.
fn lists(line: &str) -> impl Iterator<Item = &str> {
    const READ: [&str; 4] = ["@pmFromFile ", "@pmf ", "@ipMatchFromFile ", "@ipMatchF "];
    let found = READ.into_iter().filter_map(|operator| line.split_once(operator)).map(|(_, rest)| rest);
    found.flat_map(|rest| rest.split('"').next().unwrap_or_default().split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_words_are_found() {
        let names = |line| lists(line).collect::<Vec<_>>();
        assert_eq!(names("SecRule ARGS \"@pmFromFile a.data b.data\" \\"), ["a.data", "b.data"]);
        assert_eq!(names("SecRule ARGS \"!@pmFromFile a.data\" \"id:1\""), ["a.data"]);
        assert!(names("SecRule ARGS \"@pm a.data\"").is_empty());
    }
}
