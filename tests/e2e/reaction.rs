//! How long a ban takes from the offence to the entry in the kernel, by what `gateway why --json` says of each; and from the end
//! of a minute with an [`anomaly`] to the ban.
//!
//! `GATEWAY_REACTION_BANS` is how many are made in each case, and has all cases measured (`cargo xtask bench reaction`);
//! `GATEWAY_REPORT` names a file for the figures.

use std::{
    env,
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    daemon::Daemon,
    http1::{Connection, Request},
    report,
    settings::{Settings, bad_tokens},
    tokens,
    wait::{SOON, pause, until},
    world::{GATE, GATEWAY_V4, OUTSIDE, World},
};

mod anomaly;

/// In the suite.
const FEW: u16 = 3;

/// From the end of the minute to the ban.
const ANOMALY: &str = "anomaly, from the minute's end";

/// What the machine does meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// Requests as fast as they are answered, on every core.
    Load,
    /// So many connections without a request.
    Connections(usize),
}

/// How the bans follow each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    BackToBack,
    /// So many at once.
    Bursts(usize),
    Every(Duration),
}

#[test]
fn every_ban_tells_how_long_it_took() {
    if !report::may_run("reaction") {
        return;
    }
    let bans = env::var("GATEWAY_REACTION_BANS").ok().and_then(|bans| bans.parse().ok());
    let only = env::var("GATEWAY_REACTION_ONLY").unwrap_or_default();
    let mut figures = Vec::new();
    let nothing = [("idle", Beside::Nothing)];
    let all =
        [("idle", Beside::Nothing), ("full load", Beside::Load), ("8,000 connections", Beside::Connections(8_000))];
    for (beside, what) in if bans.is_some() { &all[..] } else { &nothing[..] } {
        let paces = [
            ("back to back", Pace::BackToBack),
            ("bursts of 20", Pace::Bursts(20)),
            ("1.1 s apart", Pace::Every(Duration::from_millis(1_100))),
        ];
        for (pace, how) in if bans.is_some() { &paces[..] } else { &paces[..1] } {
            let case = format!("{beside}, {pace}");
            if !case.contains(&only) {
                continue;
            }
            figures.push(figure(&case, measure(bans.unwrap_or(FEW), *what, *how)));
        }
    }
    // It takes minutes. In the suite, a test of anomalies notes the same of one ban.
    if bans.is_some() && ANOMALY.contains(&only) {
        figures.push(figure(ANOMALY, anomaly::measure()));
    }
    if let Some(path) = env::var_os("GATEWAY_REPORT") {
        fs::write(path, serde_json::to_vec(&figures).unwrap()).unwrap();
    }
}

/// What is told of one case. It is noted, too.
fn figure(case: &str, mut took: Vec<u64>) -> Value {
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() * percent).div_ceil(100).max(1) - 1];
    let figure = json!({"case": case, "bans": took.len(), "p50_us": at(50),
        "p90_us": at(90), "p99_us": at(99), "max_us": at(100)});
    report::note(&format!("reaction: {figure}"));
    figure
}

fn attacker(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 9, high, low))
}

/// Microseconds that each of so many bans took.
fn measure(bans: u16, beside: Beside, pace: Pace) -> Vec<u64> {
    let world = World::new();
    let mut lines = String::new();
    for number in 1..=bans {
        writeln!(lines, "addr add {}/32 dev {OUTSIDE}", attacker(number)).unwrap();
    }
    world.outside.configure(&lines);
    world.gate.configure(&format!("route add 10.9.0.0/16 dev {GATE}\n"));
    let own = "[[route]]\npath = \"/own\"\nmethods = [\"GET\"]\nrequire = [\"public\"]\nrespond = { status = 200 }\n";
    let settings = Settings {
        guard: "max_bans_per_minute = 100000\n".to_owned(),
        proxy: "max_connections_per_source = 20000\n".to_owned(),
        timeouts: "headers = \"1h\"\nidle = \"1h\"\n".to_owned(),
        listeners: "[[listener]]\naddress = \"10.0.0.1:80\"\n".to_owned(),
        routes: Settings::default().routes + own,
        rules: bad_tokens(1, "1h"),
        ..Settings::default()
    };
    let daemon = Daemon::start(&world, &settings);
    let target = SocketAddr::new(GATEWAY_V4, 80);
    let mut load = None;
    let mut idle = Vec::new();
    match beside {
        Beside::Nothing => {}
        Beside::Load => load = Some(Load::start(&world)),
        Beside::Connections(count) => {
            idle = world.outside.enter(|| (0..count).map(|_| TcpStream::connect(target).unwrap()).collect());
        }
    }
    pause(Duration::from_secs(1));

    let forged = Request::new("GET", "/items/7").token(&tokens::forged("mallory", &[]));
    let connect = |number| Connection::plain(world.outside.connect(attacker(number), target, SOON).unwrap());
    let offend = |mut connection: Connection| assert_eq!(connection.exchange(&forged).unwrap().status, 401);
    match pace {
        Pace::BackToBack => (1..=bans).for_each(|number| offend(connect(number))),
        Pace::Every(long) => (1..=bans).for_each(|number| {
            offend(connect(number));
            pause(long);
        }),
        Pace::Bursts(size) => {
            let numbers: Vec<u16> = (1..=bans).collect();
            for burst in numbers.chunks(size) {
                let mut connections: Vec<Connection> = burst.iter().map(|number| connect(*number)).collect();
                connections.iter_mut().for_each(|connection| connection.write(&forged.bytes()).unwrap());
                pause(Duration::from_millis(300));
            }
        }
    }
    let took = (1..=bans).map(|number| {
        let why = until("the ban", SOON, || {
            let why = daemon.done(&["why", &attacker(number).to_string()]);
            why["reaction_micros"].is_u64().then_some(why)
        });
        why["reaction_micros"].as_u64().unwrap()
    });
    let took = took.collect();
    drop((load, idle));
    took
}

/// `wrk`, until dropped.
struct Load(Child);

impl Load {
    fn start(world: &World) -> Self {
        let mut command = world.outside.command("wrk".as_ref());
        command.args(["--threads", "2", "--connections", "64", "--duration", "1h", "http://10.0.0.1/own"]);
        Self(command.stdout(Stdio::null()).spawn().expect("wrk is needed"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
