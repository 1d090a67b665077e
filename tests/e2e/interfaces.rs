//! Where the program is attached: let go of and taken hold of again, by the gateway and without it; interfaces that
//! come later; what commands can do while no gateway runs.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::SocketAddr,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use support::{
    admin,
    daemon::{Daemon, Told, binary, gateway},
    http1::Client,
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, GATE, GOOD_V4, GOOD_V6, World, pin_folder},
};

use super::alerts;

const SILENCE: Duration = Duration::from_millis(200);

fn warns(status: &Value, text: &str) -> bool {
    status["warnings"].as_array().is_some_and(|all| all.iter().any(|one| one.as_str().unwrap().contains(text)))
}

#[test]
fn detach_and_attach_by_the_running_gateway() {
    if !report::may_run("interfaces::detach") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let more = format!("{}{}", admin::TABLE, alerts::NEVER);
    let daemon = Daemon::start(&world, &Settings { more, ..Settings::default() });
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE));
    let list = world.folder.join("list");
    fs::write(&list, format!("{GOOD_V4}\n")).unwrap();
    let import = ["block", "import", list.to_str().unwrap(), "--feed", "nine", "--force"];
    assert_eq!(daemon.done(&import)["unattached"], Value::Null);
    let listed = || daemon.done(&["why", &GOOD_V4.to_string()]);
    assert_eq!(listed()["verdict"], "blocked", "{}", listed());

    // Something that is not the gateway's lies among the pins: nothing is touched.
    let pins = pin_folder(&world.name);
    let foreign = pins.join("links/other");
    let link = pins.join("links").join(format!("{GATE}-native"));
    fs::hard_link(&link, &foreign).unwrap();
    let refused = daemon.cli(&["detach"]);
    assert_eq!((refused.code, &refused.json["answer"]), (1, &json!("refused")), "{}", refused.json);
    assert!(link.exists(), "a refused detach has detached");
    fs::remove_file(&foreign).unwrap();

    let told = daemon.done(&["detach"]);
    assert_eq!(told["changed"], 1, "{told}");
    assert!(told["message"].to_string().contains("1 listed source is served"), "{told}");
    assert!(!link.exists());
    // Lists are enforced in the kernel alone.
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
    let why = listed();
    assert_eq!(why["verdict"], "passed", "{why}");
    assert!(why["next"].as_str().unwrap().starts_with("It is served"), "{why}");
    assert!(why["unattached"].to_string().contains("gateway attach"), "{why}");
    assert!(daemon.done(&["block", "list"])["unattached"].to_string().contains("gateway attach"));
    assert!(daemon.done(&import)["unattached"].to_string().contains("gateway attach"));
    let status = daemon.status();
    assert!(warns(&status, "lists block nobody"), "{status}");
    assert!(!warns(&status, "name one in guard.interfaces"), "{status}");
    assert_eq!(status["enforcement"], "accept", "{status}");
    assert!(warns(&status, "DETACHED by operator:0"), "{status}");
    // The host answers again, and the proxy turns the source away.
    assert!(Client::new(&world, ATTACKER_V4).is_answered(), "XDP still drops");
    assert!(Client::new(&world, ATTACKER_V4).get("/health", "").is_err(), "the ban is not enforced at accept");
    assert_eq!(daemon.cli(&["detach"]).json["code"], "detached");
    let is_told = || !alerts::firing(&daemon, "enforcement_lost", "severity").is_empty();
    until("the alert", SOON, || is_told().then_some(()));
    daemon.done(&["block", "add", "10.0.0.67", "--for", "1h"]);

    assert_eq!(daemon.done(&["attach"])["changed"], 1);
    let status = daemon.status();
    assert_eq!((&status["enforcement"], warns(&status, "DETACHED")), (&json!("xdp"), false), "{status}");
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE));
    assert_eq!(listed()["verdict"], "blocked", "{}", listed());
    assert!(Client::new(&world, GOOD_V4).is_ignored(SILENCE), "a listed source is answered");
    daemon.done(&["block", "del", "--feed", "nine"]);
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
    let list = daemon.done(&["block", "list"]);
    assert_eq!(list["entries"].as_array().map(Vec::len), Some(2), "{list}");
}

