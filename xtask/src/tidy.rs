//! `cargo xtask tidy`: the invariants of the source tree that no compiler checks, all faults told at once.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::bail;

use self::imports::Imports;
use crate::places::root;

mod circles;
mod imports;
mod modules;
mod policies;
mod source;
mod tokens;
mod type_names;

/// What `cargo xtask tidy` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Everything that may lie at the top: where things are is decided once.
const TOP: [&str; 25] = [
    ".cargo",
    ".ci",
    ".gitattributes",
    ".github",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "clippy.toml",
    "deny.toml",
    "docs",
    "examples",
    "gateway",
    "gateway-common",
    "gateway-ebpf",
    "packaging",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "tests",
    "xtask",
];

/// Names that say nothing.
const EMPTY_NAMES: [&str; 8] = ["common", "helper", "helpers", "manager", "misc", "mod", "util", "utils"];

const MOST_LINES: usize = 500;

/// The most lines of a function among the end-to-end tests: what goes on in one has to be seen at once.
const MOST_LINES_OF_A_TEST: usize = 100;

/// Checks the whole tree.
pub(crate) fn run(_arguments: &Arguments) -> anyhow::Result<()> {
    let (faults, imports) = faults(&root())?;
    for fault in &faults {
        eprintln!("tidy: {fault}");
    }
    eprintln!("== tidy: {}", imports.summary());
    if !faults.is_empty() {
        bail!("tidy: {} faults", faults.len());
    }
    eprintln!("== tidy: no faults");
    Ok(())
}

/// Every fault in the tree at `root`, in the order of the files, and what was found out about imports.
fn faults(root: &Path) -> io::Result<(Vec<String>, Imports)> {
    let mut faults = Vec::new();
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if ![".git", "target"].contains(&name.as_str()) && !TOP.contains(&name.as_str()) {
            faults.push(format!("{name}: has no place at the top of the tree"));
        }
    }
    let mut files = Vec::new();
    list(root, &mut files)?;
    files.sort();
    let mut read = Vec::new();
    for file in files {
        let path = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        let text = fs::read_to_string(&file)?;
        let code = source::code(&text);
        faults.extend(check(&path, &text, &code).into_iter().map(|fault| format!("{path}: {fault}")));
        read.push(modules::File::new(&path, &text, &code));
    }
    let mut imports = imports::check(read);
    faults.append(&mut imports.faults);
    Ok((faults, imports))
}

/// The Rust files below `folder`.
pub(crate) fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if kind.is_dir() && name != "target" && name != ".git" {
            list(&path, files)?;
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The faults of one file by itself. `code`: its text without comments and strings.
fn check(path: &str, text: &str, code: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if lines >= MOST_LINES {
        faults.push(format!("{lines} lines; under {MOST_LINES} is what one can keep in mind"));
    }
    if !text.starts_with("//! ") {
        faults.push("does not start with `//!` and what the file is for".to_owned());
    }
    let stem = Path::new(path).file_stem().unwrap_or_default().to_string_lossy();
    if EMPTY_NAMES.contains(&stem.as_ref()) {
        faults.push(format!("`{stem}` says nothing: name the concept"));
    }
    faults.extend(unsafety(path, text, code));
    for (number, line) in code.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        if source::has_word(line, "aya") && path.starts_with("gateway/src/") && !is_kernel(path) {
            faults.push(format!("line {number}: only guard/kernel names aya"));
        }
        if line.contains("#[ignore") {
            faults.push(format!("line {number}: a test that is ignored tests nothing"));
        }
        if line.contains("sleep(") && path.starts_with("tests/") && path != "tests/support/wait.rs" {
            faults.push(format!("line {number}: wait with support::wait, which asks until a deadline"));
        }
        if line.contains("fn get_") {
            faults.push(format!("line {number}: `get_` says nothing"));
        }
    }
    if path.starts_with("tests/e2e/") {
        let long = source::functions(code).into_iter().filter(|(_, lines)| *lines > MOST_LINES_OF_A_TEST);
        faults.extend(long.map(|(number, lines)| {
            format!("line {number}: a function of {lines} lines; at most {MOST_LINES_OF_A_TEST}: make it two tests")
        }));
    }
    for (number, attribute) in source::relaxations(code) {
        if !attribute.contains("reason") {
            faults.push(format!("line {number}: a relaxed lint carries its reason"));
        }
    }
    faults
}

