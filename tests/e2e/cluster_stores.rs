//! The store of a cluster in every form that it may have, with real servers: behind TLS and with a user of its ACL, a
//! primary that Sentinels name, and a Redis Cluster.

use std::{
    fs::{self, File},
    net::IpAddr,
    process::{Child, Stdio},
};

use serde_json::Value;
use support::{
    daemon::{Daemon, gateway},
    http1::{Client, Request},
    pki::Pki,
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World, bystander},
};

const PASSWORD: &str = "a-password-of-tests";

/// Servers in the network of the gateway.
struct Servers<'world> {
    world: &'world World,
    children: Vec<Child>,
}

impl<'world> Servers<'world> {
    const fn new(world: &'world World) -> Self {
        Self { world, children: Vec::new() }
    }

    /// Starts `redis-server` with these lines; its number.
    fn start(&mut self, name: &str, config: &str, arguments: &[&str]) -> usize {
        let folder = self.world.folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("redis.conf");
        let text = format!("bind 127.0.0.1\ndaemonize no\ndir {}\n{config}", folder.display());
        fs::write(&path, text).unwrap();
        let log = File::create(folder.join("redis.log")).unwrap();
        let mut command = self.world.gate.command("redis-server".as_ref());
        command.arg(&path).args(arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.children.push(command.spawn().expect("`redis-server`: run `cargo xtask setup --all`"));
        self.children.len() - 1
    }

    fn kill(&mut self, number: usize) {
        self.children[number].kill().unwrap();
        self.children[number].wait().unwrap();
    }

    /// What `redis-cli` prints.
    fn say(&self, arguments: &[&str]) -> String {
        let mut command = self.world.gate.command("redis-cli".as_ref());
        let output = command.args(arguments).stdin(Stdio::null()).output().expect("`redis-cli`");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[track_caller]
    fn until(&self, arguments: &[&str], expect: &str) {
        until("the server's answer", SOON, || self.say(arguments).contains(expect).then_some(()));
    }
}

impl Drop for Servers<'_> {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A gateway of a cluster whose other machine is not there.
fn start<'world>(world: &'world World, store: &str, more: &str) -> Daemon<'world> {
    let key = |name: &str| {
        let path = world.folder.join(name);
        gateway(&["cluster", "key", "new", path.to_str().unwrap()]).json["public_key"].clone()
    };
    let (own, other) = (key("own.key"), key("other.key"));
    let secret = world.folder.join("cluster.secret");
    assert_eq!(gateway(&["cluster", "secret", "new", secret.to_str().unwrap()]).code, 0);
    fs::write(world.folder.join("redis.password"), format!("{PASSWORD}\n")).unwrap();
    let more = format!(
        "[cluster]\nnode = \"n0\"\nkey_file = \"own.key\"\nsecret_file = \"cluster.secret\"\n\
         [cluster.nodes]\nn0 = {own}\nn1 = {other}\n[cluster.store]\ntimeout = \"1s\"\n{store}\n\
         [limit.address]\nrequests = 8\nper = \"1h\"\nshared = true\n{more}"
    );
    let settings = Settings { interfaces: Vec::new(), rules: String::new(), more, ..Settings::default() };
    Daemon::start(world, &settings)
}

fn store_of(daemon: &Daemon<'_>) -> Value {
    daemon.done(&["cluster", "status"])["store"].clone()
}

#[track_caller]
fn see(daemon: &Daemon<'_>, expect: bool) {
    until("the store's state", SOON, || (store_of(daemon)["reachable"] == expect).then_some(()));
}

/// How many of so many requests of an address are let through.
fn admitted(world: &World, address: IpAddr, count: usize) -> usize {
    let client = Client::new(world, address);
    let mut connection = client.connect().unwrap();
    let request = Request::new("GET", "/health");
    let statuses: Vec<u16> = (0..count).map(|_| connection.exchange(&request).unwrap().status).collect();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    statuses.iter().filter(|status| **status == 200).count()
}

