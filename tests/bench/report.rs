//! How measurements are printed: a table, ratios, and targets that are met or missed.

use std::fs;

use serde_json::{Value, json};

use crate::cases::{Beside, Case, From, Of};

/// Something that was measured, and what it should be.
pub(crate) struct Target {
    what: String,
    measured: f64,
    bound: f64,
    unit: &'static str,
    is_least: bool,
}

impl Target {
    pub(crate) fn at_most(what: &str, measured: f64, bound: f64, unit: &'static str) -> Self {
        Self { what: what.to_owned(), measured, bound, unit, is_least: false }
    }

    pub(crate) fn at_least(what: &str, measured: f64, bound: f64, unit: &'static str) -> Self {
        Self { is_least: true, ..Self::at_most(what, measured, bound, unit) }
    }

    fn is_met(&self) -> bool {
        if self.is_least { self.measured >= self.bound } else { self.measured <= self.bound }
    }

    pub(crate) fn json(&self) -> Value {
        let bound = if self.is_least { "at_least" } else { "at_most" };
        json!({
            "what": self.what, "measured": round(self.measured), bound: self.bound, "unit": self.unit,
            "met": self.is_met(),
        })
    }
}

/// The lines of one table.
pub(crate) fn rows(cases: &[Case], beside: &Beside, entries: u32) -> Vec<Value> {
    let harness = |hot: bool| {
        let found = cases.iter().find(|case| case.of == Of::Empty && (case.from == From::Hot) == hot);
        found.map_or((0, 0), |case| (case.least(), case.median()))
    };
    let row = |case: &Case| {
        let hot = case.from == From::Hot;
        let (least, median) = harness(hot);
        let program = match case.of {
            Of::Empty => "empty",
            Of::Filter(number) => beside.filters.get(number).map_or("", |(name, _)| *name),
            Of::Gateway => "gateway",
            Of::Other => "gateway, other object",
        };
        json!({
            "entries": entries,
            "program": program,
            "case": case.what,
            "sources": if hot { "one" } else { "random" },
            "least_ns": case.least(),
            "median_ns": case.median(),
            "least_without_harness_ns": i64::from(case.least()) - i64::from(least),
            "median_without_harness_ns": i64::from(case.median()) - i64::from(median),
        })
    };
    cases.iter().map(row).collect()
}

/// What the figures are of.
pub(crate) fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpus = info.lines().filter(|line| line.starts_with("processor")).count();
    json!({
        "cpu": model.map_or("unknown", |(_, name)| name),
        "cpus": cpus,
        "linux": read("/proc/sys/kernel/osrelease").trim(),
    })
}

/// The tables and the targets, for people.
pub(crate) fn print(rows: &[Value], loaded: &Value, targets: &[Target], entries_of_targets: u32) {
    let text = |row: &Value, field: &str| row[field].as_str().map_or_else(|| row[field].to_string(), str::to_owned);
    let machine = machine();
    println!("{}, {} CPUs, Linux {}", text(&machine, "cpu"), machine["cpus"], text(&machine, "linux"));
    println!(
        "program: {} instructions verified, loaded in {:.0} ms, {} bytes of machine code",
        loaded["verified_instructions"],
        loaded["load_ms"].as_f64().unwrap_or(0.0),
        loaded["jitted_bytes"],
    );
    println!("nanoseconds for each packet, without the harness: least, median\n");
    let mut entries = &Value::Null;
    for row in rows {
        if row["entries"] != *entries {
            entries = &row["entries"];
            println!("with {entries} entries and {entries} prefixes");
        }
        let (program, case, sources) = (text(row, "program"), text(row, "case"), text(row, "sources"));
        let (least, median) = match program.as_str() {
            "empty" => ("least_ns", "median_ns"),
            _ => ("least_without_harness_ns", "median_without_harness_ns"),
        };
        println!("  {program:21} {case:36} {sources:6} {:5} {:5}", text(row, least), text(row, median));
    }
    println!("\ntargets, with {entries_of_targets} entries and prefixes");
    for target in targets {
        let Target { what, measured, bound, unit, is_least } = target;
        let (met, side) = (if target.is_met() { "met   " } else { "MISSED" }, if *is_least { "least" } else { "most" });
        println!("{met} {what}: {measured:.2} {unit} (at {side} {bound} {unit})");
    }
}

fn round(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}
