//! Checkpoints of the audit chain reach anchors of every kind: syslog, a webhook, and time-stamp authorities.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use nix::sys::signal::Signal;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::Value;
use support::{
    admin,
    daemon::{Daemon, send},
    pki::PKI,
    report,
    settings::Settings,
    wait::{SOON, until},
    world::World,
};

use super::{authority, last_signed, openssl, verify};

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

/// Notes the text of every datagram.
fn note_datagrams(
    received: &Received,
    kind: &'static str,
    mut receive: impl FnMut(&mut [u8]) -> Option<usize> + Send + 'static,
) {
    let received = Arc::clone(received);
    thread::spawn(move || {
        let mut bytes = [0; 4_096];
        while let Some(length) = receive(&mut bytes) {
            received.lock().unwrap().push(format!("{kind} {}", String::from_utf8_lossy(&bytes[..length])));
        }
    });
}

/// Notes the text of every connection.
fn note_streams(
    received: &Received,
    kind: &'static str,
    listener: TcpListener,
    read: impl Fn(TcpStream) -> String + Send + 'static,
) {
    let received = Arc::clone(received);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let text = read(stream);
            if !text.is_empty() {
                received.lock().unwrap().push(format!("{kind} {text}"));
            }
        }
    });
}

/// Receivers of anchors, of every kind.
struct Receivers<'a> {
    vault: &'a Path,
    received: Received,
    /// The socket of the local log.
    local: PathBuf,
}

/// The kinds whose receivers note what comes.
const KINDS: [&str; 5] = ["unix", "udp", "tcp", "tls", "webhook"];

