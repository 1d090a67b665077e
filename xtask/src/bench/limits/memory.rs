//! What a limit takes of memory at its capacity: the program that would be in service, and a million clients. Once it is
//! full, more clients take no more, and whoever was over its limit before still is.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::super::proxy::{Bench, UPSTREAM};

/// How many clients there is room for.
const CAPACITY: u64 = 1_000_000;

/// How often so many seconds of load are tried until the table is full.
const TRIES: u32 = 60;
const SECONDS: u64 = 5;

/// How much more memory the table may take once it is full, in kilobytes: what any load makes of any program.
const FLAT: u64 = 16 * 1_024;

/// Has wrk send each request as another client.
const CLIENTS: &str = r#"
local next = tonumber(os.getenv("FROM"))
function request()
  next = next + 1
  return wrk.format("GET", nil, { ["Host"] = "localhost", ["X-App"] = "client-" .. next })
end
"#;

const OFFENDER: &str = "offender";

pub(super) fn run(bench: &Bench, gateway: &Path, as_json: bool) -> anyhow::Result<()> {
    let (port, file) = (UPSTREAM + 901, "gateway-memory");
    fs::write(bench.folder.join(file), configuration(&bench.folder, port))?;
    fs::write(bench.folder.join("clients.lua"), CLIENTS)?;
    let running = bench.start(gateway, &["--config", file, "run", "--detach-on-exit"], port)?;
    let ask = || status(port, OFFENDER);
    ensure!((ask()?, ask()?, ask()?) == (200, 200, 429), "the limit of two does not hold");
    let keys = || keys(bench, gateway, file);
    // Connections and buffers are there.
    let mut sent = load(bench, port, 0, 1)?;
    let (before, few) = (running.memory(), keys()?);
    let mut tries = 0;
    while keys()? < CAPACITY - CAPACITY / 50 {
        tries += 1;
        eprintln!("== memory: {} of {CAPACITY} clients", keys()?);
        if tries > TRIES {
            bail!("only {} clients are known after {sent} requests", keys()?);
        }
        sent += load(bench, port, sent, SECONDS)?;
    }
    let (full, known) = (running.memory(), keys()?);
    for _ in 0..tries.max(1) {
        sent += load(bench, port, sent, SECONDS)?;
    }
    let (after, again) = (running.memory(), keys()?);
    let (is_flat, stays) = (after <= full + FLAT && again <= CAPACITY, ask()? == 429);
    let each = full.saturating_sub(before) * 1_024 / known.saturating_sub(few).max(1);
    let mut out = io::stdout().lock();
    if as_json {
        let kilobytes = json!({ "before": before, "full": full, "after": after });
        let told = json!({ "kilobytes": kilobytes, "clients": known, "bytes_a_client": each, "requests": sent,
            "flat": is_flat, "offender_stays": stays });
        return Ok(writeln!(out, "{told}")?);
    }
    writeln!(
        out,
        "memory of the gateway with {few} clients: {} MB; with {known}: {} MB, {each} bytes each",
        before / 1_024,
        full / 1_024
    )?;
    writeln!(
        out,
        "after {sent} requests of as many clients: {} MB, {again} clients: {}",
        after / 1_024,
        if is_flat { "flat" } else { "NOT flat" }
    )?;
    writeln!(out, "whoever was over the limit before {} so", if stays { "still is" } else { "is NO LONGER" })?;
    Ok(())
}

fn configuration(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "[guard]\ninterfaces = []\nstate_dir = \"{folder}/memory-state\"\ncontrol_socket = \"{folder}/memory.sock\"\n\
         [proxy]\nuser = \"nobody\"\naccess_log = \"{folder}/access.log\"\ndrain = \"1s\"\nworkers = 2\n\
         [[listener]]\naddress = \"127.0.0.1:{port}\"\naccess_log = false\n\
         [upstream.items]\nservers = [\"127.0.0.1:{UPSTREAM}\"]\nmax_idle = 256\n\
         [[route]]\npath = \"/items/{{id}}\"\nmethods = [\"GET\"]\nrequire = [\"public\"]\nupstream = \"items\"\n\
         [limit.client]\nby = [\"header:x-app\"]\nrequests = 2\nper = \"12h\"\nburst = 2\ncapacity = {CAPACITY}\n"
    )
}

/// Sends requests for so many seconds, each as another client, from that number on. How many.
fn load(bench: &Bench, port: u16, from: u64, seconds: u64) -> anyhow::Result<u64> {
    let url = format!("http://127.0.0.1:{port}/items/7");
    // Some are sent that are not answered in time.
    Ok(bench.scripted("clients.lua", &[("FROM", from)], &url, seconds)? + 64)
}

/// How many clients the limit knows.
fn keys(bench: &Bench, gateway: &Path, file: &str) -> anyhow::Result<u64> {
    let mut command = Command::new(gateway);
    command.current_dir(&bench.folder).args(["--config", file, "limit", "list", "--json"]);
    let told: Value = serde_json::from_slice(&command.output().context("gateway limit list")?.stdout)?;
    let keys = told.pointer("/rows/0/keys").and_then(Value::as_u64);
    keys.with_context(|| format!("gateway limit list: {told}"))
}

/// What a client is answered.
fn status(port: u16, client: &str) -> anyhow::Result<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let request = format!("GET /items/7 HTTP/1.1\r\nHost: localhost\r\nX-App: {client}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).with_context(|| format!("no answer: {text}"))
}
