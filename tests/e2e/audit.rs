//! The audit chain of the real binary: over several files, through kills, compared with what was kept elsewhere.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::Value;
use support::{
    admin,
    daemon::{Daemon, binary, gateway},
    pki::PKI,
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, World},
};

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

#[test]
fn a01_a_chain_over_files_is_whole_after_kills_and_what_was_kept_elsewhere_finds_a_rollback() {
    if !report::may_run("audit::files") {
        return;
    }
    let world = World::new();
    let state = world.folder.join("state");
    let vault = world.folder.join("vault");
    fs::create_dir_all(&vault).unwrap();
    let anchors = vault.join("anchors.jsonl");
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &settings(&anchors));
    fill(&daemon, &state, 2);
    fs::write(vault.join("audit.pub"), fs::read(state.join("audit.pub")).unwrap()).unwrap();
    daemon.kill();
    let old = world.folder.join("old");
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

    // The anchor has the newest checkpoint, and agrees, by the key that was kept before it was changed.
    let head = until("the anchor to be written", SOON, || {
        let text = fs::read_to_string(&anchors).ok()?;
        let last: Value = serde_json::from_str(text.lines().last()?).ok()?;
        (last["seq"].as_u64()? >= found["checkpoint"]["seq"].as_u64()?).then_some(last)
    });
    let (key, anchors) = (vault.join("audit.pub"), anchors.to_str().unwrap());
    let against = ["--key", key.to_str().unwrap(), "--anchor", anchors];
    verify(&state, &against, 0, "anchors agree");
    let status = daemon.status();
    assert_eq!(status["audit"]["anchors"][0]["failing"], Value::Null, "{}", status["audit"]);
    assert!(status["audit"]["anchors"][0]["seq"].as_u64() >= head["seq"].as_u64(), "{}", status["audit"]);
    // A folder that was put back as a whole is whole, but for those who kept something.
    verify(&old, &[], 0, "\"valid\":true");
    verify(&old, &against, 1, "missing at the end: the anchor");

    // So is a tail that was cut off, where the store is of no help, and a compressed file that was changed.
    let cut = world.folder.join("cut");
    copy(&state, &cut);
    let chain = fs::read_to_string(cut.join("audit.jsonl")).unwrap();
    fs::write(cut.join("audit.jsonl"), chain.lines().next().unwrap().to_owned() + "\n").unwrap();
    verify(&cut, &["--no-store"], 0, "\"valid\":true");
    verify(&cut, &[&["--no-store"], &against[..]].concat(), 1, "missing at the end: the anchor");
    fs::write(cut.join("audit.jsonl"), chain).unwrap();
    let compressed = cut.join(compressed.file_name().unwrap());
    let mut bytes = fs::read(&compressed).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(&compressed, bytes).unwrap();
    let told = verify(&cut, &["--no-store"], 1, "first_bad");
    assert_eq!(told["first_bad"]["file"], compressed.to_str().unwrap(), "{told}");

    // A time stamp of a real authority.
    authority(&vault);
    let text = |name: &str| vault.join(name).to_str().unwrap().to_owned();
    daemon.done(&["audit", "head", "--tsq", &text("head.tsq"), "--text", &text("head.txt")]);
    let reply = ["-config", "tsa.cnf", "-section", "t", "-queryfile", "head.tsq", "-out", "head.tsr"];
    openssl(&vault, &[&["ts", "-reply"][..], &reply].concat());
    openssl(&vault, &["ts", "-verify", "-data", "head.txt", "-in", "head.tsr", "-CAfile", "ca.pem"]);
    openssl(&vault, &["ts", "-verify", "-queryfile", "head.tsq", "-in", "head.tsr", "-CAfile", "ca.pem"]);
    verify(&state, &["--tsr", &text("head.tsr")], 0, "existed at");
    verify(&old, &["--tsr", &text("head.tsr")], 1, "an older copy");
    verify(&old, &["--tsr", &text("head.tsq")], 2, "head.tsq");

    // What is exported can be verified for itself.
    let (code, text) = lines(&daemon, &["audit", "export", "--since", "1h"]);
    let exported: Vec<&str> = text.lines().collect();
    let (end, exported) = exported.split_last().unwrap();
    let end: Value = serde_json::from_str(end).unwrap();
    assert_eq!((code, &end["valid"], end["records"].as_u64()), (0, &true.into(), Some(exported.len() as u64)));
    hashes(exported);
    let verifies = |text: &str, expect: i32, says: &str| {
        let path = vault.join("export.jsonl");
        fs::write(&path, text).unwrap();
        let told = gateway(&["audit", "verify", "--export", path.to_str().unwrap(), "--key", key.to_str().unwrap()]);
        let told = (told.code, told.json.to_string());
        assert!(told.0 == expect && told.1.contains(says), "{told:?} {says}");
    };
    verifies(&text, 0, "\"valid\":true");
    // Of a later time alone, which begins in the middle of the chain.
    let (_, late) = lines(&daemon, &["audit", "export", "--since", exported_since(exported[9])]);
    verifies(&late, 0, "\"valid\":true");
    verifies(&text.replacen("operator:0", "operator:1", 1), 1, "does not match its own hash");
    verifies(&text.replacen(&format!("{}\n", exported[4]), "", 1), 1, "records are missing");
    verifies(&text.replacen(&format!("{}\n", exported.last().unwrap()), "", 1), 1, "some were cut off");
    verifies(&text[..text.trim_end().rfind('\n').unwrap()], 1, "the export has no end");
    verifies("", 1, "the export has no end");
    let other = vault.join("other.pub");
    fs::write(&other, "11".repeat(32)).unwrap();
    let export = vault.join("export.jsonl");
    fs::write(&export, &text).unwrap();
    let foreign = ["audit", "verify", "--export", export.to_str().unwrap(), "--key", other.to_str().unwrap()];
    assert_eq!(gateway(&foreign).code, 1);
    assert_eq!(gateway(&foreign[..4]).code, 2, "whose keys are believed is to be said");
    let (code, shown) = lines(&daemon, &["audit", "show", "--event", "key_rotated"]);
    assert_eq!((code, shown.lines().count()), (0, 1), "{shown}");

    // A middle file that is gone is named, by doctor as well, and told once.
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.ended();
    // The anchor has the checkpoint that was signed at the stop.
    let kept = fs::read_to_string(anchors).unwrap();
    let last: Value = serde_json::from_str(kept.lines().last().unwrap()).unwrap();
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
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
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

