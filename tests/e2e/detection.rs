//! The default rules beside good clients: [`attacks`] sets each of them off. What is our own fault, or an upstream's, bans no
//! good client, and neither does what others send in its name (N01, X08).

use std::{
    fs,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use data_encoding::BASE64;
use serde_json::Value;
use support::{
    daemon::Daemon,
    flood::Flood,
    http1::{Client, Request, tls},
    report,
    scripted::{Exchange, Scripted},
    settings::{Settings, route},
    tokens,
    wait::{SOON, pause, until},
    world::{ATTACKER_V4, World, bystander},
};

mod attacks;
mod shared_address;

pub(super) const ENFORCE: &str = "[detect]\ndefaults = \"enforce\"\n";

/// How many good clients there are beside an attacker.
pub(super) const GOOD: u8 = 20;

/// The longest that a client waits that may be banned.
const SILENCE: Duration = Duration::from_secs(2);

const USERS: &str = "ada:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n";

pub(super) fn settings(world: &World, rules: &str) -> Settings {
    fs::write(world.folder.join("users.htpasswd"), USERS).unwrap();
    let routes = [
        route("/items/{id}", "[\"GET\"]", "[\"items:read\"]", ""),
        route("/admin/{*rest}", "[\"GET\"]", "[\"items:write\"]", ""),
        route("/door", "[\"GET\"]", "[\"authenticated\"]", "name = \"login\"\nauthenticate = [\"basic\"]"),
        route("/open/{*rest}", "[\"GET\"]", "[\"public\"]", ""),
        route("/search", "[\"GET\"]", "[\"public\"]", "waf = \"enforcing\""),
        route("/drafts", "[\"GET\"]", "[\"public\"]", "waf = \"reporting\""),
    ];
    Settings {
        rules: rules.to_owned(),
        routes: routes.concat(),
        timeouts: "headers = \"1500ms\"".to_owned(),
        guard: "established = \"1s\"\n".to_owned(),
        more: "[basic]\nusers = \"users.htpasswd\"\n[waf.enforcing]\nmode = \"enforce\"\n[waf.reporting]\n".to_owned(),
        ..Settings::default()
    }
}

/// Answers by what the path begins with, or to all what `status` says.
pub(super) fn upstream(world: &World) -> (Scripted, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(0));
    let kept = Arc::clone(&status);
    let script = move |exchange: &mut Exchange<'_>| {
        let path = exchange.line.split(' ').nth(1).unwrap_or_default().to_owned();
        let said = match kept.load(Ordering::Relaxed) {
            0 if path.starts_with("/open/none") => "404 Not Found".to_owned(),
            0 if path.starts_with("/open/login") => "401 Unauthorized".to_owned(),
            0 if path.starts_with("/open/closed") => "403 Forbidden".to_owned(),
            0 if path.starts_with("/open/broken") => "500 Internal Server Error".to_owned(),
            0 => "200 OK".to_owned(),
            other => format!("{other} Said"),
        };
        exchange.answer(&said, "", "").map(|()| true)
    };
    (Scripted::start(&world.gate, "127.0.0.1:9000", script), status)
}

/// As many objects as a good client has time for.
const ANY: u32 = u32::MAX;

/// Twenty good clients.
struct Good<'a> {
    world: &'a World,
    /// Where each of them is.
    address: fn(u8) -> IpAddr,
    /// How many objects each of them asks for.
    objects: u32,
    /// Which answers they may get.
    is_fine: fn(u16) -> bool,
}

impl<'a> Good<'a> {
    /// At an address each. They must be served.
    const fn new(world: &'a World) -> Self {
        Self { world, address: bystander, objects: ANY, is_fine: |status| status == 200 }
    }

    /// They go on until `during` has ended. How many requests there were.
    fn beside(&self, during: impl FnOnce(&AtomicU32)) -> u32 {
        let (over, served) = (AtomicBool::new(false), AtomicU32::new(0));
        thread::scope(|scope| {
            let (over, served) = (&over, &served);
            let clients: Vec<_> = (0..GOOD).map(|number| scope.spawn(move || self.ask(number, over, served))).collect();
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| during(served)));
            over.store(true, Ordering::Relaxed);
            clients.into_iter().for_each(|client| client.join().unwrap());
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        served.into_inner()
    }

