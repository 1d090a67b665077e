//! Guard, proxy and observer are killed and stopped at random moments under load (M02): no packet of a banned source gets
//! through, nobody is refused, and no request fails but what was in flight on a killed proxy.
//!
//! `GATEWAY_FAULT_ROUNDS` is how often something is done to one of them (`cargo xtask bench chaos`); `GATEWAY_TEST_SEED`
//! repeats a run.

use std::{
    env, io,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{
    admin,
    daemon::{Daemon, send},
    http1::{Client, Connection, Request},
    random::Random,
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{ATTACKER_V4, World, bystander},
};

/// In the suite; a round takes about a second.
const ROUNDS: u32 = 6;

/// Clients that keep a connection, and as many that make one for each request.
const CLIENTS: u8 = 2;

/// How long a banned source waits for an answer.
const SILENCE: Duration = Duration::from_millis(100);

/// How long a process works before something is done to it, and how long it is stopped, at most.
const LONGEST: u64 = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Guard,
    Observer,
    Proxy,
}

/// What the clients have seen.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    /// Proxies that are about to be killed, and those that are dead.
    doomed: AtomicU64,
    dead: AtomicU64,
    served: AtomicU64,
    in_flight: AtomicU64,
    ignored: AtomicU64,
    faults: Mutex<Vec<String>>,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn fault(&self, what: String) {
        self.faults.lock().unwrap().push(what);
    }

    /// What came of a request whose connection was made when so many proxies were dead.
    fn note(&self, outcome: io::Result<u16>, dead: u64) {
        match outcome {
            Ok(200) => drop(self.served.fetch_add(1, Ordering::Relaxed)),
            Ok(status) => self.fault(format!("a request was answered {status}")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.fault("a connection was refused".to_owned())
            }
            Err(_) if self.doomed.load(Ordering::SeqCst) > dead => drop(self.in_flight.fetch_add(1, Ordering::Relaxed)),
            Err(error) => self.fault(format!("a request failed: {error}")),
        }
    }

    fn keeps_its_connection(&self, client: Client<'_>) {
        let mut kept: Option<(Connection, u64)> = None;
        while self.goes_on() {
            let (mut connection, dead) = match kept.take() {
                Some(kept) => kept,
                None => {
                    let dead = self.dead.load(Ordering::SeqCst);
                    match client.connect() {
                        Ok(connection) => (connection, dead),
                        Err(error) => {
                            self.note(Err(error), dead);
                            continue;
                        }
                    }
                }
            };
            let outcome = connection.exchange(&Request::new("GET", "/health")).map(|answer| answer.status);
            if outcome.is_ok() {
                kept = Some((connection, dead));
            }
            self.note(outcome, dead);
        }
    }

    fn comes_anew(&self, client: Client<'_>) {
        while self.goes_on() {
            let dead = self.dead.load(Ordering::SeqCst);
            self.note(client.get("/health", "").map(|answer| answer.status), dead);
        }
    }

    fn is_banned(&self, client: Client<'_>) {
        while self.goes_on() {
            if client.is_ignored(SILENCE) {
                self.ignored.fetch_add(1, Ordering::Relaxed);
            } else {
                self.fault("a banned source was answered".to_owned());
            }
        }
    }
}

