//! Revoked tokens: at once, on every worker, remembered or not, and what rests on them is closed.

use std::{fs, path::PathBuf, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{
    daemon::{Daemon, send},
    http1::{Client, Request},
    report,
    settings::{Settings, route},
    tokens::{self, Algorithm, ISSUER, ISSUERS},
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

use crate::tunnel::{greets, open, serve, upgrade};

fn settings() -> Settings {
    let may = "upgrade = [\"websocket\"]";
    let routes = [
        route("/me", "[\"GET\"]", "[\"authenticated\"]", ""),
        route("/stream", "[\"GET\"]", "[\"authenticated\"]", ""),
        format!("[[route]]\npath = \"/ws/{{name}}\"\nrequire = [\"authenticated\"]\nupstream = \"tunnels\"\n{may}\n"),
    ];
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        routes: routes.concat(),
        more: "[upstream.tunnels]\nservers = [\"127.0.0.1:9001\"]\n[revocation]\nfile = \"revoked.txt\"\n".to_owned(),
        ..Settings::default()
    }
}

/// A token with this `jti`, issued so many seconds ago.
fn token(id: &str, subject: &str, age: u64) -> String {
    let mut claims = tokens::claims(subject, &["reader"]);
    claims["jti"] = json!(id);
    claims["iat"] = json!(tokens::now() - age);
    ISSUERS.token(Algorithm::Es256, &claims)
}

/// A gateway with revocations, and a client that comes with tokens.
struct Asking<'a> {
    daemon: &'a Daemon<'a>,
    client: Client<'a>,
    /// The file of revocations.
    file: PathBuf,
}