    /// One of them asks until it is over.
    fn ask(&self, number: u8, over: &AtomicBool, served: &AtomicU32) {
        let client = Client::new(self.world, (self.address)(number));
        let token = tokens::good(&format!("good-{number}"), &["reader"]);
        let mut connection = client.connect().unwrap();
        for nth in 0_u32.. {
            if over.load(Ordering::Relaxed) {
                return;
            }
            let object = nth % self.objects;
            let path = if nth % 4 == 3 { format!("/open/{object}") } else { format!("/items/{object}") };
            let answer = connection.exchange(&Request::new("GET", &path).token(&token));
            let answer = answer.unwrap_or_else(|error| panic!("good client {number}, {path}: {error}"));
            assert!((self.is_fine)(answer.status), "good client {number}, {path}: {}", answer.status);
            served.fetch_add(1, Ordering::Relaxed);
            pause(Duration::from_millis(40));
        }
    }
}

/// Waits until good clients were served so many times more.
fn go_on(served: &AtomicU32, times: u32) {
    let enough = served.load(Ordering::Relaxed) + times;
    until("good clients to go on", SOON, || (served.load(Ordering::Relaxed) >= enough).then_some(()));
}

/// Sends one request that may go unanswered because the ban has come.
fn send(client: &Client<'_>, request: &Request) {
    if let Ok(mut connection) = client.connect_with(tls(), SILENCE) {
        drop(connection.exchange(request));
    }
}

/// A guess at somebody's password.
fn guess(account: &str, password: &str) -> Request {
    let basic = BASE64.encode(format!("{account}:{password}").as_bytes());
    Request::new("GET", "/door").header("Authorization", &format!("Basic {basic}"))
}

/// A stuffer's guess: each time at another account.
fn stuff(nth: u32) -> Request {
    guess(&format!("user-{nth}"), "secret")
}

fn word(number: u32) -> String {
    number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
}

/// Sources that are blocked.
pub(super) fn blocked(daemon: &Daemon<'_>) -> Vec<String> {
    let listed = daemon.done(&["block", "list"]);
    let entries = listed["entries"].as_array().cloned().unwrap_or_default();
    let enforced = entries.iter().filter(|entry| entry["mode"] == "enforce");
    enforced.filter_map(|entry| entry["source"].as_str().map(str::to_owned)).collect()
}

/// An upstream that fails for everybody, whatever it says, bans nobody.
#[test]
fn an_upstream_that_fails_for_all_bans_nobody() {
    if !report::may_run("detection::upstream") {
        return;
    }
    let world = World::new();
    let (_upstream, status) = upstream(&world);
    // Even where everything that an upstream says may ban.
    let rules = format!(
        "{ENFORCE}[[rule]]\nname = \"all\"\nsignals = [\"upstream_error\", \"upstream_forbidden\", \
         \"upstream_not_found\", \"upstream_unauthorized\"]\ncount = 10\nwithin = \"1m\"\nban = \"10m\"\n"
    );
    let daemon = Daemon::start(&world, &settings(&world, &rules));
    let is_fine = |status| [200, 401, 403, 404, 500].contains(&status);
    Good { is_fine, ..Good::new(&world) }.beside(|served| {
        go_on(served, 60);
        for said in [401, 500, 404, 403] {
            status.store(said, Ordering::Relaxed);
            go_on(served, 20 * 40);
            status.store(0, Ordering::Relaxed);
            go_on(served, 60);
        }
    });
    assert_eq!(blocked(&daemon), Vec::<String>::new());
}

