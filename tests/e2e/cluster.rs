//! Several gateways that share limits through one store: what they let through together, while the store is killed,
//! paused, slow or back, and while one of them is cut off.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use support::{
    daemon::{Daemon, gateway},
    http1::{Client, Request},
    report,
    settings::{Settings, bad_tokens},
    store::{PASSWORD, Store},
    tokens::{self, Algorithm, ISSUERS},
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, GOOD_V4, World},
};

/// The gateways of a test, each in a world of its own, and the store between them.
pub(super) struct Machines<'world> {
    worlds: &'world [World],
    pub(super) daemons: Vec<Daemon<'world>>,
}

pub(super) fn worlds(count: usize) -> Vec<World> {
    (0..count).map(|_| World::new()).collect()
}

/// Node keys, one for each world: private ones in its folder, the public ones as lines of `[cluster.nodes]`.
fn node_keys(worlds: &[World]) -> String {
    let mut lines = String::new();
    for (number, world) in worlds.iter().enumerate() {
        let key = world.folder.join("node.key");
        let made = gateway(&["cluster", "key", "new", key.to_str().unwrap()]);
        lines.push_str(&format!("n{number} = {}\n", made.json["public_key"]));
    }
    lines
}

impl<'world> Machines<'world> {
    pub(super) fn start(worlds: &'world [World], store: &Store, limit: &str) -> Self {
        Self::start_with(worlds, store, "", limit)
    }

    /// The same with more lines of `[cluster]`.
    pub(super) fn start_with(worlds: &'world [World], store: &Store, cluster: &str, limit: &str) -> Self {
        let nodes = node_keys(worlds);
        let secret = worlds[0].folder.join("cluster.secret");
        assert_eq!(gateway(&["cluster", "secret", "new", secret.to_str().unwrap()]).code, 0);
        let daemons = worlds.iter().enumerate().map(|(number, world)| {
            let server = store.connect(world, u8::try_from(number).unwrap());
            if number > 0 {
                fs::copy(&secret, world.folder.join("cluster.secret")).unwrap();
            }
            fs::write(world.folder.join("redis.password"), format!("{PASSWORD}\n")).unwrap();
            let more = format!(
                "[cluster]\nnode = \"n{number}\"\nkey_file = \"node.key\"\nsecret_file = \"cluster.secret\"\n\
                 {cluster}[cluster.nodes]\n{nodes}[cluster.store]\nservers = [\"{server}\"]\n\
                 password_file = \"redis.password\"\ntls = false\ntimeout = \"500ms\"\n{limit}"
            );
            let settings = Settings { interfaces: Vec::new(), rules: String::new(), more, ..Settings::default() };
            Daemon::start(world, &settings)
        });
        Self { worlds, daemons: daemons.collect() }
    }

    /// Waits until every machine sees the store as it should.
    #[track_caller]
    pub(super) fn see(&self, expect: bool) {
        for daemon in &self.daemons {
            until("the store's state", SOON, || {
                (daemon.done(&["cluster", "status"])["store"]["reachable"] == expect).then_some(())
            });
        }
    }

    /// How often machines have seen the store come back, all together: by then each of them has seen it once before.
    fn returns(&self) -> u64 {
        let of = |world: &World| {
            let told = fs::read_to_string(world.folder.join("stderr.log")).unwrap();
            told.matches("the store of the cluster answers").count() - 1
        };
        self.worlds.iter().map(|world| u64::try_from(of(world)).unwrap()).sum()
    }

    /// Waits until each has heard of the others.
    pub(super) fn meet(&self) {
        for daemon in &self.daemons {
            until("the machines to meet", SOON, || {
                let status = daemon.done(&["cluster", "status"]);
                let nodes = status["nodes"].as_array().unwrap().clone();
                nodes.iter().all(|node| node["own"] == true || node["age_seconds"].is_u64()).then_some(())
            });
        }
    }

    /// Offers requests to machines in turn for so long; how many are let through.
    pub(super) fn offer(&self, machines: &[usize], time: Duration) -> u64 {
        let clients: Vec<_> = machines.iter().map(|at| Client::new(&self.worlds[*at], GOOD_V4)).collect();
        let mut connections: Vec<_> = clients.iter().map(|client| client.connect().unwrap()).collect();
        let (start, mut admitted) = (Instant::now(), 0);
        while start.elapsed() < time {
            for connection in &mut connections {
                let answer = connection.exchange(&Request::new("GET", "/health")).unwrap();
                assert!(matches!(answer.status, 200 | 429), "{}", answer.text());
                admitted += u64::from(answer.status == 200);
            }
        }
        admitted
    }

