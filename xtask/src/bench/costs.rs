//! `cargo xtask bench costs`: what it costs to be watched. CPU time per request of the whole gateway (launcher, guard, proxy
//! and observer together) with and without an access log, metrics that are scraped every second, and traces of 1 % of the
//! requests, under the same load in one run. What it takes more than without is the cost.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use super::{
    measured::gateway,
    proxy::{Bench, PROFILES, UPSTREAM, median},
};
use crate::step;

/// What `cargo xtask bench costs` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
    /// Seconds per run.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// How often every case has a turn; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measure this program, built already, instead of building one.
    #[arg(long)]
    gateway: Option<PathBuf>,
}

/// What is switched on.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    log: bool,
    /// There is an observer, and somebody reads its metrics.
    scraped: Option<bool>,
    traces: bool,
}

/// The first is what the others are compared with.
const CASES: [Case; 6] = [
    Case { name: "nothing", log: false, scraped: None, traces: false },
    Case { name: "access log", log: true, scraped: None, traces: false },
    Case { name: "observer", log: false, scraped: Some(false), traces: false },
    Case { name: "metrics", log: false, scraped: Some(true), traces: false },
    Case { name: "traces 1 %", log: false, scraped: Some(false), traces: true },
    Case { name: "all of it", log: true, scraped: Some(true), traces: true },
];

/// How often metrics are read: far more often than Prometheus does.
const SCRAPE: Duration = Duration::from_secs(1);

/// The observer tells of traces so often at least.
const TIMEOUT: Duration = Duration::from_secs(15);

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !step::is_root() {
        bail!("bench costs needs root, as the gateway starts as root");
    }
    for (program, package) in [("wrk", "wrk"), ("nginx", "nginx-light")] {
        step::need(program, package)?;
    }
    let gateway = gateway(arguments.gateway.as_deref())?;
    let bench = Bench::new(arguments.seconds)?;
    let _upstream = bench.start("nginx", &["-c", "upstream"], UPSTREAM)?;
    let mut figures: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 1..=arguments.rounds {
        for (place, case) in (1_u16..).zip(CASES) {
            eprintln!("== round {round} of {}: {}", arguments.rounds, case.name);
            let each = measure(&bench, &gateway, UPSTREAM + 100 * place, case)?;
            figures.entry(case.name).or_default().push(each);
        }
    }
    report(&figures, arguments.json)
}

/// CPU microseconds that the gateway takes for a request.
fn measure(bench: &Bench, program: &Path, port: u16, case: Case) -> anyhow::Result<f64> {
    let [plain, ..] = &PROFILES;
    let (listener, admin) = (port + 1, port + 2);
    // At a port of its own each time, as collectors stay until the program ends.
    let collector = TcpListener::bind(("127.0.0.1", 0)).context("a collector of traces")?;
    let ports = [listener, admin, collector.local_addr()?.port()];
    fs::write(bench.folder.join("costs"), configuration(&bench.folder, ports, case))?;
    let collected = Arc::new(AtomicU64::new(0));
    collect(collector, &collected);
    let running = bench.start(program, &["--config", "costs", "run", "--detach-on-exit"], listener)?;
    let (over, scraped) = (AtomicBool::new(false), AtomicU64::new(0));
    let each = thread::scope(|scope| {
        if case.scraped == Some(true) {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // The observer comes up a moment after the proxy.
                    scraped.fetch_add(u64::from(scrape(admin).is_ok()), Ordering::Relaxed);
                    thread::sleep(SCRAPE);
                }
            });
        }
        let each = bench.each(&running, plain, port, "");
        over.store(true, Ordering::Relaxed);
        each
    })?;
    // A figure of something that did not happen is worth nothing.
    ensure!(case.scraped != Some(true) || scraped.load(Ordering::Relaxed) > 0, "nobody has read metrics");
    let deadline = Instant::now() + TIMEOUT;
    while case.traces && collected.load(Ordering::Relaxed) == 0 {
        ensure!(Instant::now() < deadline, "no trace was collected");
        thread::sleep(Duration::from_millis(100));
    }
    let log = fs::metadata(bench.folder.join("access.log")).map_or(0, |log| log.len());
    ensure!(!case.log || log > 0, "nothing was logged");
    fs::remove_file(bench.folder.join("access.log")).unwrap_or_default();
    Ok(each)
}

