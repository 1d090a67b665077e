//! `cargo xtask bench sources`: what a million sources take of memory, while each of them asks and fails: profiles, rules
//! and a limit by address are on. A trusted proxy names them, so that one machine can play them all. Once the tables are
//! full, more sources take no more memory.

use std::{
    fs,
    io::{self, Write as _},
    path::PathBuf,
    time::Instant,
};

use anyhow::{bail, ensure};
use serde_json::json;

use super::{
    measured::gateway,
    proxy::{Bench, UPSTREAM},
};
use crate::step;

/// What `cargo xtask bench sources` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// For so many seconds: in the first half of fewer, tables are not full.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(30..=3_600))]
    seconds: u32,
    /// So many sources, in turn.
    #[arg(long, default_value_t = 1_000_000)]
    sources: u32,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
    /// Measure this program, built already, instead of building one.
    #[arg(long)]
    gateway: Option<PathBuf>,
}

/// How long a burst of load is, in seconds: memory is read in between.
const BURST: u64 = 5;

/// How much more memory the second half of the time may take than the first, in kilobytes: what any load makes of any program.
const FLAT: u64 = 16 * 1_024;

/// Has wrk send each request as another source, every other to a path that does not exist.
const CLIENTS: &str = r#"
local from, all = tonumber(os.getenv("FROM")), tonumber(os.getenv("SOURCES"))
function request()
  from = from + 1
  local at = from % all
  local address = string.format("100.%d.%d.%d", 64 + math.floor(at / 65536) % 64, math.floor(at / 256) % 256, at % 256)
  local path = from % 2 == 0 and "/items/7" or "/nothing/" .. at
  return wrk.format("GET", path, { ["Host"] = "localhost", ["X-Forwarded-For"] = address })
end
"#;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !step::is_root() {
        bail!("needs root, as the gateway starts as root");
    }
    for (program, package) in [("wrk", "wrk"), ("nginx", "nginx-light")] {
        step::need(program, package)?;
    }
    let gateway = gateway(arguments.gateway.as_deref())?;
    let bench = Bench::new(1)?;
    let _upstream = bench.start("nginx", &["-c", "upstream"], UPSTREAM)?;
    let (port, file) = (UPSTREAM + 901, "gateway-sources");
    fs::write(bench.folder.join(file), configuration(&bench, port))?;
    fs::write(bench.folder.join("sources.lua"), CLIENTS)?;
    let running = bench.start(&gateway, &["--config", file, "run", "--detach-on-exit"], port)?;
    let begin = Instant::now();
    let (mut sent, mut memory) = (0, vec![running.memory()]);
    while begin.elapsed().as_secs() < arguments.seconds.into() {
        let variables = [("FROM", sent), ("SOURCES", arguments.sources.into())];
        sent += bench.scripted("sources.lua", &variables, &format!("http://127.0.0.1:{port}"), BURST)?;
        memory.push(running.memory());
        eprintln!("== {sent} requests, {} MB", memory.last().map_or(0, |kilobytes| kilobytes / 1_024));
    }
    ensure!(
        sent >= u64::from(arguments.sources),
        "only {sent} requests were answered: --seconds {} is too short for {} sources",
        arguments.seconds,
        arguments.sources
    );
    let (first, second) = memory.split_at(memory.len() / 2);
    let most = |part: &[u64]| part.iter().copied().max().unwrap_or_default();
    let (before, half, end) = (memory.first().copied().unwrap_or_default(), most(first), most(second));
    let is_flat = end <= half + FLAT;
    let mut out = io::stdout().lock();
    if arguments.json {
        let told = json!({ "sources": arguments.sources, "requests": sent, "kilobytes": memory, "flat": is_flat });
        writeln!(out, "{told}")?;
    } else {
        let [before, half, end] = [before, half, end].map(|kilobytes| kilobytes / 1_024);
        writeln!(out, "{sent} requests of {} sources", arguments.sources)?;
        writeln!(out, "memory: {before} MB before, at most {half} MB in the first half, {end} MB in the second")?;
    }
    ensure!(is_flat, "memory grew while sources came again");
    Ok(())
}

fn configuration(bench: &Bench, port: u16) -> String {
    let folder = bench.folder.display();
    format!(
        "[guard]\ninterfaces = []\nstate_dir = \"{folder}/sources-state\"\ncontrol_socket = \"{folder}/sources.sock\"\n\
         [detect]\nprofiles = 100000\n\
         [proxy]\nuser = \"nobody\"\naccess_log = \"{folder}/access.log\"\ndrain = \"1s\"\nworkers = 2\n\
         trusted_proxies = [\"127.0.0.1\"]\n\
         [[listener]]\naddress = \"127.0.0.1:{port}\"\naccess_log = false\n\
         [upstream.items]\nservers = [\"127.0.0.1:{UPSTREAM}\"]\nmax_idle = 256\n\
         [[route]]\npath = \"/items/{{id}}\"\nmethods = [\"GET\"]\nrequire = [\"public\"]\nupstream = \"items\"\n\
         [limit.address]\nrequests = 100\nper = \"1s\"\n"
    )
}
