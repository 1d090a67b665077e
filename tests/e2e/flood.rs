//! What floods do to others: a banned flooder beside a good client, and SYNs from nowhere beside one.
//!
//! Counts are asserted, never times: two cores have to make the flood and to stand it. The table of times is made by
//! `cargo xtask bench flood`, which has the tests go on to measure.

use std::{
    env, fs,
    io::Write as _,
    net::Ipv4Addr,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use support::{
    daemon::Daemon,
    flood::{Flood, Sent, dead_end, pin, received, take_answers},
    http1::{Client, Connection},
    pki::HOST,
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

const FLOODER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 66);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_banned_flood_is_dropped_beside_a_good_client() {
    if !report::may_run("flood::banned") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    let (sent, good) = beside(&world, &Flood::from_one(FLOODER, 443).at(50_000, SECOND), Kind::Request, 1);
    // The last of them may still be in a queue.
    let blocked = until("the flood to be counted", SOON, || {
        Some(daemon.packets("blocked")).filter(|blocked| *blocked >= sent.packets)
    });
    report::note(&format!(
        "flood: {} sent, {blocked} dropped, {} good requests meanwhile",
        sent.packets,
        good.served()
    ));
    assert_eq!(blocked, sent.packets, "of a banned source each packet is dropped and counted");
    assert!(sent.packets > 1_000 && good.served() > 0 && good.failed == 0, "{sent:?} {good:?}");
    if let Some(per_second) = measured() {
        measure_banned(per_second);
    }
}

#[test]
fn connections_succeed_beside_a_syn_flood_with_cookies_and_fail_without() {
    if !report::may_run("flood::syn") {
        return;
    }
    let flood = Flood::spoofed(443).at(30_000, SECOND);
    let without = syn_flood(&flood, Cookies::None);
    report::note(&format!("SYN flood without cookies: {}", without.text()));
    let with = syn_flood(&flood, Cookies::Guard);
    report::note(&format!("SYN flood with cookies: {}", with.text()));
    assert!(with.good.served() > 0 && with.good.failed == 0, "{}", with.text());
    // All but those within the budget, of which there are 50 a second.
    assert!(with.cookies > with.sent.packets / 2, "{}", with.text());
    assert!(without.good.failed > 4 * without.good.served(), "the flood does not bite: {}", without.text());
    if measured().is_some() && env::var_os("GATEWAY_FLOOD_ONLY").is_none_or(|only| only == "syn") {
        measure_syn();
    }
}

/// The rate that `cargo xtask bench flood` asks to measure at.
fn measured() -> Option<u32> {
    env::var("GATEWAY_FLOOD_RATE").ok().and_then(|rate| rate.parse().ok())
}

fn measure_syn() {
    for cookies in [Cookies::None, Cookies::Stack, Cookies::Guard] {
        for per_second in [10_000, 50_000, 200_000] {
            let run = syn_flood(&Flood::spoofed(443).at(per_second, 2 * SECOND), cookies);
            report::note(&format!("SYN flood, cookies {cookies:?}, {per_second}/s: {}", run.text()));
        }
    }
}

/// How the flooder is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    NoFlood,
    /// The same packets are made, and go nowhere: what they cost the machine before the gateway sees any.
    DeadEnd,
    Banned,
    Nftables,
    Shadow,
}