impl Asking<'_> {
    fn status(&self, token: &str) -> u16 {
        self.client.get("/me", token).unwrap().status
    }

    /// The token is refused because it is revoked.
    #[track_caller]
    fn is_revoked(&self, token: &str) {
        let response = self.client.get("/me", token).unwrap();
        assert_eq!(response.status, 401, "{}", response.text());
        let line = self.daemon.logged(&response.id());
        assert_eq!((&line["reject"], &line["signal"]), (&json!("invalid_token"), &json!("revoked_token")), "{line}");
    }

    #[track_caller]
    fn wait_for_warning(&self, what: &str, text: &str) {
        until(what, SOON, || self.daemon.status()["warnings"].to_string().contains(text).then_some(()));
    }

    /// One token, remembered by every worker.
    #[track_caller]
    fn one_token(&self, one: &str, two: &str) {
        for _ in 0..16 {
            assert_eq!((self.status(one), self.status(two)), (200, 200));
        }
        let revoke = ["token", "revoke", "--issuer", "jwt", "--jti", "one", "--for", "1h", "--reason", "stolen"];
        assert_eq!(self.daemon.done(&revoke)["changed"], 1);
        for _ in 0..16 {
            self.is_revoked(one);
            assert_eq!(self.status(two), 200);
        }
        // A forged one is forged, whatever it says.
        let mut claims = tokens::claims("ada", &[]);
        claims["jti"] = json!("one");
        let forged = self.client.get("/me", &tokens::FOREIGN.token(Algorithm::Es256, &claims)).unwrap();
        assert_eq!(self.daemon.logged(&forged.id())["signal"], "forged_token");
    }

    /// A subject's tokens up to now; the next one is good.
    #[track_caller]
    fn all_of_a_subject(&self, two: &str) {
        self.daemon.done(&["token", "revoke", "--issuer", ISSUER, "--subject", "ada", "--issued-before", "now"]);
        self.is_revoked(two);
        let mut late = tokens::claims("ada", &["reader"]);
        late["iat"] = json!(tokens::now() + 2);
        assert_eq!(self.status(&ISSUERS.token(Algorithm::Es256, &late)), 200);
        assert_eq!(self.status(&token("three", "bob", 60)), 200);
    }

    /// What is listed, and lifted.
    #[track_caller]
    fn listed_and_lifted(&self, one: &str, two: &str) {
        let listed = self.daemon.done(&["token", "revocations", "list"]);
        let all = listed["revocations"].as_array().unwrap().clone();
        assert_eq!(all.len(), 2, "{listed}");
        let of_ada = all.iter().find(|one| one["what"].as_str().unwrap().contains("of ada")).unwrap();
        self.daemon.done(&["token", "revocations", "del", &of_ada["number"].to_string()]);
        assert_eq!(self.status(two), 200);
        self.is_revoked(one);
        for (arguments, code) in [
            (&["token", "revoke", "--issuer", "nobody", "--jti", "a"][..], "no_such_issuer"),
            (&["token", "revocations", "del", "99"], "not_found"),
        ] {
            assert_eq!(self.daemon.cli(arguments).json["code"], code, "{arguments:?}");
        }
    }

    /// By the file, which is read again; a line that cannot be read lifts nothing.
    #[track_caller]
    fn by_the_file(&self, watched: &str) {
        assert_eq!(self.status(watched), 200);
        let made = self.daemon.done(&["key", "new", "--name", "leaked"]);
        let key = made["key"].as_str().unwrap();
        let by_key = || self.client.send(&Request::new("GET", "/me").header("x-api-key", key)).unwrap();
        assert_eq!(by_key().status, 200);
        let listed = format!("sub {ISSUER} carol\nkey {}\nkey 00000000000\n", made["id"].as_str().unwrap());
        fs::write(&self.file, listed).unwrap();
        until("the file to be read", SOON, || (self.status(watched) == 401).then_some(()));
        let refused = by_key();
        assert_eq!(refused.status, 401, "{}", refused.text());
        assert_eq!(self.daemon.logged(&refused.id())["signal"], "revoked_token");
        fs::write(&self.file, "subject carol\n").unwrap();
        self.wait_for_warning("a warning of the file", "the file of revocations: line 1");
        self.is_revoked(watched);
        let delete = ["token", "revocations", "del", &file_row(self.daemon)];
        assert_eq!(self.daemon.cli(&delete).json["code"], "of_file");
        fs::remove_file(&self.file).unwrap();
        self.wait_for_warning("a warning that it is gone", "No such file");
        self.is_revoked(watched);
    }

    /// Everything stays so for the next proxy, and the next guard.
    #[track_caller]
    fn stays_so_after_deaths(&self, one: &str, watched: &str) {
        let proxy = self.daemon.proxy_pid();
        send(proxy, Signal::SIGKILL);
        self.daemon.proxy_pid_other_than(proxy);
        until("the next proxy", SOON, || self.client.get("/me", one).ok());
        self.is_revoked(one);
        let guard = self.daemon.guard_pid();
        send(guard, Signal::SIGKILL);
        assert_ne!(self.daemon.guard_pid_other_than(guard), guard);
        until("the next guard", SOON, || self.client.get("/me", one).ok());
        self.is_revoked(one);
        self.is_revoked(watched);
        fs::write(&self.file, "\n").unwrap();
        until("the file to be whole again", SOON, || (self.status(watched) == 200).then_some(()));
    }
}

#[test]
fn j16_revoked_tokens() {
    if !report::may_run("revocation") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let _heads = serve(&world.gate, 9001);
    let file = world.folder.join("revoked.txt");
    fs::write(&file, "# nothing yet\n").unwrap();
    let settings = settings();
    let more = format!("{}[api_keys]\n", settings.more);
    let daemon = Daemon::start(&world, &Settings { more, ..settings });
    let asking = Asking { daemon: &daemon, client: Client::new(&world, GOOD_V4), file };
    let (one, two, watched) = (token("one", "ada", 60), token("two", "ada", 60), token("four", "carol", 60));
    asking.one_token(&one, &two);
    asking.all_of_a_subject(&two);
    asking.listed_and_lifted(&one, &two);
    asking.by_the_file(&watched);
    asking.stays_so_after_deaths(&one, &watched);

    // All of an issuer.
    daemon.done(&["token", "revoke", "--issuer", "jwt", "--for", "2s"]);
    asking.is_revoked(&token("five", "dave", 1));
    let chain = fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    for told in
        ["\"event\":\"token_revoke\"", "\"event\":\"token_unrevoke\"", "\"event\":\"revocation_file\"", "stolen"]
    {
        assert!(chain.contains(told), "{told} is not in the chain");
    }
}

