//! Wrong `[crowdsec]` tables, each with what must be said about it.

use super::{BASE, load, wrong};

const ADMIN: &str = "[admin]\naddress = \"127.0.0.1:9901\"\n";

const URL: &str = "url = \"https://crowdsec.example\"\nkey_file = \"server.key\"";

/// A configuration with this table, whose faulty line is `line` lines below its head.
#[track_caller]
fn table(lines: &str, line: usize, key: &str, message: &str, hint: &str) {
    let first = BASE.lines().position(|line| line == "[guard]").unwrap() + 3;
    let lines = format!("{ADMIN}[crowdsec]\n{lines}\n[guard]\n");
    wrong("[guard]\n", &lines, first + line, &format!("crowdsec.{key}"), message, hint);
}

#[test]
fn what_belongs_together() {
    table("key_file = \"server.key\"", 0, "url", "missing", "http://127.0.0.1:8080");
    table("url = \"https://crowdsec.example\"", 0, "key_file", "neither be asked nor told", "cscli bouncers add");
    table("url = \"http://crowdsec.example\"\nkey_file = \"server.key\"", 1, "url", "is http", "allow_http = true");
    table(
        "url = \"crowdsec.example\"\nkey_file = \"server.key\"",
        1,
        "url",
        "does not begin with https://",
        "crowdsec.example:8080",
    );
    table("url = \"http://127.0.0.1:8080\"\nkey_file = \"server.key\"", 1, "url", "is http", "allow_http");
    table("url = \"https://10.0.0.1\"\nkey_file = \"server.key\"", 1, "url", "private", "allow_private");
    table(&format!("{URL}\nmachine = \"edge\""), 0, "password_file", "belong together", "cscli machines add");
    table(&format!("{URL}\npassword_file = \"server.key\""), 0, "machine", "belong together", "cscli machines add");
    table(&format!("{URL}\nevery = \"2h\""), 3, "every", "out of range", "");
    table(&format!("{URL}\norigins = []"), 3, "origins", "unknown", "");
    let first = BASE.lines().position(|line| line == "[guard]").unwrap() + 1;
    let without = format!("[crowdsec]\n{URL}\n[guard]\n");
    wrong("[guard]\n", &without, first + 1, "crowdsec.url", "asked by the observer", "[admin]");
    let feed = format!("{ADMIN}[crowdsec]\n{URL}\n[[feed]]\nname = \"crowdsec\"\npath = \"a\"\n[guard]\n");
    wrong("[guard]\n", &feed, first + 4, "crowdsec.key_file", "has this name", "another name");
}

#[test]
fn what_is_usual() {
    let text = BASE.replacen("[guard]\n", &format!("{ADMIN}[crowdsec]\n{URL}\n[guard]\n"), 1);
    let config = load(&text).unwrap();
    let crowdsec = config.guard.crowdsec.as_ref().unwrap();
    assert!(crowdsec.pulls() && !crowdsec.pushes());
    assert_eq!(crowdsec.api.url, "https://crowdsec.example");
    let shown = &config.effective()["crowdsec"];
    assert_eq!((&shown["every"], &shown["shadow"]), (&"10s".into(), &false.into()));
    assert!(load(BASE).unwrap().guard.crowdsec.is_none());
}
