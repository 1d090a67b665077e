//! `cargo xtask bench http-library`: what our own HTTP code costs beside a proxy that is made with hyper, on the same load.
//! The proxy is `tests/bench/hyper_proxy.rs`.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Write as _},
    path::PathBuf,
    process::Command,
};

use anyhow::bail;
use serde_json::json;

use super::{
    measured::release,
    proxy::{Bench, PROFILES, UPSTREAM, gateway_configuration, median},
};
use crate::{
    build,
    places::{cargo, root},
    step::{self, step},
};

/// What `cargo xtask bench http-library` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Seconds per run.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// How often both have a turn; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Print the figures as one JSON value.
    #[arg(long)]
    json: bool,
    /// Measure these debug builds: to try the measurement, not to measure.
    #[arg(long)]
    debug: bool,
}

/// The kinds of load that ask for nothing but forwarding.
const FORWARDING: [&str; 3] = ["plain", "tls", "h2"];

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !step::is_root() {
        bail!("bench http-library needs root: the gateway starts as root and runs its proxy as nobody");
    }
    for (program, package) in [("wrk", "wrk"), ("h2load", "nghttp2-client"), ("nginx", "nginx-light")] {
        step::need(program, package)?;
    }
    build::run(&build::Arguments { release: !arguments.debug })?;
    let mut example = Command::new(cargo());
    example.current_dir(root()).args(["build", "--locked", "--package", "gateway-tests", "--example", "bench-hyper"]);
    if !arguments.debug {
        example.arg("--release");
    }
    step("the proxy made with hyper", &mut example)?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let gateway = if arguments.debug { target.join("debug/gateway") } else { release() };
    let hyper = target.join(if arguments.debug { "debug" } else { "release" }).join("examples/bench-hyper");

    let bench = Bench::new(arguments.seconds)?;
    let (ours, theirs) = (UPSTREAM + 100, UPSTREAM + 200);
    fs::write(bench.folder.join("gateway"), gateway_configuration(&bench.folder, ours))?;
    let folder = bench.folder.display().to_string();
    let [upstream, plain, tls] = [UPSTREAM, theirs + 1, theirs + 2].map(|port| port.to_string());
    let _upstream = bench.start("nginx", &["-c", "upstream"], UPSTREAM)?;
    let mut figures = BTreeMap::<_, Vec<f64>>::new();
    for round in 1..=arguments.rounds {
        for (name, port) in [("gateway", ours), ("hyper", theirs)] {
            eprintln!("== round {round} of {}: {name}", arguments.rounds);
            let running = if name == "gateway" {
                bench.start(&gateway, &["--config", "gateway", "run", "--detach-on-exit"], port + 1)?
            } else {
                bench.start(&hyper, &[&folder, &upstream, &plain, &tls], port + 1)?
            };
            for profile in PROFILES.iter().filter(|profile| FORWARDING.contains(&profile.name)) {
                let each = bench.each(&running, profile, port, "")?;
                figures.entry((profile.name, name)).or_default().push(each);
            }
        }
    }
    report(&figures, arguments.json)
}

fn report(figures: &BTreeMap<(&str, &str), Vec<f64>>, as_json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let rows = FORWARDING.map(|name| {
        let of = |who| (median(figures.get(&(name, who))).unwrap_or_default(), spread(figures.get(&(name, who))));
        (name, of("gateway"), of("hyper"))
    });
    if as_json {
        let row = |(name, (ours, ours_spread), (hyper, hyper_spread))| {
            json!({"profile": name, "gateway_us": ours, "hyper_us": hyper,
            "gateway_spread": ours_spread, "hyper_spread": hyper_spread})
        };
        writeln!(out, "{}", json!({ "profiles": rows.map(row) }))?;
        return Ok(());
    }
    writeln!(
        out,
        "CPU microseconds per request, the median of all rounds; the gateway also routes, checks and counts."
    )?;
    writeln!(out, "spread: how much more the dearest round of the two took than the cheapest of the same program.")?;
    writeln!(out, "{:<10} {:>8} {:>8} {:>6} {:>7}", "profile", "gateway", "hyper", "ratio", "spread")?;
    for (name, (ours, ours_spread), (hyper, hyper_spread)) in rows {
        let spread = 100.0 * ours_spread.max(hyper_spread);
        writeln!(out, "{name:<10} {ours:>8.2} {hyper:>8.2} {:>6.2} {spread:>6.0}%", ours / hyper)?;
    }
    Ok(())
}

/// How much more the dearest round took than the cheapest; 0.1: a tenth. A difference within it says nothing.
fn spread(figures: Option<&Vec<f64>>) -> f64 {
    let of = |pick: fn(f64, f64) -> f64| figures.into_iter().flatten().copied().reduce(pick);
    of(f64::max).zip(of(f64::min)).map_or(0.0, |(most, least)| most / least - 1.0)
}
