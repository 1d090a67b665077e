//! `cargo xtask bench waf`: what the firewall finds in corpora from packages, and what of benign text it refuses. Attacks are
//! those of wfuzz, sqlmap, wapiti, fray, stryx, lfimap and fuzzmap; benign are descriptions of packages, names, sayings, and
//! bodies of webhooks.
//!
//! Lists of attacks also have values that ask how a program fails, such as `'` or `select`. Text is full of them, so they
//! are a corpus of their own, which has no target (see [`is_probe`]).

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use self::payload::{is_probe, text};
use super::measured::{files, library};
use crate::{places::root, step::step};

mod fetched;
mod modsecurity;
mod payload;

/// What `cargo xtask bench waf` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A folder with `attack/CATEGORY.txt`, `benign/NAME.txt` and perhaps `probe/CATEGORY.txt`, one value a line; or
    /// `.json`, a list of strings [default: from packages]
    folder: Option<PathBuf>,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
    /// Tell every value that is missed, or refused.
    #[arg(long)]
    all: bool,
    /// Leave out the Core Rule Set, which takes most of the time.
    #[arg(long, conflicts_with = "modsecurity")]
    built_in: bool,
    /// Compare the Core Rule Set here with libmodsecurity instead, at each paranoia level.
    #[arg(long)]
    modsecurity: bool,
    /// The Core Rule Set in this folder, such as a release of version 4: it has `crs-setup.conf` or its example, `rules/`,
    /// and for `--modsecurity` perhaps `tests/` [default: Debian's package]
    #[arg(long, value_name = "FOLDER", conflicts_with = "built_in")]
    rules: Option<PathBuf>,
}

/// The packages of Debian that have attacks, or benign text.
const PACKAGES: [&str; 6] = ["wfuzz", "sqlmap", "wapiti", "fortunes", "fortunes-min", "iso-codes"];

