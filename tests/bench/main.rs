//! Times packets: every program in turn, many times, in one run, on one CPU.
//!
//! What a shared machine gives away for a moment is lost for all of them alike; the least of many short measurements is
//! what the program costs. `cargo xtask bench kernel` runs this.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a tool of the tests: whatever fails names its line")]
#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::{
    env,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use gateway_common::verdict::Verdict;
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use serde_json::json;
use support::frame::Frame;

use crate::{
    cases::{Beside, Case, From},
    programs::{Budgets, Filter, Guard},
    report::Target,
};

mod cases;
mod programs;
mod report;
mod sockets;
mod sys;

/// What it is told.
struct Arguments {
    json: bool,
    /// How often each case is measured.
    rounds: u32,
    /// Most entries of each kind.
    entries: u32,
    /// Another object, measured beside the one of this build.
    object: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = arguments()?;
    programs::may_load()?;
    let _sockets = sockets::Sockets::open()?;
    stay_on(0);
    let mut guard = Guard::load(arguments.object.as_deref())?;
    let measured = measure(&arguments, &mut guard);
    let loaded = json!({
        "load_ms": guard.loaded.time.as_secs_f64() * 1_000.0,
        "verified_instructions": guard.loaded.verified_instructions,
        "jitted_bytes": guard.loaded.jitted_bytes,
    });
    guard.remove()?;
    let (rows, mut targets, passed) = measured?;
    targets.push(Target::at_most("limiter: packets passed, of those allowed, two CPUs at once", passed, 1.05, "x"));
    targets.push(Target::at_least("limiter: the same", passed, 0.95, "x"));
    if arguments.json {
        let targets: Vec<_> = targets.iter().map(Target::json).collect();
        let machine = report::machine();
        println!("{}", json!({ "machine": machine, "program": loaded, "cases": rows, "targets": targets }));
    } else {
        report::print(&rows, &loaded, &targets, arguments.entries);
    }
    Ok(())
}

/// The rows of the table, the targets of time, and what share of what is allowed passes the limiter.
fn measure(arguments: &Arguments, guard: &mut Guard) -> anyhow::Result<(Vec<serde_json::Value>, Vec<Target>, f64)> {
    let mut beside = Beside { filters: Vec::new(), empty: [sys::empty(false)?, sys::empty(true)?] };
    for name in ["xdpfilt_alw_ip", "xdpfilt_alw_all"] {
        match Filter::load(name)? {
            Ok(filter) => beside.filters.push((name, filter)),
            Err(reason) => eprintln!("skipped: {reason}"),
        }
    }
    let (mut rows, mut last) = (Vec::new(), Vec::new());
    let fewer = [0, 1_000, 100_000].into_iter().filter(|entries| *entries < arguments.entries);
    for entries in fewer.chain([arguments.entries]) {
        let started = Instant::now();
        guard.ban(entries)?;
        let banned = started.elapsed();
        guard.deny(entries)?;
        let denied = started.elapsed() - banned;
        eprintln!("{entries} entries and prefixes (entered in {banned:.1?} and {denied:.1?}): measuring");
        let mut cases = cases::all(guard, &beside, entries, arguments.object.is_some())?;
        for round in 0..arguments.rounds {
            for case in &mut cases {
                let packets = match (case.from, case.budgets) {
                    // Until the sketch has counted for longer than it remembers.
                    (From::Random(..), Budgets::Usual) if case.is_flood() => 5_000_000,
                    (From::Random(..), _) => 100_000,
                    (From::Hot, _) => 50_000,
                };
                if packets < 1_000_000 || round % 5 == 0 {
                    case.measure(guard, &beside, packets)?;
                }
            }
        }
        rows.extend(report::rows(&cases, &beside, entries));
        last = cases;
    }
    eprintln!("two CPUs against the limiter");
    let passed = (0..3).map(|_| limited(guard)).collect::<anyhow::Result<Vec<_>>>()?;
    let farthest = passed.into_iter().max_by(|a, b| (a - 1.0).abs().total_cmp(&(b - 1.0).abs())).unwrap_or(0.0);
    Ok((rows, targets(&last, &beside), farthest))
}

