//! `cargo xtask docs`: builds the book of docs/. It checks what the pages link to, which commands they show, and that the
//! source map is complete.

use std::{fs, io, path::Path, process::Command};

use anyhow::bail;
use clap::error::ErrorKind;

use crate::{
    places::{cargo, root},
    step::step,
};

mod map;
mod page;

use page::Page;

/// The version that the book is built by.
const MDBOOK: &str = "0.5.4";

/// A front page is read whole.
const MOST_LINES_OF_README: usize = 150;

/// What `cargo xtask docs` is told.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Check links and commands only: build no book, and install no mdbook for it.
    #[arg(long)]
    no_book: bool,
}

/// Checks every page and builds the book into target/book. `xtask`: the command line that pages may name.
pub(crate) fn run(arguments: &Arguments, xtask: &clap::Command) -> anyhow::Result<()> {
    let pages = pages(&root())?;
    let mut faults = faults(&root(), &pages, xtask);
    faults.extend(map::faults(&root())?);
    for fault in &faults {
        eprintln!("docs: {fault}");
    }
    if !faults.is_empty() {
        bail!("docs: {} faults", faults.len());
    }
    eprintln!("== docs: no faults in {} pages", pages.len());
    if arguments.no_book { Ok(()) } else { build() }
}

/// Builds the book, by a program that is installed into target/ the first time: a minute or two.
fn build() -> anyhow::Result<()> {
    let tools = root().join("target/tools");
    let mdbook = tools.join("bin/mdbook");
    let version = Command::new(&mdbook).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    if !String::from_utf8_lossy(&version).contains(MDBOOK) {
        let mut install = Command::new(cargo());
        install.args(["install", "mdbook", "--version", MDBOOK, "--locked", "--force", "--debug", "--root"]);
        install.arg(&tools).args(["--no-default-features", "--features", "search"]);
        step("mdbook", &mut install)?;
    }
    step("book", Command::new(mdbook).arg("build").arg(root().join("docs")))
}

/// The pages at the top and below docs/, in order.
fn pages(root: &Path) -> io::Result<Vec<Page>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.is_file() && is_page(&path) {
            paths.push(path);
        }
    }
    list(&root.join("docs"), &mut paths)?;
    paths.sort();
    let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
    paths.iter().map(|path| Ok(Page::read(&relative(path), &fs::read_to_string(path)?))).collect()
}

fn list(folder: &Path, paths: &mut Vec<std::path::PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, paths)?;
        } else if is_page(&path) {
            paths.push(path);
        }
    }
    Ok(())
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// Every fault of the pages, by page and line.
fn faults(root: &Path, pages: &[Page], xtask: &clap::Command) -> Vec<String> {
    let mut faults: Vec<String> = pages.iter().flat_map(|page| links(root, page, pages)).collect();
    faults.extend(pages.iter().flat_map(|page| commands(page, xtask)));
    faults.extend(pages.iter().flat_map(|page| paths(root, page)));
    if let Some(readme) = pages.iter().find(|page| page.path == "README.md" && page.length > MOST_LINES_OF_README) {
        faults.push(format!("README.md: {} lines; it may have {MOST_LINES_OF_README}", readme.length));
    }
    // A page that the summary does not name is not in the book.
    if let Some(summary) = pages.iter().find(|page| page.path == "docs/SUMMARY.md") {
        let named: Vec<String> = summary.links.iter().filter_map(|link| resolved(&summary.path, &link.to)).collect();
        let book = pages.iter().filter(|page| page.path.starts_with("docs/") && page.path != summary.path);
        let lost = book.filter(|page| !named.contains(&page.path));
        faults.extend(lost.map(|page| format!("{}: is not named in docs/SUMMARY.md", page.path)));
    }
    faults
}