/// A category: its lists in wfuzz, and in wapiti.
type Lists = (&'static str, &'static [&'static str], &'static [&'static str]);

/// The lists by category.
const LISTS: [Lists; 5] = [
    ("command_injection", &[], &["execPayloads.txt"]),
    (
        "path_traversal",
        &["Injections/Traversal.txt", "vulns/dirTraversal-nix.txt", "vulns/dirTraversal-win.txt"],
        &["fileHandlingPayloads.ini"],
    ),
    ("sql_injection", &["Injections/SQL.txt", "vulns/sql_inj.txt"], &["blindSQLPayloads.txt"]),
    ("xss", &["Injections/XSS.txt"], &["xssPayloads.ini"]),
    ("xxe", &[], &["xxePayloads.ini"]),
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

/// What wapiti puts in the place of its marks. A line feed ends a value in our files, so another line break stands for it.
const MARKS_OF_WAPITI: [(&str, &str); 14] = [
    ("[LF]", "\r"),
    ("[TAB]", "\t"),
    ("[FF]", "\u{c}"),
    ("[VALUE]", "1"),
    ("[DIRVALUE]", "docs"),
    ("[EXTVALUE]", "txt"),
    ("[TIME]", "5"),
    ("[TIMEOUT]", ""),
    ("[ATTR_SEP]", "\" "),
    ("[VALUE_SEP]", "\""),
    ("[EXTERNAL_ENDPOINT]", "https://attacker.example/"),
    ("[SESSION_ID]/[PATH_ID]", "1/2"),
    ("[PARAM_AS_HEX]", "74"),
    ("\\0", "\0"),
];

/// How many descriptions are taken.
const DESCRIPTIONS: usize = 20_000;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = match &arguments.folder {
        Some(folder) => fs::canonicalize(folder).with_context(|| folder.display().to_string())?,
        None => collect()?,
    };
    let absolute = |folder: &PathBuf| fs::canonicalize(folder).with_context(|| folder.display().to_string());
    let rules = arguments.rules.as_ref().map(absolute).transpose()?;
    let (file, compare) = if arguments.modsecurity {
        (modsecurity::requests(&folder, rules.as_deref())?, Some("--compare".to_owned()))
    } else {
        (folder, None)
    };
    let all = arguments.all.then(|| "--all".to_owned());
    let built_in = arguments.built_in.then(|| "--built-in".to_owned());
    let rules = rules.map(|folder| format!("--rules={}", folder.display()));
    let more =
        [Some(file.display().to_string()), all, built_in, compare, rules].into_iter().flatten().collect::<Vec<_>>();
    library("waf", arguments.json, &more)
}

/// Makes a folder of corpora from packages.
fn collect() -> anyhow::Result<PathBuf> {
    let folder = root().join("target/corpora");
    let packages = folder.join("packages");
    let [attack, benign, probe] = ["attack", "benign", "probe"].map(|kind| folder.join(kind));
    for folder in [&packages, &attack, &benign, &probe] {
        fs::create_dir_all(folder)?;
    }
    let lists = packages.join("usr/share/wfuzz/wordlist");
    let payloads = packages.join("usr/share/sqlmap/data/xml/payloads");
    let wapiti = packages.join("usr/lib/python3/dist-packages/wapitiCore/data/attacks");
    let fortunes = packages.join("usr/share/games/fortunes");
    if ![&lists, &payloads, &wapiti, &fortunes].into_iter().all(|folder| folder.exists()) {
        // Quietly: standard output has the figures.
        step("download", Command::new("apt-get").args(["-qq", "download"]).args(PACKAGES).current_dir(&packages))?;
        for file in files(&packages, "deb")? {
            step("extract", Command::new("dpkg-deb").arg("-x").arg(file).arg(&packages))?;
        }
    }
    for (category, of_wfuzz, of_wapiti) in LISTS {
        let mut values = BTreeSet::new();
        for name in of_wfuzz {
            values.extend(text(&lists.join(name))?.lines().map(str::to_owned));
        }
        for name in of_wapiti {
            values.extend(listed(&text(&wapiti.join(name))?, name.ends_with(".ini")));
        }
        if category == "sql_injection" {
            for file in files(&payloads, "xml")? {
                values.extend(rendered(&text(&file)?));
            }
        }
        let (probes, attacks) = values.into_iter().partition(|value| is_probe(value));
        write(&probe.join(category).with_extension("txt"), &probes)?;
        write(&attack.join(category).with_extension("txt"), &attacks)?;
    }
    let names = text(&lists.join("others/names.txt"))?;
    write(&benign.join("names.txt"), &names.lines().map(str::to_owned).collect())?;
    let available = Command::new("apt-cache").arg("dumpavail").output().context("apt-cache")?;
    let available = String::from_utf8_lossy(&available.stdout).into_owned();
    let described = available.lines().filter_map(|line| line.strip_prefix("Description: "));
    let described: BTreeSet<String> = described.take(DESCRIPTIONS).map(str::to_owned).collect();
    ensure!(!described.is_empty(), "apt knows no packages: run `apt-get update`");
    write(&benign.join("descriptions.txt"), &described)?;
    fetched::collect(&folder, &packages)?;
    Ok(folder)
}

fn write(path: &Path, values: &BTreeSet<String>) -> anyhow::Result<()> {
    let mut text = String::new();
    for value in values.iter().filter(|value| !value.trim().is_empty()) {
        writeln!(text, "{value}")?;
    }
    Ok(fs::write(path, text)?)
}

/// The payloads of a file of wapiti, without those whose whole meaning is in what wapiti puts there.
fn listed(text: &str, is_ini: bool) -> Vec<String> {
    let lines = text.lines().filter_map(|line| if is_ini { line.strip_prefix("payload = ") } else { Some(line) });
    let lines = lines.filter(|line| !line.starts_with("[EXTERNAL_ENDPOINT]") && !line.starts_with("[FILE_NAME]"));
    lines
        .map(|line| MARKS_OF_WAPITI.iter().fold(line.to_owned(), |value, (mark, text)| value.replace(mark, text)))
        .collect()
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

#[cfg(test)]
mod tests {
    use super::{listed, payload::is_probe};

    #[test]
    fn probes_are_told_from_attacks() {
        for probe in ["'", "%27", "select", "order by", "1e100", " | ", ""] {
            assert!(is_probe(probe), "{probe} is taken for an attack");
        }
        for attack in ["admin'--", "%27%20or%201=1", "|env", "../", "%2e%2e%2f", "%zz"] {
            assert!(!is_probe(attack), "{attack} is taken for a probe");
        }
    }

    #[test]
    fn marks_of_wapiti_are_replaced() {
        assert_eq!(listed("a;sleep 60;[TIMEOUT]\n[VALUE][LF]env;\n[FILE_NAME]", false), ["a;sleep 60;", "1\renv;"]);
        let ini = "[name]\npayload = [ATTR_SEP]onload=[VALUE_SEP]x\nrules = none\n";
        assert_eq!(listed(ini, true), ["\" onload=\"x"]);
    }
}