/// A signing key has leaked: nothing that it signs counts from then on, and what is signed by others goes on.
#[test]
fn j16_a_revoked_signing_key() {
    if !report::may_run("revocation-kid") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let _heads = serve(&world.gate, 9001);
    let file = world.folder.join("revoked.txt");
    fs::write(&file, "# nothing yet\n").unwrap();
    let daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    let claims = tokens::claims("ada", &["reader"]);
    let (leaked, other) = (ISSUERS.token(Algorithm::Es256, &claims), ISSUERS.token(Algorithm::EdDsa, &claims));
    let unnamed =
        ISSUERS.sign(Algorithm::Es256, &json!({"alg": "ES256", "typ": "at+jwt"}).to_string(), &claims.to_string());
    let ask = |token: &str| {
        let response = client.get("/me", token).unwrap();
        (response.status, daemon.logged(&response.id())["signal"].clone())
    };
    let (served, revoked) = ((200, Value::Null), (401, json!("revoked_token")));
    for _ in 0..16 {
        assert_eq!(
            [&leaked, &other, &unnamed].map(|token| ask(token)),
            [served.clone(), served.clone(), served.clone()]
        );
    }
    let (mut tunnel, head) = open(&client, &upgrade("/ws/echo").token(&leaked));
    assert_eq!(head.status, 101);
    greets(&mut tunnel);

    let kid = Algorithm::Es256.kid();
    daemon.done(&["token", "revoke", "--issuer", "jwt", "--kid", kid, "--reason", "leaked"]);
    for _ in 0..16 {
        assert_eq!(
            [&leaked, &unnamed, &other].map(|token| ask(token)),
            [revoked.clone(), revoked.clone(), served.clone()]
        );
    }
    tunnel.set_timeout(Duration::from_secs(10)).unwrap();
    until("the tunnel to end", SOON, || tunnel.has_ended().then_some(()));
    let listed = daemon.done(&["token", "revocations", "list"]);
    let one = &listed["revocations"][0];
    assert_eq!(one["what"], format!("what {ISSUER} has signed by its key {kid}"), "{listed}");
    daemon.done(&["token", "revocations", "del", &one["number"].to_string()]);
    assert_eq!(ask(&leaked), served);

    // By the file, and it stays so for the next proxy.
    fs::write(&file, format!("kid {ISSUER} {kid}\n")).unwrap();
    until("the file to be read", SOON, || (ask(&leaked).0 == 401).then_some(()));
    let proxy = daemon.proxy_pid();
    send(proxy, Signal::SIGKILL);
    daemon.proxy_pid_other_than(proxy);
    until("the next proxy", SOON, || client.get("/me", &other).ok());
    assert_eq!([&leaked, &unnamed, &other].map(|token| ask(token)), [revoked.clone(), revoked, served]);
}

/// The number of a revocation that stands in the file.
fn file_row(daemon: &Daemon<'_>) -> String {
    let listed = daemon.done(&["token", "revocations", "list"]);
    let is_of_file = |one: &&Value| one["actor"] == "file";
    listed["revocations"].as_array().unwrap().iter().find(is_of_file).unwrap()["number"].to_string()
}

