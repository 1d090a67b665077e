//! The audit chain of the real binary: over several files, through kills, compared with what was kept elsewhere.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{
    daemon::{Daemon, binary, gateway, send},
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, World},
};

mod anchors;

/// The smallest files, compressed, signed each second, with an anchor.
fn settings(anchor: &Path) -> Settings {
    let anchor = format!("[[audit.anchor]]\nname = \"vault\"\nfile = \"{}\"\nevery = \"1s\"\n", anchor.display());
    Settings {
        more: format!("[audit]\nmax_size = \"64KiB\"\ncompress = true\ncheckpoint = \"1s\"\n{anchor}"),
        ..Settings::default()
    }
}

fn files(state: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path());
    let is_of_chain =
        |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with(".jsonl") || path.ends_with(".jsonl.gz"));
    let mut files: Vec<PathBuf> = all.filter(is_of_chain).collect();
    // The file that is written sorts last: `.` is after `-`.
    files.sort();
    files
}

/// Blocks by a list in one file, each a record or two, until the chain has so many files.
fn fill(daemon: &Daemon<'_>, state: &Path, many: usize) {
    for round in 0..200 {
        if files(state).len() >= many {
            return;
        }
        let reason = "r".repeat(250);
        for number in 0..20 {
            let source = format!("203.0.{}.{number}", round % 100);
            daemon.done(&["block", "add", &source, "--for", "1h", "--reason", &reason]);
        }
        daemon.done(&["block", "flush", "--yes"]);
    }
    panic!("the chain has {:?}", files(state));
}

/// The record that the last checkpoint signs.
fn last_signed(state: &Path) -> u64 {
    let chain = fs::read_to_string(state.join("audit.jsonl")).unwrap();
    let mut records = chain.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let last = records.rfind(|record| record["event"] == "checkpoint").unwrap();
    last["seq"].as_u64().unwrap() - 1
}

