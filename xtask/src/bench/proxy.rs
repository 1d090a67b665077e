//! `cargo xtask bench proxy`: measures requests. The gateway, nginx and HAProxy carry the same load in turn, in every
//! round, and what counts is the CPU time that each takes for a request. Requests per second on a machine that also
//! runs the client and the upstream say little.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::{latency, measured::gateway};
use crate::{
    places::{cargo, root},
    step::{self, find, step},
};

/// What `cargo xtask bench proxy` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Seconds per run.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// How often everybody has a turn; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Print the figures as one JSON value.
    #[arg(long)]
    json: bool,
    /// Measure this program, built already, instead of building one.
    #[arg(long)]
    gateway: Option<PathBuf>,
}

/// A kind of load: which listener of the three, and what we may take at most of the cheaper peer's time.
pub(super) struct Profile {
    pub(super) name: &'static str,
    listener: u16,
    target: f64,
}

/// The listeners are plain, TLS, and TLS with everything on: a limit and a log for all, tokens and roles for us alone.
pub(super) const PROFILES: [Profile; 7] = [
    Profile { name: "plain", listener: 1, target: 1.0 },
    Profile { name: "tls", listener: 2, target: 0.8 },
    Profile { name: "h2", listener: 2, target: 1.0 },
    Profile { name: "full", listener: 3, target: 0.8 },
    Profile { name: "full-h2", listener: 3, target: 0.8 },
    Profile { name: "full-many", listener: 3, target: 0.85 },
    Profile { name: "handshake", listener: 2, target: 0.8 },
];

/// Where the upstream of all listens; the others have their three listeners above 100 times their place.
pub(super) const UPSTREAM: u16 = 18_000;

/// Linux counts the time of processes in hundredths of a second, whatever its own clock does.
const TICK: Duration = Duration::from_millis(10);

const CONNECTIONS: u32 = 64;

/// How many clients there are in `full-many`, each with a token of its own.
const TOKENS: &str = "2000";

