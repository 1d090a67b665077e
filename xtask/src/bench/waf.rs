//! `cargo xtask bench waf`: what the firewall finds in corpora from packages of Debian, and what of benign text it refuses.
//! Attacks are those of wfuzz and sqlmap; benign are descriptions of packages and names.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use super::measured::library;
use crate::{places::root, step::step};

/// What `cargo xtask bench waf` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A folder with `attack/CATEGORY.txt` and `benign/NAME.txt`, one value a line [default: from packages of Debian]
    folder: Option<PathBuf>,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
}

/// The packages that have attacks.
const PACKAGES: [&str; 2] = ["wfuzz", "sqlmap"];

/// The lists of wfuzz, by category.
const LISTS: [(&str, &[&str]); 3] = [
    ("path_traversal", &["Injections/Traversal.txt", "vulns/dirTraversal-nix.txt", "vulns/dirTraversal-win.txt"]),
    ("sql_injection", &["Injections/SQL.txt", "vulns/sql_inj.txt"]),
    ("xss", &["Injections/XSS.txt"]),
];

/// What sqlmap puts in the place of its marks.
const MARKS: [(&str, &str); 14] = [
    ("[INFERENCE]", "7364=7364"),
    ("[RANDNUM]", "7364"),
    ("[RANDNUM1]", "2817"),
    ("[RANDNUM2]", "9035"),
    ("[RANDNUM3]", "4410"),
    ("[RANDNUM4]", "1158"),
    ("[RANDNUM5]", "6672"),
    ("[RANDSTR]", "qkzj"),
    ("[ORIGVALUE]", "1"),
    ("[SLEEPTIME]", "5"),
    ("[DELIMITER_START]", "qvbjq"),
    ("[DELIMITER_STOP]", "qkxpq"),
    ("[GENERIC_SQL_COMMENT]", "-- -"),
    ("[DELAYED]", "5000000"),
];

/// How many descriptions are taken.
const DESCRIPTIONS: usize = 20_000;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = match &arguments.folder {
        Some(folder) => fs::canonicalize(folder).with_context(|| folder.display().to_string())?,
        None => collect()?,
    };
    library("waf", arguments.json, &[folder.display().to_string()])
}

/// Makes a folder of corpora from packages.
fn collect() -> anyhow::Result<PathBuf> {
    let folder = root().join("target/corpora");
    let packages = folder.join("packages");
    let [attack, benign] = ["attack", "benign"].map(|kind| folder.join(kind));
    for folder in [&packages, &attack, &benign] {
        fs::create_dir_all(folder)?;
    }
    let lists = packages.join("usr/share/wfuzz/wordlist");
    let payloads = packages.join("usr/share/sqlmap/data/xml/payloads");
    if !lists.exists() || !payloads.exists() {
        step("download", Command::new("apt-get").arg("download").args(PACKAGES).current_dir(&packages))?;
        for file in files(&packages, "deb")? {
            step("extract", Command::new("dpkg-deb").arg("-x").arg(file).arg(&packages))?;
        }
    }
    for (category, names) in LISTS {
        let mut values = BTreeSet::new();
        for name in names {
            let text = fs::read(lists.join(name)).with_context(|| name.to_string())?;
            values.extend(String::from_utf8_lossy(&text).lines().map(str::to_owned));
        }
        if category == "sql_injection" {
            for file in files(&payloads, "xml")? {
                values.extend(rendered(&fs::read_to_string(file)?));
            }
        }
        write(&attack.join(category).with_extension("txt"), &values)?;
    }
    let names = fs::read(lists.join("others/names.txt"))?;
    write(&benign.join("names.txt"), &String::from_utf8_lossy(&names).lines().map(str::to_owned).collect())?;
    let available = Command::new("apt-cache").arg("dumpavail").output().context("apt-cache")?;
    let available = String::from_utf8_lossy(&available.stdout).into_owned();
    let described = available.lines().filter_map(|line| line.strip_prefix("Description: "));
    let described: BTreeSet<String> = described.take(DESCRIPTIONS).map(str::to_owned).collect();
    ensure!(!described.is_empty(), "apt knows no packages: run `apt-get update`");
    write(&benign.join("descriptions.txt"), &described)?;
    Ok(folder)
}

/// The files of a folder that end so.
fn files(folder: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn write(path: &Path, values: &BTreeSet<String>) -> anyhow::Result<()> {
    let mut text = String::new();
    for value in values.iter().filter(|value| !value.trim().is_empty()) {
        writeln!(text, "{value}")?;
    }
    Ok(fs::write(path, text)?)
}

/// The payloads of a file of sqlmap, behind a value in quotes and behind a number.
fn rendered(text: &str) -> Vec<String> {
    let mut payloads = Vec::new();
    // Without the remark that explains the file.
    for test in text.split("<test>").skip(1).filter(|test| test.contains("<request>")) {
        let between = |tag: &str| {
            let (_, rest) = test.split_once(&format!("<{tag}>"))?;
            Some(rest.split_once(&format!("</{tag}>"))?.0.trim().to_owned())
        };
        let Some(payload) = between("payload").filter(|payload| !payload.is_empty()) else { continue };
        let comment = between("comment").unwrap_or_default();
        let mut value = format!("{payload}{comment}").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        for (mark, text) in MARKS {
            value = value.replace(mark, text);
        }
        if !value.contains(['[', '<']) {
            payloads.push(format!("1' {value}"));
            payloads.push(format!("1 {value}"));
        }
    }
    payloads
}
