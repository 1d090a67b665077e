//! The access log on its way out: rotation under load, sockets that take lines or do not, and a disk that is full.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    io::{BufRead as _, BufReader},
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{
    daemon::Daemon,
    http1::{Client, Connection, Request},
    report,
    settings::Settings,
    small_disk::SmallDisk,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

/// Starts the gateway again with this access log.
pub(crate) fn log_to(daemon: &mut Daemon<'_>, world: &World, text: &str) {
    daemon.edit(&format!("access_log = \"{}/access.log\"\n", world.folder.display()), "");
    daemon.edit("[timeouts]\n", &format!("[access_log]\n{text}\n[timeouts]\n"));
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().success());
    daemon.start_again();
}

/// A socket that the proxy's user may send to.
pub(crate) fn receiver(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

pub(crate) fn numbered(number: usize) -> Request {
    Request::new("GET", "/health").header("x-number", &number.to_string())
}

#[test]
fn rotation_under_load_loses_no_line() {
    if !report::may_run("logs::rotation") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    let log = world.folder.join("logs/access.log");
    let text = format!(
        "request_headers = [\"x-number\"]\n[[access_log.output]]\ntype = \"file\"\npath = {log:?}\nrotate_size = \"64KiB\"\n"
    );
    log_to(&mut daemon, &world, &text);
    let client = Client::new(&world, GOOD_V4);
    let mut connection = client.connect().unwrap();
    let (mut sent, start) = (0, Instant::now());
    let rotated = || {
        let names = fs::read_dir(log.parent().unwrap())
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        names.filter(|name| name.starts_with("access.log.")).count()
    };
    while rotated() < 3 {
        assert!(start.elapsed() < 4 * SOON, "{sent} requests, and no third rotation");
        for _ in 0..50 {
            assert_eq!(connection.exchange(&numbered(sent)).unwrap().status, 200);
            sent += 1;
        }
    }
    let path = log.to_str().unwrap();
    // The command reads all files, compressed or not, and prints lines as they are.
    let shown = || {
        std::process::Command::new(support::daemon::binary())
            .args(["--json", "logs", "--file", path, "--lines", "1000000"])
            .output()
            .unwrap()
    };
    let numbers = || -> Vec<usize> {
        let text = String::from_utf8(shown().stdout).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|line| line["request.x-number"].as_str()?.parse().ok()).collect()
    };
    let all = until("every line", SOON, || Some(numbers()).filter(|numbers| numbers.len() >= sent));
    assert_eq!(all, (0..sent).collect::<Vec<_>>(), "each once, in order");
    let compressed = until("a compressed file", SOON, || {
        let entries = fs::read_dir(log.parent().unwrap()).unwrap().flatten();
        entries.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|ending| ending == "gz"))
    });
    // The disk was full when it was copied back: what can be read of it is shown, and all the others.
    let whole = fs::read(&compressed).unwrap();
    fs::write(&compressed, &whole[..whole.len() / 2]).unwrap();
    let output = shown();
    let told = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(output.status.success() && told.contains("is not shown as a whole"), "{told}");
    let left = numbers();
    assert!(left.len() < sent && left.is_sorted() && left.last() == Some(&(sent - 1)), "{left:?}");
}

/// The follower stands still now and then, so that files come and go before it looks.
#[test]
fn who_follows_gets_each_line_once_over_rotations() {
    if !report::may_run("logs::follow") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    let log = world.folder.join("logs/access.log");
    let text = format!(
        "request_headers = [\"x-number\"]\n[[access_log.output]]\ntype = \"file\"\npath = {log:?}\nrotate_size = \"64KiB\"\n\
         keep_files = 10000\n"
    );
    log_to(&mut daemon, &world, &text);
    let mut follower = std::process::Command::new(support::daemon::binary())
        .args(["--json", "logs", "--follow", "--lines", "0", "--status", "2xx", "--file", log.to_str().unwrap()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = follower.id();
    let lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));

    let client = Client::new(&world, GOOD_V4);
    let mut connection = client.connect().unwrap();
    let mut sent = 0;
    // It is known that it follows once a line has come.
    let first = until("the follower", SOON, || {
        assert_eq!(connection.exchange(&numbered(sent)).unwrap().status, 200);
        sent += 1;
        told.recv_timeout(Duration::from_millis(100)).ok()
    });
    let rotated = || {
        let names = fs::read_dir(log.parent().unwrap())
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        names.filter(|name| name.starts_with("access.log.")).collect::<BTreeSet<_>>().len()
    };
    for signals in [[None, None], [Some(Signal::SIGSTOP), Some(Signal::SIGCONT)]] {
        let (before, start) = (rotated(), Instant::now());
        signals[0].iter().for_each(|signal| support::daemon::send(pid, *signal));
        while rotated() < before + 3 {
            assert!(start.elapsed() < 4 * SOON, "{sent} requests, and no third rotation");
            for _ in 0..50 {
                assert_eq!(connection.exchange(&numbered(sent)).unwrap().status, 200);
                sent += 1;
            }
            // Not among what is followed.
            assert_eq!(connection.exchange(&Request::new("GET", "/none")).unwrap().status, 404);
        }
        signals[1].iter().for_each(|signal| support::daemon::send(pid, *signal));
    }
    let number = |line: &str| -> usize {
        let line: Value = serde_json::from_str(line).unwrap();
        line["request.x-number"].as_str().unwrap().parse().unwrap()
    };
    let mut followed = vec![number(&first)];
    while followed.last() != Some(&(sent - 1)) {
        followed.push(number(&told.recv_timeout(SOON).unwrap_or_else(|_| panic!("{sent} sent, got {followed:?}"))));
    }
    assert_eq!(followed, (followed[0]..sent).collect::<Vec<_>>(), "each once, in order");
    follower.kill().unwrap();
    follower.wait().unwrap();
}

