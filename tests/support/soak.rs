//! A soak: everything that an edge sees at once, for long, while the gateway is reloaded, its
//! certificates change and its servers die; and what must hold while it lasts and when it is over.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};

use crate::{
    daemon::Daemon,
    http1::{Client, TIMEOUT},
    pki::PKI,
    random::Random,
    report,
    settings::{Settings, route},
    tokens,
    wait::pause,
    world::{GOOD_V4, World},
};

mod clients;
mod multiplexed;
mod request_counts;
mod servers;
mod stage;
mod watch;

use clients::CLIENTS;
use request_counts::RequestCounts;
use servers::Server;
use stage::{DRAIN, Stage};
use watch::{Held, Watch};

/// How long the guard lets a proxy be over that, and a busy machine.
const LENIENCE: Duration = Duration::from_secs(6);

/// Servers that are killed in turn.
const MORTAL: [u16; 3] = [9000, 9001, 9002];
/// The one that is not.
const STEADY: u16 = 9010;

/// Threads that wait for disks come and go, long after: one for each kind of work that the guard repeats beside its loop.
const DISK_THREADS: usize = 6;

/// SQLite keeps one descriptor more from the first time on that the log was brought into the store, after 15 s.
const STORE: usize = 1;

/// By how many KiB a process may grow in the last two thirds of a phase.
const FLAT: f64 = 4_096.0;

/// A phase that is shorter says nothing of memory.
const TELLING: Duration = Duration::from_secs(120);

/// How long.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// With a reload every second, a new certificate and a killed server every few seconds.
    pub changing: Duration,
    /// The same without reloads: one proxy bears it all.
    pub steady: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// For programs.
    pub figures: Value,
    /// What must not be. Empty: all is well.
    pub faults: Vec<String>,
}

/// What is done to the gateway.
struct Operator<'run> {
    daemon: &'run Daemon<'run>,
    world: &'run World,
    request_counts: &'run RequestCounts,
    reloads: u32,
    certificates: u32,
    /// The certificate in the file.
    last: String,
    faults: Vec<String>,
}

/// Runs it, telling how it goes every ten seconds.
///
/// # Panics
/// If the gateway does not start, or this machine lacks something.
#[must_use]
pub fn run(plan: Plan) -> Outcome {
    let world = World::new();
    let steady = Server::start(&world.gate, STEADY);
    let mut mortal: Vec<Option<Server>> = MORTAL.map(|port| Some(Server::start(&world.gate, port))).into();
    let daemon = Daemon::start(&world, &settings());
    let before = most_at_rest(&daemon);
    let (request_counts, over) = (RequestCounts::new(), AtomicBool::new(false));
    let token = tokens::good("ada", &["reader"]);
    let stage = Stage { world: &world, request_counts: &request_counts, over: &over, token: &token };
    let mut random = Random::new();
    let mut operator = Operator {
        daemon: &daemon,
        world: &world,
        request_counts: &request_counts,
        reloads: 0,
        certificates: 0,
        last: PKI.certificate_pem.clone(),
        faults: Vec::new(),
    };
    let mut phases = Vec::new();
    thread::scope(|scope| {
        for (visit, count) in CLIENTS {
            for _ in 0..count {
                let (stage, mut random) = (&stage, random.fork());
                scope.spawn(move || {
                    while !stage.is_over() {
                        visit(stage, &mut random);
                    }
                });
            }
        }
        let killer = scope.spawn(|| {
            let mut killed = 0;
            for turn in 0.. {
                if !wait(&over, Duration::from_millis(1_500)) {
                    break;
                }
                let at = turn % MORTAL.len();
                drop(mortal[at].take());
                killed += 1;
                let goes_on = wait(&over, Duration::from_millis(1_000));
                mortal[at] = Some(Server::start(&world.gate, MORTAL[at]));
                if !goes_on {
                    break;
                }
            }
            killed
        });
        // Whatever happens to this thread, the others end.
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for (name, time, reloads) in [("reloaded", plan.changing, true), ("one proxy", plan.steady, false)] {
                if !time.is_zero() {
                    phases.push((name, time, operator.phase(name, time, reloads)));
                }
            }
        }));
        over.store(true, Ordering::Relaxed);
        let killed: u32 = killer.join().unwrap();
        report::note(&format!("the load is over; {killed} servers were killed"));
        told.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let Operator { reloads, certificates, last, mut faults, .. } = operator;
    let after = settle(&daemon, before, &mut faults);
    if !shows(&world, &last) {
        faults.push("the certificate that was written last is not shown".to_owned());
    }
    drop((steady, mortal));
    faults.extend(judge(&request_counts, &phases, &daemon, &world.folder));
    let phases: serde_json::Map<String, Value> =
        phases.iter().map(|(name, _, watch)| ((*name).to_owned(), watch.json())).collect();
    let held = |held: [Held; 2]| held.map(|held| json!({"descriptors": held.descriptors, "threads": held.threads}));
    let figures = json!({
        "seconds": (plan.changing + plan.steady).as_secs(),
        "reloads": reloads,
        "certificates": certificates,
        "requests": request_counts.json(),
        "memory": phases,
        "guard_and_proxy_before": held(before),
        "guard_and_proxy_after": held(after),
        "lost": daemon.status()["lost"],
        "faults": faults,
    });
    Outcome { figures, faults }
}

