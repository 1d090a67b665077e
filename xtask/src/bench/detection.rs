//! `cargo xtask bench detect`: fetches what packages have of labelled series, logs and lists of scanners, and measures.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Context as _;

use super::measured::{files, library};
use crate::{
    places::root,
    step::{need, step},
};

/// What `cargo xtask bench detect` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
    /// A tenth of the traffic, and fewer series.
    #[arg(long)]
    quick: bool,
    /// One part: `rules` beside generated traffic, baselines beside generated `series`, what `packages` have, or the `cost` of a
    /// request.
    #[arg(long, value_parser = ["rules", "series", "packages", "cost"])]
    only: Option<String>,
}

/// Packages of PyPI that have labelled series: BSD 3-clause and Apache 2.0.
const WHEELS: [&str; 2] = ["sktime==1.2.0", "streamad==0.3.1"];

/// Packages of Debian: lists of scanners, and lines of logs with labels.
const PACKAGES: [&str; 4] = ["dirb", "dirsearch", "fail2ban", "wfuzz"];

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut more = Vec::new();
    if arguments.only.as_deref().is_none_or(|only| only == "packages") {
        let folder = collect().context("packages cannot be fetched; `--only rules` and the other parts need none")?;
        more.extend(["--corpora".to_owned(), folder.display().to_string()]);
    }
    more.extend(arguments.quick.then(|| "--quick".to_owned()));
    more.extend(arguments.only.iter().flat_map(|only| ["--only".to_owned(), only.clone()]));
    library("detect", arguments.json, &more)
}

/// Fetches what is not there yet.
fn collect() -> anyhow::Result<PathBuf> {
    let folder = root().join("target/corpora/detect");
    let [wheels, series, debs, logs] = ["wheels", "series", "debs", "logs"].map(|name| folder.join(name));
    for folder in [&wheels, &series, &debs, &logs] {
        fs::create_dir_all(folder)?;
    }
    // The mark stands once all is there: a download that was cut off is done again.
    let done = |name: &str| folder.join(name).with_extension("done");
    if !done("series").exists() {
        need("python3", "python3-pip")?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"]);
        // Quietly: standard output has the figures.
        step("download", pip.arg(&wheels).arg("--disable-pip-version-check").args(WHEELS))?;
        for wheel in files(&wheels, "whl")? {
            step("extract", Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&series))?;
        }
        fs::write(done("series"), "")?;
    }
    if !done("logs").exists() {
        step("download", Command::new("apt-get").args(["-qq", "download"]).args(PACKAGES).current_dir(&debs))?;
        for package in files(&debs, "deb")? {
            step("extract", Command::new("dpkg-deb").arg("-x").arg(package).arg(&logs))?;
        }
        fs::write(done("logs"), "")?;
    }
    Ok(folder)
}