/// The last processor makes the flood and does the kernel's part of receiving it, as one queue of a network card would
/// have it; clients, gateway and upstream share the others, with and without a flood.
fn measure_banned(per_second: u32) {
    let last = thread::available_parallelism().map_or(0, |count| count.get() - 1);
    pin(|number| number != last || last == 0);
    let only = env::var("GATEWAY_FLOOD_ONLY").unwrap_or_default();
    let kinds = [Kind::Connect, Kind::Request, Kind::Kept];
    for kind in kinds.into_iter().filter(|kind| only.is_empty() || format!("{kind:?}").eq_ignore_ascii_case(&only)) {
        report::note(&format!("good client, {kind:?}; flood of {per_second}/s for 2 s, five runs each"));
        for stop in [Stop::NoFlood, Stop::DeadEnd, Stop::Banned, Stop::Nftables, Stop::Shadow] {
            let (mut good, mut sent, mut arrived, mut packets) = (Good::default(), 0, 0, String::new());
            for _ in 0..5 {
                let run = against(stop, per_second, kind, last);
                good.add(run.0);
                (sent, arrived, packets) = (sent + run.1, arrived + run.2, run.3);
            }
            report::note(&format!(
                "{:<9} {}; {sent} sent, {arrived} received; last run: {packets}",
                format!("{stop:?}"),
                good.text()
            ));
        }
    }
}

fn against(stop: Stop, per_second: u32, kind: Kind, cpu: usize) -> (Good, u64, u64, String) {
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let interfaces = if stop == Stop::Nftables { Vec::new() } else { Settings::default().interfaces };
    let daemon = Daemon::start(&world, &Settings { interfaces, ..Settings::default() });
    let _dead_end = dead_end(&world);
    let mut flood = Flood::from_one(FLOODER, 443).at(per_second, 2 * SECOND).on(Some(cpu));
    match stop {
        Stop::NoFlood => {}
        Stop::DeadEnd => flood = flood.nowhere(),
        Stop::Banned => drop(daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"])),
        Stop::Shadow => drop(daemon.done(&["block", "add", "10.0.0.66", "--for", "1h", "--shadow"])),
        Stop::Nftables => nftables(&world),
    }
    // Sessions, caches and neighbours as they are in service.
    let warm = Good::run(&world, kind, &AtomicBool::new(false), 20);
    assert_eq!(warm.failed, 0);
    let before = received(&world);
    let (sent, good) = if stop == Stop::NoFlood {
        let over = AtomicBool::new(false);
        let good = thread::scope(|scope| {
            let good = scope.spawn(|| Good::run(&world, kind, &over, usize::MAX));
            support::wait::pause(2 * SECOND);
            over.store(true, Ordering::Relaxed);
            good.join().unwrap()
        });
        (0, good)
    } else {
        let (sent, good) = beside(&world, &flood, kind, 1);
        (sent.packets, good)
    };
    let arrived = received(&world) - before;
    let packets = match stop {
        Stop::NoFlood | Stop::DeadEnd => String::new(),
        Stop::Banned => format!("{} blocked", daemon.packets("blocked")),
        Stop::Shadow => format!("{} would have been blocked", daemon.packets("shadow_blocked")),
        Stop::Nftables => counted(&world),
    };
    (good, sent, arrived, packets)
}

/// The same drop in the earliest hook that nftables has, from a set.
fn nftables(world: &World) {
    let rules = "table netdev flood {\n\
        set banned { type ipv4_addr; size 131072; elements = { 10.0.0.66 }; }\n\
        chain in { type filter hook ingress device \"gate0\" priority -500;\n\
        ip saddr @banned counter drop; }\n}\n";
    let mut command = world.gate.command("nft".as_ref());
    let mut child = command.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("`nft` of the package nftables");
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn counted(world: &World) -> String {
    let output = world.gate.command("nft".as_ref()).args(["list", "table", "netdev", "flood"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace().skip_while(|word| *word != "packets").skip(1);
    format!("{} dropped by nftables", words.next().unwrap_or("nothing"))
}

/// What the good client does.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A new TCP connection, no more.
    Connect,
    /// A request over a connection of its own, with its handshakes.
    Request,
    /// A request over one kept connection.
    Kept,
}

/// What the good client got.
#[derive(Clone, Debug, Default)]
struct Good {
    times: Vec<Duration>,
    failed: usize,
}

impl Good {
    /// Shorter than TCP waits before it sends a SYN again: what is lost is a failure here.
    const TIMEOUT: Duration = Duration::from_millis(800);

    fn run(world: &World, kind: Kind, over: &AtomicBool, most: usize) -> Self {
        let client = Client::new(world, GOOD_V4);
        let mut good = Self::default();
        let health = support::http1::Request::new("GET", "/health");
        let mut kept = matches!(kind, Kind::Kept).then(|| client.connect().unwrap());
        while !over.load(Ordering::Relaxed) && good.times.len() < most {
            let start = Instant::now();
            let done = match (kind, &mut kept) {
                (Kind::Connect, _) => client.tcp(Self::TIMEOUT).is_ok(),
                (_, Some(kept)) => kept.exchange(&health).is_ok_and(|answer| answer.status == 200),
                // What comes behind the SYN may be late on a busy machine: it is sent again.
                _ => (client.tcp(Self::TIMEOUT))
                    .and_then(|tcp| Connection::secure(tcp, HOST, support::http1::tls()))
                    .and_then(|mut connection| connection.exchange(&health))
                    .is_ok_and(|answer| answer.status == 200),
            };
            if done {
                good.times.push(start.elapsed());
            } else {
                good.failed += 1;
            }
        }
        good
    }

    fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.failed += other.failed;
    }

    fn served(&self) -> usize {
        self.times.len()
    }

    fn text(&self) -> String {
        let mut times = self.times.clone();
        times.sort();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        format!("{} served, {} failed, p50 {:?}, p99 {:?}", times.len(), self.failed, at(50), at(99))
    }
}

/// The luck of some good clients while the flood lasts.
fn beside(world: &World, flood: &Flood, kind: Kind, clients: usize) -> (Sent, Good) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sent = scope.spawn(|| {
            let sent = flood.send(world);
            over.store(true, Ordering::Relaxed);
            sent
        });
        // Queues are full by then, if they get full.
        support::wait::pause(Duration::from_millis(100));
        let good: Vec<_> = (0..clients).map(|_| scope.spawn(|| Good::run(world, kind, &over, usize::MAX))).collect();
        let mut all = Good::default();
        for good in good {
            all.add(good.join().unwrap());
        }
        (sent.join().unwrap(), all)
    })
}