impl<'a> Receivers<'a> {
    fn start(world: &World, vault: &'a Path) -> Self {
        let listen = |address: &'static str| world.gate.enter(move || TcpListener::bind(address).unwrap());
        let received = Received::default();
        let udp = world.gate.enter(|| UdpSocket::bind("127.0.0.1:9514").unwrap());
        note_datagrams(&received, "udp", move |bytes| udp.recv(bytes).ok());
        let local = world.folder.join("log.sock");
        let unix = UnixDatagram::bind(&local).unwrap();
        fs::set_permissions(&local, fs::Permissions::from_mode(0o777)).unwrap();
        note_datagrams(&received, "unix", move |bytes| unix.recv(bytes).ok());
        note_streams(&received, "tcp", listen("127.0.0.1:9601"), |mut stream| {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        note_streams(&received, "tls", listen("127.0.0.1:9614"), |stream| {
            let mut text = String::new();
            // Who does not believe the certificate sends nothing; who is done may leave without a word.
            secure(stream).read_to_string(&mut text).unwrap_or_default();
            text
        });
        let heard = Arc::clone(&received);
        serve(listen("127.0.0.1:9443"), true, move |body| {
            heard.lock().unwrap().push(format!("webhook {}", String::from_utf8_lossy(body)));
            Vec::new()
        });
        // One authority, by two ways: it numbers its stamps in a file.
        authority(vault);
        let one_by_one = Arc::new(Mutex::new(()));
        for (address, tls) in [("127.0.0.1:9318", false), ("127.0.0.1:9319", true)] {
            let (folder, one_by_one) = (vault.to_owned(), Arc::clone(&one_by_one));
            serve(listen(address), tls, move |body| {
                let _turn = one_by_one.lock().unwrap();
                fs::write(folder.join("asked.tsq"), body).unwrap();
                let reply = ["-config", "tsa.cnf", "-section", "t", "-queryfile", "asked.tsq", "-out", "asked.tsr"];
                openssl(&folder, &[&["ts", "-reply"][..], &reply].concat());
                fs::read(folder.join("asked.tsr")).unwrap()
            });
        }
        Self { vault, received, local }
    }

    /// What came to one kind so far.
    fn lines(&self, kind: &str) -> Vec<String> {
        self.received.lock().unwrap().iter().filter(|line| line.starts_with(kind)).cloned().collect()
    }

    /// What each got agrees with the chain.
    #[track_caller]
    fn agree_with(&self, state: &Path) {
        for kind in KINDS {
            let lines = self.lines(kind);
            let file = self.vault.join(kind);
            fs::write(&file, lines.join("\n")).unwrap();
            verify(state, &["--anchor", file.to_str().unwrap()], 0, " agree");
            let framed = lines[0].split(' ').nth(1).unwrap();
            assert!(!["tcp", "tls"].contains(&kind) || framed.parse::<usize>().is_ok(), "{lines:?}");
        }
    }

    /// The responses of the authority are kept, and OpenSSL believes them.
    #[track_caller]
    fn stamps_are_kept_in(&self, state: &Path) {
        let stamps = fs::read_dir(state.join("timestamps")).unwrap().map(|entry| entry.unwrap().path());
        let stamps: Vec<String> = stamps.map(|path| path.to_str().unwrap().to_owned()).collect();
        for anchor in ["authority", "private"] {
            let of = |stamp: &&String| stamp.contains(&format!("/{anchor}-"));
            let stamp = stamps.iter().find(of).unwrap_or_else(|| panic!("{anchor}: {stamps:?}"));
            verify(state, &["--tsr", stamp], 0, "existed at");
            let name = Path::new(stamp).file_stem().unwrap().to_str().unwrap();
            let seq: u64 = name.rsplit('-').next().unwrap().parse().unwrap();
            let chain = fs::read_to_string(state.join("audit.jsonl")).unwrap();
            let record: Value =
                serde_json::from_str(chain.lines().nth(usize::try_from(seq).unwrap() - 1).unwrap()).unwrap();
            let signed = format!("gateway audit checkpoint 1\n{seq}\n{}\n", record["hash"].as_str().unwrap());
            fs::write(self.vault.join("signed"), signed).unwrap();
            openssl(self.vault, &["ts", "-verify", "-data", "signed", "-in", stamp, "-CAfile", "ca.pem"]);
        }
    }

    /// Waits until those who can be reached have the checkpoint that was signed last.
    #[track_caller]
    fn wait_for_last_of(&self, state: &Path) {
        let last = format!("\"seq\":{},", last_signed(state));
        for kind in KINDS {
            until(&format!("{last} by {kind}"), SOON, || {
                self.lines(kind).iter().any(|line| line.contains(&last)).then_some(())
            });
        }
    }
}

/// Those that receive, and those that cannot be reached or must not be believed.
fn settings(local: &Path) -> Settings {
    let anchor = |name: &str, what: &str| format!("[[audit.anchor]]\nname = \"{name}\"\n{what}\nevery = \"1s\"\n");
    let anchors = [
        anchor("datagrams", "syslog = \"udp://127.0.0.1:9514\""),
        anchor("local", &format!("syslog = \"unix:{}\"", local.display())),
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
    Settings { interfaces: Vec::new(), more, ..Settings::default() }
}

/// Waits until each anchor has been sent something, or has failed as it should.
#[track_caller]
fn wait_for_all(daemon: &Daemon<'_>) {
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
}

/// The observer is killed: what is sent next is sent by another.
#[track_caller]
fn another_observer_goes_on(daemon: &Daemon<'_>) {
    let before = daemon.status()["audit"]["anchors"][0]["seq"].as_u64().unwrap();
    let pid = u32::try_from(daemon.status()["observer_pid"].as_u64().unwrap()).unwrap();
    send(pid, Signal::SIGKILL);
    daemon.done(&["block", "add", "203.0.113.2", "--for", "1h"]);
    until("the next observer to send to all who can be reached", SOON, || {
        let status = daemon.status();
        let states = status["audit"]["anchors"].as_array()?;
        let is_sent = |state: &Value| state["seq"].as_u64() > Some(before) && state["failing"].is_null();
        let is_another = status["observer_pid"].as_u64().is_some_and(|now| now != u64::from(pid));
        (is_another && states.iter().take(5).all(is_sent)).then_some(())
    });
}

#[test]
fn anchors_reach_syslog_a_webhook_and_a_time_stamp_authority() {
    if !report::may_run("audit::anchors") {
        return;
    }
    let world = World::new();
    let (state, vault) = (world.folder.join("state"), world.folder.join("vault"));
    fs::create_dir_all(&vault).unwrap();
    let receivers = Receivers::start(&world, &vault);
    let mut daemon = Daemon::start(&world, &settings(&receivers.local));
    daemon.done(&["block", "add", "203.0.113.1", "--for", "1h"]);
    wait_for_all(&daemon);
    receivers.agree_with(&state);
    receivers.stamps_are_kept_in(&state);
    another_observer_goes_on(&daemon);
    daemon.signal(Signal::SIGTERM);
    daemon.ended();
    receivers.wait_for_last_of(&state);
}