/// Has wrk send another of them with each request.
const ROTATE: &str = r#"
local requests, next = {}, 0
function init()
  for token in io.lines("many.tokens") do
    requests[#requests + 1] = wrk.format("GET", nil, { ["Host"] = "localhost", ["Authorization"] = "Bearer " .. token })
  end
end
function request()
  next = next % #requests + 1
  return requests[next]
end
"#;

/// CPU microseconds per request, by profile and name.
type Figures = BTreeMap<(&'static str, &'static str), Vec<f64>>;

/// Microseconds until the answer, by who was asked.
type Latencies = BTreeMap<&'static str, Vec<f64>>;

/// What was measured.
#[derive(Default)]
struct Measured {
    figures: Figures,
    latencies: Latencies,
    /// Kilobytes that the gateway took before any load, and in the end.
    memory: [u64; 2],
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !step::is_root() {
        bail!("bench proxy needs root: the gateway starts as root and runs its proxy as nobody");
    }
    for (program, package) in [("wrk", "wrk"), ("h2load", "nghttp2-client"), ("nginx", "nginx-light")] {
        step::need(program, package)?;
    }
    let gateway = gateway(arguments.gateway.as_deref())?;
    let bench = Bench::new(arguments.seconds)?;
    let measured = bench.measure(&gateway, arguments.rounds)?;
    report(&measured, arguments.json)
}

/// A folder with certificate, tokens and the upstream's configuration, and how long a run takes. Gone when dropped.
pub(super) struct Bench {
    pub(super) folder: PathBuf,
    seconds: u32,
}

/// A program that is being measured, or measured against. Ended when dropped.
pub(super) struct Running(Child);

impl Running {
    /// The time that it and all that it started have taken.
    pub(super) fn cpu(&self) -> Duration {
        cpu(self.0.id())
    }

    /// Kilobytes of memory that it and all that it started take.
    pub(super) fn memory(&self) -> u64 {
        tree(self.0.id()).into_iter().map(kilobytes).sum()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // All of them end their own children when they are told to end.
        drop(Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status());
        drop(self.0.wait());
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Bench {
    pub(super) fn new(seconds: u32) -> anyhow::Result<Self> {
        let mut example = Command::new(cargo());
        let build = ["build", "--locked", "--package", "gateway-tests", "--example", "sample-api"];
        step("fixtures", example.current_dir(root()).args(build))?;
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        let folder = env::temp_dir().join(format!("gateway-bench-{}", std::process::id()));
        let mut fixtures = Command::new(target.join("debug/examples/sample-api"));
        step(
            "certificate",
            fixtures.args(["fixtures", "--tokens", TOKENS]).arg(&folder).arg("127.0.0.1").stdout(Stdio::null()),
        )?;
        fs::write(folder.join("upstream"), upstream_configuration(&folder))?;
        Ok(Self { folder, seconds })
    }

    /// CPU microseconds that a program takes for each request of one kind of load.
    pub(super) fn each(&self, running: &Running, profile: &Profile, port: u16, token: &str) -> anyhow::Result<f64> {
        self.each_by(running, |seconds| self.load(profile, port, token, seconds))
    }

    /// The same for a load that says how many requests were answered in so many seconds.
    pub(super) fn each_by(&self, running: &Running, load: impl Fn(u32) -> anyhow::Result<u32>) -> anyhow::Result<f64> {
        load(1)?;
        let before = running.cpu();
        let requests = load(self.seconds)?;
        let took = running.cpu().saturating_sub(before);
        Ok(took.as_secs_f64() * 1e6 / f64::from(requests.max(1)))
    }

    fn measure(&self, gateway: &Path, rounds: usize) -> anyhow::Result<Measured> {
        let token = fs::read_to_string(self.folder.join("good.token"))?;
        let contender = |place: u16, name, configuration: String| (UPSTREAM + 100 * place, name, configuration);
        let mut contenders = vec![
            contender(1, "gateway", gateway_configuration(&self.folder, UPSTREAM + 100)),
            contender(2, "nginx", nginx_configuration(&self.folder, UPSTREAM + 200)),
        ];
        if find("haproxy").is_some() {
            contenders.push(contender(3, "haproxy", haproxy_configuration(&self.folder, UPSTREAM + 300)));
        } else {
            eprintln!("== HAProxy is missing: measured without it (the package haproxy)");
        }
        for (_, name, configuration) in &contenders {
            fs::write(self.folder.join(name), configuration)?;
        }
        let (certificate, key) = (self.folder.join("server.crt"), self.folder.join("server.key"));
        fs::write(self.folder.join("server.pem"), [fs::read(certificate)?, fs::read(key)?].concat())?;
        fs::write(self.folder.join("rotate.lua"), ROTATE)?;
        let _upstream = self.start("nginx", &["-c", "upstream"], UPSTREAM)?;
        let Measured { mut figures, mut latencies, mut memory } = Measured::default();
        for round in 1..=rounds {
            latencies.entry("direct").or_default().extend(latency::sample(UPSTREAM, self.seconds)?);
            for (port, name, _) in &contenders {
                eprintln!("== round {round} of {rounds}: {name}");
                let running = match *name {
                    "gateway" => self.start(gateway, &["--config", "gateway", "run", "--detach-on-exit"], port + 1)?,
                    "haproxy" => self.start("haproxy", &["-db", "-f", "haproxy"], port + 1)?,
                    _ => self.start("nginx", &["-c", "nginx"], port + 1)?,
                };
                if *name == "gateway" {
                    memory[0] = running.memory();
                }
                latencies.entry(name).or_default().extend(latency::sample(port + 1, self.seconds)?);
                for profile in PROFILES {
                    // HAProxy checks no limit and no token here.
                    if *name == "haproxy" && profile.listener == 3 {
                        continue;
                    }
                    let each = self.each(&running, &profile, *port, &token)?;
                    figures.entry((profile.name, *name)).or_default().push(each);
                }
                if *name == "gateway" {
                    memory[1] = running.memory();
                }
            }
        }
        Ok(Measured { figures, latencies, memory })
    }

    /// Sends requests for so many seconds. How many were answered as they should be.
    fn load(&self, profile: &Profile, port: u16, token: &str, seconds: u32) -> anyhow::Result<u32> {
        let scheme = if profile.listener == 1 { "http" } else { "https" };
        let path = if profile.listener == 3 { "full" } else { "items" };
        let url = format!("{scheme}://127.0.0.1:{}/{path}/7?limit=10", port + profile.listener);
        let multiplexed = profile.name.ends_with("h2");
        let mut command = Command::new(if multiplexed { "h2load" } else { "wrk" });
        if multiplexed {
            command.args(["-t1", &format!("-c{}", CONNECTIONS / 8), "-m8", "-D", &seconds.to_string()]);
        } else {
            command.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s")]);
        }
        if profile.name == "handshake" {
            command.args(["-H", "Connection: close"]);
        }
        if profile.name == "full-many" {
            command.args(["-s", "rotate.lua"]);
        } else if profile.listener == 3 {
            command.args(["-H", &format!("Authorization: Bearer {}", token.trim())]);
        }
        let out = command.current_dir(&self.folder).arg(url).output().context("the load generator")?;
        answered(&out, multiplexed).with_context(|| format!("{} on port {port}", profile.name))
    }

    /// Has wrk send what a script says, for so many seconds. How many requests were answered as they should be.
    pub(super) fn wrk(&self, script: &str, connections: u32, url: &str, seconds: u32) -> anyhow::Result<u32> {
        let mut command = Command::new("wrk");
        command.args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "-s", script, url]);
        let out = command.current_dir(&self.folder).output().context("the load generator")?;
        answered(&out, false).with_context(|| url.to_owned())
    }

    /// The same with variables for the script, of answers of any status.
    pub(super) fn scripted(
        &self,
        script: &str,
        variables: &[(&str, u64)],
        url: &str,
        seconds: u64,
    ) -> anyhow::Result<u64> {
        let mut command = Command::new("wrk");
        command.args(["-t1", "-c64", &format!("-d{seconds}s"), "-s", script, url]);
        command.envs(variables.iter().map(|(name, value)| (name, value.to_string())));
        let out = command.current_dir(&self.folder).output().context("the load generator")?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let line = text.lines().find(|line| line.contains(" requests in"));
        let count = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        count.with_context(|| format!("wrk said nothing of its requests: {text}"))
    }

    pub(super) fn start(&self, program: impl AsRef<Path>, arguments: &[&str], port: u16) -> anyhow::Result<Running> {
        let program = program.as_ref();
        let found = program.to_str().filter(|name| !name.contains('/')).and_then(find);
        let mut command = Command::new(found.as_deref().unwrap_or(program));
        if program == Path::new("nginx") {
            command.arg("-p").arg(&self.folder);
        }
        command.current_dir(&self.folder).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let log = fs::File::create(self.folder.join(format!("{port}.err")))?;
        let running = Running(command.stderr(log).spawn().with_context(|| program.display().to_string())?);
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                bail!(
                    "{} does not listen: {}",
                    program.display(),
                    fs::read_to_string(self.folder.join(format!("{port}.err")))?
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }
}

/// How many requests were answered as they should be, as wrk or h2load says.
fn answered(out: &Output, multiplexed: bool) -> anyhow::Result<u32> {
    let text = String::from_utf8_lossy(&out.stdout);
    let number = |end: &str| {
        let line = text.lines().find(|line| line.contains(end))?;
        line.split(end).next()?.rsplit(' ').find(|word| !word.is_empty())?.parse::<u32>().ok()
    };
    let (good, bad) = if multiplexed {
        (number(" 2xx"), number(" 4xx").unwrap_or(0) + number(" 5xx").unwrap_or(0))
    } else {
        let refused =
            text.lines().find_map(|line| line.trim().strip_prefix("Non-2xx or 3xx responses: ")?.parse().ok());
        (number(" requests in"), refused.unwrap_or(0))
    };
    match good {
        Some(good) if good > 0 && bad == 0 => Ok(good),
        _ => bail!("{bad} refused\n{text}{}", String::from_utf8_lossy(&out.stderr)),
    }
}

/// A process and all that it started.
fn tree(process: u32) -> Vec<u32> {
    let mut all = vec![process];
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return all };
    for thread in threads.flatten() {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|child| child.parse().ok()).flat_map(tree));
    }
    all
}

