//! The whole loop: a bad client is refused by the proxy, banned by the guard, dropped by the kernel, explained to the
//! operator, and served again when its time is over; a good client notices none of it.

use std::{
    io,
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{
    daemon::Daemon,
    http1::{Client, Request, TIMEOUT},
    kernel_view::Bans,
    report,
    settings::{Settings, bad_tokens},
    tokens,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{ATTACKER_V4, ATTACKER_V6, ATTACKER_V6_TOO, GOOD_V4, GOOD_V6, World},
};

const STRIKES: u32 = 10;
const BAN: Duration = Duration::from_secs(10);
/// Long enough for an answer on an idle machine, a third of a SYN's first retransmission.
const SILENCE: Duration = Duration::from_millis(300);
/// SYNs sent to see the entry's counter rise by as many.
const SYNS: usize = 20;

#[test]
fn ipv4() {
    check("ban_loop::ipv4", GOOD_V4, &[ATTACKER_V4], "10.0.0.66");
}

#[test]
fn ipv6() {
    check("ban_loop::ipv6", GOOD_V6, &[ATTACKER_V6, ATTACKER_V6_TOO], "fd00:0:0:2::/64");
}

#[track_caller]
fn check(test: &str, good: IpAddr, attackers: &[IpAddr], source: &str) {
    if !report::may_run(test) {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { rules: bad_tokens(STRIKES, "10s"), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let status = daemon.status();
    assert_eq!(status["enforcement"], "xdp", "{status}");
    assert_eq!(status["interfaces"][0]["mode"], "native", "{status}");

    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let served = scope.spawn(|| served_throughout(Client::new(&world, good), &over));
        // Whatever happens in here, the good client must hear of it.
        let attack = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            attack(test, &world, &daemon, attackers, source);
        }));
        over.store(true, Ordering::Relaxed);
        let served = served.join().unwrap();
        if let Err(panic) = attack {
            std::panic::resume_unwind(panic);
        }
        assert!(served > 20, "the good client was served {served} times only");
    });
}

/// Requests on one connection and on new ones in turn; each must be answered 200.
fn served_throughout(client: Client<'_>, over: &AtomicBool) -> u32 {
    let token = tokens::good("ada", &["reader"]);
    let request = Request::new("GET", "/items/7").token(&token);
    let mut kept = client.connect().unwrap();
    let mut served = 0;
    while !over.load(Ordering::Relaxed) {
        for response in [kept.exchange(&request), client.send(&request)] {
            let response = response.unwrap_or_else(|error| panic!("the good client after {served} answers: {error}"));
            assert_eq!(response.status, 200, "{}", response.text());
            served += 1;
        }
        pause(Duration::from_millis(20));
    }
    served
}

