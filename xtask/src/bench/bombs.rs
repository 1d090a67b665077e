//! `cargo xtask bench bombs`: what hostile bodies take of time and memory: bombs of every coding, deep and wide JSON, patterns
//! and schemas that explode elsewhere, GraphQL, XML, forms. And what schemas and documents take that are made to be costly to
//! read.
//!
//! Each body is sent three times to the real program. What counts is the time until the answer, the CPU time of the proxy
//! until then, and how much more memory it had than before the first. It keeps buffers for the next body.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use self::cases::{Bomb, bombs, configuration, loads};
use super::measured::gateway;
use crate::{
    documents::spent::{Kind, spent},
    step, stub,
};

mod cases;

/// What `cargo xtask bench bombs` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only those whose name has this text.
    #[arg(long, default_value = "")]
    only: String,
    /// Fail if the proxy takes more memory for one of them, in MiB.
    #[arg(long, default_value_t = 256)]
    most: u64,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
    /// Measure this program, built already, instead of building one.
    #[arg(long)]
    gateway: Option<PathBuf>,
}

/// Where the gateway and its upstream listen.
const PORT: u16 = 18_961;
const UPSTREAM: u16 = 18_962;

/// How often each is sent.
const ROUNDS: usize = 3;

/// How long the gateway may take for anything.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What one bomb took.
struct Row {
    name: &'static str,
    bytes: usize,
    /// What it was answered, or how the gateway ended that read it.
    answer: String,
    time: Duration,
    cpu: Duration,
    /// How much more the proxy had than when it was idle, in KiB; of what is read, all that the gateway had.
    memory: u64,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !step::is_root() {
        bail!("bench bombs needs root: the gateway starts as root, and so is its memory measured");
    }
    let gateway = gateway(arguments.gateway.as_deref())?;
    let folder = std::env::temp_dir().join(format!("gateway-bombs-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let rows = measure(&gateway, &folder, &arguments.only);
    fs::remove_dir_all(&folder)?;
    let rows = rows?;
    report(&rows, arguments.json)?;
    let large: Vec<_> = rows.iter().filter(|row| row.memory > arguments.most << 10).map(|row| row.name).collect();
    ensure!(large.is_empty(), "more than {} MiB: {}", arguments.most, large.join("; "));
    Ok(())
}

fn measure(gateway: &Path, folder: &Path, only: &str) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    {
        let config = folder.join("gateway.toml");
        fs::write(&config, configuration(folder, PORT, UPSTREAM)?)?;
        stub::start(UPSTREAM)?;
        let proxy = Proxy::start(gateway, &config)?;
        for bomb in bombs().into_iter().filter(|bomb| bomb.name.contains(only)) {
            eprintln!("== {}", bomb.name);
            rows.push(proxy.row(&bomb).with_context(|| bomb.name)?);
        }
    }
    for (name, kind, file, text) in loads().into_iter().filter(|(name, ..)| name.contains(only)) {
        eprintln!("== {name}");
        let path = folder.join(file);
        fs::write(&path, &text)?;
        let path = match kind {
            Kind::OpenApi => path,
            Kind::Configuration => {
                let config = folder.join("load.toml");
                fs::write(&config, cases::with_schema(folder, file))?;
                config
            }
        };
        let began = Instant::now();
        let spent = spent(gateway, kind, &path)?;
        let code = spent.code.map_or_else(|| "killed".to_owned(), |code| code.to_string());
        let answer = if spent.code == Some(0) { "loads".to_owned() } else { format!("refused ({code})") };
        let (bytes, time) = (text.len(), began.elapsed());
        rows.push(Row { name, bytes, answer, time, cpu: spent.cpu, memory: spent.peak });
    }
    Ok(rows)
}

/// A running gateway, and the process that judges bodies. Ended when dropped.
struct Proxy {
    child: Child,
    pid: u64,
    /// The memory that it took before any bomb, in KiB.
    idle: u64,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status());
        drop(self.child.wait());
    }
}

