//! Lists through the real socket into the real maps: every format, errors by line, replaced as a whole, followed in a
//! file, written and read again.

use std::{fs, process::Command, time::Duration};

use serde_json::{Value, json};
use support::{
    daemon::{Daemon, binary},
    http1::Client,
    report,
    settings::Settings,
    wait::{SOON, until},
    world::{ATTACKER_V4, GOOD_V4, World},
};

const SILENCE: Duration = Duration::from_millis(300);

#[test]
fn imported() {
    if !report::may_run("feeds::imported") {
        return;
    }
    let world = World::new();
    let mut daemon = Daemon::start(&world, &Settings::default());
    formats(&world, &daemon);

    let list =
        write(&world, "list", "10.0.0.66\n# a note\n10.0.0.1\nnonsense\n192.0.2.0/24 ; b\n192.0.2.1-192.0.2.2\n");
    let told = daemon.done(&["block", "import", &list, "--feed", "a"]);
    // 192.0.2.1-192.0.2.2 is two addresses.
    assert_eq!(counts(&told), [4, 4, 0, 0, 1, 1], "{told}");
    assert_eq!((&told["errors"][0]["line"], &told["refusals"][0]["line"]), (&json!(4), &json!(3)), "{told}");
    assert_eq!(told["refusals"][0]["code"], "own_address", "{told}");
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE), "a listed source is answered");
    assert!(Client::new(&world, GOOD_V4).is_answered());
    let why = daemon.done(&["why", "10.0.0.66"]);
    assert_eq!((&why["verdict"], &why["entry"]["actor"]), (&json!("blocked"), &json!("feed:a")), "{why}");
    assert!(why["entry"]["packets"].as_u64() > Some(0), "{why}");
    assert_eq!(daemon.done(&["why", "192.0.2.9"])["verdict"], "blocked");

    let other = write(&world, "other", "10.0.0.67\n192.0.2.1\n198.51.100.0/24\n");
    let told = daemon.done(&["block", "import", &other, "--feed", "a"]);
    assert_eq!(counts(&told), [3, 2, 1, 3, 0, 0], "{told}");
    assert!(Client::new(&world, ATTACKER_V4).is_answered(), "what is listed no more is dropped");
    for (address, verdict) in [("10.0.0.67", "blocked"), ("192.0.2.9", "passed"), ("198.51.100.9", "blocked")] {
        assert_eq!(daemon.done(&["why", address])["verdict"], verdict, "{address}");
    }

    let told = daemon.done(&["block", "import", &list, "--feed", "b", "--shadow", "--for", "1h"]);
    assert_eq!(counts(&told)[0], 4, "{told}");
    assert_eq!(daemon.done(&["why", "10.0.0.66"])["verdict"], "shadow_blocked");
    written_and_read_again(&world, &daemon);

    daemon.kill();
    daemon.start_again();
    let status = daemon.status();
    assert_eq!(status["feeds"].as_array().map(Vec::len), Some(3), "{status}");
    assert_eq!(daemon.done(&["why", "10.0.0.67"])["verdict"], "blocked");
    assert!(!status["warnings"].to_string().contains("repaired"), "{status}");

    // An allowance goes before a list, and the list is back after it.
    daemon.done(&["allow", "add", "198.51.100.7"]);
    assert_eq!(daemon.done(&["why", "198.51.100.7"])["verdict"], "allowed");
    daemon.done(&["allow", "del", "198.51.100.7"]);
    assert_eq!(daemon.done(&["why", "198.51.100.7"])["verdict"], "blocked");
    let refused = daemon.cli(&["block", "del", "10.0.0.67"]);
    assert_eq!((refused.code, &refused.json["code"]), (1, &json!("in_feed")), "{}", refused.json);

    nothing_replaces_nothing(&world, &daemon);
    removed(&world, &mut daemon);
    daemon.done(&["block", "flush", "--yes"]);
    until("every list to be gone", SOON, || daemon.status()["feeds"].as_array()?.is_empty().then_some(()));
    assert_eq!(daemon.done(&["why", "10.0.0.67"])["verdict"], "passed");
    assert_eq!(daemon.done(&["audit", "verify"])["valid"], true);
}