#[test]
fn what_rests_on_a_revoked_token_is_closed() {
    if !report::may_run("revocation-closing") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let _heads = serve(&world.gate, 9001);
    fs::write(world.folder.join("revoked.txt"), "# nothing yet\n").unwrap();
    let settings = settings();
    let more = format!("{}[api_keys]\n", settings.more);
    let daemon = Daemon::start(&world, &Settings { more, ..settings });
    let client = Client::new(&world, GOOD_V4);
    let key = daemon.done(&["key", "new", "--name", "socket"])["key"].as_str().unwrap().to_owned();
    let (gone, stays) = (token("gone", "ada", 1), token("stays", "bob", 1));

    let tunnel = |request: Request| {
        let (mut connection, head) = open(&client, &request);
        assert_eq!(head.status, 101, "{request:?}");
        greets(&mut connection);
        connection
    };
    let mut by_token = tunnel(upgrade("/ws/echo").token(&gone));
    let mut by_other = tunnel(upgrade("/ws/echo").token(&stays));
    let mut by_key = tunnel(upgrade("/ws/echo").header("x-api-key", &key));
    // A stream that says nothing for a long time.
    let mut stream = client.connect().unwrap();
    stream.write(&Request::new("GET", "/stream?100000").token(&gone).bytes()).unwrap();
    assert_eq!(stream.head().unwrap().status, 200);

    daemon.done(&["token", "revoke", "--issuer", "jwt", "--jti", "gone"]);
    for connection in [&mut by_token, &mut stream] {
        connection.set_timeout(Duration::from_secs(10)).unwrap();
        until("the connection to end", SOON, || connection.has_ended().then_some(()));
    }
    let cut = until("the stream in the access log", SOON, || {
        daemon.access_log().into_iter().find(|line| line["route"] == "/stream")
    });
    let told = (&cut["status"], &cut["detail"], &cut["signal"]);
    assert_eq!(told, (&json!(200), &json!("revoked while it was served"), &json!("revoked_token")), "{cut}");
    greets(&mut by_other);
    greets(&mut by_key);
    daemon.done(&["key", "revoke", "socket"]);
    until("the tunnel to end", SOON, || by_key.has_ended().then_some(()));
    greets(&mut by_other);
    let ended = until("the tunnel in the access log", SOON, || {
        daemon.access_log().into_iter().find(|line| line["principal"] == "key:socket" && line["status"] == 101)
    });
    assert_eq!(ended["detail"], "revoked", "{ended}");
}

#[test]
fn a_store_from_an_older_backup_brings_nothing_back() {
    if !report::may_run("revocation-backup") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    fs::write(world.folder.join("revoked.txt"), "# nothing yet\n").unwrap();
    let settings = settings();
    let more = format!("{}[api_keys]\n", settings.more);
    let mut daemon = Daemon::start(&world, &Settings { more, ..settings });
    let client = Client::new(&world, GOOD_V4);
    let make = |daemon: &Daemon<'_>, name: &str| {
        daemon.done(&["key", "new", "--name", name])["key"].as_str().unwrap().to_owned()
    };
    let by_key = |key: &str| client.send(&Request::new("GET", "/me").header("x-api-key", key)).unwrap().status;
    let by_token = |token: &str| client.get("/me", token).unwrap().status;
    let stop = |daemon: &mut Daemon<'_>| {
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.ended().success());
    };
    let (kept, revoked, rotated) = (make(&daemon, "kept"), make(&daemon, "revoked"), make(&daemon, "rotated"));
    let (good, bad) = (token("good", "ada", 60), token("bad", "bob", 60));
    for key in [&kept, &revoked, &rotated] {
        assert_eq!(by_key(key), 200);
    }
    assert_eq!((by_token(&good), by_token(&bad)), (200, 200));

    // A start that finds nothing says nothing.
    stop(&mut daemon);
    let state = world.folder.join("state");
    let copy = ["", "-wal"].map(|ending| (ending, fs::read(state.join(format!("credentials.db{ending}"))).ok()));
    daemon.start_again();
    let warnings = |daemon: &Daemon<'_>| daemon.status()["warnings"].to_string();
    assert!(!warnings(&daemon).contains("credentials.db"), "{}", warnings(&daemon));

    daemon.done(&["key", "revoke", "revoked"]);
    daemon.done(&["key", "rotate", "rotated", "--overlap", "0s"]);
    daemon.done(&["token", "revoke", "--issuer", "jwt", "--jti", "bad"]);
    let late = make(&daemon, "late");
    // What has nothing to do with keys comes after.
    daemon.done(&["block", "add", "203.0.113.9", "--for", "1h"]);
    let check = |of: &str| {
        assert_eq!((by_key(&revoked), by_key(&rotated), by_token(&bad)), (401, 401, 401), "{of}");
        assert_eq!((by_key(&kept), by_token(&good)), (200, 200), "{of}");
    };
    check("before");
    assert_eq!(by_key(&late), 200);

    stop(&mut daemon);
    for ending in ["", "-wal", "-shm"] {
        drop(fs::remove_file(state.join(format!("credentials.db{ending}"))));
    }
    for (ending, bytes) in copy {
        bytes.into_iter().for_each(|bytes| fs::write(state.join(format!("credentials.db{ending}")), bytes).unwrap());
    }
    daemon.start_again();
    check("restored");
    assert_eq!(by_key(&late), 401);
    let told = warnings(&daemon);
    for part in [
        "credentials.db is older than the audit chain",
        "1 revocation of tokens and 1 of keys, and the end of 1 key",
        "2 keys that were made since are lost",
    ] {
        assert!(told.contains(part), "no {part:?}: {told}");
    }

    // The next start has nothing more to do.
    stop(&mut daemon);
    daemon.start_again();
    check("again");
    assert!(!warnings(&daemon).contains("credentials.db"), "{}", warnings(&daemon));
}