fn settings() -> Settings {
    let servers = MORTAL.map(|port| format!("\"127.0.0.1:{port}\"")).join(", ");
    let routes = [
        route("/items/{id}", "[\"GET\"]", "[\"items:read\"]", ""),
        route("/orders", "[\"POST\"]", "[\"items:read\"]", ""),
    ];
    let steady = [
        route("/big/{bytes}", "[\"GET\"]", "[\"items:read\"]", ""),
        route("/echo", "[\"POST\"]", "[\"items:read\"]", "max_body = \"64KiB\""),
        route("/chat", "[\"GET\"]", "[\"items:read\"]", "upgrade = [\"websocket\"]"),
    ];
    let steady = steady.map(|route| route.replace("upstream = \"items\"", "upstream = \"steady\""));
    Settings {
        proxy: format!("drain = \"{}s\"\n", DRAIN.as_secs()),
        timeouts: "headers = \"2s\"\nidle = \"5s\"\n".to_owned(),
        upstream: format!(
            "servers = [{servers}]\nidle = \"2s\"\n\
             [upstream.items.health]\npath = \"/health\"\ninterval = \"500ms\"\ntimeout = \"500ms\"\nunhealthy = 2\n\
             [upstream.items.ejection]\nfailures = 3\ntime = \"2s\"\nlongest = \"4s\"\n\
             [upstream.items.retry]\ntries = 3\nbudget = 100\nreserve = 100\n"
        ),
        routes: routes.into_iter().chain(steady).collect(),
        rules: String::new(),
        more: format!("[upstream.steady]\nservers = [\"127.0.0.1:{STEADY}\"]\nidle = \"2s\"\n"),
        ..Settings::default()
    }
}

/// `false`: it is over.
fn wait(over: &AtomicBool, time: Duration) -> bool {
    let since = Instant::now();
    while since.elapsed() < time && !over.load(Ordering::Relaxed) {
        pause(Duration::from_millis(20));
    }
    !over.load(Ordering::Relaxed)
}

impl Operator<'_> {
    /// Does for so long what operators do, and looks every second.
    fn phase(&mut self, name: &str, time: Duration, reloads: bool) -> Watch {
        let mut watch = Watch::new(self.daemon.guard_pid());
        let started = Instant::now();
        for second in 1.. {
            pause((started + Duration::from_secs(second)).saturating_duration_since(Instant::now()));
            let serving = self.daemon.status()["proxy_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            watch.look(serving);
            if started.elapsed() >= time {
                break;
            }
            if reloads {
                self.reload();
            }
            if second % 4 == 0 {
                self.swap_certificate();
            }
            if second % 10 == 0 {
                let [served, by_design, failed] = self.request_counts.totals();
                report::note(&format!(
                    "{name}, {second} s: {served} served, {by_design} not served by design, {failed} failed; {}",
                    watch.json()
                ));
            }
        }
        watch
    }

    fn reload(&mut self) {
        let told = self.daemon.cli(&["reload"]);
        if told.code == 0 {
            self.reloads += 1;
        } else {
            self.faults.push(format!("a reload was refused: {}{}", told.json, told.errors));
        }
    }

    /// The gateway's own certificate, by another key.
    fn swap_certificate(&mut self) {
        let folder = &self.world.folder;
        let (certificate, key) = PKI.another();
        for (name, content) in [("server.key", key), ("server.crt", certificate.clone())] {
            let fresh = folder.join(format!("{name}.new"));
            fs::write(&fresh, content).unwrap();
            fs::rename(fresh, folder.join(name)).unwrap();
        }
        self.certificates += 1;
        self.last = certificate;
    }
}

