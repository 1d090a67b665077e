//! `cargo xtask bench`: packets, floods, faults, lists, reactions, soaks, and requests beside nginx and HAProxy.
//!
//! Numbers of a shared machine are worth little by themselves; their ratio is what to look at.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    build,
    places::{cargo, root},
    step::{self, step},
};

mod bodies;
mod bombs;
mod costs;
mod detection;
mod feeds;
mod http_library;
mod latency;
mod limits;
mod measured;
mod proxy;
mod reaction;
mod reloads;
mod soak;
mod sources;
mod validation;
mod waf;

use measured::{end_to_end, library, release};

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
    /// What detection finds, and what it costs: default rules beside generated attacks, crowds and weeks of good traffic,
    /// baselines beside labelled and generated series, lists of scanners, and nanoseconds of a request.
    Detect(detection::Arguments),
    /// How long other clients wait while four send large bodies that a schema judges (needs nginx).
    Bodies(bodies::Arguments),
    /// What hostile bodies take of time and memory: bombs of every coding, patterns, schemas, GraphQL, XML, forms.
    Bombs(bombs::Arguments),
    /// Kill the guard at random moments and compare store, maps and audit chain.
    Faults {
        /// How often.
        #[arg(long, default_value_t = 100)]
        rounds: u32,
    },
    /// Kill and stop guard, proxy and observer at random moments under load: nobody may notice.
    Chaos {
        /// How often something is done to one of them.
        #[arg(long, default_value_t = 60)]
        rounds: u32,
    },
    /// Kill, pause and slow the store of a cluster, and cut machines off: the bound of shared limits holds.
    Cluster {
        /// How often each of it.
        #[arg(long, default_value_t = 10)]
        rounds: u32,
    },
    /// What it costs to be watched: CPU time per request with and without access log, metrics, traces of 1 % (needs wrk and nginx).
    Costs(costs::Arguments),
    /// Limits over sockets: exact at 10 to 5,000 requests a second while the configuration is reloaded every second, fair to
    /// each of 50 clients, also of one slow upstream, and the highest class never refused at twice the capacity.
    Fairness {
        /// How long each part takes, in seconds.
        #[arg(long, default_value_t = 20)]
        seconds: u32,
        /// Measure this program, built already, instead of building one.
        #[arg(long)]
        gateway: Option<PathBuf>,
    },
    /// Lists of many entries: time to load, memory, updates per second, restart, and what a ban waits meanwhile.
    Feeds(feeds::Arguments),
    /// What a good client gets beside floods: a banned flooder, the same with nftables, SYNs with and without cookies.
    Flood {
        /// Packets per second of the banned flooder.
        #[arg(long, default_value_t = 100_000)]
        rate: u32,
        /// One of the tables: `connect`, `request` or `kept` for what the good client does, `syn`, or `lane` for connections
        /// that proved themselves.
        #[arg(long, value_parser = ["connect", "request", "kept", "syn", "lane"])]
        only: Option<String>,
    },
    /// How long bans take from the offence to the kernel: idle, beside full load, with 8,000 connections (needs wrk).
    Reaction(reaction::Arguments),
    /// Reloads under load with whatever is open, memory flat; and how long one changed route of many takes.
    Reloads(reloads::Arguments),
    /// Everything at once for minutes: nothing may fail that is not refused by design, nothing may leak.
    Soak(soak::Arguments),
    /// What a request costs by each method of authentication, remembered and not; memory of tokens and API keys.
    Identity(IdentityArguments),
    /// What one to sixteen limits cost: nanoseconds in our own code, the memory of a million clients, and CPU time beside nginx,
    /// HAProxy and Envoy (needs wrk).
    Limits(limits::Arguments),
    /// What a million sources take of memory while each of them asks and fails (needs wrk and nginx).
    Sources(sources::Arguments),
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
    /// CPU time per request of each stage of validation at 1 KB and 100 KB, beside ModSecurity and ajv (needs wrk and nginx).
    Validation(validation::Arguments),
    /// What the firewall finds in corpora of attacks, and refuses of benign text: by category and at each paranoia level.
    Waf(waf::Arguments),
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