/// `unsafe` only where the layout allows it, each time with the reason why it is sound.
fn unsafety(path: &str, text: &str, code: &str) -> Vec<String> {
    // The flood generator hands the kernel frames in bulk, and the bench programs of its own: no safe call does either.
    let is_test = ["tests/bench/", "tests/kernel/"].iter().any(|folder| path.starts_with(folder))
        || path == "tests/support/flood.rs";
    let is_os = path == "gateway/src/os.rs";
    let allowed = is_os || is_kernel(path) || path.starts_with("gateway-ebpf/") || is_test;
    let mut faults = Vec::new();
    let written: Vec<&str> = text.lines().collect();
    for (index, line) in code.lines().enumerate() {
        // Lint names and `#[unsafe(no_mangle)]` hold the word, not the deed.
        if !source::has_word(line, "unsafe") || line.contains("#[unsafe(") || line.contains("#![") {
            continue;
        }
        let number = index + 1;
        if !allowed {
            faults.push(format!("line {number}: unsafe has its place in gateway-ebpf, guard/kernel and os only"));
        }
        // The comment stands right above, or above the lines of the statement that the block is part of.
        let above = written.get(index.saturating_sub(6)..=index).unwrap_or_default();
        let explained = above.iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety"));
        if !explained {
            faults.push(format!("line {number}: unsafe without `// SAFETY:`"));
        }
    }
    faults
}

fn is_kernel(path: &str) -> bool {
    path == "gateway/src/guard/kernel.rs" || path.starts_with("gateway/src/guard/kernel/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let (faults, _) = faults(&root()).unwrap();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[track_caller]
    fn finds(path: &str, text: &str, expect: &[&str]) {
        let faults = check(path, text, &source::code(text));
        let all = expect.len() == faults.len() && faults.iter().zip(expect).all(|(fault, part)| fault.contains(part));
        assert!(all, "{path}: {faults:?}, not {expect:?}");
    }

    #[test]
    fn faults_are_found() {
        finds("gateway/src/os/clock.rs", "//! Decides.\n", &[]);
        finds("gateway/src/os/clock.rs", "use x;\n", &["//!"]);
        finds("gateway/src/os/clock/mod.rs", "//! Decides.\n", &["`mod`"]);
        finds("xtask/src/utils.rs", "//! Decides.\n", &["`utils`"]);
        finds("xtask/src/a.rs", &format!("//! Decides.\n{}", "\n".repeat(499)), &["500 lines"]);
        finds("gateway/src/os/clock.rs", "//! D.\nuse aya::Ebpf;\n", &["names aya"]);
        finds("gateway/src/os/clock.rs", "//! D.\n// aya is elsewhere\nlet s = \"aya\";\n", &[]);
        finds("gateway/src/guard/kernel/x.rs", "//! D.\nuse aya::Ebpf;\n", &[]);
        finds("gateway/src/os/clock.rs", "//! D.\n// SAFETY: no.\nunsafe { x() }\n", &["its place"]);
        finds("gateway/src/guard/kernel.rs", "//! D.\nunsafe impl Pod for X {}\n", &["SAFETY"]);
        finds("gateway/src/guard/kernel.rs", "//! D.\n// SAFETY: plain words.\nunsafe impl Pod for X {}\n", &[]);
        finds("gateway-ebpf/src/main.rs", "//! D.\n#[unsafe(no_mangle)]\nstatic X: u8 = 0;\n", &[]);
        finds("tests/e2e/a.rs", "//! D.\nthread::sleep(x);\n", &["support::wait"]);
        finds("tests/e2e/a.rs", "//! D.\n#[test]\n#[ignore]\nfn x() {}\n", &["ignored"]);
        let function = |lines: usize| format!("//! D.\nfn x() {{\n{}}}\n", "    y();\n".repeat(lines - 2));
        finds("tests/e2e/a.rs", &function(100), &[]);
        finds("tests/e2e/a.rs", &function(101), &["line 2: a function of 101 lines"]);
        finds("xtask/src/a.rs", &function(101), &[]);
        finds("xtask/src/a.rs", "//! D.\n#[allow(dead_code)]\nfn x() {}\n", &["reason"]);
        finds("xtask/src/a.rs", "//! D.\n#[expect(\n    dead_code,\n    reason = \"y\"\n)]\nfn x() {}\n", &[]);
        finds("xtask/src/a.rs", "//! D.\nfn get_x() {}\n", &["`get_`"]);
    }
}
