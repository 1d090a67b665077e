//! `cargo xtask bench waf --modsecurity`: what the Core Rule Set says here, and what libmodsecurity says by the same rules.
//! Requests are the regression tests of the rules, from the source of Debian's package, and the corpora.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use super::files;
use crate::{
    places::root,
    step::{need, step},
};

/// What the script needs: the library, and a reader of YAML.
const PACKAGES: [&str; 2] = ["libmodsecurity==3.0.15.post2", "pyyaml==6.0.4"];

/// Debian's package: of rules, and of their source.
const RULES: &str = "modsecurity-crs";
const INSTALLED: &str = "/usr/share/modsecurity-crs/rules";

/// Where Debian lists its packages.
const SOURCES: &str = "/etc/apt/sources.list.d/debian.sources";

/// Makes the file of requests with the verdicts of libmodsecurity. `corpora` has more requests.
pub(super) fn requests(corpora: &Path) -> anyhow::Result<PathBuf> {
    need("python3", "python3-venv")?;
    ensure!(Path::new(INSTALLED).is_dir(), "the Core Rule Set is missing: install the package {RULES}");
    let folder = root().join("target/modsecurity");
    fs::create_dir_all(&folder)?;
    let python = folder.join("python/bin/python");
    if !folder.join("python/installed").exists() {
        step("python", Command::new("python3").args(["-m", "venv"]).arg(folder.join("python")))?;
        step("python", Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES))?;
        fs::write(folder.join("python/installed"), "")?;
    }
    let tests = tests(&folder)?;
    let (script, out) = (root().join("xtask/src/bench/waf/modsecurity.py"), folder.join("requests.jsonl"));
    step("libmodsecurity", Command::new(&python).arg(script).arg(tests).arg(corpora).arg(&out))?;
    Ok(out)
}

/// The folder of the regression tests that come with the source of the installed rules.
fn tests(folder: &Path) -> anyhow::Result<PathBuf> {
    let source = folder.join("source");
    let tests = source.join("tests/regression/tests");
    if tests.is_dir() {
        return Ok(tests);
    }
    // Lists of their own: those of the machine stay as they are.
    let list = folder.join("debian.sources");
    let known = fs::read_to_string(SOURCES).with_context(|| format!("{SOURCES}: is this Debian 12 or later?"))?;
    fs::write(&list, known.replace("Types: deb\n", "Types: deb-src\n"))?;
    let lists = folder.join("lists");
    fs::create_dir_all(&lists)?;
    fs::create_dir_all(&source)?;
    let options = [
        format!("Dir::Etc::SourceList={}", list.display()),
        "Dir::Etc::SourceParts=/nonexistent".to_owned(),
        format!("Dir::State::Lists={}", lists.display()),
    ];
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.current_dir(folder).arg("-qq");
        options.iter().for_each(|option| _ = apt.args(["-o", option]));
        apt.args(arguments);
        apt
    };
    step("download", &mut apt(&["update"]))?;
    step("download", &mut apt(&["source", "--download-only", RULES]))?;
    let archive = files(folder, "gz")?.pop().context("the source of the rules has no archive")?;
    let mut tar = Command::new("tar");
    step("extract", tar.args(["--strip-components=1", "--extract", "--file"]).arg(archive).arg("-C").arg(&source))?;
    ensure!(tests.is_dir(), "{}: the source of the rules has no tests", tests.display());
    Ok(tests)
}