/// Of a connection's handshake its first request alone tells, and of a connection without one none.
#[test]
fn the_time_of_a_handshake_is_told_once() {
    if !report::may_run("logs::tls_us") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let plain = "[[listener]]\naddress = \"10.0.0.1:80\"\n";
    let listeners = format!("{}{plain}", Settings::default().listeners);
    let mut daemon = Daemon::start(&world, &Settings { listeners, ..Settings::default() });
    let log = world.folder.join("logs/access.log");
    let text = format!(
        "fields = [\"tls\", \"tls_us\", \"duration_us\"]\nrequest_headers = [\"x-number\"]\n\
         [[access_log.output]]\ntype = \"file\"\npath = {log:?}\n"
    );
    log_to(&mut daemon, &world, &text);
    let client = Client::new(&world, GOOD_V4);
    let plain = world.outside.connect(GOOD_V4, "10.0.0.1:80".parse().unwrap(), SOON).unwrap();
    let mut connections = [client.connect().unwrap(), client.connect().unwrap(), Connection::plain(plain)];
    let mut number = 0;
    for connection in &mut connections {
        for _ in 0..2 {
            assert_eq!(connection.exchange(&numbered(number)).unwrap().status, 200);
            number += 1;
        }
    }
    let lines = until("all lines", SOON, || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        (text.lines().count() == number).then_some(text)
    });
    let mut lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Each worker writes its own lines.
    lines.sort_by_key(|line| line["request.x-number"].as_str().unwrap().to_owned());
    let has = |line: &Value| (line["tls"].is_string(), line["tls_us"].as_u64().is_some_and(|us| us > 0));
    let found: Vec<_> = lines.iter().map(has).collect();
    let tls = [(true, true), (true, false)];
    assert_eq!(found, [tls, tls, [(false, false); 2]].concat(), "{lines:?}");
    assert!(lines.iter().all(|line| line["tls_us"].is_null() || line["tls_us"].as_u64() > Some(0)), "{lines:?}");
}

#[test]
fn sockets_get_lines_and_one_that_takes_none_stalls_nobody() {
    if !report::may_run("logs::sockets") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    let (syslog_at, journal_at) = (world.folder.join("syslog"), world.folder.join("journal"));
    let (syslog, journal) = (receiver(&syslog_at), receiver(&journal_at));
    let text = format!(
        "request_headers = [\"x-number\"]\n[[access_log.output]]\ntype = \"syslog\"\npath = {syslog_at:?}\n\
         [[access_log.output]]\ntype = \"journald\"\npath = {journal_at:?}\n"
    );
    log_to(&mut daemon, &world, &text);
    let client = Client::new(&world, GOOD_V4);
    let mut connection = client.connect().unwrap();
    let mut space = vec![0; 65_536];
    assert_eq!(connection.exchange(&numbered(0)).unwrap().status, 200);
    let length = syslog.recv(&mut space).unwrap();
    let message = String::from_utf8_lossy(&space[..length]).into_owned();
    assert!(
        message.starts_with("<134>1 ") && message.contains(" gateway ") && message.contains(" access - {"),
        "{message}"
    );
    let (_, line) = message.split_once(" access - ").unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["path"], &line["request.x-number"]), (&"/health".into(), &"0".into()));
    let length = journal.recv(&mut space).unwrap();
    let message = String::from_utf8_lossy(&space[..length]).into_owned();
    let fields: BTreeSet<&str> = message.lines().filter_map(|line| line.split('=').next()).collect();
    assert_eq!(fields, BTreeSet::from(["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"]), "{message}");

    // Nobody reads any more: the kernel's queue fills, then lines are dropped and told.
    let mut slowest = Duration::ZERO;
    let mut number = 1;
    until("dropped lines in the status", 4 * SOON, || {
        for _ in 0..200 {
            let began = Instant::now();
            assert_eq!(connection.exchange(&numbered(number)).unwrap().status, 200);
            slowest = slowest.max(began.elapsed());
            number += 1;
        }
        daemon.status()["lost"]["log_drops"]["too_slow"].as_u64().filter(|dropped| *dropped > 0)
    });
    assert!(slowest < SOON, "{slowest:?}");
}

#[test]
fn a_full_disk_drops_lines_and_no_request() {
    if !report::may_run("logs::full_disk") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &Settings::default());
    let disk = SmallDisk::mount(&world.folder.join("logs"), 1 << 20);
    let log = world.folder.join("logs/access.log");
    let text = format!("[[access_log.output]]\ntype = \"file\"\npath = {log:?}\nrotate = false\n");
    log_to(&mut daemon, &world, &text);
    let client = Client::new(&world, GOOD_V4);
    let mut connection = client.connect().unwrap();
    disk.fill();
    until("dropped lines in the status", 4 * SOON, || {
        for _ in 0..100 {
            assert_eq!(connection.exchange(&numbered(0)).unwrap().status, 200);
        }
        let status = daemon.status();
        let warns = status["warnings"].to_string().contains("the disk is full");
        status["lost"]["log_drops"]["disk_full"].as_u64().filter(|dropped| *dropped > 0 && warns)
    });
    disk.clear();
    let last = client.send(&numbered(7)).unwrap();
    let text = until("the line", SOON, || fs::read_to_string(&log).ok().filter(|text| text.contains(&last.id())));
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "no line is torn");
}