/// The time that a process and all that it started have taken, in user space and in the kernel.
fn cpu(process: u32) -> Duration {
    let ticks = |process: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
        Some(fields.next()?.parse::<u32>().ok()? + fields.next()?.parse::<u32>().ok()?)
    };
    TICK * tree(process).into_iter().filter_map(ticks).sum()
}

/// What a process takes of memory, its share of what is shared.
fn kilobytes(process: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok());
    pss.unwrap_or(0)
}

pub(super) fn median(figures: Option<&Vec<f64>>) -> Option<f64> {
    let mut sorted = figures?.clone();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn report(measured: &Measured, as_json: bool) -> anyhow::Result<()> {
    let Measured { figures, latencies, memory } = measured;
    let latencies: Vec<_> = latencies
        .iter()
        .map(|(name, sample)| (*name, latency::percentile(sample, 50), latency::percentile(sample, 99)))
        .collect();
    let mut out = io::stdout().lock();
    let mut lines = Vec::new();
    for Profile { name, target, .. } in PROFILES {
        let of = |who| median(figures.get(&(name, who)));
        let (gateway, nginx, haproxy) = (of("gateway"), of("nginx"), of("haproxy"));
        let best = nginx.into_iter().chain(haproxy).min_by(f64::total_cmp);
        let ratio = gateway.zip(best).map(|(gateway, best)| gateway / best);
        lines.push(json!({
            "profile": name, "gateway_us": gateway, "nginx_us": nginx, "haproxy_us": haproxy,
            "ratio": ratio, "target": target, "met": ratio.map(|ratio| ratio <= target),
        }));
    }
    if as_json {
        let latencies: Vec<_> =
            latencies.iter().map(|(name, p50, p99)| json!({ "asked": name, "p50_us": p50, "p99_us": p99 })).collect();
        let memory = json!({ "before": memory[0], "after": memory[1] });
        writeln!(out, "{}", json!({ "profiles": lines, "latencies": latencies, "memory_kilobytes": memory }))?;
        return Ok(());
    }
    writeln!(out, "CPU microseconds per request; the ratio is to the cheaper of the others")?;
    writeln!(out, "{:<10} {:>8} {:>8} {:>8} {:>6} {:>6}", "profile", "gateway", "nginx", "haproxy", "ratio", "target")?;
    for line in lines {
        let number = |name: &str| {
            line.get(name).and_then(serde_json::Value::as_f64).map_or("-".to_owned(), |number| format!("{number:.2}"))
        };
        let name = line.get("profile").and_then(serde_json::Value::as_str).unwrap_or_default();
        let [gateway, nginx, haproxy] = ["gateway_us", "nginx_us", "haproxy_us"].map(number);
        let verdict = match line.get("met").and_then(serde_json::Value::as_bool) {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        };
        let (ratio, target) = (number("ratio"), number("target"));
        writeln!(out, "{name:<10} {gateway:>8} {nginx:>8} {haproxy:>8} {ratio:>6} {target:>6} {verdict}")?;
    }
    writeln!(out, "latency at 1000 requests a second without TLS, microseconds: p50, p99")?;
    for (name, p50, p99) in latencies {
        writeln!(out, "{name:<10} {:>8.0} {:>8.0}", p50.unwrap_or_default(), p99.unwrap_or_default())?;
    }
    writeln!(out, "memory of the gateway before and after the load: {}, {} MB", memory[0] / 1_024, memory[1] / 1_024)?;
    Ok(())
}

pub(super) fn gateway_configuration(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    let pair = "certificate = \"server.crt\"\nprivate_key = \"server.key\"\n";
    let [plain, tls, full] = [port + 1, port + 2, port + 3];
    format!(
        "[guard]\ninterfaces = []\nstate_dir = \"{folder}/state\"\ncontrol_socket = \"{folder}/control.sock\"\n\
         [proxy]\nuser = \"nobody\"\naccess_log = \"{folder}/access.log\"\ndrain = \"1s\"\nworkers = 2\n\
         [[listener]]\naddress = \"127.0.0.1:{plain}\"\naccess_log = false\n\
         [[listener]]\naddress = \"127.0.0.1:{tls}\"\naccess_log = false\n{pair}\
         [[listener]]\naddress = \"127.0.0.1:{full}\"\n{pair}\
         [upstream.items]\nservers = [\"127.0.0.1:{UPSTREAM}\"]\nmax_idle = 256\n\
         [jwt]\nissuer = \"https://issuer.example\"\naudience = \"api\"\njwks = \"jwks.json\"\ntype = \"at+jwt\"\n\
         [roles]\neditor = [\"items:read\"]\n\
         [limit.address]\nrequests = 1000000\nper = \"1s\"\n\
         [[route]]\npath = \"/items/{{id}}\"\nmethods = [\"GET\"]\nrequire = [\"public\"]\nupstream = \"items\"\n\
         [[route]]\npath = \"/full/{{id}}\"\nmethods = [\"GET\"]\nrequire = [\"items:read\"]\nupstream = \"items\"\n"
    )
}

fn nginx_configuration(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    let pass = "location / { proxy_pass http://items; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
                proxy_set_header X-Request-Id $request_id; proxy_set_header X-Forwarded-For $remote_addr; }";
    let tls = "ssl_certificate server.crt; ssl_certificate_key server.key; ssl_protocols TLSv1.2 TLSv1.3;";
    let [plain, encrypted, full] = [port + 1, port + 2, port + 3];
    format!(
        "daemon off;\nworker_processes 2;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log crit;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
         log_format json escape=json '{{\"time\":\"$time_iso8601\",\"client\":\"$remote_addr\",\"path\":\"$uri\",\
         \"status\":$status,\"id\":\"$request_id\",\"took\":$request_time}}';\n\
         keepalive_requests 1000000000; access_log off; limit_req_zone $binary_remote_addr zone=z:10m rate=100000000r/m;\n\
         upstream items {{ server 127.0.0.1:{UPSTREAM}; keepalive 256; keepalive_requests 1000000000; }}\n\
         server {{ listen 127.0.0.1:{plain} backlog=4096; {pass} }}\n\
         server {{ listen 127.0.0.1:{encrypted} ssl http2 backlog=4096; {tls} {pass} }}\n\
         server {{ listen 127.0.0.1:{full} ssl http2 backlog=4096; {tls} access_log {folder}/nginx.log json buffer=64k;\n\
         limit_req zone=z burst=1000000 nodelay; {pass} }}\n\
         }}\n"
    )
}