/// What guard and proxy hold while nobody asks for anything.
fn rest(daemon: &Daemon<'_>) -> Option<[Held; 2]> {
    let proxy = daemon.status()["proxy_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())?;
    Some([watch::held(daemon.guard_pid())?, watch::held(proxy)?])
}

/// The most of what they hold for two seconds: health checks come and go.
fn most_at_rest(daemon: &Daemon<'_>) -> [Held; 2] {
    let since = Instant::now();
    let mut most = [Held::default(); 2];
    while since.elapsed() < Duration::from_secs(2) {
        for (most, held) in most.iter_mut().zip(rest(daemon).into_iter().flatten()) {
            most.descriptors = most.descriptors.max(held.descriptors);
            most.threads = most.threads.max(held.threads);
        }
        pause(Duration::from_millis(50));
    }
    most
}

/// Waits until what the load took is given back; whatever is not is a fault.
fn settle(daemon: &Daemon<'_>, before: [Held; 2], faults: &mut Vec<String>) -> [Held; 2] {
    let guard = daemon.guard_pid();
    let load = |connections: Vec<(u16, u16)>| -> Vec<(u16, u16)> {
        // Health checks come and go; their pool has none.
        connections.into_iter().filter(|(local, remote)| *local == 443 || *remote == STEADY).collect()
    };
    let since = Instant::now();
    let timeout = DRAIN + LENIENCE + Duration::from_secs(10);
    loop {
        let (proxies, connections) = (watch::proxies(guard), load(watch::connections(guard)));
        let after = rest(daemon).unwrap_or_default();
        let given_back = after.iter().zip(&before).all(|(after, before)| {
            after.descriptors <= before.descriptors + STORE && after.threads <= before.threads + DISK_THREADS
        });
        if proxies.len() == 1 && connections.is_empty() && given_back {
            return after;
        }
        if since.elapsed() > timeout {
            if proxies.len() != 1 {
                faults.push(format!("{} proxies are left", proxies.len()));
            }
            if !connections.is_empty() {
                faults.push(format!("connections are left, by local and remote port: {connections:?}"));
            }
            if !given_back {
                faults.push(format!("guard and proxy held {before:?} before the load and hold {after:?} after it"));
            }
            return after;
        }
        pause(Duration::from_millis(100));
    }
}

/// What must hold of what was seen.
fn judge(
    request_counts: &RequestCounts,
    phases: &[(&str, Duration, Watch)],
    daemon: &Daemon<'_>,
    folder: &Path,
) -> Vec<String> {
    let mut faults = Vec::new();
    let [served, _, failed] = request_counts.totals();
    if failed > 0 {
        faults.push(format!(
            "{failed} requests failed, the first of them:\n  {}",
            request_counts.failures().join("\n  ")
        ));
    }
    if served == 0 {
        faults.push("nobody was served".to_owned());
    }
    for (name, time, watch) in phases {
        if watch.longest() > DRAIN + LENIENCE {
            faults.push(format!("{name}: a proxy stayed {:.1?} after another served", watch.longest()));
        }
        for (of, series) in [("guard", &watch.guard_memory), ("proxy", &watch.proxy_memory)] {
            if *time >= TELLING && series.growth() > FLAT {
                let slope = series.slope();
                faults.push(format!("{name}: the {of} grows by {slope:.0} KiB a minute"));
            }
        }
    }
    let log = fs::read_to_string(folder.join("stderr.log")).unwrap_or_default();
    for word in ["panicked", "a worker died", "a proxy is killed", "the proxy died", "not in force"] {
        if let Some(line) = log.lines().find(|line| line.contains(word)) {
            faults.push(format!("the gateway's log says: {line}"));
        }
    }
    let status = daemon.status();
    if status["proxy_restarts"] != 0 {
        faults.push(format!("the proxy was restarted {} times", status["proxy_restarts"]));
    }
    faults
}

/// Whether new connections are shown the certificate that was written last.
fn shows(world: &World, certificate: &str) -> bool {
    // Without a session of an earlier connection, which would bring that one's certificate along.
    let fresh = PKI.client(rustls::ALL_VERSIONS, &[b"http/1.1"]);
    let connection = Client::new(world, GOOD_V4).connect_with(fresh, TIMEOUT);
    let shown = connection.ok().and_then(|connection| {
        let certificates = connection.session()?.peer_certificates()?;
        Some(certificates.first()?.to_vec())
    });
    shown.is_some_and(|shown| CertificateDer::from_pem_slice(certificate.as_bytes()).is_ok_and(|last| *last == shown))
}