/// What receivers got, a line each.
type Received = Arc<Mutex<Vec<String>>>;

/// A connection that a client speaks TLS on, to `localhost`.
fn secure(stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
    let key = PrivateKeyDer::from_pem_slice(PKI.key_pem.as_bytes()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(PKI.certificate_pem.as_bytes()).unwrap()];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream)
}

/// Answers one POST request after the other by `answer`, until the test's process ends.
fn serve(listener: TcpListener, tls: bool, answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if tls {
                respond(secure(stream), &answer);
            } else {
                respond(stream, &answer);
            }
        }
    });
}

/// Reads a request, and sends what becomes of its body. Who speaks otherwise gets nothing.
fn respond(mut stream: impl Read + Write, answer: &impl Fn(&[u8]) -> Vec<u8>) {
    let (mut bytes, mut some) = (Vec::new(), [0; 4_096]);
    loop {
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|end| end + 4);
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let whole = head + length.unwrap_or(0);
            if bytes.len() >= whole {
                let body = answer(&bytes[head..whole]);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(&[head.as_bytes(), &body].concat()).unwrap_or_default();
                return stream.flush().unwrap_or_default();
            }
        }
        match stream.read(&mut some) {
            Ok(read) if read > 0 => bytes.extend_from_slice(&some[..read]),
            _ => return,
        }
    }
}