impl Proxy {
    fn start(gateway: &Path, config: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(gateway);
        command.arg("--config").arg(config).args(["run", "--detach-on-exit"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let mut proxy = Self { child, pid: 0, idle: 0 };
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let output = Command::new(gateway).arg("--config").arg(config).args(["status", "--json"]).output()?;
            let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if let Some(pid) = told.get("proxy_pid").and_then(Value::as_u64) {
                proxy.pid = pid;
                proxy.idle = proxy.kib("VmRSS:")?;
                return Ok(proxy);
            }
            ensure!(Instant::now() < deadline, "the gateway does not start");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn row(&self, bomb: &Bomb) -> anyhow::Result<Row> {
        let (mut times, mut cpus, mut memory, mut answer) = (Vec::new(), Vec::new(), 0, String::new());
        for _ in 0..ROUNDS {
            // The kernel forgets the most that there ever was.
            fs::write(format!("/proc/{}/clear_refs", self.pid), "5").context("the proxy has ended")?;
            let cpu = self.cpu()?;
            let began = Instant::now();
            answer = send(bomb)?;
            times.push(began.elapsed());
            cpus.push(self.cpu()?.saturating_sub(cpu));
            memory = memory.max(self.kib("VmHWM:")?.saturating_sub(self.idle));
        }
        times.sort();
        cpus.sort();
        let middle = |values: &[Duration]| values.get(values.len() / 2).copied().unwrap_or_default();
        let (time, cpu) = (middle(&times), middle(&cpus));
        Ok(Row { name: bomb.name, bytes: bomb.body.len(), answer, time, cpu, memory })
    }

    fn kib(&self, key: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).context("the proxy has ended")?;
        let line = status.lines().find_map(|line| line.strip_prefix(key)).context("no such line")?;
        Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
    }

    fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).context("the proxy has ended")?;
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap_or_default()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }
}

/// Sends a bomb while it waits for the answer, which may come before all is sent; its status.
fn send(bomb: &Bomb) -> anyhow::Result<String> {
    let coding = bomb.coding.map_or_else(String::new, |coding| format!("Content-Encoding: {coding}\r\n"));
    let head = format!(
        "POST /{} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\n{coding}Content-Length: {}\r\nConnection: close\r\n\r\n",
        bomb.route,
        bomb.media_type,
        bomb.body.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", PORT))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut writer = stream.try_clone()?;
    thread::scope(|scope| {
        // A server that has answered may read no more.
        let body = &bomb.body;
        scope.spawn(move || writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(body)));
        let answer = status(&mut stream);
        // Nobody reads what is left, nor the writer's errors.
        stream.shutdown(Shutdown::Both).unwrap_or_default();
        answer
    })
}

/// The status of the answer that comes.
fn status(stream: &mut TcpStream) -> anyhow::Result<String> {
    let (mut answer, mut space) = (Vec::new(), [0; 4_096]);
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut space)?;
        ensure!(count > 0, "no answer");
        answer.extend_from_slice(space.get(..count).unwrap_or_default());
    }
    Ok(String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or_default().to_owned())
}

fn report(rows: &[Row], as_json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let [milliseconds, mebibytes] = [|row: &Row| row.time.as_secs_f64() * 1e3, |row: &Row| row.memory as f64 / 1_024.0];
    if as_json {
        let value = |row: &Row| {
            json!({ "name": row.name, "bytes": row.bytes, "answer": row.answer, "ms": milliseconds(row),
                "cpu_ms": row.cpu.as_secs_f64() * 1e3, "memory_mib": mebibytes(row) })
        };
        return Ok(writeln!(out, "{}", Value::from_iter(rows.iter().map(value)))?);
    }
    writeln!(out, "{:<52} {:>9} {:>12} {:>8} {:>8} {:>8}", "", "bytes", "answer", "ms", "CPU ms", "MiB")?;
    for row in rows {
        let cpu = row.cpu.as_millis();
        let Row { name, bytes, answer, .. } = row;
        writeln!(
            out,
            "{name:<52} {bytes:>9} {answer:>12} {:>8.0} {cpu:>8} {:>8.1}",
            milliseconds(row),
            mebibytes(row)
        )?;
    }
    Ok(())
}
