//! The access log on its way to servers of syslog and to journald, and how it changes while the gateway serves.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io::Read,
    net::{TcpListener, UdpSocket},
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::Value;
use support::{
    daemon::Daemon,
    http1::Client,
    pki::PKI,
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

use crate::logs::{log_to, numbered, receiver};

/// What a server got: datagrams each for itself, the bytes of each connection together.
type Received = Arc<Mutex<Vec<Vec<u8>>>>;

/// Keeps what `receive` gets, until the test's process ends.
fn keep(received: &Received, mut receive: impl FnMut(&mut [u8]) -> Option<usize> + Send + 'static) {
    let received = Arc::clone(received);
    thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        while let Some(length) = receive(&mut bytes) {
            received.lock().unwrap().push(bytes[..length].to_vec());
        }
    });
}

/// Keeps what comes over each connection to `listener`, by TLS or not.
fn keep_streams(received: &Received, listener: TcpListener, tls: bool) {
    let received = Arc::clone(received);
    let key = PrivateKeyDer::from_pem_slice(PKI.key_pem.as_bytes()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(PKI.certificate_pem.as_bytes()).unwrap()];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream: Box<dyn Read> = match tls {
                true => Box::new(StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream)),
                false => Box::new(stream),
            };
            let place = {
                let mut all = received.lock().unwrap();
                all.push(Vec::new());
                all.len() - 1
            };
            let mut some = [0; 4_096];
            while let Ok(length @ 1..) = stream.read(&mut some) {
                received.lock().unwrap()[place].extend_from_slice(&some[..length]);
            }
        }
    });
}

/// The messages of a stream by their lengths (RFC 6587 3.4.1, RFC 5425 4.3). What is not whole yet is left out.
fn frames(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut messages) = (bytes, Vec::new());
    while let Some(end) = rest.iter().position(|byte| *byte == b' ') {
        let digits = std::str::from_utf8(&rest[..end]).unwrap();
        assert!(!digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()), "MSG-LEN {digits:?}");
        let length: usize = digits.parse().unwrap();
        let Some(message) = rest.get(end + 1..end + 1 + length) else { break };
        messages.push(message);
        rest = &rest[end + 1 + length..];
    }
    messages
}