#[test]
fn anchors_reach_syslog_a_webhook_and_a_time_stamp_authority() {
    if !report::may_run("audit::anchors") {
        return;
    }
    let world = World::new();
    let (state, vault) = (world.folder.join("state"), world.folder.join("vault"));
    fs::create_dir_all(&vault).unwrap();
    authority(&vault);
    let listen = |address: &'static str| world.gate.enter(move || TcpListener::bind(address).unwrap());
    let received = Received::default();
    let udp = world.gate.enter(|| UdpSocket::bind("127.0.0.1:9514").unwrap());
    let heard = Arc::clone(&received);
    thread::spawn(move || {
        let mut bytes = [0; 4_096];
        while let Ok(length) = udp.recv(&mut bytes) {
            heard.lock().unwrap().push(format!("udp {}", String::from_utf8_lossy(&bytes[..length])));
        }
    });
    let path = world.folder.join("log.sock");
    let unix = UnixDatagram::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let heard = Arc::clone(&received);
    thread::spawn(move || {
        let mut bytes = [0; 4_096];
        while let Ok(length) = unix.recv(&mut bytes) {
            heard.lock().unwrap().push(format!("unix {}", String::from_utf8_lossy(&bytes[..length])));
        }
    });
    let (tcp, heard) = (listen("127.0.0.1:9601"), Arc::clone(&received));
    thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            heard.lock().unwrap().push(format!("tcp {text}"));
        }
    });
    let (tls, heard) = (listen("127.0.0.1:9614"), Arc::clone(&received));
    thread::spawn(move || {
        for stream in tls.incoming().flatten() {
            let mut text = String::new();
            // Who does not believe the certificate sends nothing; who is done may leave without a word.
            secure(stream).read_to_string(&mut text).unwrap_or_default();
            if !text.is_empty() {
                heard.lock().unwrap().push(format!("tls {text}"));
            }
        }
    });
    let heard = Arc::clone(&received);
    serve(listen("127.0.0.1:9443"), true, move |body| {
        heard.lock().unwrap().push(format!("webhook {}", String::from_utf8_lossy(body)));
        Vec::new()
    });
    // One authority, by two ways: it numbers its stamps in a file.
    let one_by_one = Arc::new(Mutex::new(()));
    for (address, tls) in [("127.0.0.1:9318", false), ("127.0.0.1:9319", true)] {
        let (folder, one_by_one) = (vault.clone(), Arc::clone(&one_by_one));
        serve(listen(address), tls, move |body| {
            let _turn = one_by_one.lock().unwrap();
            fs::write(folder.join("asked.tsq"), body).unwrap();
            let reply = ["-config", "tsa.cnf", "-section", "t", "-queryfile", "asked.tsq", "-out", "asked.tsr"];
            openssl(&folder, &[&["ts", "-reply"][..], &reply].concat());
            fs::read(folder.join("asked.tsr")).unwrap()
        });
    }
    let anchor = |name: &str, what: &str| format!("[[audit.anchor]]\nname = \"{name}\"\n{what}\nevery = \"1s\"\n");
    let anchors = [
        anchor("datagrams", "syslog = \"udp://127.0.0.1:9514\""),
        anchor("local", &format!("syslog = \"unix:{}\"", path.display())),
        anchor("stream", "syslog = \"tcp://127.0.0.1:9601\""),
        anchor("secure", "syslog = \"tls://localhost:9614\"\nca = \"ca.crt\""),
        anchor("hook", "webhook = \"https://localhost:9443/anchors\"\nca = \"ca.crt\""),
        anchor("stranger", "webhook = \"https://127.0.0.1:9443/anchors\"\nca = \"ca.crt\""),
        anchor("impostor", "syslog = \"tls://127.0.0.1:9614\"\nca = \"ca.crt\""),
        anchor("unknown", "timestamp = \"https://127.0.0.1:9319/\"\nca = \"ca.crt\""),
        anchor("authority", "timestamp = \"http://127.0.0.1:9318/\""),
        anchor("private", "timestamp = \"https://localhost:9319/\"\nca = \"ca.crt\""),
        anchor("closed", "webhook = \"http://127.0.0.1:9320/\""),
    ];
    let more = format!("{}[audit]\ncheckpoint = \"1s\"\n{}", admin::TABLE, anchors.concat());
    let settings = Settings { interfaces: Vec::new(), more, ..Settings::default() };
    let mut daemon = Daemon::start(&world, &settings);
    daemon.done(&["block", "add", "203.0.113.1", "--for", "1h"]);
    let states = until("all anchors to be told", SOON, || {
        let states = daemon.status()["audit"]["anchors"].as_array()?.clone();
        let is_told = |state: &Value| {
            let fails = ["stranger", "impostor", "unknown", "closed"].iter().any(|name| state["name"] == *name);
            if fails { state["failing"].is_string() } else { state["seq"].as_u64() > Some(0) }
        };
        states.iter().all(is_told).then_some(states)
    });
    assert_eq!(states.len(), 11);
    let warnings = daemon.status()["warnings"].to_string();
    assert!(warnings.contains("anchor closed cannot be reached") && warnings.contains("stranger"), "{warnings}");
    assert!(!warnings.contains("anchor hook"), "{warnings}");

    // What each got agrees with the chain.
    for kind in ["unix", "udp", "tcp", "tls", "webhook"] {
        let lines: Vec<String> =
            received.lock().unwrap().iter().filter(|line| line.starts_with(kind)).cloned().collect();
        let file = vault.join(kind);
        fs::write(&file, lines.join("\n")).unwrap();
        verify(&state, &["--anchor", file.to_str().unwrap()], 0, "anchors agree");
        let framed = lines[0].split(' ').nth(1).unwrap();
        assert!(!["tcp", "tls"].contains(&kind) || framed.parse::<usize>().is_ok(), "{lines:?}");
    }
    // The response is kept, and OpenSSL believes it.
    let stamps = fs::read_dir(state.join("timestamps")).unwrap().map(|entry| entry.unwrap().path());
    let stamps: Vec<String> = stamps.map(|path| path.to_str().unwrap().to_owned()).collect();
    for anchor in ["authority", "private"] {
        let of = |stamp: &&String| stamp.contains(&format!("/{anchor}-"));
        let stamp = stamps.iter().find(of).unwrap_or_else(|| panic!("{anchor}: {stamps:?}"));
        verify(&state, &["--tsr", stamp], 0, "existed at");
        let name = Path::new(stamp).file_stem().unwrap().to_str().unwrap();
        let seq: u64 = name.rsplit('-').next().unwrap().parse().unwrap();
        let chain = fs::read_to_string(state.join("audit.jsonl")).unwrap();
        let record: Value =
            serde_json::from_str(chain.lines().nth(usize::try_from(seq).unwrap() - 1).unwrap()).unwrap();
        let signed = format!("gateway audit checkpoint 1\n{seq}\n{}\n", record["hash"].as_str().unwrap());
        fs::write(vault.join("signed"), signed).unwrap();
        openssl(&vault, &["ts", "-verify", "-data", "signed", "-in", stamp, "-CAfile", "ca.pem"]);
    }

    // The observer is killed: what is sent next is sent by another.
    let before = daemon.status()["audit"]["anchors"][0]["seq"].as_u64().unwrap();
    let pid = u32::try_from(daemon.status()["observer_pid"].as_u64().unwrap()).unwrap();
    support::daemon::send(pid, nix::sys::signal::Signal::SIGKILL);
    daemon.done(&["block", "add", "203.0.113.2", "--for", "1h"]);
    until("the next observer to send to all who can be reached", SOON, || {
        let status = daemon.status();
        let states = status["audit"]["anchors"].as_array()?;
        let is_sent = |state: &Value| state["seq"].as_u64() > Some(before) && state["failing"].is_null();
        let is_another = status["observer_pid"].as_u64().is_some_and(|now| now != u64::from(pid));
        (is_another && states.iter().take(5).all(is_sent)).then_some(())
    });
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.ended();
    // Those who can be reached have the checkpoint that was signed at the stop.
    let last = format!("\"seq\":{},", last_signed(&state));
    for kind in ["unix", "udp", "tcp", "tls", "webhook"] {
        until(&format!("{last} by {kind}"), SOON, || {
            let received = received.lock().unwrap();
            received.iter().any(|line| line.starts_with(kind) && line.contains(&last)).then_some(())
        });
    }
}
