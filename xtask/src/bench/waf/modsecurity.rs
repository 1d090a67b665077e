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
const INSTALLED: [&str; 2] = ["/etc/modsecurity/crs/crs-setup.conf", "/usr/share/modsecurity-crs/rules"];

/// The names of the set-up in a folder of the rules: an operator's own, and that of a release.
const SETUPS: [&str; 2] = ["crs-setup.conf", "crs-setup.conf.example"];

/// Where the rules have their regression tests.
const TESTS: &str = "tests/regression/tests";

/// Where Debian lists its packages.
const SOURCES: &str = "/etc/apt/sources.list.d/debian.sources";

/// Makes the file of requests with the verdicts of libmodsecurity. `corpora` has more requests. `rules`: a folder of the Core
/// Rule Set, in the place of Debian's.
pub(super) fn requests(corpora: &Path, rules: Option<&Path>) -> anyhow::Result<PathBuf> {
    need("python3", "python3-venv")?;
    let [setup, installed] = match rules {
        Some(rules) => {
            let setup = SETUPS.iter().map(|name| rules.join(name)).find(|setup| setup.is_file());
            [setup.with_context(|| format!("{} has no crs-setup.conf", rules.display()))?, rules.join("rules")]
        }
        None => INSTALLED.map(PathBuf::from),
    };
    ensure!(installed.is_dir(), "{} is missing: install the package {RULES}", installed.display());
    let folder = root().join("target/modsecurity");
    fs::create_dir_all(&folder)?;
    let python = folder.join("python/bin/python");
    if !folder.join("python/installed").exists() {
        step("python", Command::new("python3").args(["-m", "venv"]).arg(folder.join("python")))?;
        step("python", Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES))?;
        fs::write(folder.join("python/installed"), "")?;
    }
    let tests = match rules {
        // Without tests, the sample of the gateway's own and the corpora are compared.
        Some(rules) => rules.join(TESTS),
        None => tests(&folder)?,
    };
    let (script, out) = (root().join("xtask/src/bench/waf/modsecurity.py"), folder.join("requests.jsonl"));
    step(
        "libmodsecurity",
        Command::new(&python).arg(script).args([&setup, &installed, &tests]).arg(corpora).arg(&out),
    )?;
    Ok(out)
}

/// The folder of the regression tests that come with the source of the installed rules.
fn tests(folder: &Path) -> anyhow::Result<PathBuf> {
    let source = folder.join("source");
    let tests = source.join(TESTS);
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