/// The JSON of a message of RFC 5424, whose header must be as it says.
#[track_caller]
fn message(bytes: &[u8], priority: &str, host: Option<&str>, app: &str, pid: u32) -> Value {
    let text = std::str::from_utf8(bytes).unwrap();
    let parts: Vec<&str> = text.splitn(8, ' ').collect();
    let [version, time, hostname, app_name, process, id, data, json] = parts[..] else { panic!("{text:?}") };
    assert_eq!((version, app_name, id, data), (&*format!("<{priority}>1"), app, "access", "-"), "{text}");
    assert_eq!(process, pid.to_string(), "{text}");
    assert!(host.is_none_or(|host| host == hostname) && !hostname.is_empty() && hostname.is_ascii(), "{text}");
    let form: String = time.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    assert_eq!(form, "0000-00-00T00:00:00.000Z", "{text}");
    assert!(!text.contains(['\n', '\r', '\0']), "{text:?}");
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn syslog_is_rfc_5424_in_the_frames_of_each_transport() {
    if !report::may_run("log_servers::syslog") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    let [unix, udp, tcp, tls] = std::array::from_fn(|_| Received::default());
    let path = world.folder.join("syslog.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    keep(&unix, move |space| socket.recv(space).ok());
    let socket = world.gate.enter(|| UdpSocket::bind("127.0.0.1:5514").unwrap());
    keep(&udp, move |space| socket.recv(space).ok());
    keep_streams(&tcp, world.gate.enter(|| TcpListener::bind("127.0.0.1:5601").unwrap()), false);
    keep_streams(&tls, world.gate.enter(|| TcpListener::bind("127.0.0.1:6514").unwrap()), true);
    let output = |more: &str| format!("[[access_log.output]]\ntype = \"syslog\"\n{more}\n");
    let outputs = [
        output(&format!("path = {path:?}\nhostname = \"edge-1\"\nfacility = \"daemon\"\napp_name = \"front\"")),
        output("transport = \"udp\"\naddress = \"127.0.0.1:5514\""),
        output("transport = \"tcp\"\naddress = \"127.0.0.1:5601\""),
        output("transport = \"tcp\"\naddress = \"localhost:6514\"\ntls = { ca = \"ca.crt\" }"),
    ];
    log_to(&mut daemon, &world, &format!("request_headers = [\"x-number\"]\n{}", outputs.concat()));
    let mut connection = Client::new(&world, GOOD_V4).connect().unwrap();
    const MANY: usize = 60;
    for number in 0..MANY {
        // What would end a line, a message or a frame, in a place that a client decides.
        let request = numbered(number).header("user-agent", "a <134>1 b\t\"\\ 17 c");
        assert_eq!(connection.exchange(&request).unwrap().status, 200);
    }
    let pid = daemon.proxy_pid();
    let numbers = |received: &Received, is_stream: bool, (priority, host, app): (&str, Option<&str>, &str)| {
        let all = received.lock().unwrap().clone();
        let messages: Vec<&[u8]> = match is_stream {
            true => all.iter().flat_map(|bytes| frames(bytes)).collect(),
            false => all.iter().map(Vec::as_slice).collect(),
        };
        let lines = messages.into_iter().map(|bytes| message(bytes, priority, host, app, pid));
        lines.map(|line| line["request.x-number"].as_str().unwrap().parse().unwrap()).collect::<Vec<usize>>()
    };
    let usual = ("134", None, "gateway");
    for (name, received, is_stream, header) in [
        ("unix", &unix, false, ("30", Some("edge-1"), "front")),
        ("udp", &udp, false, usual),
        ("tcp", &tcp, true, usual),
        ("tls", &tls, true, usual),
    ] {
        let got = until(name, SOON, || Some(numbers(received, is_stream, header)).filter(|got| got.len() >= MANY));
        assert_eq!(got, (0..MANY).collect::<Vec<_>>(), "{name}: each once, in order");
    }
    assert_eq!(tls.lock().unwrap().len(), 1, "one connection carries all lines");
    let dropped = &daemon.status()["lost"]["log_lines"];
    assert_eq!(dropped, 0, "lines were dropped");
}

/// The real journald, in a mount namespace of its own. Its sockets are in `folder`.
struct Journald(Child);

impl Journald {
    fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        let script = format!(
            "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal /run/log/journal && \
             mount --bind '{}' /run/systemd/journal && mount -t tmpfs tmpfs /var/log && \
             exec /usr/lib/systemd/systemd-journald",
            folder.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        let journald = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("journald's socket", SOON, || folder.join("socket").exists().then_some(()));
        journald
    }

    /// What it has of the gateway, in JSON.
    fn entries(&self) -> Vec<Value> {
        let pid = self.0.id().to_string();
        let command = ["-t", &pid, "-m", "journalctl", "--output", "json", "--no-pager", "SYSLOG_IDENTIFIER=gateway"];
        let output = Command::new("nsenter").args(command).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn the_journal_has_each_line() {
    if !report::may_run("log_servers::journald") {
        return;
    }
    if !Path::new("/usr/lib/systemd/systemd-journald").exists() {
        // Its protocol is tested without it by `logs::sockets_get_lines_and_one_that_takes_none_stalls_nobody`.
        return report::skipped(
            "log_servers::journald",
            "there is no systemd-journald: the package systemd of `cargo xtask setup --all`",
        );
    }
    let world = World::new();
    let journald = Journald::start(&world.folder.join("journal"));
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    let path = world.folder.join("journal/socket");
    let text =
        format!("request_headers = [\"x-number\"]\n[[access_log.output]]\ntype = \"journald\"\npath = {path:?}\n");
    log_to(&mut daemon, &world, &text);
    let mut connection = Client::new(&world, GOOD_V4).connect().unwrap();
    for number in 0..20 {
        assert_eq!(connection.exchange(&numbered(number)).unwrap().status, 200);
    }
    let entries = until("all lines", SOON, || Some(journald.entries()).filter(|entries| entries.len() >= 20));
    for (number, entry) in entries.iter().enumerate() {
        assert_eq!((&entry["PRIORITY"], &entry["_TRANSPORT"]), (&"6".into(), &"journal".into()), "{entry}");
        assert_eq!(entry["_PID"], daemon.proxy_pid().to_string(), "{entry}");
        let line: Value = serde_json::from_str(entry["MESSAGE"].as_str().unwrap()).unwrap();
        assert_eq!(line["request.x-number"], number.to_string(), "{entry}");
    }
}

/// What is configured of the access log while the gateway serves, one after the other, and why.
struct Changes {
    first: String,
    then: Vec<(&'static str, String)>,
}

fn changes(folder: &Path, socket: &Path) -> Changes {
    let file = |name: &str| format!("[[access_log.output]]\ntype = \"file\"\npath = {:?}\n", folder.join(name));
    let syslog = format!("[[access_log.output]]\ntype = \"syslog\"\npath = {socket:?}\n");
    let json = "request_headers = [\"x-number\"]\n".to_owned();
    let template = "format = \"template\"\ntemplate = \"${request.x-number} ${status}\"\n".to_owned();
    let then = vec![
        ("fields", format!("fields = [\"status\"]\n{json}{}", file("a.log"))),
        ("the template", template.clone() + &file("a.log")),
        ("the path", template.clone() + &file("b.log")),
        ("another output", template.clone() + &file("b.log") + &syslog),
        ("rotation", template.clone() + &file("b.log") + "rotate_size = \"64KiB\"\n" + &syslog),
        ("the order", template + &syslog + &file("b.log")),
        ("one output less", json.clone() + &file("b.log")),
    ];
    Changes { first: json + &file("a.log"), then }
}

/// How many lines each request has in the files of a folder, and how many are of requests that were refused. `None`: files are
/// being renamed or compressed.
fn lines_of(folder: &Path) -> Option<(BTreeMap<usize, usize>, usize)> {
    let mut lines: BTreeMap<usize, usize> = BTreeMap::new();
    let (mut refused, mut bytes) = (0, Vec::new());
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "gz") {
            let output = Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
            if !output.status.success() {
                return None;
            }
            bytes.extend(output.stdout);
        } else {
            bytes.extend(fs::read(&path).ok()?);
        }
    }
    for line in String::from_utf8(bytes).unwrap().lines() {
        let number = match serde_json::from_str::<Value>(line) {
            Ok(line) if line.is_object() => {
                refused += usize::from(line["status"] == 404);
                line["request.x-number"].as_str().map(|number| number.parse().unwrap())
            }
            _ => Some(line.strip_suffix(" 200").unwrap().parse().unwrap()),
        };
        number.into_iter().for_each(|number: usize| *lines.entry(number).or_default() += 1);
    }
    Some((lines, refused))
}

#[test]
fn m02_the_access_log_changes_in_place_and_loses_no_line() {
    if !report::may_run("log_servers::in_place") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    let (folder, path) = (world.folder.join("logs"), world.folder.join("syslog.sock"));
    let received = Received::default();
    let socket = receiver(&path);
    socket.set_read_timeout(None).unwrap();
    keep(&received, move |space| socket.recv(space).ok());
    let Changes { first, then } = changes(&folder, &path);
    log_to(&mut daemon, &world, &first);
    let proxy = daemon.proxy_pid();
    let (stop, sent) = (AtomicBool::new(false), Mutex::new(0_usize));
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            // One connection all the time: no process takes the place of another.
            let mut connection = Client::new(&world, GOOD_V4).connect().unwrap();
            while !stop.load(Ordering::Relaxed) {
                let number = *sent.lock().unwrap();
                assert_eq!(connection.exchange(&numbered(number)).unwrap().status, 200);
                *sent.lock().unwrap() += 1;
            }
        });
        let mut before = first;
        for (why, text) in then {
            daemon.edit(&before, &text);
            let told = daemon.cli(&["reload"]);
            assert_eq!(told.code, 0, "{why}: {}", told.json);
            let at = *sent.lock().unwrap();
            until("some requests", SOON, || (*sent.lock().unwrap() > at + 20).then_some(()));
            before = text;
        }
        stop.store(true, Ordering::Relaxed);
        client.join().unwrap();
        // Only failures have a line from here on.
        daemon.edit(&before, &format!("statuses = [\"4xx\"]\n{before}"));
        daemon.done(&["reload"]);
    });
    let sent = *sent.lock().unwrap();
    let client = Client::new(&world, GOOD_V4);
    assert_eq!(client.send(&numbered(1_000_000)).unwrap().status, 200);
    assert_eq!(client.get("/nowhere", "").unwrap().status, 404);
    assert_eq!(daemon.proxy_pid(), proxy, "it is the same process");

    // Files that are renamed or compressed while they are read are missing, or there twice.
    let is_whole =
        |lines: &BTreeMap<usize, usize>| lines.keys().copied().eq(0..sent) && lines.values().all(|times| *times == 1);
    let (mut last, start) = (None, std::time::Instant::now());
    until("the last line", 2 * SOON, || {
        last = lines_of(&folder).filter(|(_, refused)| *refused > 0);
        let is_over = start.elapsed() > SOON;
        last.as_ref().is_some_and(|(lines, _)| is_whole(lines) || is_over).then_some(())
    });
    let (lines, refused) = last.unwrap();
    assert_eq!(refused, 1);
    assert!(lines.keys().copied().eq(0..sent), "{sent} were sent, {} have a line", lines.len());
    assert!(lines.values().all(|times| *times == 1), "each once: {lines:?}");
    assert!(received.lock().unwrap().len() > 20, "the socket had its share");
}
