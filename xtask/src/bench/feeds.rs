//! `cargo xtask bench feeds`: measures lists of many entries, by the end-to-end test of them, with the gateway that
//! would be in service, in a network namespace of its own.

use std::{
    env, fs,
    io::{self, Write as _},
    process::Stdio,
};

use anyhow::Context as _;
use serde_json::{Map, Value};

use super::measured;
use crate::{build, step::step};

/// What `cargo xtask bench feeds` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How many entries a list has; of networks at most 131072.
    #[arg(long, default_value_t = 1_000_000)]
    entries: u32,
    /// Print the figures as one JSON value.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    build::run(&build::Arguments { release: true })?;
    let report = env::temp_dir().join(format!("gateway-bench-feeds-{}.json", std::process::id()));
    let mut command = measured::end_to_end("many::");
    command.env("GATEWAY_BIN", measured::release()).env("GATEWAY_REPORT", &report);
    command.env("GATEWAY_FEED_ENTRIES", arguments.entries.to_string());
    // Progress is told on standard error; what the test runner says is nobody's business.
    step("lists", command.stdout(Stdio::null()))?;
    let text = fs::read_to_string(&report).context("the test was skipped: it needs root")?;
    fs::remove_file(&report)?;
    let mut out = io::stdout().lock();
    if arguments.json {
        return Ok(writeln!(out, "{text}")?);
    }
    let lists: Vec<Map<String, Value>> = serde_json::from_str(&text)?;
    for mut list in lists {
        writeln!(out, "\n{}", list.remove("list").as_ref().and_then(Value::as_str).unwrap_or_default())?;
        for (name, value) in list {
            writeln!(out, "  {:<28} {}", name.replace('_', " "), value.to_string().trim_matches('"'))?;
        }
    }
    Ok(())
}
