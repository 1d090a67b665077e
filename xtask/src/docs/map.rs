//! Whether the source map names the folders of the daemon.

use std::{fs, io, path::Path};

/// The page.
const MAP: &str = "docs/architecture/source-map.md";

/// Modules of which every folder belongs to one file beside it, and the map says what those files are.
const ONE_FILE_EACH: [&str; 2] = ["cli", "settings"];

/// Faults of the map of the tree at `root`.
pub(super) fn faults(root: &Path) -> io::Result<Vec<String>> {
    let map = fs::read_to_string(root.join(MAP))?;
    Ok(unnamed(&map, &folders(&root.join("gateway/src"))?))
}

/// The folders in `src`, and those in them, as paths from there. Folders of tests belong to what they test.
fn folders(src: &Path) -> io::Result<Vec<String>> {
    let mut all = Vec::new();
    for outer in names(src)? {
        if !ONE_FILE_EACH.contains(&outer.as_str()) {
            all.extend(names(&src.join(&outer))?.into_iter().map(|inner| format!("{outer}/{inner}")));
        }
        all.push(outer);
    }
    all.retain(|folder| !folder.ends_with("/tests"));
    all.sort();
    Ok(all)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// The folders that `map` does not name. An inner folder is named by its path, in the same line as the outer one, or in
/// the section that has the outer one in its heading.
fn unnamed(map: &str, folders: &[String]) -> Vec<String> {
    let is_named = |folder: &str| {
        let (outer, inner) = folder.split_once('/').map_or((folder, None), |(outer, inner)| (outer, Some(inner)));
        let (whole, outer_code) = (format!("`{folder}/`"), format!("`{outer}/`"));
        let section = format!("`gateway/src/{outer}/`");
        let mut is_section = false;
        map.lines().any(|line| {
            if line.starts_with('#') {
                is_section = line.contains(&section);
            }
            let is_below = inner.is_some_and(|inner| {
                line.contains(&format!("`{inner}/`")) && (is_section || line.contains(&outer_code))
            });
            line.contains(&whole) || is_below
        })
    };
    let lost = folders.iter().filter(|folder| !is_named(folder));
    lost.map(|folder| format!("{MAP}: does not name gateway/src/{folder}/")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::root;

    #[test]
    fn the_map_names_every_folder() {
        let faults = faults(&root()).unwrap();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn folders_that_the_map_lacks_are_found() {
        let map = "## All\n| `a/`: `b/` |\n| `c/` |\n| `c/d/` |\n## C: `gateway/src/c/`\n| `e/` |\n## D\n| `f/` |\n";
        for (folder, expect) in [
            ("a", true),
            ("a/b", true),
            ("c/d", true),
            ("c/e", true),
            ("c/f", false),
            ("a/e", false),
            ("e/x", false),
            ("g", false),
        ] {
            assert_eq!(unnamed(map, &[folder.to_owned()]).is_empty(), expect, "{folder}");
        }
    }
}
