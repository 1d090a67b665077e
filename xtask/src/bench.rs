//! `cargo xtask bench`: packets, floods, faults, lists, reactions, soaks, and requests beside nginx and HAProxy.
//!
//! Numbers of a shared machine are worth little by themselves; their ratio is what to look at.

use std::{path::PathBuf, process::Command};

use crate::{
    build,
    places::{cargo, root},
    step::{self, step},
};

mod feeds;
mod http_library;
mod latency;
mod measured;
mod proxy;
mod reaction;
mod soak;

use measured::{end_to_end, release};

/// What `cargo xtask bench` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Nanoseconds per packet in the kernel, beside an empty program and xdp-filter (Debian: xdp-tools).
    Kernel(KernelArguments),
    /// Kill the guard at random moments and compare store, maps and audit chain.
    Faults {
        /// How often.
        #[arg(long, default_value_t = 100)]
        rounds: u32,
    },
    /// Lists of many entries: time to load, memory, updates per second, restart, and what a ban waits meanwhile.
    Feeds(feeds::Arguments),
    /// What a good client gets beside floods: a banned flooder, the same with nftables, SYNs with and without cookies.
    Flood {
        /// Packets per second of the banned flooder.
        #[arg(long, default_value_t = 100_000)]
        rate: u32,
        /// One of the tables: `connect`, `request` or `kept` for what the good client does, or `syn`.
        #[arg(long, value_parser = ["connect", "request", "kept", "syn"])]
        only: Option<String>,
    },
    /// How long bans take from the offence to the kernel: idle, beside full load, with 8,000 connections (needs wrk).
    Reaction(reaction::Arguments),
    /// Everything at once for minutes: nothing may fail that is not refused by design, nothing may leak.
    Soak(soak::Arguments),
    /// Nanoseconds to find one of ten to ten thousand routes.
    Route {
        /// Print one JSON value.
        #[arg(long)]
        json: bool,
    },
    /// CPU time per request of our own HTTP code beside a proxy made with hyper (needs wrk, h2load and nginx).
    HttpLibrary(http_library::Arguments),
    /// CPU time per request beside nginx and HAProxy, with targets (needs wrk, h2load and nginx).
    Proxy(proxy::Arguments),
}

#[derive(Debug, clap::Args)]
struct KernelArguments {
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
    /// How often each case is measured.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// The most entries and prefixes that are measured.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    entries: u32,
    /// Another kernel object, measured beside this one. It must have the same layout of maps.
    #[arg(long)]
    object: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.what {
        What::Kernel(arguments) => kernel(arguments),
        What::Faults { rounds } => faults(*rounds),
        What::Feeds(arguments) => feeds::run(arguments),
        What::Flood { rate, only } => flood(*rate, only.as_deref()),
        What::HttpLibrary(arguments) => http_library::run(arguments),
        What::Route { json } => route(*json),
        What::Proxy(arguments) => proxy::run(arguments),
        What::Reaction(arguments) => reaction::run(arguments),
        What::Soak(arguments) => soak::run(arguments),
    }
}

/// What the kernel program costs does not depend on how this side is built: no release build.
fn kernel(arguments: &KernelArguments) -> anyhow::Result<()> {
    let mut command = Command::new(cargo());
    command.current_dir(root());
    command.args(["run", "--quiet", "--locked", "--package", "gateway-tests", "--example", "bench-kernel", "--"]);
    command.args(["--rounds", &arguments.rounds.to_string(), "--entries", &arguments.entries.to_string()]);
    if arguments.json {
        command.arg("--json");
    }
    if let Some(object) = &arguments.object {
        anyhow::ensure!(
            object.is_file(),
            "{} is not a file: --object names a compiled kernel program",
            object.display()
        );
        command.arg("--object").arg(std::path::absolute(object)?);
    }
    step("packets", &mut command)
}

fn route(json: bool) -> anyhow::Result<()> {
    let mut command = Command::new(cargo());
    command.current_dir(root()).args(["run", "--quiet", "--locked", "--profile", "profiling"]);
    command.args(["--package", "gateway-tests", "--example", "bench-route", "--"]);
    step("routes", command.args(json.then_some("--json")))
}

fn faults(rounds: u32) -> anyhow::Result<()> {
    build::run(&build::Arguments::default())?;
    step("faults", end_to_end("kill").env("GATEWAY_FAULT_ROUNDS", rounds.to_string()))
}

/// The table of `tests/e2e/flood.rs`. The gateway that is flooded is the one that would be in service.
fn flood(rate: u32, only: Option<&str>) -> anyhow::Result<()> {
    step::need("nft", "nftables")?;
    build::run(&build::Arguments { release: true })?;
    let mut command = end_to_end("flood::");
    command.args(["--", "--test-threads", "1"]);
    command.env("GATEWAY_BIN", release()).env("GATEWAY_FLOOD_RATE", rate.to_string());
    command.envs(only.map(|only| ("GATEWAY_FLOOD_ONLY", only)));
    step("floods", &mut command)
}