/// Of a gateway that does not run, or has a guard that stands still: else files come and go meanwhile.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// What a command writes that speaks in lines, with its exit code.
fn lines(daemon: &Daemon<'_>, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(binary()).arg("--config").arg(&daemon.config).args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// Exit code, and the first bad record's reason.
#[track_caller]
fn verify(state: &Path, more: &[&str], code: i32, part: &str) -> Value {
    let told = gateway(&[&["audit", "verify", "--state-dir", state.to_str().unwrap()], more].concat());
    let said = told.json.to_string();
    assert!(told.code == code && said.contains(part), "{more:?}: {} {said}", told.code);
    told.json
}

/// The time of a record.
fn exported_since(line: &str) -> &str {
    line.split("\"time\":\"").nth(1).unwrap().split('"').next().unwrap()
}

/// Whether every line of an export hashes as it says, follows the one before, and is there.
#[track_caller]
fn hashes(lines: &[&str]) {
    let mut before: Option<Value> = None;
    for line in lines {
        let record: Value = serde_json::from_str(line).unwrap();
        let hashed = &line[..line.find(",\"hash\":").unwrap()];
        let hash = HEXLOWER.encode(digest::digest(&digest::SHA256, hashed.as_bytes()).as_ref());
        assert_eq!(record["hash"], hash.as_str(), "{line}");
        if let Some(before) = before.replace(record.clone()) {
            assert_eq!(record["prev"], before["hash"], "{line}");
        }
    }
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A time-stamp authority of OpenSSL in `folder`.
fn authority(folder: &Path) {
    let config = "[tsa]\ndefault_tsa=t\n[t]\nserial=serial\nsigner_cert=tsa.pem\nsigner_key=tsa.key\ncerts=ca.pem\n\
        signer_digest=sha256\ndefault_policy=1.2.3.4.1\ndigests=sha256\n";
    fs::write(folder.join("tsa.cnf"), config).unwrap();
    fs::write(folder.join("serial"), "01").unwrap();
    fs::write(folder.join("ext"), "extendedKeyUsage=critical,timeStamping\n").unwrap();
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let ca = ["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=CA", "-days", "9"];
    openssl(folder, &[&ca[..], &key].concat());
    openssl(folder, &[&["req", "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=TSA"][..], &key].concat());
    let sign = ["x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(folder, &[&sign[..], &["-days", "9", "-extfile", "ext", "-out", "tsa.pem"]].concat());
}

/// A chain over several files, and what was kept elsewhere.
struct Kept<'a> {
    daemon: &'a Daemon<'a>,
    state: PathBuf,
    /// The state as it was before the key was changed.
    old: PathBuf,
    /// Where the anchor writes, and the first key is kept.
    vault: PathBuf,
}

impl Kept<'_> {
    fn key(&self) -> String {
        self.vault.join("audit.pub").to_str().unwrap().to_owned()
    }

    /// As [`verify`], with the key and the anchor that were kept.
    #[track_caller]
    fn verify(&self, state: &Path, more: &[&str], code: i32, part: &str) {
        let (key, anchors) = (self.key(), self.vault.join("anchors.jsonl"));
        let against = ["--key", &key, "--anchor", anchors.to_str().unwrap()];
        verify(state, &[more, &against].concat(), code, part);
    }

    /// The anchor has the newest checkpoint, and agrees, by the key that was kept before it was changed.
    #[track_caller]
    fn anchor_agrees(&self, checkpoint: u64) {
        let anchors = self.vault.join("anchors.jsonl");
        let head = until("the anchor to be written", SOON, || {
            let text = fs::read_to_string(&anchors).ok()?;
            let last: Value = serde_json::from_str(text.lines().last()?).ok()?;
            (last["seq"].as_u64()? >= checkpoint).then_some(last)
        });
        self.verify(&self.state, &[], 0, " agree");
        let status = self.daemon.status();
        assert_eq!(status["audit"]["anchors"][0]["failing"], Value::Null, "{}", status["audit"]);
        assert!(status["audit"]["anchors"][0]["seq"].as_u64() >= head["seq"].as_u64(), "{}", status["audit"]);
        // A folder that was put back as a whole is whole, but for those who kept something.
        verify(&self.old, &[], 0, "\"valid\":true");
        self.verify(&self.old, &[], 1, "missing at the end: the anchor");
    }

    /// So is a tail that was cut off, where the store is of no help, and a compressed file that was changed.
    #[track_caller]
    fn torn_files_are_found(&self, cut: &Path, compressed: &Path) {
        let guard = self.daemon.guard_pid();
        send(guard, Signal::SIGSTOP);
        copy(&self.state, cut);
        send(guard, Signal::SIGCONT);
        let chain = fs::read_to_string(cut.join("audit.jsonl")).unwrap();
        fs::write(cut.join("audit.jsonl"), chain.lines().next().unwrap().to_owned() + "\n").unwrap();
        verify(cut, &["--no-store"], 0, "\"valid\":true");
        self.verify(cut, &["--no-store"], 1, "missing at the end: the anchor");
        fs::write(cut.join("audit.jsonl"), chain).unwrap();
        let compressed = cut.join(compressed.file_name().unwrap());
        let mut bytes = fs::read(&compressed).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        fs::write(&compressed, bytes).unwrap();
        let told = verify(cut, &["--no-store"], 1, "first_bad");
        assert_eq!(told["first_bad"]["file"], compressed.to_str().unwrap(), "{told}");
    }

    /// A time stamp of a real authority.
    #[track_caller]
    fn a_stamp_tells_copies_apart(&self) {
        let vault = &self.vault;
        authority(vault);
        let text = |name: &str| vault.join(name).to_str().unwrap().to_owned();
        self.daemon.done(&["audit", "head", "--tsq", &text("head.tsq"), "--text", &text("head.txt")]);
        let reply = ["-config", "tsa.cnf", "-section", "t", "-queryfile", "head.tsq", "-out", "head.tsr"];
        openssl(vault, &[&["ts", "-reply"][..], &reply].concat());
        openssl(vault, &["ts", "-verify", "-data", "head.txt", "-in", "head.tsr", "-CAfile", "ca.pem"]);
        openssl(vault, &["ts", "-verify", "-queryfile", "head.tsq", "-in", "head.tsr", "-CAfile", "ca.pem"]);
        verify(&self.state, &["--tsr", &text("head.tsr")], 0, "existed at");
        verify(&self.old, &["--tsr", &text("head.tsr")], 1, "an older copy");
        verify(&self.old, &["--tsr", &text("head.tsq")], 2, "head.tsq");
    }

    /// What is exported can be verified for itself.
    #[track_caller]
    fn exports_are_verified(&self) {
        let (code, text) = lines(self.daemon, &["audit", "export", "--since", "1h"]);
        let exported: Vec<&str> = text.lines().collect();
        let (end, exported) = exported.split_last().unwrap();
        let end: Value = serde_json::from_str(end).unwrap();
        assert_eq!((code, &end["valid"], end["records"].as_u64()), (0, &true.into(), Some(exported.len() as u64)));
        hashes(exported);
        let (key, export) = (self.key(), self.vault.join("export.jsonl"));
        let verifies = |text: &str, expect: i32, says: &str| {
            fs::write(&export, text).unwrap();
            let told = gateway(&["audit", "verify", "--export", export.to_str().unwrap(), "--key", &key]);
            let told = (told.code, told.json.to_string());
            assert!(told.0 == expect && told.1.contains(says), "{told:?} {says}");
        };
        verifies(&text, 0, "\"valid\":true");
        // Of a later time alone, which begins in the middle of the chain.
        let (_, late) = lines(self.daemon, &["audit", "export", "--since", exported_since(exported[9])]);
        verifies(&late, 0, "\"valid\":true");
        verifies(&text.replacen("operator:0", "operator:1", 1), 1, "does not match its own hash");
        verifies(&text.replacen(&format!("{}\n", exported[4]), "", 1), 1, "records are missing");
        verifies(&text.replacen(&format!("{}\n", exported.last().unwrap()), "", 1), 1, "some were cut off");
        verifies(&text[..text.trim_end().rfind('\n').unwrap()], 1, "the export has no end");
        verifies("", 1, "the export has no end");
        let other = self.vault.join("other.pub");
        fs::write(&other, "11".repeat(32)).unwrap();
        fs::write(&export, &text).unwrap();
        let foreign = ["audit", "verify", "--export", export.to_str().unwrap(), "--key", other.to_str().unwrap()];
        assert_eq!(gateway(&foreign).code, 1);
        assert_eq!(gateway(&foreign[..4]).code, 2, "whose keys are believed is to be said");
    }
}

#[test]
fn a01_a_chain_over_files_is_whole_after_kills_and_what_was_kept_elsewhere_finds_a_rollback() {
    if !report::may_run("audit::files") {
        return;
    }
    let world = World::new();
    let (state, old, vault) = (world.folder.join("state"), world.folder.join("old"), world.folder.join("vault"));
    fs::create_dir_all(&vault).unwrap();
    let anchors = vault.join("anchors.jsonl");
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &settings(&anchors));
    fill(&daemon, &state, 2);
    fs::write(vault.join("audit.pub"), fs::read(state.join("audit.pub")).unwrap()).unwrap();
    daemon.kill();
    copy(&state, &old);
    daemon.start_again();
    daemon.done(&["audit", "key", "--rotate"]);
    fill(&daemon, &state, 4);
    daemon.kill();
    daemon.start_again();
    let compressed = || files(&state).into_iter().find(|path| path.extension().is_some_and(|end| end == "gz"));
    let compressed = until("a compressed file", 2 * SOON, compressed);
    let status = daemon.status();
    assert!(status["audit"]["files"].as_u64().unwrap() >= 4, "{}", status["audit"]);
    let found = daemon.done(&["audit", "verify"]);
    assert_eq!((&found["valid"], &found["first_bad"]), (&true.into(), &Value::Null), "{found}");

    let kept = Kept { daemon: &daemon, state: state.clone(), old, vault };
    kept.anchor_agrees(found["checkpoint"]["seq"].as_u64().unwrap());
    kept.torn_files_are_found(&world.folder.join("cut"), &compressed);
    kept.a_stamp_tells_copies_apart();
    kept.exports_are_verified();
    let (code, shown) = lines(&daemon, &["audit", "show", "--event", "key_rotated"]);
    assert_eq!((code, shown.lines().count()), (0, 1), "{shown}");

    // A middle file that is gone is named, by doctor as well, and told once.
    daemon.signal(Signal::SIGTERM);
    daemon.ended();
    // The anchor has the checkpoint that was signed at the stop.
    let text = fs::read_to_string(anchors).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["seq"].as_u64(), Some(last_signed(&state)), "{last}");
    fs::remove_file(&files(&state)[1]).unwrap();
    verify(&state, &[], 1, "records are missing");
    assert_eq!(gateway(&["audit", "verify", "--state-dir", "/nonexistent"]).code, 2);
}