fn haproxy_configuration(folder: &Path, port: u16) -> String {
    let [plain, tls, pem] =
        [(port + 1).to_string(), (port + 2).to_string(), folder.join("server.pem").display().to_string()];
    format!(
        "global\n nbthread 2\n maxconn 8000\ndefaults\n mode http\n timeout connect 5s\n timeout client 600s\n \
         timeout server 600s\n http-reuse always\nbackend items\n server items 127.0.0.1:{UPSTREAM} pool-max-conn 256\n\
         frontend plain\n bind 127.0.0.1:{plain}\n option forwardfor\n default_backend items\n\
         frontend tls\n bind 127.0.0.1:{tls} ssl crt {pem} alpn h2,http/1.1\n option forwardfor\n default_backend items\n"
    )
}

/// A kilobyte of JSON for every request.
fn upstream_configuration(folder: &Path) -> String {
    let (folder, body) = (folder.display(), "x".repeat(1_000));
    format!(
        "daemon off;\nworker_processes 1;\npid {folder}/upstream.pid;\nerror_log {folder}/upstream.log crit;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; client_max_body_size 0;\n\
         server {{ listen 127.0.0.1:{UPSTREAM} backlog=4096;\n\
         location / {{ default_type application/json; return 200 '{{\"items\":\"{body}\"}}'; }} }} }}\n"
    )
}
