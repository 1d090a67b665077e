//! `cargo xtask bench reaction`: measures the time from offence to ban, and from the end of a minute with an anomaly to the ban
//! of its sources, by the end-to-end test of it, with the gateway that would be in service, in network namespaces of its own.

use std::{
    env, fs,
    io::{self, Write as _},
    process::Stdio,
};

use anyhow::Context as _;
use serde_json::Value;

use super::measured;
use crate::{
    build,
    step::{self, step},
};

/// What `cargo xtask bench reaction` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How many bans each case makes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=2_000))]
    bans: u16,
    /// Only the cases whose names contain this, such as "full load, bursts" or "anomaly".
    #[arg(long, default_value = "")]
    only: String,
    /// Print the figures as one JSON value.
    #[arg(long)]
    json: bool,
    /// Measure the gateway that is built for debugging: built in no time, and slower.
    #[arg(long)]
    debug: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    step::need("wrk", "wrk")?;
    build::run(&build::Arguments { release: !arguments.debug })?;
    let report = env::temp_dir().join(format!("gateway-bench-reaction-{}.json", std::process::id()));
    let mut command = measured::end_to_end("reaction::");
    command.env("GATEWAY_REPORT", &report).env("GATEWAY_REACTION_BANS", arguments.bans.to_string());
    command.env("GATEWAY_REACTION_ONLY", &arguments.only);
    if !arguments.debug {
        command.env("GATEWAY_BIN", measured::release());
    }
    step("reactions", command.stdout(Stdio::null()))?;
    let text = fs::read_to_string(&report).context("the test was skipped: it needs root")?;
    fs::remove_file(&report)?;
    let mut out = io::stdout().lock();
    if arguments.json {
        return Ok(writeln!(out, "{text}")?);
    }
    let cases: Vec<Value> = serde_json::from_str(&text)?;
    writeln!(out, "{:<36} {:>5} {:>9} {:>9} {:>9} {:>9}", "case", "bans", "p50 ms", "p90 ms", "p99 ms", "max ms")?;
    for case in cases {
        let millis = |name: &str| case.get(name).and_then(Value::as_f64).unwrap_or_default() / 1_000.0;
        let name = case.get("case").and_then(Value::as_str).unwrap_or_default();
        let bans = case.get("bans").and_then(Value::as_u64).unwrap_or_default();
        let [p50, p90, p99, max] = ["p50_us", "p90_us", "p99_us", "max_us"].map(millis);
        writeln!(out, "{name:<36} {bans:>5} {p50:>9.2} {p90:>9.2} {p99:>9.2} {max:>9.2}")?;
    }
    Ok(())
}