/// Spends the budget of an address: all of it, and no more than two machines may let through.
#[track_caller]
fn spends(world: &World, address: IpAddr) {
    let count = admitted(world, address, 60);
    assert!((8..=8 + 2 * 2 * 2).contains(&count), "{address}: {count}");
}

/// The rights that `docs/cluster.md` asks for.
fn rights() -> String {
    let page = include_str!("../../docs/cluster.md");
    let (_, from) = page.split_once("`user gateway on >PASSWORD").unwrap();
    let (rights, _) = from.split_once('`').unwrap();
    rights.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// With TLS, and the rights that the documentation names. The files of TLS are renewed while it runs, and an upstream has
/// the same.
#[test]
fn tls_and_acl() {
    if !report::may_run("cluster: TLS and ACL") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let file = |name: &str| world.folder.join(name).to_str().unwrap().to_owned();
    let certify = || {
        let pki = Pki::generate(&["127.0.0.1".parse().unwrap()]);
        fs::write(file("store.crt"), &pki.certificate_pem).unwrap();
        fs::write(file("store.key"), &pki.key_pem).unwrap();
        pki.authority_pem
    };
    let ca = file("store-ca.pem");
    fs::write(&ca, certify()).unwrap();
    let config = format!(
        "port 0\ntls-port 6379\ntls-auth-clients no\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {ca}\nsave \"\"\n\
         user default off\nuser admin on >{PASSWORD} ~* &* +@all\nuser gateway on >{PASSWORD} {}\n",
        file("store.crt"),
        file("store.key"),
        rights(),
    );
    let mut servers = Servers::new(&world);
    let first = servers.start("store", &config, &[]);
    let admin = ["--tls", "--cacert", &ca, "--user", "admin", "--pass", PASSWORD, "--no-auth-warning"];
    let ask = |words: &[&'static str]| [&admin[..], words].concat();
    servers.until(&ask(&["PING"]), "PONG");
    let store = "servers = [\"127.0.0.1:6379\"]\nuser = \"gateway\"\npassword_file = \"redis.password\"\n\
                 tls = { ca = \"store-ca.pem\" }";
    let same = "[upstream.other]\nservers = [\"127.0.0.1:9443\"]\ntls = { ca = \"store-ca.pem\" }\n";
    let daemon = start(&world, store, same);
    see(&daemon, true);
    spends(&world, GOOD_V4);
    servers.until(&ask(&["EXISTS", "gateway:whole:n0"]), "1");
    // Letters are looked for.
    servers.until(&ask(&["INFO", "commandstats"]), "cmdstat_getrange");
    let state = store_of(&daemon);
    assert_eq!((&state["letters"], &state["failures"]), (&"".into(), &0.into()), "{state}");
    // A right is missing: that is said.
    servers.say(&ask(&["ACL", "SETUSER", "gateway", "-xread"]));
    until("the right to be missed", SOON, || {
        store_of(&daemon)["letters"].as_str().unwrap().contains("NOPERM").then_some(())
    });
    assert_eq!(store_of(&daemon)["reachable"], true, "limits need no letters");
    servers.say(&ask(&["ACL", "SETUSER", "gateway", "+xread"]));
    until("letters to be carried", SOON, || (store_of(&daemon)["letters"] == "").then_some(()));
    // Another authority, as when the certificates are renewed.
    let authority = certify();
    servers.kill(first);
    see(&daemon, false);
    servers.start("store", &config, &[]);
    until("the certificate to be refused", SOON, || {
        store_of(&daemon)["why"].as_str().unwrap().contains("certificate").then_some(())
    });
    fs::write(&ca, authority).unwrap();
    see(&daemon, true);
    spends(&world, bystander(1));
}

/// The primary dies: the gateway finds the one that the Sentinel has made of its replica.
#[test]
fn sentinel_fails_over() {
    if !report::may_run("cluster: Sentinel") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut servers = Servers::new(&world);
    let primary = servers.start("primary", "port 6379\nsave \"\"\n", &[]);
    servers.until(&["PING"], "PONG");
    servers.start("replica", "port 6380\nsave \"\"\nrepl-diskless-sync-delay 0\nreplicaof 127.0.0.1 6379\n", &[]);
    servers.until(&["-p", "6380", "INFO", "replication"], "master_link_status:up");
    let sentinel = "port 26379\nsentinel monitor mymaster 127.0.0.1 6379 1\n\
                    sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 5000\n";
    servers.start("sentinel", sentinel, &["--sentinel"]);
    servers.until(&["-p", "26379", "SENTINEL", "replicas", "mymaster"], "6380");
    let store = "servers = [\"127.0.0.1:26379\"]\nmode = \"sentinel\"\nprimary = \"mymaster\"\ntls = false";
    let daemon = start(&world, store, "");
    see(&daemon, true);
    spends(&world, GOOD_V4);
    // It may be away for so short a time that nobody who asks sees it away.
    let since = store_of(&daemon)["since"].clone();
    servers.kill(primary);
    until("another store", SOON, || {
        let store = store_of(&daemon);
        (store["reachable"] == true && store["since"] != since).then_some(())
    });
    servers.until(&["-p", "6380", "ROLE"], "master");
    // What was spent is known there, too.
    assert!(admitted(&world, GOOD_V4, 20) <= 2 * 2, "it is spent");
    spends(&world, bystander(1));
    servers.until(&["-p", "6380", "EXISTS", "gateway:whole:n0"], "1");
}

/// Keys are in the slots of three servers, and move.
#[test]
fn redis_cluster_moves_slots() {
    if !report::may_run("cluster: Redis Cluster") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut servers = Servers::new(&world);
    let ports = ["7001", "7002", "7003"];
    for port in ports {
        let config = format!("port {port}\nsave \"\"\ncluster-enabled yes\ncluster-node-timeout 2000\n");
        servers.start(port, &config, &[]);
        servers.until(&["-p", port, "PING"], "PONG");
    }
    let made =
        servers.say(&["--cluster", "create", "127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003", "--cluster-yes"]);
    assert!(made.contains("All 16384 slots covered"), "{made}");
    ports.iter().for_each(|port| servers.until(&["-p", port, "CLUSTER", "INFO"], "cluster_state:ok"));
    let store = "servers = [\"127.0.0.1:7001\"]\nmode = \"cluster\"\ntls = false";
    let daemon = start(&world, store, "");
    see(&daemon, true);
    let addresses: Vec<IpAddr> = (1..7).map(bystander).collect();
    addresses.iter().for_each(|address| spends(&world, *address));
    let keys = |port: &str| servers.say(&["-p", port, "KEYS", "gateway:limit:*"]).lines().count();
    assert!(ports.iter().filter(|port| keys(port) > 0).count() > 1, "the keys are on several servers");
    until("a whole", SOON, || {
        let is_there = |port: &&str| servers.say(&["-p", port, "KEYS", "gateway:whole:n0"]).contains("whole");
        ports.iter().any(is_there).then_some(())
    });
    // Slots move only where all servers agree on who has them.
    servers.until(&["--cluster", "check", "127.0.0.1:7001"], "All nodes agree about slots configuration");
    let since = store_of(&daemon)["since"].clone();
    let to = servers.say(&["-p", "7003", "CLUSTER", "MYID"]);
    let moved = servers.say(&[
        "--cluster",
        "reshard",
        "127.0.0.1:7001",
        "--cluster-from",
        "all",
        "--cluster-to",
        to.trim(),
        "--cluster-slots",
        "6000",
        "--cluster-yes",
    ]);
    assert!(!moved.contains("[ERR]"), "{moved}");
    // What was spent is spent, wherever it is now; and who has spent nothing may.
    for address in &addresses {
        assert!(admitted(&world, *address, 20) <= 2 * 2, "{address}: it is spent");
    }
    spends(&world, GOOD_V4);
    let state = store_of(&daemon);
    assert_eq!(
        (&state["reachable"], &state["since"], &state["letters"]),
        (&true.into(), &since, &"".into()),
        "{state}"
    );
}