    /// Offers requests to machines in turn until nothing more is let through, and at least `least` were; how many were.
    #[track_caller]
    pub(super) fn spend(&self, machines: &[usize], least: u64) -> u64 {
        let mut admitted = 0;
        until(&format!("{least} requests to be let through, and then no more"), SOON, || {
            let more = self.offer(machines, Duration::from_millis(500));
            admitted += more;
            (more == 0 && admitted >= least).then_some(())
        });
        admitted
    }
}

/// How often everything is done to the store: once, or as `cargo xtask bench cluster` says.
fn rounds() -> usize {
    std::env::var("GATEWAY_CLUSTER_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// As `docs/cluster.md` states it: of so much time, by three machines.
fn bound(rate: u64, burst: u64, time: Duration) -> u64 {
    let portion = burst.div_ceil(6).max(1);
    let of_time = u128::from(rate) * time.as_millis() / 1_000;
    u64::try_from(of_time).unwrap() + 1 + burst + 2 * 3 * portion
}

/// A budget that hardly comes back is spent once, whichever machine is asked; an operator's reset reaches all.
#[test]
fn d05_machines_share_a_budget() {
    if !report::may_run("cluster: shared budget") {
        return;
    }
    let worlds = worlds(3);
    let store = Store::start(&worlds[0]);
    let _upstreams: Vec<_> = worlds.iter().map(|world| Upstream::start(&world.gate, "127.0.0.1:9000")).collect();
    let limit = "[limit.address]\nrequests = 30\nper = \"1h\"\nshared = true\n";
    let machines = Machines::start(&worlds, &store, limit);
    machines.see(true);
    let admitted = machines.spend(&[0, 1, 2], 30);
    assert!(admitted <= bound(0, 30, Duration::ZERO), "{admitted}");
    let status = machines.daemons[1].done(&["cluster", "status"]);
    assert_eq!((&status["node"], status["limits"][0]["error"].as_u64()), (&"n1".into(), Some(30)), "{status}");
    machines.daemons[0].done(&["limit", "reset", &GOOD_V4.to_string()]);
    until("the budget to be full", SOON, || (machines.offer(&[0], Duration::from_millis(50)) > 0).then_some(()));
}

/// The store is killed, paused, slow and comes back: never no limit, never nothing, and no command heals it.
#[test]
fn d05_the_store_goes_and_comes() {
    if !report::may_run("cluster: store") {
        return;
    }
    let worlds = worlds(3);
    let mut store = Store::start(&worlds[0]);
    let _upstreams: Vec<_> = worlds.iter().map(|world| Upstream::start(&world.gate, "127.0.0.1:9000")).collect();
    let limit = "[limit.address]\nrequests = 60\nper = \"1s\"\nburst = 30\nshared = true\n";
    let machines = Machines::start(&worlds, &store, limit);
    machines.see(true);
    let start = Instant::now();
    let (all, time) = ([0, 1, 2], Duration::from_millis(1_500));
    let mut admitted = machines.offer(&all, time);
    assert!(admitted <= bound(60, 30, start.elapsed()), "{admitted}");
    for trouble in ["killed", "paused", "slow", "cut"].into_iter().cycle().take(4 * rounds()) {
        let mut slow = None;
        match trouble {
            "killed" => store.kill(),
            "paused" => store.signal(Signal::SIGSTOP),
            "slow" => slow = Some(store.slow(Duration::from_secs(2))),
            _ => worlds.iter().for_each(|world| store.cut(world, true)),
        }
        let before = machines.returns();
        machines.see(false);
        let now = Instant::now();
        let alone = machines.offer(&all, time);
        // Each its share, and what it had saved up; and a burst whenever the store came back, as a slow one may.
        let returns = machines.returns() - before;
        let most = 60 * u64::try_from(now.elapsed().as_millis()).unwrap() / 1_000 + (1 + returns) * 30 + 3;
        assert!((60..=most).contains(&alone), "{trouble}: {alone} of {most}, it came back {returns} times");
        // A slow one may have answered in time just now.
        until(&format!("a warning, as it is {trouble}"), SOON, || {
            let warnings = machines.daemons[0].status()["warnings"].to_string();
            warnings.contains("the store of the cluster is away").then_some(())
        });
        match trouble {
            "killed" => store.start_again(),
            "paused" => store.signal(Signal::SIGCONT),
            "slow" => drop(slow),
            _ => worlds.iter().for_each(|world| store.cut(world, false)),
        }
        machines.see(true);
        admitted += alone + machines.offer(&all, time);
    }
    // Over all: the rate of all that time, and a burst for each time that the store went and came.
    let most = bound(60, 30, start.elapsed()) + machines.returns() * 30;
    assert!(admitted <= most, "{admitted} of {most}");
}

/// A machine that is cut off has its share; the others do not notice.
#[test]
fn d05_a_machine_is_cut_off() {
    if !report::may_run("cluster: cut off") {
        return;
    }
    let worlds = worlds(2);
    let store = Store::start(&worlds[0]);
    let _upstreams: Vec<_> = worlds.iter().map(|world| Upstream::start(&world.gate, "127.0.0.1:9000")).collect();
    let limit = "[limit.address]\nrequests = 40\nper = \"1h\"\nshared = true\n";
    let machines = Machines::start(&worlds, &store, limit);
    machines.see(true);
    store.cut(&worlds[1], true);
    let cut_off = || machines.daemons[1].done(&["cluster", "status"])["store"]["reachable"] == false;
    until("it to notice", SOON, || cut_off().then_some(()));
    assert_eq!(machines.spend(&[1], 20), 20, "its share");
    let admitted = machines.spend(&[0], 40);
    assert!((40..=40 + 2 * 2 * 10).contains(&admitted), "{admitted}");
    store.cut(&worlds[1], false);
    machines.see(true);
    let again = machines.offer(&[1], Duration::from_secs(1));
    assert!(again <= 2 * 10, "it is spent for this machine, too: {again}");
}

/// Something else stands under the name of one budget: each machine counts that key by itself, and the store stays.
#[test]
fn d05_a_key_that_the_store_cannot_count() {
    if !report::may_run("cluster: broken key") {
        return;
    }
    let worlds = worlds(2);
    let store = Store::start(&worlds[0]);
    let _upstreams: Vec<_> = worlds.iter().map(|world| Upstream::start(&world.gate, "127.0.0.1:9000")).collect();
    let limit = "[limit.address]\nrequests = 40\nper = \"1h\"\nshared = true\n";
    let machines = Machines::start(&worlds, &store, limit);
    machines.see(true);
    let since = machines.daemons[1].done(&["cluster", "status"])["store"]["since"].clone();
    let mut admitted = machines.offer(&[0], Duration::from_millis(300));
    let script = "local keys = redis.call('KEYS', 'gateway:limit:address:*') for _, key in ipairs(keys) do \
                  redis.call('DEL', key) redis.call('LPUSH', key, 'x') end return #keys";
    assert_eq!(store.say(&format!("EVAL \"{script}\" 0")).as_deref(), Some(":1"));
    admitted += machines.offer(&[0, 1], Duration::from_secs(1));
    // What the first had, and what the second spends ahead, and its share.
    assert!((40..=40 + 2 * 2 * 10 + 20).contains(&admitted), "{admitted}");
    let status = machines.daemons[1].done(&["cluster", "status"]);
    assert_eq!((&status["store"]["reachable"], &status["store"]["since"]), (&true.into(), &since), "{status}");
    assert!(status["store"]["failures"].as_u64() > Some(0), "{status}");
}

/// A ban of one machine is one of all, within a second or so; an operator's word on another lifts it on all; a machine that
/// was cut off knows all again.
#[test]
fn machines_tell_each_other_of_bans() {
    if !report::may_run("cluster: bans") {
        return;
    }
    let worlds = worlds(2);
    let store = Store::start(&worlds[0]);
    let _upstreams: Vec<_> = worlds.iter().map(|world| Upstream::start(&world.gate, "127.0.0.1:9000")).collect();
    let machines = Machines::start(&worlds, &store, "");
    machines.see(true);
    let entry = |at: usize, address: &str| {
        let list = machines.daemons[at].done(&["block", "list"]);
        list["entries"].as_array().unwrap().iter().find(|entry| entry["source"] == address).cloned()
    };
    let is_blocked = |at: usize, address: &str, expect: bool| {
        until("the other machine to know", SOON, || (entry(at, address).is_some() == expect).then_some(()));
    };
    machines.meet();
    machines.daemons[0].done(&["block", "add", "192.0.2.7", "--reason", "tests"]);
    is_blocked(1, "192.0.2.7", true);
    let entry_there = entry(1, "192.0.2.7").unwrap();
    assert_eq!(entry_there["actor"], "cluster:n0", "{entry_there}");
    assert!(machines.daemons[1].done(&["why", "192.0.2.7"]).to_string().contains("cluster:n0"));
    machines.daemons[1].done(&["allow", "add", "192.0.2.9"]);
    until("the allowance to be known", SOON, || {
        machines.daemons[0].done(&["allow", "list"]).to_string().contains("192.0.2.9").then_some(())
    });
    machines.daemons[1].done(&["block", "del", "192.0.2.7"]);
    is_blocked(0, "192.0.2.7", true);
    machines.daemons[0].done(&["block", "del", "192.0.2.7"]);
    is_blocked(0, "192.0.2.7", false);
    // From the command to the other machine's word that it blocks, too: what two commands take is in it.
    let mut took: Vec<Duration> = (0..(rounds() * 5).min(200))
        .map(|number| {
            let (address, start) = (format!("198.51.100.{number}"), Instant::now());
            machines.daemons[0].done(&["block", "add", &address, "--reason", "tests"]);
            is_blocked(1, &address, true);
            start.elapsed()
        })
        .collect();
    took.sort_unstable();
    report::note(&format!(
        "cluster: {} bans were known within {:?}, half of them within {:?}",
        took.len(),
        took[took.len() - 1],
        took[took.len() / 2]
    ));
    // Cut off, and back.
    store.cut(&worlds[1], true);
    until("it to notice", SOON, || {
        (machines.daemons[1].done(&["cluster", "status"])["store"]["reachable"] == false).then_some(())
    });
    machines.daemons[0].done(&["block", "add", "192.0.2.8", "--reason", "tests"]);
    assert!(entry(1, "192.0.2.8").is_none());
    store.cut(&worlds[1], false);
    is_blocked(1, "192.0.2.8", true);
}

/// What an operator lifts on one machine is lifted where it was decided: a rule's ban, and an allowance.
#[test]
fn machines_tell_each_other_of_what_is_lifted() {
    if !report::may_run("cluster: lifted") {
        return;
    }
    let worlds = worlds(2);
    let store = Store::start(&worlds[0]);
    let _upstreams: Vec<_> = worlds.iter().map(|world| Upstream::start(&world.gate, "127.0.0.1:9000")).collect();
    let machines = Machines::start(&worlds, &store, &bad_tokens(3, "1h"));
    machines.see(true);
    machines.meet();
    let source = ATTACKER_V4.to_string();
    let becomes = |at: usize, list: &str, source: &str, expect: bool| {
        until(list, SOON, || {
            let list = machines.daemons[at].done(&[list, "list"])["entries"].to_string();
            (list.contains(&format!("\"{source}\"")) == expect).then_some(())
        });
    };
    let attacker = Client::new(&worlds[0], ATTACKER_V4);
    let forged = Request::new("GET", "/items/7").token(&tokens::forged("mallory", &["reader"]));
    for _ in 0..3 {
        drop(attacker.send(&forged));
    }
    (0..2).for_each(|at| becomes(at, "block", &source, true));
    machines.daemons[1].done(&["block", "del", &source]);
    (0..2).for_each(|at| becomes(at, "block", &source, false));
    machines.daemons[1].done(&["allow", "add", "192.0.2.9"]);
    becomes(0, "allow", "192.0.2.9", true);
    let refused = machines.daemons[0].cli(&["allow", "del", "192.0.2.9"]);
    assert_eq!(refused.json["code"], "of_another_machine", "{}", refused.json);
    machines.daemons[1].done(&["allow", "del", "192.0.2.9"]);
    becomes(0, "allow", "192.0.2.9", false);
}

/// A token, or an API key, that is revoked on one machine is revoked on all. Only that machine lifts it. One that was cut
/// off knows all again; meanwhile it refuses tokens, where that is asked for.
#[test]
fn j16_machines_tell_each_other_of_revocations() {
    if !report::may_run("cluster: revocations") {
        return;
    }
    let worlds = worlds(2);
    let store = Store::start(&worlds[0]);
    let _upstreams: Vec<_> = worlds.iter().map(|world| Upstream::start(&world.gate, "127.0.0.1:9000")).collect();
    let stale = "revocation_stale = \"refuse\"\nrevocation_stale_after = \"15s\"\n";
    let machines = Machines::start_with(&worlds, &store, stale, "");
    machines.see(true);
    machines.meet();
    let clients: Vec<_> = worlds.iter().map(|world| Client::new(world, GOOD_V4)).collect();
    let token = |id: &str| {
        let mut claims = tokens::claims("ada", &["reader"]);
        claims["jti"] = id.into();
        ISSUERS.token(Algorithm::Es256, &claims)
    };
    let becomes = |at: usize, token: &str, expect: u16| {
        let status = || clients[at].get("/me", token).unwrap().status;
        until("the status", SOON, || (status() == expect).then_some(()));
    };
    let (one, two) = (token("one"), token("two"));
    (0..2).for_each(|at| becomes(at, &one, 200));
    let revoke = |at: usize, id: &str| {
        machines.daemons[at].done(&["token", "revoke", "--issuer", "jwt", "--jti", id, "--for", "1h"]);
    };
    revoke(0, "one");
    (0..2).for_each(|at| becomes(at, &one, 401));
    let list = machines.daemons[1].done(&["token", "revocations", "list"])["revocations"][0].clone();
    assert_eq!(list["actor"], "cluster:n0", "{list}");
    let refused = machines.daemons[1].cli(&["token", "revocations", "del", &list["number"].to_string()]);
    assert_eq!(refused.json["code"], "of_peer", "{}", refused.json);
    let number = machines.daemons[0].done(&["token", "revocations", "list"])["revocations"][0]["number"].to_string();
    machines.daemons[0].done(&["token", "revocations", "del", &number]);
    (0..2).for_each(|at| becomes(at, &one, 200));
    // Cut off: what it knows gets old.
    store.cut(&worlds[1], true);
    becomes(1, &two, 503);
    let open = clients[1].send(&Request::new("GET", "/health")).unwrap();
    assert_eq!(open.status, 200, "who needs no token is served");
    // The guard and the proxy see the time pass each by itself.
    until("the guard to say so", SOON, || {
        (machines.daemons[1].done(&["cluster", "status"])["stale"] == true).then_some(())
    });
    revoke(0, "two");
    store.cut(&worlds[1], false);
    becomes(1, &two, 401);
    becomes(1, &one, 200);
}

/// An API key that one machine makes is good on all, where all have the same pepper. The machine that made it rotates it;
/// every machine can revoke it.
#[test]
fn machines_share_api_keys() {
    if !report::may_run("cluster: API keys") {
        return;
    }
    let worlds = worlds(2);
    let store = Store::start(&worlds[0]);
    let _upstreams: Vec<_> = worlds.iter().map(|world| Upstream::start(&world.gate, "127.0.0.1:9000")).collect();
    worlds.iter().for_each(|world| fs::write(world.folder.join("pepper"), [7; 32]).unwrap());
    let keys = "[api_keys]\npepper_file = \"pepper\"\n";
    let machines = Machines::start_with(&worlds, &store, "api_keys = true\n", keys);
    machines.see(true);
    machines.meet();
    let clients: Vec<_> = worlds.iter().map(|world| Client::new(world, GOOD_V4)).collect();
    let becomes = |at: usize, key: &str, expect: u16| {
        let request = Request::new("GET", "/me").header("x-api-key", key);
        let status = || clients[at].send(&request).unwrap().status;
        until("the status", SOON, || (status() == expect).then_some(()));
    };
    let made = machines.daemons[0].done(&["key", "new", "--name", "deploy", "--roles", "reader"]);
    let key = made["key"].as_str().unwrap().to_owned();
    (0..2).for_each(|at| becomes(at, &key, 200));
    let refused = machines.daemons[1].cli(&["key", "rotate", "deploy"]);
    assert_eq!(refused.json["code"], "of_peer", "{}", refused.json);
    let rotated = machines.daemons[0].done(&["key", "rotate", "deploy", "--overlap", "1h"]);
    let second = rotated["key"].as_str().unwrap().to_owned();
    becomes(1, &second, 200);
    machines.daemons[1].done(&["key", "revoke", made["id"].as_str().unwrap(), "--reason", "lost"]);
    (0..2).for_each(|at| becomes(at, &key, 401));
    (0..2).for_each(|at| becomes(at, &second, 200));
}
