//! Decides what is measured: packets, floods, faults, lists, and requests with nginx doing the same work beside the gateway.
//!
//! Numbers of a shared machine are worth little by themselves; their ratio is what to look at.

use std::{
    env, fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{
    build::{self, cargo, root},
    step::{self, find, step},
};

mod feeds;

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
    /// Requests per second over TLS, beside nginx (needs wrk and nginx).
    Proxy {
        /// Seconds per run.
        #[arg(long, default_value_t = 5)]
        seconds: u32,
    },
}

#[derive(Debug, clap::Args)]
struct KernelArguments {
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
    /// How often each case is measured.
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// The most entries and prefixes that are measured.
    #[arg(long, default_value_t = 1_000_000)]
    entries: u32,
    /// Another kernel object, measured beside this one.
    #[arg(long)]
    object: Option<PathBuf>,
}

/// Where the gateway, nginx as a proxy, and nginx as the upstream of both listen.
const PORTS: [u16; 3] = [18_443, 18_444, 18_080];

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.what {
        What::Kernel(arguments) => kernel(arguments),
        What::Faults { rounds } => faults(*rounds),
        What::Feeds(arguments) => feeds::run(arguments),
        What::Flood { rate, only } => flood(*rate, only.as_deref()),
        What::Proxy { seconds } => proxy(*seconds),
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
        command.arg("--object").arg(std::path::absolute(object)?);
    }
    step("packets", &mut command)
}

fn faults(rounds: u32) -> anyhow::Result<()> {
    build::run(&build::Arguments::default())?;
    step("faults", end_to_end("kill").env("GATEWAY_FAULT_ROUNDS", rounds.to_string()))
}

/// The table of `tests/e2e/flood.rs`. The gateway that is flooded is the one that would be in service.
fn flood(rate: u32, only: Option<&str>) -> anyhow::Result<()> {
    step::need("nft", "nftables")?;
    build::run(&build::Arguments { release: true })?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let mut command = end_to_end("flood::");
    command.args(["--", "--test-threads", "1"]);
    command.env("GATEWAY_BIN", target.join("release/gateway")).env("GATEWAY_FLOOD_RATE", rate.to_string());
    command.envs(only.map(|only| ("GATEWAY_FLOOD_ONLY", only)));
    step("floods", &mut command)
}

fn end_to_end(tests: &str) -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(root());
    command.args(["test", "--quiet", "--locked", "--package", "gateway-tests", "--test", "e2e", tests]);
    command
}

fn proxy(seconds: u32) -> anyhow::Result<()> {
    if !step::is_root() {
        bail!("bench proxy needs root: the gateway starts as root and runs its proxy as nobody");
    }
    step::need("wrk", "wrk")?;
    step::need("nginx", "nginx-light")?;
    build::run(&build::Arguments { release: true })?;
    let mut example = Command::new(cargo());
    example.current_dir(root()).args(["build", "--locked", "--package", "gateway-tests", "--example", "sample-api"]);
    step("fixtures", &mut example)?;

    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let folder = env::temp_dir().join(format!("gateway-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let bench = Bench { folder, children: Vec::new() };
    bench.measure(&target, seconds)
}

/// What was made for a measurement; dropping it removes everything.
struct Bench {
    folder: PathBuf,
    children: Vec<Child>,
}

impl Bench {
    fn measure(mut self, target: &Path, seconds: u32) -> anyhow::Result<()> {
        let folder = self.folder.clone();
        let mut fixtures = Command::new(target.join("debug/examples/sample-api"));
        step("certificate", fixtures.arg("fixtures").arg(&folder).arg("127.0.0.1"))?;
        let [gateway, nginx, upstream] = PORTS;
        fs::write(folder.join("gateway.toml"), gateway_configuration(&folder, gateway, upstream))?;
        fs::write(folder.join("nginx.conf"), nginx_configuration(&folder, nginx, upstream))?;

        let mut server = Command::new(find("nginx").context("nginx")?);
        self.start(server.arg("-p").arg(&folder).arg("-c").arg(folder.join("nginx.conf")))?;
        let mut server = Command::new(target.join("release/gateway"));
        self.start(server.arg("--config").arg(folder.join("gateway.toml")).args(["run", "--detach-on-exit"]))?;
        for port in PORTS {
            wait_for(port)?;
        }
        for (name, port) in [("nginx", nginx), ("gateway", gateway), ("nginx", nginx), ("gateway", gateway)] {
            let mut wrk = Command::new("wrk");
            wrk.args([
                "-t2",
                "-c64",
                "--latency",
                &format!("-d{seconds}s"),
                &format!("https://127.0.0.1:{port}/health"),
            ]);
            step(name, &mut wrk)?;
        }
        Ok(())
    }

    fn start(&mut self, command: &mut Command) -> anyhow::Result<()> {
        let child = command.current_dir(&self.folder).stdin(Stdio::null()).spawn();
        self.children.push(child.with_context(|| format!("{command:?}"))?);
        Ok(())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Both end their own children when they are told to end.
            drop(Command::new("kill").args(["-TERM", &child.id().to_string()]).status());
            drop(child.wait());
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn gateway_configuration(folder: &Path, port: u16, upstream: u16) -> String {
    let folder = folder.display();
    format!(
        "[guard]\ninterfaces = []\nstate_dir = \"{folder}/state\"\ncontrol_socket = \"{folder}/control.sock\"\n\
         [proxy]\nuser = \"nobody\"\naccess_log = \"{folder}/access.log\"\ndrain = \"1s\"\n\
         [[listener]]\naddress = \"127.0.0.1:{port}\"\ncertificate = \"server.crt\"\nprivate_key = \"server.key\"\n\
         [upstream.items]\nservers = [\"127.0.0.1:{upstream}\"]\n\
         [[route]]\npath = \"/health\"\nmethods = [\"GET\"]\nrequire = [\"public\"]\nupstream = \"items\"\n"
    )
}

/// The same work: TLS, one upstream with kept connections, an access log in JSON.
fn nginx_configuration(folder: &Path, port: u16, upstream: u16) -> String {
    let folder = folder.display();
    format!(
        "daemon off;\nworker_processes auto;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         log_format json escape=json '{{\"time\":\"$time_iso8601\",\"client\":\"$remote_addr\",\"path\":\"$uri\",\
         \"status\":$status,\"id\":\"$request_id\"}}';\n\
         upstream items {{ server 127.0.0.1:{upstream}; keepalive 64; }}\n\
         server {{ listen 127.0.0.1:{upstream} reuseport; access_log off; keepalive_requests 1000000;\n\
         location / {{ default_type application/json; return 200 '{{\"status\":\"ok\"}}'; }} }}\n\
         server {{ listen 127.0.0.1:{port} ssl reuseport; access_log {folder}/nginx.log json;\n\
         keepalive_requests 1000000; ssl_certificate server.crt; ssl_certificate_key server.key;\n\
         location / {{ proxy_pass http://items; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_set_header X-Request-Id $request_id; proxy_set_header X-Forwarded-For $remote_addr; }} }}\n\
         }}\n"
    )
}

fn wait_for(port: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            bail!("nothing listens on port {port}");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