/// A deployment that forgets a role: good clients are refused by the gateway itself, and one line tells the cause.
#[test]
fn a_bad_deployment_bans_no_good_client() {
    if !report::may_run("detection::deployment") {
        return;
    }
    let world = World::new();
    let (_upstream, _status) = upstream(&world);
    let rules = format!(
        "{ENFORCE}[[rule]]\nname = \"eager\"\nsignals = [\"forbidden\", \"forged_token\"]\ncount = 10\nwithin = \"1m\"\n\
         ban = \"10m\"\n"
    );
    let daemon = Daemon::start(&world, &settings(&world, &rules));
    let is_fine = |status| [200, 401, 403].contains(&status);
    Good { is_fine, ..Good::new(&world) }.beside(|served| {
        go_on(served, 20 * 30);
        until("good clients to be known", SOON, || {
            let known =
                |number| daemon.done(&["why", &bystander(number).to_string()])["standing"]["good_principals"] == 1;
            (0..GOOD).all(known).then_some(())
        });
        daemon.edit("reader = [\"items:read\"]", "reader = []");
        daemon.done(&["reload"]);
        go_on(served, 20 * 40);
        let warned = until("the common cause to be told", SOON, || {
            let told = daemon.status()["warnings"].to_string();
            told.contains("good clients fail together").then_some(told)
        });
        assert!(warned.contains("forbidden requests"), "{warned}");
        daemon.edit("reader = []", "reader = [\"items:read\"]");
        daemon.done(&["reload"]);
        go_on(served, 60);
        until("bans of good clients to be taken back", SOON, || blocked(&daemon).is_empty().then_some(()));
    });
    assert_eq!(blocked(&daemon), Vec::<String>::new());
}

/// N01: a page of another site can make its visitors ask for what is not there. Their browsers say so, and nobody is banned.
#[test]
fn n01_visitors_of_a_hostile_page_are_not_banned() {
    if !report::may_run("detection::visitors") {
        return;
    }
    let world = World::new();
    let (_upstream, _status) = upstream(&world);
    let daemon = Daemon::start(&world, &settings(&world, ENFORCE));
    let visitor = Client::new(&world, ATTACKER_V4);
    let token = tokens::good("good-1", &["reader"]);
    let links = |site: &'static str| {
        let paths = (0..60).map(|nth| match nth % 3 {
            0 => format!("/.git/{nth}"),
            1 => format!("/{}", word(nth)),
            _ => format!("/open/none/{}", word(nth)),
        });
        paths.map(move |path| Request::new("GET", &path).header("Sec-Fetch-Site", site))
    };
    // Others show that the upstream works.
    for number in 0..3 {
        assert_eq!(Client::new(&world, bystander(number)).get("/items/1", &token).unwrap().status, 200);
    }
    for request in links("cross-site") {
        assert_eq!(visitor.send(&request).unwrap().status, 404);
    }
    assert_eq!(visitor.get("/items/1", &token).unwrap().status, 200);
    assert_eq!(daemon.done(&["why", &ATTACKER_V4.to_string()])["verdict"], "passed");
    let scanner = Client::new(&world, bystander(7));
    links("same-origin").for_each(|request| send(&scanner, &request));
    until("a scanner to be banned", SOON, || {
        (daemon.done(&["why", &bystander(7).to_string()])["verdict"] != "passed").then_some(())
    });
}

/// X08: packets in the name of a client say nothing about it: it made no connection.
#[test]
fn x08_a_client_whose_address_is_forged_is_not_banned() {
    if !report::may_run("detection::forged") {
        return;
    }
    let world = World::new();
    let (_upstream, _status) = upstream(&world);
    let rules = format!(
        "{ENFORCE}[[rule]]\nname = \"eager\"\nsignals = [\"bad_handshake\", \"bad_request\", \"handshake_abuse\", \
         \"over_limit\", \"slow_client\"]\ncount = 1\nwithin = \"1m\"\nban = \"10m\"\n"
    );
    let daemon = Daemon::start(&world, &settings(&world, &rules));
    let IpAddr::V4(victim) = ATTACKER_V4 else { unreachable!("it is of IPv4") };
    let sent = Flood::from_one(victim, 443).at(5_000, Duration::from_secs(1)).send(&world);
    assert!(sent.packets > 1_000, "{sent:?}");
    let why: Value = daemon.done(&["why", &victim.to_string()]);
    let held = why["score"].as_array().unwrap().iter().filter(|score| score["held"] != 0).count();
    assert_eq!((&why["verdict"], held), (&Value::from("passed"), 0), "{why}");
    let answer = Client::new(&world, ATTACKER_V4).get("/items/1", &tokens::good("ada", &["reader"])).unwrap();
    assert_eq!(answer.status, 200, "the client itself is served");
}