/// Links of `page` that lead nowhere.
fn links(root: &Path, page: &Page, pages: &[Page]) -> Vec<String> {
    let mut faults = Vec::new();
    for link in &page.links {
        if link.to.contains("://") || link.to.starts_with("mailto:") {
            continue;
        }
        let mut fault = |what: &str| faults.push(format!("{}:{}: {}: {what}", page.path, link.line, link.to));
        let (path, anchor) = link.to.split_once('#').map_or((link.to.as_str(), None), |(path, at)| (path, Some(at)));
        let target = if path.is_empty() { Some(page.path.clone()) } else { resolved(&page.path, path) };
        let Some(target) = target else {
            fault("leads out of the repository");
            continue;
        };
        let known = pages.iter().find(|page| page.path == target);
        if known.is_none() && !root.join(&target).exists() {
            fault("there is no such file");
        } else if page.path.starts_with("docs/") && !target.starts_with("docs/") {
            fault("leads out of docs/, which is all that the book has");
        } else if let Some(anchor) = anchor
            && !known.is_some_and(|page| page.anchors.contains(anchor))
        {
            fault("that page has no such heading");
        }
    }
    faults
}

/// Files and folders that `page` names and that do not exist. The changelog names what there was.
fn paths(root: &Path, page: &Page) -> Vec<String> {
    let named = page.paths.iter().filter(|_| page.path != "CHANGELOG.md");
    let lost = named.filter(|(_, path)| !root.join(path).exists());
    lost.map(|(line, path)| format!("{}:{line}: there is no `{path}`", page.path)).collect()
}

/// `path` as seen from the page `from`, from the root on; `None` above it.
fn resolved(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Commands of `cargo xtask` that it would not understand.
fn commands(page: &Page, xtask: &clap::Command) -> Vec<String> {
    let mut faults = Vec::new();
    for (line, command) in &page.commands {
        let words = command.split_whitespace().take_while(|word| *word != "#");
        // `cargo xtask` is what the parser takes for the program's name.
        let parsed = xtask.clone().try_get_matches_from(words.skip(1));
        // A command that has subcommands may be named without one.
        if let Err(error) = parsed.map(drop)
            && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        {
            let said = error.to_string();
            let first = said.lines().next().unwrap_or_default();
            faults.push(format!("{}:{line}: `{command}`: {first}", page.path));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_their_page() {
        for (from, path, expect) in [
            ("README.md", "docs/a.md", Some("docs/a.md")),
            ("docs/a.md", "b.md", Some("docs/b.md")),
            ("docs/a/b.md", "../c.md", Some("docs/c.md")),
            ("docs/a.md", "../examples/x.toml", Some("examples/x.toml")),
            ("docs/a.md", "../../x", None),
        ] {
            assert_eq!(resolved(from, path).as_deref(), expect, "{path} from {from}");
        }
    }

    #[test]
    fn faults_are_found() {
        let read = |text: &str| {
            let pages = [Page::read("README.md", "# One\n"), Page::read("docs/a.md", text)];
            faults(&root(), &pages, &<crate::Command as clap::CommandFactory>::command())
        };
        for (text, expect) in [
            ("[a](a.md#b-c)\n\n# B `c`", ""),
            ("[a](https://a.example)", ""),
            ("a `cargo xtask tidy`", ""),
            ("a `cargo xtask bench`", ""),
            ("[a](none.md)", "docs/a.md:1: none.md: there is no such file"),
            ("\n[a](#none)", "docs/a.md:2: #none: that page has no such heading"),
            ("![a](../README.md)", "out of docs/"),
            ("[a](../../x)", "out of the repository"),
            ("a `xtask/src/docs.rs`", ""),
            ("a `xtask/src/gone.rs`", "docs/a.md:1: there is no `xtask/src/gone.rs`"),
            ("a `cargo xtask tidi`", "docs/a.md:1: `cargo xtask tidi`: error: unrecognized subcommand 'tidi'"),
            ("```sh\ncargo xtask run --plai  # x\n```", "docs/a.md:2: `cargo xtask run --plai  # x`"),
        ] {
            let found = read(text);
            assert_eq!(found.is_empty(), expect.is_empty(), "{text:?}: {found:?}");
            assert!(found.iter().all(|fault| fault.contains(expect)), "{text:?}: {found:?}");
        }
    }
}