fn formats(world: &World, daemon: &Daemon<'_>) {
    for (name, format, text, listed) in [
        ("a.txt", "plain", "192.0.2.1\n2001:db8:1::/48\n", 2),
        ("b.netset", "plain", "# firehol\n192.0.2.0/24\n", 1),
        ("c.save", "ipset", "create x hash:net family inet\nadd x 192.0.2.0/24\nadd x 192.0.2.1 timeout 60\n", 2),
        ("d.txt", "spamhaus", "; Spamhaus DROP\n192.0.2.0/24 ; SBL1\n", 1),
        ("e.json", "spamhaus", "{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL1\"}\n{\"type\":\"metadata\"}\n", 1),
        ("f.csv", "crowdsec-csv", "value,scope,duration,reason\n192.0.2.1,Ip,1h,ssh\n", 1),
        (
            "g.json",
            "crowdsec-json",
            "[{\"decisions\":[{\"value\":\"192.0.2.1\",\"scope\":\"Ip\",\"duration\":\"59m\",\"type\":\"ban\"}]}]",
            1,
        ),
    ] {
        let path = write(world, name, text);
        let told = daemon.done(&["block", "import", &path, "--feed", "formats"]);
        assert_eq!((&told["format"], &told["listed"]), (&json!(format), &json!(listed)), "{name}: {told}");
        let told = daemon.done(&["block", "import", &path, "--feed", "formats", "--format", format]);
        assert_eq!(told["added"], 0, "{name}: {told}");
    }
    let left = daemon.done(&["why", "192.0.2.1"])["entry"]["remaining_seconds"].as_u64();
    assert!(left <= Some(3_540) && left > Some(3_500), "{left:?}");
    let broken = write(world, "h.json", "[{");
    let told = daemon.cli(&["block", "import", &broken, "--feed", "formats"]);
    assert_eq!((told.code, &told.json["answer"]), (1, &json!("refused")), "{}", told.json);
    let mut piped = Command::new(binary());
    piped.arg("--config").arg(&daemon.config).args(["block", "import", "-"]).stdin(fs::File::open(&broken).unwrap());
    let told = piped.output().unwrap();
    let errors = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.code() == Some(1) && errors.contains("standard input"), "{errors}");
    assert_ne!(daemon.cli(&["block", "import", "/nonexistent"]).code, 0);
    daemon.done(&["block", "del", "--feed", "formats"]);
    assert_eq!(daemon.status()["feeds"], json!([]));
    assert_eq!(daemon.cli(&["block", "del", "--feed", "formats"]).code, 1);
}

/// What cannot be read, or says nothing, leaves a list as it is.
fn nothing_replaces_nothing(world: &World, daemon: &Daemon<'_>) {
    let before = daemon.done(&["block", "export", "--feed", "a"]);
    // Each is told by the command and in the status alike, however many there were before.
    for (name, text, code) in [
        ("empty", "", "empty"),
        ("remarks", "# nobody\n", "empty"),
        ("page", "<html><p>403 Forbidden</p></html>\n", "unreadable"),
        ("page", "<html><p>404 Not Found</p></html>\n", "unreadable"),
        ("page", "<html><p>502 Bad Gateway</p></html>\n", "unreadable"),
        ("page", "<html><p>503 Service Unavailable</p></html>\n", "unreadable"),
        ("page", "<html><p>504 Gateway Timeout</p></html>\n", "unreadable"),
        ("limited", "{\"errors\":[{\"status\":429}]}\n", "unreadable"),
        ("words", "no address\nat all\n", "empty"),
        ("own", "10.0.0.1\n", "empty"),
    ] {
        let path = write(world, name, text);
        let told = daemon.cli(&["block", "import", &path, "--feed", "a"]);
        assert_eq!((told.code, &told.json["answer"]), (1, &json!("refused")), "{name}: {}", told.json);
        let reasons = ["errors", "refusals"].map(|what| told.json[what].as_array().map_or(0, Vec::len));
        let expect = match name {
            "words" => [2, 0],
            "own" => [0, 1],
            _ => [0, 0],
        };
        assert_eq!(reasons, expect, "{name}: {}", told.json);
        assert_eq!(daemon.done(&["block", "export", "--feed", "a"]), before, "{name}");
        let status = daemon.status();
        let warnings = status["warnings"].as_array().unwrap().iter().map(|one| one.as_str().unwrap());
        let warning = warnings.filter(|one| one.starts_with("feed:a: ")).collect::<Vec<_>>().join("\n");
        let said = told.json["message"].as_str().unwrap();
        let reason = said.split(": nothing was changed").next().unwrap();
        assert!(warning.starts_with(&format!("feed:a: refused ({code}): {reason}")), "{name}: {warning}\n{said}");
    }
    // A name that was mistyped: there is nothing to keep, and the warning can be dismissed.
    let page = write(world, "page", "<html>404</html>");
    assert_eq!(daemon.cli(&["block", "import", &page, "--feed", "mistyped"]).code, 1);
    let warns = || daemon.status()["warnings"].to_string().contains("feed:mistyped");
    assert!(warns());
    let told = daemon.done(&["block", "del", "--feed", "mistyped"]);
    assert!(told["message"].to_string().contains("the warning about it is gone") && !warns(), "{told}");
    assert_eq!(daemon.cli(&["block", "del", "--feed", "mistyped"]).json["code"], "not_found");
    // So can one about what was to be added to the list without a name.
    assert_eq!(daemon.cli(&["block", "import", &page]).code, 1);
    let told = daemon.done(&["block", "del", "--feed", ""]);
    assert_eq!(told["message"], "there is no list without a name; the warning about it is gone");
    let nameless = write(world, "nameless", "192.0.2.1\n192.0.2.2\n203.0.113.77\n203.0.113.78\n");
    daemon.done(&["block", "import", &nameless]);
    daemon.done(&["block", "add", "203.0.113.76/31"]);
    for (source, told) in [
        ("203.0.113.78", "203.0.113.78 is no longer blocked"),
        (
            "203.0.113.77",
            "the block of 203.0.113.77 is removed, and it is still blocked as part of 203.0.113.76/31, ban",
        ),
    ] {
        let message = daemon.done(&["block", "del", source])["message"].to_string();
        assert!(message.contains(told), "{message}");
    }
    daemon.done(&["block", "del", "203.0.113.76/31"]);
    assert_eq!(daemon.done(&["block", "export", "--feed", ""]).as_array().map(Vec::len), Some(2));
    assert_eq!(
        daemon.done(&["block", "del", "--feed", ""])["message"],
        "the list without a name is removed: 2 sources"
    );
    let empty = write(world, "empty", "");
    assert_eq!(counts(&daemon.done(&["block", "import", &empty, "--feed", "a", "--allow-empty"]))[3], 3);
}