#[test]
fn m02_whatever_dies_or_stands_still_nobody_notices() {
    if !report::may_run("chaos") {
        return;
    }
    let rounds = env::var("GATEWAY_FAULT_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { rules: String::new(), more: admin::TABLE.to_owned(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    daemon.done(&["block", "add", &ATTACKER_V4.to_string(), "--for", "1h"]);
    let mut random = Random::new();
    let load = Load::default();
    let mut done = Vec::new();
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (kept, anew) = (Client::new(&world, bystander(number)), Client::new(&world, bystander(10 + number)));
            let load = &load;
            scope.spawn(move || load.keeps_its_connection(kept));
            scope.spawn(move || load.comes_anew(anew));
        }
        scope.spawn(|| load.is_banned(Client::new(&world, ATTACKER_V4)));
        // Whatever happens to this thread, the others end.
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 1..=rounds {
                // Each of the three is killed in the first rounds, whatever the seed.
                let (victim, kills) = match (round % 3, round <= 3 || random.below(2) == 0) {
                    (0, kills) => (Victim::Observer, kills),
                    (1, kills) => (Victim::Guard, kills),
                    (_, kills) => (Victim::Proxy, kills),
                };
                pause(Duration::from_millis(random.below(LONGEST)));
                if kills {
                    kill(&daemon, victim, &load, round);
                } else {
                    stop(&daemon, victim, Duration::from_millis(random.below(LONGEST)));
                }
                decides(&daemon, round);
                done.push((victim, kills));
                if round % 10 == 0 {
                    report::note(&format!("chaos: {round} rounds, {} served", load.served.load(Ordering::Relaxed)));
                }
            }
        }));
        load.over.store(true, Ordering::Relaxed);
        told.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let faults = load.faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{} faults: {:#?}", faults.len(), &faults[..faults.len().min(10)]);
    let killed = |victim| u64::try_from(done.iter().filter(|it| **it == (victim, true)).count()).unwrap();
    let [served, in_flight, ignored] =
        [&load.served, &load.in_flight, &load.ignored].map(|count| count.load(Ordering::Relaxed));
    assert!(served > 0 && ignored > 0);
    // What each client asks at the moment, and what it asks of a process that is being ended.
    assert!(in_flight <= killed(Victim::Proxy) * u64::from(CLIENTS) * 4, "{in_flight} requests in flight");
    let status = daemon.status();
    assert_eq!(status["guard_restarts"], killed(Victim::Guard), "{status}");
    let verified = daemon.cli(&["audit", "verify"]);
    assert_eq!(verified.json["valid"], true, "{}", verified.json);
    until("metrics", SOON, || admin::get(&world, "/metrics", "").ok().filter(|answer| answer.status == 200));
    report::note(&format!(
        "chaos: {rounds} rounds: {} guards, {} proxies, {} observers killed, the others stopped; {served} requests \
         served, {in_flight} failed that were in flight on a killed proxy; {ignored} connections of a banned source \
         without an answer",
        killed(Victim::Guard),
        killed(Victim::Proxy),
        killed(Victim::Observer)
    ));
}

/// Guard, proxy and observer.
fn pids(status: &Value) -> Option<[u32; 3]> {
    let mut pids = [0; 3];
    for (pid, key) in pids.iter_mut().zip(["guard_pid", "proxy_pid", "observer_pid"]) {
        *pid = u32::try_from(status[key].as_u64()?).ok()?;
    }
    Some(pids)
}

/// All three, once they are there.
#[track_caller]
fn all(daemon: &Daemon<'_>) -> [u32; 3] {
    until("guard, proxy and observer", SOON, || pids(&daemon.cli(&["status"]).json))
}

/// kill -9, until there is another one. The others are who they were.
#[track_caller]
fn kill(daemon: &Daemon<'_>, victim: Victim, load: &Load, round: u32) {
    let before = all(daemon);
    let at = match victim {
        Victim::Guard => 0,
        Victim::Proxy => 1,
        Victim::Observer => 2,
    };
    if victim == Victim::Proxy {
        load.doomed.fetch_add(1, Ordering::SeqCst);
    }
    send(before[at], Signal::SIGKILL);
    let after =
        until("another process", SOON, || pids(&daemon.cli(&["status"]).json).filter(|after| after[at] != before[at]));
    if victim == Victim::Proxy {
        load.dead.fetch_add(1, Ordering::SeqCst);
    }
    for other in (0..3).filter(|other| *other != at) {
        assert_eq!(after[other], before[other], "round {round}: {victim:?} was killed, and another with it");
    }
}

/// SIGSTOP for so long. It is the same afterwards.
#[track_caller]
fn stop(daemon: &Daemon<'_>, victim: Victim, time: Duration) {
    let before = all(daemon);
    let [guard, proxy, observer] = before;
    let pid = match victim {
        Victim::Guard => guard,
        Victim::Proxy => proxy,
        Victim::Observer => observer,
    };
    send(pid, Signal::SIGSTOP);
    pause(time);
    send(pid, Signal::SIGCONT);
    assert_eq!(all(daemon), before, "{victim:?} stood still");
}

/// What is decided now is in force, and what was decided before.
#[track_caller]
fn decides(daemon: &Daemon<'_>, round: u32) {
    let source = format!("198.51.{}.{}", round / 250, round % 250 + 1);
    let added = until("the guard to decide", SOON, || {
        let told = daemon.cli(&["block", "add", &source, "--for", "1h"]);
        (told.code == 0).then_some(told)
    });
    assert_eq!(added.json["changed"], 1, "{}", added.json);
    assert_eq!(daemon.status()["blocks"], u64::from(round) + 1, "round {round}");
}