#[derive(Debug, clap::Args)]
struct IdentityArguments {
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
    /// How often each case is measured.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// How many tokens are remembered, where memory is weighed.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    tokens: u32,
    /// How many API keys there are.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    keys: u32,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.what {
        What::Kernel(arguments) => kernel(arguments),
        What::Bodies(arguments) => bodies::run(arguments),
        What::Bombs(arguments) => bombs::run(arguments),
        What::Detect(arguments) => detection::run(arguments),
        What::Faults { rounds } => faults("kill", *rounds),
        What::Chaos { rounds } => faults("chaos", *rounds),
        What::Cluster { rounds } => cluster(*rounds),
        What::Costs(arguments) => costs::run(arguments),
        What::Fairness { seconds, gateway } => fairness(*seconds, gateway.as_deref()),
        What::Feeds(arguments) => feeds::run(arguments),
        What::Flood { rate, only } => flood(*rate, only.as_deref()),
        What::HttpLibrary(arguments) => http_library::run(arguments),
        What::Identity(arguments) => identity(arguments),
        What::Limits(arguments) => limits::run(arguments),
        What::Sources(arguments) => sources::run(arguments),
        What::Route { json } => library("route", *json, &[]),
        What::Proxy(arguments) => proxy::run(arguments),
        What::Validation(arguments) => validation::run(arguments),
        What::Waf(arguments) => waf::run(arguments),
        What::Reaction(arguments) => reaction::run(arguments),
        What::Reloads(arguments) => reloads::run(arguments),
        What::Soak(arguments) => soak::run(arguments),
    }
}

/// As the end-to-end tests do, again and again.
fn cluster(rounds: u32) -> anyhow::Result<()> {
    build::run(&build::Arguments { release: false })?;
    let mut command = end_to_end("cluster::");
    command.env("GATEWAY_CLUSTER_ROUNDS", rounds.to_string());
    step("a store that comes and goes", &mut command)
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

fn identity(arguments: &IdentityArguments) -> anyhow::Result<()> {
    let IdentityArguments { json, rounds, tokens, keys } = arguments;
    let numbers = [("--rounds", rounds), ("--tokens", tokens), ("--keys", keys)];
    let numbers: Vec<String> =
        numbers.iter().flat_map(|(name, number)| [(*name).to_owned(), number.to_string()]).collect();
    library("identity", *json, &numbers)
}

fn faults(test: &str, rounds: u32) -> anyhow::Result<()> {
    build::run(&build::Arguments::default())?;
    step("faults", end_to_end(test).env("GATEWAY_FAULT_ROUNDS", rounds.to_string()))
}

/// The tests of `tests/e2e/fairness.rs`, which judge times here: the gateway has one core, and the load another.
fn fairness(seconds: u32, gateway: Option<&Path>) -> anyhow::Result<()> {
    let gateway = match gateway {
        Some(gateway) => std::path::absolute(gateway)?,
        None => {
            build::run(&build::Arguments { release: true })?;
            release()
        }
    };
    let mut command = end_to_end("fairness::");
    command.args(["--", "--test-threads", "1", "--nocapture"]);
    command.env("GATEWAY_BIN", gateway).env("GATEWAY_FAIRNESS_JUDGES", "1");
    step("fairness", command.env("GATEWAY_FAIRNESS_SECONDS", seconds.to_string()))
}

/// The table of `tests/e2e/flood.rs`. The gateway that is flooded is the one that would be in service.
fn flood(rate: u32, only: Option<&str>) -> anyhow::Result<()> {
    step::need("nft", "nftables")?;
    build::run(&build::Arguments { release: true })?;
    let mut command = end_to_end(if only == Some("lane") { "fast_lane::proven" } else { "flood::" });
    command.args(["--", "--test-threads", "1"]);
    command.env("GATEWAY_BIN", release()).env("GATEWAY_FLOOD_RATE", rate.to_string());
    command.envs(only.map(|only| ("GATEWAY_FLOOD_ONLY", only)));
    step("floods", &mut command)
}