/// What is removed stays removed, also if the guard is killed right behind the answer.
fn removed(world: &World, daemon: &mut Daemon<'_>) {
    daemon.done(&["block", "flush", "--yes"]);
    for number in 0..8 {
        let list = write(world, "some", &format!("203.0.113.{number}\n198.51.{number}.0/24\n"));
        daemon.done(&["block", "import", &list, "--feed", &format!("l{number}")]);
    }
    let list = write(world, "attacker", "10.0.0.64/29\n");
    daemon.done(&["block", "import", &list, "--feed", "z"]);
    let told = daemon.cli(&["block", "del", "10.0.0.66"]);
    let message = told.json["message"].as_str().unwrap_or_default();
    assert!(told.code == 1 && message.contains("as part of 10.0.0.64/29, listed by feed:z"), "{}", told.json);
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    let why = daemon.done(&["why", "10.0.0.66"]);
    assert!(why["next"].as_str().unwrap().contains("still blocked, by feed:z"), "{why}");
    let told = daemon.done(&["block", "del", "10.0.0.66"]);
    assert!(told["message"].as_str().unwrap().contains("still blocked as part of 10.0.0.64/29"), "{told}");
    let why = daemon.done(&["why", "10.0.0.66"]);
    assert!(why["entry"].get("id").is_none(), "a list's entry has no number of a ban: {why}");
    let list = daemon.done(&["block", "list"]);
    assert!(list["lists"].as_array().unwrap().iter().any(|list| list["name"] == "z" && list["entries"] == 1), "{list}");
    daemon.done(&["block", "flush", "--yes"]);
    daemon.kill();
    daemon.start_again();
    assert_eq!(daemon.status()["feeds"], json!([]), "a list is back after it was flushed");
    assert!(Client::new(world, ATTACKER_V4).is_answered(), "what was flushed is dropped");
}