/// Who answers SYNs with cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cookies {
    None,
    /// The network stack alone.
    Stack,
    /// The kernel program, beyond a budget, before the network stack.
    Guard,
}

/// A SYN flood, and what became of it.
#[derive(Debug)]
struct SynFlood {
    sent: Sent,
    good: Good,
    cookies: u64,
}

impl SynFlood {
    fn text(&self) -> String {
        format!(
            "{} SYNs, {} answered with cookies; good clients: {}",
            self.sent.packets,
            self.cookies,
            self.good.text()
        )
    }
}

/// The network stack has room for few half-open connections; without cookies of any kind the flood takes it all.
fn syn_flood(flood: &Flood, cookies: Cookies) -> SynFlood {
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    // Answers to the spoofed sources leave, and nobody refuses them.
    world.gate.configure("route add 198.18.0.0/15 via 10.0.0.2\n");
    let _answers = take_answers(&world);
    world.gate.enter(|| {
        for (setting, value) in [
            ("core/somaxconn", "16"),
            ("ipv4/tcp_max_syn_backlog", "16"),
            ("ipv4/tcp_syncookies", if cookies == Cookies::None { "0" } else { "1" }),
        ] {
            fs::write(format!("/proc/sys/net/{setting}"), value).expect(setting);
        }
    });
    let guard = if cookies == Cookies::Guard { "[guard.syn_cookies]\nper_second = 50\nburst = 50\n" } else { "" };
    let daemon = Daemon::start(&world, &Settings { guard: guard.to_owned(), ..Settings::default() });
    let (sent, good) = beside(&world, flood, Kind::Request, 8);
    let cookies = if cookies == Cookies::Guard { daemon.packets("cookie_sent") } else { 0 };
    SynFlood { sent, good, cookies }
}