/// What is asked of the last table, which is of the most entries.
fn targets(cases: &[Case], beside: &Beside) -> Vec<Target> {
    let find = |of, what: &str, hot: bool| {
        let found = cases.iter().find(|case| case.of == of && case.what == what && (case.from == From::Hot) == hot);
        found.map(|case| f64::from(case.least()))
    };
    let mut targets = Vec::new();
    let [hot, random] = [true, false].map(|hot| find(cases::Of::Empty, "harness", hot).unwrap_or(0.0));
    for (number, (name, _)) in beside.filters.iter().enumerate() {
        let of = cases::Of::Filter(number);
        let mut add = |what: &str, ours: &str, theirs: &str, most: f64| {
            if let (Some(ours), Some(theirs)) = (find(cases::Of::Gateway, ours, true), find(of, theirs, true)) {
                let ratio = (ours - hot) / (theirs - hot).max(1.0);
                targets.push(Target::at_most(&format!("{what}, to {name}"), ratio, most, "x"));
            }
        };
        add("drop of a hot banned source", "drop, exact", "drop", 1.0);
        add("pass, all budgets charged", "pass, all budgets, charged", "pass", 1.15);
        add("pass, all budgets, a quiet source", "pass, all budgets, a quiet source", "pass", 1.15);
    }
    if let Some(without) = find(cases::Of::Gateway, cases::NO_LANE, true) {
        for what in [cases::NO_SOCKET, cases::UNMARKED, cases::MARKED] {
            if let Some(with) = find(cases::Of::Gateway, what, true) {
                targets.push(Target::at_most(&format!("looking for the socket: {what}"), with - without, 150.0, "ns"));
            }
        }
    }
    for what in ["flood of ACKs, usual budgets", "flood of SYNs, usual budgets"] {
        if let Some(time) = find(cases::Of::Gateway, what, false) {
            targets.push(Target::at_most(&format!("random sources: {what}"), time - random, 200.0, "ns"));
        }
    }
    targets
}

/// Two CPUs send from one source what is far too much: the share of what is allowed that passes.
fn limited(guard: &mut Guard) -> anyhow::Result<f64> {
    const RATE: u32 = 100_000;
    const BURST: u32 = 10_000;
    guard.limit_one(RATE.into(), BURST.into())?;
    let frame = Frame::tcp("198.51.100.7", 443).bytes();
    let program = guard.program(false)?;
    let offer = |cpu, time: Duration| {
        stay_on(cpu);
        let started = Instant::now();
        while started.elapsed() < time {
            sys::run(program, &frame, 20_000).unwrap();
        }
    };
    // What is left of a burst is spent before it begins.
    offer(0, Duration::from_millis(100));
    let (before, started) = (guard.counted(Verdict::Passed), Instant::now());
    thread::scope(|scope| {
        for cpu in 0..2 {
            scope.spawn(move || offer(cpu, Duration::from_secs(1)));
        }
    });
    let allowed = started.elapsed().as_secs_f64() * f64::from(RATE);
    let passed = guard.counted(Verdict::Passed) - before;
    Ok(u32::try_from(passed).map(f64::from)? / allowed)
}

/// Where there are fewer CPUs, it stays where it is.
fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).ok();
}

/// `cargo xtask bench kernel` says what they mean.
fn arguments() -> anyhow::Result<Arguments> {
    let mut read = Arguments { json: false, rounds: 15, entries: 1_000_000, object: None };
    let mut given = env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().with_context(|| format!("{name} needs a value"));
        match name.as_str() {
            "--json" => read.json = true,
            "--rounds" => read.rounds = value()?.parse()?,
            "--entries" => read.entries = value()?.parse()?,
            "--object" => read.object = Some(value()?.into()),
            name => bail!("{name} is unknown"),
        }
    }
    Ok(read)
}
