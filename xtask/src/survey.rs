//! `cargo xtask survey`: a reading list of the largest things in the source, for people. It is no gate: large may be right.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write as _},
    path::Path,
};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{places::root, tidy};

mod items;

use items::{Item, Items};

/// What `cargo xtask survey` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// How many of each to name.
    #[arg(long, default_value_t = 20)]
    first: usize,
    /// Also read the tests.
    #[arg(long)]
    tests: bool,
}

/// Reads the source and prints the list.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let survey = Survey::read(&root(), arguments.tests)?;
    let text = if arguments.json { survey.json(arguments.first).to_string() } else { survey.text(arguments.first) };
    // A pipe may be closed after the first lines.
    drop(writeln!(io::stdout(), "{text}"));
    Ok(())
}

/// The whole source by size, the largest first.
#[derive(Debug, Default)]
struct Survey {
    /// By lines.
    functions: Vec<Item>,
    /// By fields.
    structs: Vec<Item>,
    /// Folders by how many modules and folders they hold: a file beside the folder of its name counts once.
    folders: Vec<(usize, String)>,
    /// Names of types that stand twice or more in one crate, with their places.
    names: Vec<(String, Vec<Item>)>,
}

impl Survey {
    fn read(root: &Path, with_tests: bool) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        tidy::list(root, &mut files)?;
        files.sort();
        let mut survey = Self::default();
        let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut names: BTreeMap<(String, String), Vec<Item>> = BTreeMap::new();
        for file in files {
            let path = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
            if !with_tests && is_test(&path) {
                continue;
            }
            let Some((folder, name)) = path.rsplit_once('/') else { continue };
            folders.entry(folder.to_owned()).or_default().insert(name.trim_end_matches(".rs").to_owned());
            if let Some((parent, own)) = folder.rsplit_once('/') {
                folders.entry(parent.to_owned()).or_default().insert(own.to_owned());
            }
            let text = fs::read_to_string(&file).with_context(|| path.clone())?;
            let Items { functions, structs, types } =
                Items::read(&path, &text, with_tests).with_context(|| path.clone())?;
            survey.functions.extend(functions);
            survey.structs.extend(structs);
            let package = path.split('/').next().unwrap_or_default();
            for item in types {
                names.entry((package.to_owned(), item.name.clone())).or_default().push(item);
            }
        }
        survey.functions.sort_by(Item::largest_first);
        survey.structs.sort_by(Item::largest_first);
        survey.folders = folders.into_iter().map(|(folder, children)| (children.len(), folder)).collect();
        survey.folders.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        survey.names =
            names.into_iter().filter(|(_, items)| items.len() > 1).map(|((_, n), items)| (n, items)).collect();
        survey.names.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then_with(|| a.0.cmp(&b.0)));
        Ok(survey)
    }

    fn text(&self, first: usize) -> String {
        let items = |items: &[Item], unit: &str| {
            let line = |item: &Item| format!("{:>5} {unit}  {}  {}\n", item.size, item.name, item.place());
            items.iter().take(first).map(line).collect::<String>()
        };
        let folders = self.folders.iter().take(first).map(|(size, folder)| format!("{size:>5} modules  {folder}/\n"));
        let names = self.names.iter().take(first).map(|(name, items)| {
            let places: String = items.iter().map(|item| format!("             {}\n", item.place())).collect();
            format!("{:>5} times  {name}\n{places}", items.len())
        });
        format!(
            "The longest of {} functions\n{}\nThe widest of {} structs\n{}\nThe fullest of {} folders\n{}\n\
             The most common of {} type names that stand more than once in a crate\n{}",
            self.functions.len(),
            items(&self.functions, "lines"),
            self.structs.len(),
            items(&self.structs, "fields"),
            self.folders.len(),
            folders.collect::<String>(),
            self.names.len(),
            names.collect::<String>().trim_end(),
        )
    }

    fn json(&self, first: usize) -> Value {
        let items = |items: &[Item], unit: &str| -> Value {
            let row = |item: &Item| json!({unit: item.size, "name": item.name, "path": item.path, "line": item.line});
            items.iter().take(first).map(row).collect()
        };
        let place = |item: &Item| json!({"path": item.path, "line": item.line});
        let folders = self.folders.iter().take(first).map(|(size, path)| json!({"modules": size, "path": path}));
        let names = self.names.iter().take(first).map(|(name, items)| {
            json!({"name": name, "times": items.len(), "places": items.iter().map(place).collect::<Value>()})
        });
        json!({
            "functions": {"all": self.functions.len(), "first": items(&self.functions, "lines")},
            "structs": {"all": self.structs.len(), "first": items(&self.structs, "fields")},
            "folders": {"all": self.folders.len(), "first": folders.collect::<Value>()},
            "names": {"all": self.names.len(), "first": names.collect::<Value>()},
        })
    }
}

/// Whether a file is a test altogether.
fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_tree_is_read() {
        let survey = Survey::read(&root(), false).unwrap();
        assert!(survey.functions.first().is_some_and(|item| item.size > 20), "{:?}", survey.functions.first());
        assert!(survey.structs.first().is_some_and(|item| item.size > 5), "{:?}", survey.structs.first());
        assert!(survey.folders.iter().any(|(size, folder)| folder == "xtask/src" && *size > 5));
        assert!(survey.functions.iter().all(|item| !is_test(&item.path)));
        assert!(survey.text(1).lines().count() > 8, "{}", survey.text(1));
        assert_eq!(survey.json(1)["functions"]["first"].as_array().map(Vec::len), Some(1));
    }
}