#[test]
fn what_is_refused_is_recorded_by_class_with_sources_and_bounded() {
    if !report::may_run("audit::refused") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let rules = "[[rule]]\nname = \"scans\"\nsignals = [\"unknown_route\"]\ncount = 5\nwithin = \"1m\"\nban = \"1m\"\nshadow = true\n";
    let settings = Settings { rules: rules.to_owned(), ..Settings::default() };
    let mut daemon = Daemon::start(&world, &settings);
    for _ in 0..30 {
        let status = support::http1::Client::new(&world, ATTACKER_V4).get("/none", "").unwrap().status;
        assert_eq!(status, 404);
    }
    // The proxy tells once a second what it counts.
    until("the refusals to be counted", SOON, || {
        (daemon.status()["requests"]["refused"]["not_found"].as_u64()? >= 30).then_some(())
    });
    daemon.signal(Signal::SIGTERM);
    daemon.ended();
    let lines = fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let refused: Vec<&Value> =
        records.iter().filter(|record| record["event"] == "refused" && record["class"] == "not_found").collect();
    let count: u64 = refused.iter().map(|record| record["count"].as_u64().unwrap()).sum();
    assert!(count >= 30 && refused.len() <= 2, "{refused:?}");
    let named = refused.iter().any(|record| record["sources"][ATTACKER_V4.to_string()].as_u64() >= Some(5));
    assert!(named, "{refused:?}");
    let shadow: Vec<&Value> = records.iter().filter(|record| record["event"] == "shadow").collect();
    assert!(shadow.iter().any(|record| record["what"] == "rule.scans"), "{shadow:?}");
    assert!(records.iter().any(|record| record["event"] == "proxy_ready"));
}