fn attack(test: &str, world: &World, daemon: &Daemon<'_>, attackers: &[IpAddr], source: &str) {
    let address = attackers[0];
    let attacker = Client::new(world, address);
    let good_token = tokens::good("ada", &["reader"]);

    // An innocent connection of the same source, open and idle when the ban comes.
    let mut idle = attacker.connect().unwrap();
    assert_eq!(idle.exchange(&Request::new("GET", "/items/7").token(&good_token)).unwrap().status, 200);

    let before = daemon.done(&["why", &address.to_string()]);
    assert_eq!(before["verdict"], "passed", "{before}");

    let bans = Bans::open(world);
    let mut busy = attacker.connect().unwrap();
    let bad = Request::new("GET", "/items/7").token(&tokens::forged("mallory", &["reader"]));
    let mut ids = Vec::new();
    for strike in 1..=STRIKES {
        let response = busy.exchange(&bad).unwrap_or_else(|error| panic!("strike {strike}: {error}"));
        assert_eq!(response.status, 401, "strike {strike}: {}", response.text());
        ids.push(response.id());
    }
    let last_answer = Instant::now();
    let reaction = first_drop(&attacker, &bans, source, last_answer);
    report::note(&format!("{test}: {reaction:?} from reading the last 401 to the first drop in the kernel"));

    for mut connection in [busy, idle] {
        connection.set_timeout(TIMEOUT).unwrap();
        // Its end may be told by packets that reach the client; what the client sends is dropped in any case.
        assert!(connection.ends(), "a connection of a banned source stays open");
    }
    for address in attackers {
        assert!(Client::new(world, *address).is_ignored(SILENCE), "{address} is answered");
    }

    // The proxy tells what it has closed once it has.
    let why = until("the closed connections to be told", SOON, || {
        let why = daemon.done(&["why", &address.to_string()]);
        (why["connections_closed"].as_u64() >= Some(2) && why["reaction_micros"].is_u64()).then_some(why)
    });
    assert_eq!(why["verdict"], "blocked", "{why}");
    assert_eq!(why["evidence"], Value::from(ids.clone()), "exactly the requests that were refused, oldest first");
    assert_eq!(why["entry"]["source"], source, "{why}");
    assert_eq!(why["entry"]["actor"], "rule:bad-tokens", "{why}");
    assert_eq!(why["entry"]["mode"], "enforce", "{why}");
    if let Some(micros) = why["reaction_micros"].as_u64() {
        report::note(&format!("{test}: {micros} us from the offence to the entry in the kernel"));
    }

    counter_rises_by_what_is_sent(world, daemon, &attacker);

    for id in &ids {
        let line = daemon.logged(id);
        assert_eq!(line["status"], 401, "{line}");
        assert_eq!(line["signal"], "forged_token", "{line}");
        assert_eq!(line["client"], address.to_string(), "{line}");
    }

    let served = until("the attacker to be served after its ban", BAN + SOON, || {
        attacker
            .connect_with(support::http1::tls(), TIMEOUT)
            .ok()?
            .exchange(&Request::new("GET", "/items/7").token(&good_token))
            .ok()
    });
    assert_eq!(served.status, 200, "{}", served.text());
    let over = last_answer.elapsed();
    assert!(over >= BAN - Duration::from_millis(500), "the ban lasted {over:?} only");
    let why = until("the ban to be history", SOON, || {
        let why = daemon.done(&["why", &address.to_string()]);
        why["entry"].is_null().then_some(why)
    });
    assert_eq!(why["verdict"], "passed", "{why}");
    assert_eq!(why["history"][0]["how"], "expired", "{why}");
    assert!(why["history"][0]["packets"].as_u64() >= Some(SYNS as u64), "{why}");
}

/// Knocks until the kernel has counted a drop.
fn first_drop(attacker: &Client<'_>, bans: &Bans, source: &str, since: Instant) -> Duration {
    loop {
        // Not waited for: the SYN leaves at once, which is all that is asked of it.
        drop(attacker.knock());
        if bans.packets(source) > 0 {
            return since.elapsed();
        }
        assert!(since.elapsed() < SOON, "nothing was dropped");
    }
}

/// What the world's end of the cable has sent bounds the count from above: the good client's packets are in it too.
fn counter_rises_by_what_is_sent(world: &World, daemon: &Daemon<'_>, attacker: &Client<'_>) {
    let dropped = || {
        let why = daemon.done(&["why", &attacker.source.to_string()]);
        why["entry"]["packets"].as_u64().unwrap_or_else(|| panic!("no entry: {why}"))
    };
    let sent = || {
        let output = world.outside.command("ip".as_ref()).args(["-s", "-j", "link", "show", "out0"]).output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        json[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
    };
    let (sent_before, before) = (sent(), dropped());
    let sockets: Vec<io::Result<_>> = (0..SYNS).map(|_| attacker.knock()).collect();
    let after = until("all SYNs to be counted", SOON, || {
        let now = dropped();
        (now >= before + SYNS as u64).then_some(now)
    });
    drop(sockets);
    let sent = sent() - sent_before;
    assert!(after - before <= sent, "{} counted, {sent} sent in all", after - before);
}