#[test]
fn commands_without_the_daemon() {
    if !report::may_run("interfaces::down") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h", "--reason", "before"]);
    daemon.done(&["block", "add", "10.0.0.72/30", "--for", "1h"]);
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE));
    daemon.kill();

    let down = |arguments: &[&str], code: i32| -> Value {
        let Told { code: ended, json, errors } = daemon.cli(arguments);
        assert_eq!((ended, &json["daemon"]), (code, &json!("down")), "{arguments:?}: {json} {errors}");
        json
    };
    // Whoever asks while the guard dies is answered nothing.
    until("the guard to end", SOON, || (daemon.cli(&["status"]).json["daemon"] == "down").then_some(()));
    let status = down(&["status"], 3);
    assert_eq!((&status["guard_pid"], &status["enforcement"]), (&json!(0), &json!("xdp")), "{status}");
    assert!(warns(&status, "NOT RUNNING"), "{status}");
    assert_eq!(status["blocks"], 2, "{status}");
    let list = down(&["block", "list"], 0);
    let entry = &list["entries"][0];
    assert_eq!((&entry["source"], &entry["reason"]), (&json!("10.0.0.66"), &json!("before")), "{list}");
    assert!(entry["packets"].as_u64() > Some(0), "the kernel's counters are read: {list}");
    assert_eq!(down(&["why", "10.0.0.73"], 0)["verdict"], "blocked");
    let why = down(&["why", "10.0.0.9"], 0);
    assert!(why["next"].as_str().unwrap().starts_with("The gateway does not run: nobody is served"), "{why}");
    assert_eq!(down(&["allow", "list"], 0)["entries"], json!([]));
    assert_eq!(down(&["block", "del", "10.0.0.9"], 1)["code"], "not_found");

    // What is changed is changed in the kernel, at once.
    assert_eq!(down(&["block", "del", "10.0.0.66"], 0)["changed"], 1);
    assert!(Client::new(&world, ATTACKER_V4).is_answered(), "the ban stays in the kernel");
    down(&["block", "add", "10.0.0.66", "--for", "1h", "--reason", "meanwhile"], 0);
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE));
    assert_eq!(down(&["block", "add", "127.0.0.1"], 1)["answer"], "refused");
    // What needs somebody to wait for it does not go.
    assert_eq!(daemon.cli(&["reload"]).code, 3);
    assert_eq!(daemon.cli(&["attach"]).code, 3);

    daemon.start_again();
    let list = daemon.done(&["block", "list"]);
    let reasons: Vec<_> = list["entries"].as_array().unwrap().iter().map(|entry| &entry["reason"]).collect();
    assert!(reasons.contains(&&json!("meanwhile")) && !reasons.contains(&&json!("before")), "{list}");
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE));

    daemon.kill();
    until("the guard to end again", SOON, || (daemon.cli(&["status"]).json["daemon"] == "down").then_some(()));
    let told = daemon.done(&["detach"]);
    assert_eq!((&told["changed"], &told["daemon"]), (&json!(1), &json!("down")), "{told}");
    assert!(!pin_folder(&world.name).exists());
    assert!(Client::new(&world, ATTACKER_V4).is_answered(), "still attached");
    assert_eq!(daemon.done(&["detach"])["changed"], 0, "nothing is left");
    assert_eq!(daemon.done(&["audit", "verify"])["valid"], true);
    assert_eq!(daemon.cli(&["status"]).json["enforcement"], "none");
    daemon.start_again();
    assert_eq!(daemon.status()["enforcement"], "xdp");
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE), "the store's bans are loaded again");
    assert_eq!(daemon.done(&["audit", "verify"])["valid"], true);

    let config = world.folder.join("gateway.toml");
    let nowhere = gateway(&["--config", config.to_str().unwrap(), "--socket", "/nonexistent/s", "block", "list"]);
    assert_eq!(nowhere.code, 3, "a socket that is named is the one that is meant: {}", nowhere.json);
}