/// Who attacks is told before anybody is banned, and what other rules would have made of it is told by the log.
#[test]
fn who_attacks_is_told_before_a_ban() {
    if !report::may_run("detection::told") {
        return;
    }
    let world = World::new();
    let (_upstream, _status) = upstream(&world);
    let daemon = Daemon::start(&world, &settings(&world, "[detect]\ndefaults = \"shadow\"\n"));
    let served = Client::new(&world, bystander(0));
    assert_eq!(served.get("/items/1", &tokens::good("ada", &["reader"])).unwrap().status, 200);
    let attacker = Client::new(&world, ATTACKER_V4);
    let mut kept = attacker.connect().unwrap();
    for nth in 0..19 {
        assert_eq!(kept.exchange(&Request::new("GET", &format!("/{}", word(nth)))).unwrap().status, 404);
    }
    let told = until("the profiles", SOON, || {
        let told = daemon.done(&["top", "--l7"]);
        (told["rows"][0]["requests"] == 19).then_some(told)
    });
    let row = &told["rows"][0];
    assert_eq!((&row["who"], &row["kind"]), (&Value::from("10.0.0.66"), &Value::from("source")), "{told}");
    assert!(row["reasons"].to_string().contains("rule path-scan at 19 of 20"), "{told}");
    assert!(row["paths"].as_u64().is_some_and(|paths| (15..=25).contains(&paths)), "{told}");
    let names: Vec<_> = told["rows"].as_array().unwrap().iter().filter_map(|row| row["who"].as_str()).collect();
    assert!(names.contains(&"ada") && names.contains(&"10.0.0.100"), "{names:?}");
    let why = daemon.done(&["why", "10.0.0.66"]);
    assert_eq!((&why["verdict"], &why["profile"]["failed"]), (&Value::from("passed"), &Value::from(19)), "{why}");

    // Somebody who is known to be good, and goes on to scan: the log tells.
    assert_eq!(attacker.get("/items/1", &tokens::good("eve", &["reader"])).unwrap().status, 200);
    until("all of it in the access log", SOON, || (daemon.access_log().len() >= 21).then_some(()));
    let log = world.folder.join("access.log");
    let new = world.folder.join("new.toml");
    let text = fs::read_to_string(&daemon.config).unwrap();
    let changed = "[[rule]]\nname = \"path-scan\"\nshadow = false\ncount = 15\n";
    fs::write(&new, format!("{text}\n{changed}")).unwrap();
    let replay = |more: &[&str]| {
        let mut command = std::process::Command::new(support::daemon::binary());
        command.arg("--config").arg(&new).args(["replay", "--against"]).arg(&daemon.config).arg(&log).args(more);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, told) = replay(&["--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(code, Some(1), "it would ban a source with a good session: {told}");
    assert_eq!((&told["requests"], &told["sources_banned"]), (&Value::from(21), &Value::from(1)), "{told}");
    let banned = &told["banned"][0];
    assert_eq!((&banned["source"], &banned["rule"]), (&Value::from("10.0.0.66"), &Value::from("path-scan")), "{told}");
    assert_eq!((&banned["good_principals"], &banned["evidence"]["requests"]), (&Value::from(1), &Value::from(15)));
    assert_eq!(banned["evidence"]["ids"].as_array().map(Vec::len), Some(10), "{told}");
    assert_eq!(told["compared"]["added"], Value::from(vec!["10.0.0.66"]), "{told}");
    let (_, text) = replay(&[]);
    assert!(text.contains("1 source would have been banned, 1 of them with good sessions"), "{text}");
    assert!(text.contains("path-scan (new)"), "{text}");
}

/// What other servers log, compressed.
#[test]
fn logs_of_others_are_replayed() {
    use std::io::Write as _;
    let folder = std::env::temp_dir().join(format!("gwt-{}-replay", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let config = folder.join("new.toml");
    let base = "[proxy]\nuser = \"nobody\"\n[[listener]]\naddress = \"127.0.0.1:80\"\n[upstream.a]\nservers = \
                [\"127.0.0.1:81\"]\n[[route]]\npath = \"/{*rest}\"\nrequire = [\"public\"]\nupstream = \"a\"\n";
    fs::write(&config, format!("{base}{ENFORCE}")).unwrap();
    // Twenty good clients, and one that scans.
    let mut lines = String::from("this is none\n");
    for second in 0..40 {
        let time = format!("[24/Nov/2025:16:00:{second:02} +0000]");
        for client in 0..20 {
            lines += &format!("192.0.2.{client} - - {time} \"GET /a/{second} HTTP/1.1\" 200 5 \"-\" \"app\"\n");
        }
        lines += &format!("203.0.113.9 - - {time} \"GET /{} HTTP/1.1\" 404 5 \"-\" \"scan\"\n", word(second));
    }
    let log = folder.join("access.log.gz");
    let mut gzip = flate2::write::GzEncoder::new(fs::File::create(&log).unwrap(), flate2::Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    gzip.finish().unwrap();
    let replay = |log: &std::path::Path| {
        let mut command = std::process::Command::new(support::daemon::binary());
        command.arg("--config").arg(&config).args(["--json", "replay", "--against"]).arg(&config).arg(log);
        let output = command.output().unwrap();
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    let (code, told) = replay(&log);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!((&told["requests"], &told["unread_lines"]), (&Value::from(840), &Value::from(1)), "{told}");
    let banned = told["banned"].as_array().unwrap();
    assert_eq!((banned.len(), &banned[0]["source"]), (1, &Value::from("203.0.113.9")), "{told}");
    assert_eq!((&banned[0]["rule"], &banned[0]["dropped_requests"]), (&Value::from("path-scan"), &Value::from(20)));
    assert_eq!(told["compared"]["added"], Value::from(Vec::<String>::new()), "{told}");
    let unjudged: Vec<&str> =
        told["rules_unjudged"].as_array().unwrap().iter().map(|rule| rule["rule"].as_str().unwrap()).collect();
    for rule in ["credential-stuffing", "account-under-attack", "handshake-abuse"] {
        assert!(unjudged.contains(&rule) && !unjudged.contains(&"path-scan"), "{rule}: {told}");
    }

    // The guard would not ban whom the configuration spares.
    let list = folder.join("cdn.txt");
    fs::write(&list, "203.0.113.0/24\n").unwrap();
    let feed = format!("[[feed]]\nname = \"cdn\"\npath = \"{}\"\nuse = \"never_ban\"\n", list.display());
    for (case, spares, shield) in
        [("allow", "[guard]\nallow = [\"203.0.113.9\"]\n", "guard.allow"), ("list", &*feed, "feed:cdn (never_ban)")]
    {
        let config = folder.join(format!("{case}.toml"));
        fs::write(&config, format!("{spares}{base}{ENFORCE}")).unwrap();
        let mut command = std::process::Command::new(support::daemon::binary());
        command.arg("--config").arg(&config).args(["--json", "replay"]).arg(&log);
        let told: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        assert_eq!((&told["sources_banned"], &told["sources_shielded"]), (&Value::from(0), &Value::from(1)), "{told}");
        assert_eq!(told["banned"][0]["shielded_by"], shield, "{told}");
    }
    let (code, told) = replay(&folder.join("none.log"));
    assert_eq!((code, &told["answer"]), (Some(2), &Value::from("refused")), "{told}");
    fs::remove_dir_all(folder).unwrap();
}