/// A proxy that starts while the store cannot be opened does not know what is revoked: it refuses tokens, or serves
/// them where that is configured. What the file says is revoked either way.
#[test]
fn j16_tokens_while_the_store_cannot_be_opened() {
    if !report::may_run("revocation-store") {
        return;
    }
    for (unavailable, expect) in [("", 503), ("unavailable = \"serve\"\n", 200)] {
        let world = World::new();
        let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
        let file = world.folder.join("revoked.txt");
        fs::write(&file, format!("sub {ISSUER} carol\n")).unwrap();
        let settings = settings();
        let more = format!("{}{unavailable}", settings.more);
        let mut daemon = Daemon::start(&world, &Settings { more, ..settings });
        let client = Client::new(&world, GOOD_V4);
        let (good, stolen) = (token("good", "ada", 60), token("stolen", "bob", 60));
        let listed = token("listed", "carol", 60);
        let status = |token: &str| client.get("/me", token).unwrap().status;
        until("the file to be read", SOON, || (status(&listed) == 401).then_some(()));
        daemon.done(&["token", "revoke", "--issuer", "jwt", "--jti", "stolen"]);
        assert_eq!([&good, &stolen, &listed].map(|token| status(token)), [200, 401, 401]);
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.ended().success());

        // SQLite cannot open its log, and the file itself is not damaged.
        let log = world.folder.join("state/credentials.db-wal");
        drop(fs::remove_file(&log));
        fs::create_dir(&log).unwrap();
        daemon.start_again();
        let warnings = daemon.status()["warnings"].to_string();
        assert!(warnings.contains("revocation.unavailable"), "{warnings}");
        until("the file to be read", SOON, || (status(&listed) == 401).then_some(()));
        assert_eq!([&good, &stolen, &listed].map(|token| status(token)), [expect, expect, 401], "{unavailable:?}");
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.ended().success());

        fs::remove_dir(&log).unwrap();
        daemon.start_again();
        assert_eq!([&good, &stolen, &listed].map(|token| status(token)), [200, 401, 401], "{unavailable:?}");
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.ended().success());

        // A line that was added while the gateway was down counts for the first request.
        fs::write(&file, format!("sub {ISSUER} carol\nsub {ISSUER} ada\n")).unwrap();
        daemon.start_again();
        assert_eq!([&good, &stolen, &listed].map(|token| status(token)), [401, 401, 401], "{unavailable:?}");
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.ended().success());

        // Nobody knows what the file says: it is as if the store could not be opened, until it is there.
        fs::remove_file(&file).unwrap();
        daemon.start_again();
        let other = token("other", "dave", 60);
        assert_eq!(status(&other), expect, "{unavailable:?}");
        let warnings = daemon.status()["warnings"].to_string();
        assert!(warnings.contains("`revocation.unavailable` says"), "{warnings}");
        fs::write(&file, "# nothing\n").unwrap();
        until("the file to be read", SOON, || ([&other, &good].map(|token| status(token)) == [200; 2]).then_some(()));
    }
}