#[test]
fn an_interface_may_come_later_and_go_and_return() {
    if !report::may_run("interfaces::later") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let interfaces = vec![GATE.to_owned(), "late0".to_owned()];
    let daemon = Daemon::start(&world, &Settings { interfaces, ..Settings::default() });
    let names = |status: &Value| -> Vec<String> {
        let all = status["interfaces"].as_array().unwrap().iter();
        all.map(|at| at["name"].as_str().unwrap().to_owned()).collect()
    };
    let status = until("a warning that an interface is missing", SOON, || {
        Some(daemon.status()).filter(|status| warns(status, "no network interface late0"))
    });
    assert_eq!(names(&status), [GATE], "{status}");
    for _ in 0..2 {
        let made = ["link", "add", "late0", "type", "veth", "peer", "name", "late1"];
        assert!(ip(&world, &made), "{made:?}");
        let status = until("the late interface to be guarded", SOON, || {
            Some(daemon.status()).filter(|status| names(status).len() == 2)
        });
        assert!(!warns(&status, "no network interface"), "{status}");
        assert!(ip(&world, &["link", "delete", "late0"]));
        until("the late interface to be gone", SOON, || {
            Some(daemon.status()).filter(|status| names(status) == [GATE] && warns(status, "late0"))
        });
    }
    // Somebody takes the pins away and the program off: both are noticed, and told.
    let repairs = fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    assert!(repairs.matches("\"late0\"").count() >= 2, "attaching again is not in the record");
    assert_eq!(daemon.done(&["audit", "verify"])["valid"], true);
}

#[test]
fn an_address_may_come_later_and_go_and_return() {
    if !report::may_run("interfaces::addresses") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    // Duplicates are looked for a while: an address that is being judged is there and cannot be used.
    world.gate.enter(|| {
        for (setting, value) in [("accept_dad", "1"), ("dad_transmits", "600")] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{GATE}/{setting}"), value).unwrap();
        }
    });
    assert!(ip(&world, &["addr", "add", "fd00::51/64", "dev", GATE]));
    let late = ["10.0.0.51:80", "10.0.0.51:81", "[fd00::51]:80"];
    let plain = late.map(|address| format!("[[listener]]\naddress = \"{address}\"\n")).concat();
    let listeners = format!("{}{plain}", Settings::default().listeners);
    let daemon = Daemon::start(&world, &Settings { listeners, ..Settings::default() });

    let serves = |address: &str| {
        let address: SocketAddr = address.parse().unwrap();
        let source = if address.is_ipv4() { GOOD_V4 } else { GOOD_V6 };
        let Ok(mut stream) = world.outside.connect(source, address, SILENCE) else { return false };
        stream.set_read_timeout(Some(SOON)).unwrap();
        let asked = stream.write_all(b"GET /health HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        // A listener that comes or goes just now may reset it.
        asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && answer.starts_with("HTTP/1.1 200 ")
    };
    let check = || world.gate.command(&binary()).arg("--config").arg(&daemon.config).arg("check").output().unwrap();
    for round in 0..2 {
        let status = daemon.status();
        for address in late {
            assert!(warns(&status, &format!("listener {address} waits")), "{round} {address}: {status}");
            assert!(!serves(address), "{round} {address}");
        }
        assert!(!warns(&status, "10.0.0.1:443"), "{status}");
        let told = String::from_utf8(check().stderr).unwrap();
        assert!(told.contains("no interface here has the address 10.0.0.51") && told.contains("fd00::51"), "{told}");
        assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200, "the others are served");
        // A reload keeps what waits.
        daemon.done(&["reload"]);

        // Not there in the second round.
        let _was_there = ip(&world, &["addr", "del", "fd00::51/64", "dev", GATE]);
        assert!(ip(&world, &["addr", "add", "fd00::51/64", "dev", GATE, "nodad"]));
        assert!(ip(&world, &["addr", "add", "10.0.0.51/24", "dev", GATE]));
        for address in late {
            until("the address to be served", SOON, || serves(address).then_some(()));
        }
        let status = daemon.status();
        assert!(!warns(&status, "waits"), "{round}: {status}");
        let told = String::from_utf8(check().stderr).unwrap();
        assert!(!told.contains("no interface"), "{round}: {told}");
        for address in ["10.0.0.51/24", "fd00::51/64"] {
            assert!(ip(&world, &["addr", "del", address, "dev", GATE]));
        }
    }
}

fn ip(world: &World, arguments: &[&str]) -> bool {
    let mut command: Command = world.gate.command("ip".as_ref());
    command.args(arguments).status().is_ok_and(|status| status.success())
}