/// Reads the metrics once.
fn scrape(port: u16) -> io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    if text.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Takes whatever it is sent, and counts it, until the program ends.
fn collect(listener: TcpListener, collected: &Arc<AtomicU64>) {
    let collected = Arc::clone(collected);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let collected = Arc::clone(&collected);
            thread::spawn(move || take(stream, &collected).unwrap_or_default());
        }
    });
}

/// Answers one request after the other.
fn take(mut stream: TcpStream, collected: &AtomicU64) -> io::Result<()> {
    let (mut read, mut space) = (Vec::new(), [0; 16_384]);
    loop {
        while let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) {
            let head = String::from_utf8_lossy(read.get(..end).unwrap_or_default()).to_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            let whole = end + length.unwrap_or(0);
            if read.len() < whole {
                break;
            }
            read.drain(..whole);
            collected.fetch_add(1, Ordering::Relaxed);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")?;
        }
        match stream.read(&mut space)? {
            0 => return Ok(()),
            count => read.extend_from_slice(space.get(..count).unwrap_or_default()),
        }
    }
}

fn report(figures: &BTreeMap<&str, Vec<f64>>, as_json: bool) -> anyhow::Result<()> {
    let of = |case: &Case| median(figures.get(case.name)).unwrap_or_default();
    let without = CASES.first().map(of).unwrap_or_default();
    let rows: Vec<_> = CASES.iter().map(|case| (case.name, of(case), of(case) - without)).collect();
    let mut out = io::stdout().lock();
    if as_json {
        let row = |(name, each, more): &(&str, f64, f64)| json!({ "with": name, "request_us": each, "cost_us": more });
        writeln!(out, "{}", json!(rows.iter().map(row).collect::<Vec<_>>()))?;
        return Ok(());
    }
    writeln!(out, "{:<12} {:>14} {:>10} {:>8}", "with", "us a request", "cost, us", "cost")?;
    for (name, each, more) in rows {
        let share = if without > 0.0 { more / without * 100.0 } else { 0.0 };
        writeln!(out, "{name:<12} {each:>14.2} {more:>10.2} {share:>7.1}%")?;
    }
    Ok(())
}

fn configuration(folder: &Path, [listener, admin, collector]: [u16; 3], case: Case) -> String {
    let (folder, log) = (folder.display(), case.log);
    let mut text = format!(
        "[guard]\ninterfaces = []\nstate_dir = \"{folder}/state\"\ncontrol_socket = \"{folder}/control.sock\"\n\
         [proxy]\nuser = \"nobody\"\naccess_log = \"{folder}/access.log\"\ndrain = \"1s\"\nworkers = 2\n\
         [[listener]]\naddress = \"127.0.0.1:{listener}\"\naccess_log = {log}\n\
         [upstream.items]\nservers = [\"127.0.0.1:{UPSTREAM}\"]\nmax_idle = 256\n\
         [[route]]\npath = \"/items/{{id}}\"\nmethods = [\"GET\"]\nrequire = [\"public\"]\nupstream = \"items\"\n"
    );
    if case.scraped.is_some() {
        write!(text, "[admin]\naddress = \"127.0.0.1:{admin}\"\n").unwrap_or_default();
    }
    if case.traces {
        write!(text, "[traces]\nendpoint = \"http://127.0.0.1:{collector}/v1/traces\"\nsample = 0.01\n")
            .unwrap_or_default();
    }
    text
}
