//! `cargo xtask bench bodies`: how long other clients wait while four clients send large bodies that a schema judges. One
//! client asks every millisecond; what counts is how much later its answers come than while nobody else asks.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
};

use anyhow::bail;
use serde_json::json;

use super::{
    latency,
    measured::gateway,
    proxy::{Bench, UPSTREAM},
};
use crate::step;

/// What `cargo xtask bench bodies` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Seconds per run.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// How often: idle and busy by turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Mebibytes of each body.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    mebibytes: u32,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
    /// Measure this program, built already, instead of building one.
    #[arg(long)]
    gateway: Option<PathBuf>,
}

/// How many clients send bodies.
const SENDERS: usize = 4;

/// What each element of a body has to be.
const SCHEMA: &str = r#"{"type":"array","items":{"type":"object","required":["id","name"],"additionalProperties":false,
"properties":{"id":{"type":"integer","minimum":0},"name":{"type":"string","maxLength": 400},"tags":{"type":"array","items":{"type":"string"}}}}}"#;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !step::is_root() {
        bail!("bench bodies needs root: the gateway starts as root and runs its proxy as nobody");
    }
    step::need("nginx", "nginx-light")?;
    let gateway = gateway(arguments.gateway.as_deref())?;
    let bench = Bench::new(arguments.seconds)?;
    let _upstream = bench.start("nginx", &["-c", "upstream"], UPSTREAM)?;
    let port = UPSTREAM + 801;
    fs::write(bench.folder.join("items.schema.json"), SCHEMA)?;
    fs::write(bench.folder.join("gateway-bodies"), configuration(&bench.folder, port))?;
    let _running = bench.start(&gateway, &["--config", "gateway-bodies", "run", "--detach-on-exit"], port)?;
    let request = request(arguments.mebibytes);
    let (mut idle, mut busy, mut bodies) = (Vec::new(), Vec::new(), 0);
    for round in 1..=arguments.rounds {
        eprintln!("== round {round} of {}", arguments.rounds);
        idle.extend(latency::sample(port, arguments.seconds)?);
        let (is_over, sent) = (AtomicBool::new(false), AtomicU32::new(0));
        thread::scope(|scope| -> anyhow::Result<()> {
            let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(|| send(port, &request, &sent, &is_over))).collect();
            let sample = latency::sample(port, arguments.seconds);
            is_over.store(true, Ordering::Relaxed);
            for sender in senders {
                sender.join().map_err(|_panic| anyhow::anyhow!("a sender panicked"))??;
            }
            busy.extend(sample?);
            Ok(())
        })?;
        bodies += sent.into_inner();
    }
    report(&idle, &busy, bodies, arguments)
}

fn report(idle: &[f64], busy: &[f64], bodies: u32, arguments: &Arguments) -> anyhow::Result<()> {
    let [idle, busy] =
        [idle, busy].map(|sample| [50, 99].map(|percent| latency::percentile(sample, percent).unwrap_or_default()));
    let (mebibytes, rounds) = (arguments.mebibytes, u32::try_from(arguments.rounds)?);
    let each = f64::from(bodies) / f64::from((rounds * arguments.seconds).max(1));
    let mut out = io::stdout().lock();
    if arguments.json {
        let told = json!({ "idle_us": { "p50": idle[0], "p99": idle[1] }, "busy_us": { "p50": busy[0], "p99": busy[1] },
            "bodies_a_second": each, "mebibytes": mebibytes });
        return Ok(writeln!(out, "{told}")?);
    }
    writeln!(out, "microseconds until the answer of another client: p50, p99")?;
    writeln!(out, "{:<10} {:>8.0} {:>8.0}", "idle", idle[0], idle[1])?;
    writeln!(out, "{:<10} {:>8.0} {:>8.0}", "busy", busy[0], busy[1])?;
    writeln!(
        out,
        "meanwhile {SENDERS} clients sent {each:.1} bodies of {mebibytes} MiB a second, each judged by a schema"
    )?;
    Ok(())
}

fn configuration(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "[guard]\ninterfaces = []\nstate_dir = \"{folder}/bodies-state\"\ncontrol_socket = \"{folder}/bodies.sock\"\n\
         [proxy]\nuser = \"nobody\"\naccess_log = \"{folder}/access.log\"\ndrain = \"1s\"\nworkers = 2\n\
         [[listener]]\naddress = \"127.0.0.1:{port}\"\naccess_log = false\n\
         [upstream.items]\nservers = [\"127.0.0.1:{UPSTREAM}\"]\nmax_idle = 256\n\
         [[route]]\npath = \"/items/{{id}}\"\nmethods = [\"GET\"]\nrequire = [\"public\"]\nupstream = \"items\"\n\
         [[route]]\npath = \"/items\"\nmethods = [\"POST\"]\nrequire = [\"public\"]\nupstream = \"items\"\n\
         schema = \"items.schema.json\"\nmax_body = \"64MiB\"\n"
    )
}

/// A request with a body of so many mebibytes that the schema accepts.
fn request(mebibytes: u32) -> Vec<u8> {
    let length = usize::try_from(mebibytes).unwrap_or(1) << 20;
    let mut body = String::with_capacity(length + 100);
    body.push('[');
    // A body has 262,144 values at most.
    let text = "a text of some length ".repeat(6);
    for number in 0.. {
        if body.len() + 300 > length {
            break;
        }
        let comma = if number == 0 { "" } else { "," };
        body.push_str(&format!(
            "{comma}{{\"id\":{number},\"name\":\"item {number} {text}\",\"tags\":[\"red\",\"large\"]}}"
        ));
    }
    body.push(']');
    let head = format!(
        "POST /items HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

/// Sends the request again and again, over one connection, until it is over.
fn send(port: u16, request: &[u8], sent: &AtomicU32, is_over: &AtomicBool) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let mut space = [0; 16 * 1_024];
    while !is_over.load(Ordering::Relaxed) {
        stream.write_all(request)?;
        let mut answer = Vec::new();
        // The upstream answers with a kilobyte, which ends like this.
        while !answer.ends_with(b"\"}") {
            let count = stream.read(&mut space)?;
            answer.extend_from_slice(space.get(..count).unwrap_or_default());
            let status = String::from_utf8_lossy(answer.get(..12).unwrap_or_default()).into_owned();
            if count == 0 || answer.len() >= 12 && !status.ends_with("200") {
                bail!("a body was not accepted: {}", String::from_utf8_lossy(&answer));
            }
        }
        sent.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
