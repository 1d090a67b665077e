//! `cargo xtask bench reaction`: measures the time from offence to ban, and from the end of a minute with an anomaly to the ban
//! of its sources, by the end-to-end test of it, with the gateway that would be in service, in network namespaces of its own.
//! It fails if a case misses its goal.

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
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=2_000))]
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
    let cases: Vec<Value> = serde_json::from_str(&text)?;
    if arguments.json {
        writeln!(out, "{text}")?;
        return judge(&cases);
    }
    writeln!(out, "{:<36} {:>5} {:>9} {:>9} {:>9} {:>9}", "case", "bans", "p50 ms", "p90 ms", "p99 ms", "max ms")?;
    for case in &cases {
        let millis = |name: &str| case.get(name).and_then(Value::as_f64).unwrap_or_default() / 1_000.0;
        let name = case.get("case").and_then(Value::as_str).unwrap_or_default();
        let bans = case.get("bans").and_then(Value::as_u64).unwrap_or_default();
        let [p50, p90, p99, max] = ["p50_us", "p90_us", "p99_us", "max_us"].map(millis);
        writeln!(out, "{name:<36} {bans:>5} {p50:>9.2} {p90:>9.2} {p99:>9.2} {max:>9.2}")?;
    }
    judge(&cases)
}

/// How long 99 of 100 bans may take in a case, in microseconds, as `docs/performance.md` says.
fn goal(case: &str) -> f64 {
    match case {
        case if case.starts_with("anomaly") => 2_000_000.0,
        case if case.starts_with("idle") => 1_000.0,
        _ => 5_000.0,
    }
}

/// Fails with every case that misses its goal, and one without a figure.
fn judge(cases: &[Value]) -> anyhow::Result<()> {
    let miss = |case: &Value| {
        let name = case.get("case").and_then(Value::as_str).unwrap_or_default();
        let (goal, p99) = (goal(name), case.get("p99_us").and_then(Value::as_f64));
        let figure = p99.map_or_else(|| "unknown".to_owned(), |p99| format!("{:.2} ms", p99 / 1_000.0));
        let is_missed = p99.is_none_or(|p99| p99 > goal);
        is_missed.then(|| format!("{name}: p99 is {figure}, the goal {:.0} ms", goal / 1_000.0))
    };
    let missed: Vec<String> = cases.iter().filter_map(miss).collect();
    anyhow::ensure!(!cases.is_empty(), "no case was measured");
    anyhow::ensure!(missed.is_empty(), "goals are missed\n  {}", missed.join("\n  "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_misses_its_goal_fails() {
        for (case, p99, expect) in [
            ("idle, back to back", Some(1_000), ""),
            ("idle, back to back", Some(1_001), "idle, back to back: p99 is 1.00 ms, the goal 1 ms"),
            ("full load, bursts of 20", Some(5_000), ""),
            ("8,000 connections, 1.1 s apart", Some(6_000), "p99 is 6.00 ms, the goal 5 ms"),
            ("anomaly, from the minute's end", Some(2_000_000), ""),
            ("anomaly, from the minute's end", Some(2_500_000), "p99 is 2500.00 ms, the goal 2000 ms"),
            ("idle, 1.1 s apart", None, "p99 is unknown"),
        ] {
            let judged = judge(&[json!({ "case": case, "p99_us": p99 })]);
            let said = judged.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(expect) && said.is_empty() == expect.is_empty(), "{case}: {said}");
        }
        assert!(judge(&[]).is_err(), "no case matches what was asked for");
    }
}