/// What `block export` writes, imported under another name, lists the same.
fn written_and_read_again(world: &World, daemon: &Daemon<'_>) {
    let exported = daemon.done(&["block", "export", "--feed", "a"]);
    let values = |exported: &Value| -> Vec<String> {
        exported.as_array().unwrap().iter().map(|one| one["value"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(values(&exported), ["10.0.0.67", "192.0.2.1", "198.51.100.0/24"]);
    let all = daemon.done(&["block", "export"]);
    assert_eq!(values(&all).len(), 7, "{all}");
    let path = write(world, "exported.json", &exported.to_string());
    let told = daemon.done(&["block", "import", &path, "--feed", "copy"]);
    assert_eq!((&told["format"], counts(&told)[0]), (&json!("crowdsec-json"), 3), "{told}");
    assert_eq!(values(&daemon.done(&["block", "export", "--feed", "copy"])), values(&exported));
}

#[test]
fn followed() {
    if !report::may_run("feeds::followed") {
        return;
    }
    let world = World::new();
    let path = write(&world, "followed.txt", "10.0.0.66\n198.51.100.0/24\nnonsense\n");
    let settings = Settings {
        more: format!("[[feed]]\nname = \"f\"\npath = \"{path}\"\n"),
        guard: "max_bans = 1000".to_owned(),
        ..Settings::default()
    };
    let daemon = Daemon::start(&world, &settings);
    let loaded = |entries: u64| {
        until("the list to be loaded", SOON, || {
            let status = daemon.status();
            (status["feeds"][0]["entries"] == entries).then_some(status)
        })
    };
    let status = loaded(2);
    assert!(status["warnings"].to_string().contains("line 3"), "{status}");
    assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE));

    // Replaced as such programs do: written beside it, then renamed.
    fs::rename(write(&world, "new", "10.0.0.67\n10.0.0.68\n10.0.0.69\n"), &path).unwrap();
    let status = loaded(3);
    assert!(!status["warnings"].to_string().contains("line 3"), "{status}");
    until("the first list's entry to be gone", SOON, || {
        (daemon.done(&["why", "10.0.0.66"])["verdict"] == "passed").then_some(())
    });

    // The last entry can be taken out: remarks alone are a list of nobody. What is cut off in the middle is none.
    fs::write(&path, "").unwrap();
    until("the empty file to be told", SOON, || {
        daemon.status()["warnings"].to_string().contains("stays in force").then_some(())
    });
    assert_eq!(daemon.status()["feeds"][0]["entries"], 3);
    fs::write(&path, "# nobody at present\n").unwrap();
    until("the list to be empty", SOON, || daemon.status()["feeds"].as_array()?.is_empty().then_some(()));
    fs::write(&path, "10.0.0.67\n10.0.0.68\n10.0.0.69\n").unwrap();
    loaded(3);

    fs::remove_file(&path).unwrap();
    let status = until("the missing file to be told", SOON, || {
        let status = daemon.status();
        status["warnings"].to_string().contains("stays in force").then_some(status)
    });
    assert_eq!(status["feeds"][0]["entries"], 3, "{status}");
    assert_eq!(daemon.done(&["why", "10.0.0.67"])["verdict"], "blocked");

    let many: String = (0..2_000).map(|number| format!("203.0.{}.{}\n", number / 250, number % 250)).collect();
    fs::write(&path, many).unwrap();
    let status = until("the list to be refused", SOON, || {
        let status = daemon.status();
        status["warnings"].to_string().contains("guard.max_bans").then_some(status)
    });
    assert_eq!(status["feeds"][0]["entries"], 3, "nothing was evicted: {status}");
    let refused = daemon.cli(&["block", "import", &path, "--feed", "f"]);
    assert_eq!(refused.json["code"], "in_configuration", "{}", refused.json);

    daemon.edit(&format!("[[feed]]\nname = \"f\"\npath = \"{path}\"\n"), "");
    daemon.done(&["reload"]);
    until("the list to go with its setting", SOON, || daemon.status()["feeds"].as_array()?.is_empty().then_some(()));
    assert_eq!(daemon.done(&["why", "10.0.0.67"])["verdict"], "passed");

    // One that never was there.
    let missing = "[[feed]]\nname = \"gone\"\npath = \"/nonexistent/list\"\n";
    daemon.edit("[guard]\n", &format!("{missing}[guard]\n"));
    let check = Command::new(binary()).arg("--config").arg(&daemon.config).arg("check").output().unwrap();
    let told = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(check.status.success() && told.contains("/nonexistent/list cannot be read"), "{told}");
    daemon.done(&["reload"]);
    let warning = || {
        let status = daemon.status();
        let mut all = status["warnings"].as_array().unwrap().iter();
        all.find_map(|one| one.as_str().filter(|one| one.starts_with("feed:gone")).map(str::to_owned))
    };
    let told = until("the missing file to be told", Duration::from_secs(20), warning);
    assert!(told.contains("/nonexistent/list") && !told.contains("loaded before"), "{told}");
    daemon.edit(missing, "");
    daemon.done(&["reload"]);
    until("the warning to go with its setting", Duration::from_secs(20), || warning().is_none().then_some(()));
}

fn write(world: &World, name: &str, text: &str) -> String {
    let path = world.folder.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Listed, added, unchanged, removed, refused, failed.
fn counts(told: &Value) -> [u64; 6] {
    ["listed", "added", "unchanged", "removed", "refused", "failed"].map(|key| told[key].as_u64().unwrap())
}
