//! What each role lets an operator do, through the real socket and as real users; what is recorded of it.

use std::{
    fs,
    io::{IoSlice, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{MetadataExt as _, PermissionsExt as _},
            net::UnixStream,
        },
    },
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::{process::Uid, thread::set_thread_res_uid};
use serde_json::{Value, json};
use socket2::SockRef;
use support::{
    daemon::{Daemon, binary},
    report,
    settings::Settings,
    world::World,
};

/// A group of nobody on this host: its number is all that it takes.
const EDGE: u32 = 471_100;
const WATCHERS: u32 = 471_101;
const ON_CALL: u32 = 471_102;
const LEADS: u32 = 471_103;
const ALICE: u32 = 471_007;
const EVE: u32 = 471_008;
const BOB: u32 = 471_009;

/// Whoever runs a command: their user, their group, and the groups besides.
struct Person(u32, u32, &'static [u32]);

impl Person {
    /// Runs `gateway --socket SOCKET ARGUMENTS --json` as them: exit code, and what it says.
    #[track_caller]
    fn runs(&self, socket: &Path, arguments: &[&str]) -> (i32, Value) {
        let Self(user, group, groups) = self;
        let groups = groups.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user.to_string(), "--regid", &group.to_string()]);
        if groups.is_empty() {
            command.arg("--clear-groups");
        } else {
            command.args(["--groups", &groups]);
        }
        command.arg(binary()).arg("--socket").arg(socket).args(arguments).arg("--json").stdin(Stdio::null());
        let output = command.output().expect("`setpriv` of the package util-linux");
        let text = String::from_utf8_lossy(&output.stdout);
        let said = serde_json::from_str(text.lines().next().unwrap_or_default()).unwrap_or(Value::Null);
        (output.status.code().unwrap(), said)
    }

    /// The exit code and the code of the answer, where it was refused.
    #[track_caller]
    fn checks(&self, socket: &Path, arguments: &[&str], code: i32, refused: &str) {
        let (ended, said) = self.runs(socket, arguments);
        let word = said["code"].as_str().unwrap_or_default();
        assert_eq!((ended, word), (code, refused), "{} {arguments:?}: {said}", self.0);
    }
}

fn operators() -> Settings {
    let operator = |group: u32, roles: &str| format!("[[operator]]\ngroup = \"{group}\"\nroles = [{roles}]\n");
    Settings {
        guard: format!("control_group = \"{EDGE}\""),
        more: [
            operator(WATCHERS, "\"view\""),
            operator(ON_CALL, "\"view\", \"block\""),
            operator(LEADS, "\"view\", \"block\", \"allow\", \"configure\""),
            format!("[[operator]]\nuser = \"{ALICE}\"\nroles = [\"allow\"]\n"),
            format!("[[operator]]\nuser = \"{BOB}\"\nroles = [\"configure\"]\n"),
        ]
        .concat(),
        ..Settings::default()
    }
}

/// What whoever may view may ask.
const VIEWS: [&[&str]; 5] =
    [&["status"], &["block", "list"], &["allow", "list"], &["why", "10.0.0.66"], &["shadow", "report"]];

/// By what somebody could let a blocked source through.
const LIFTS: [&[&str]; 13] = [
    &["block", "del", "10.0.0.66"],
    &["block", "add", "10.0.0.66", "--for", "1s"],
    &["block", "add", "10.0.0.66", "--for", "2h", "--shadow"],
    &["block", "flush", "--yes"],
    &["block", "del", "--feed", "a"],
    &["allow", "add", "10.0.0.66"],
    &["shadow", "promote", "all"],
    &["reload"],
    &["resume"],
    &["detach"],
    &["attach"],
    &["admin-token", "new", "--name", "x", "--role", "view"],
    &["admin-token", "revoke", "x"],
];

#[test]
fn roles_are_judged_by_user_and_group() {
    if !report::may_run("operators") {
        return;
    }
    let world = World::new();
    let daemon = Daemon::start(&world, &operators());
    let socket = world.folder.join("control.sock");
    let found = fs::metadata(&socket).unwrap();
    assert_eq!((found.permissions().mode() & 0o777, found.uid(), found.gid()), (0o660, 0, EDGE));
    // Nobody else even opens the socket.
    let stranger = Person(EVE, EVE, &[]);
    stranger.checks(&socket, &["status"], 4, "denied");
    whoever_has_no_role_may_nothing(&socket);

    let watcher = Person(EVE, WATCHERS, &[EDGE]);
    for view in VIEWS {
        watcher.checks(&socket, view, 0, "");
    }
    watcher.checks(&socket, &["block", "add", "10.0.0.66"], 4, "denied");
    watcher.checks(&socket, &["block", "del", "10.0.0.66"], 4, "denied");
    // Commands that ask more than once end the same.
    let list = world.folder.join("list.txt");
    fs::write(&list, "10.0.0.66\n").unwrap();
    watcher.checks(&socket, &["block", "import", list.to_str().unwrap(), "--feed", "a"], 4, "denied");

    let on_call = Person(EVE, EVE, &[EDGE, ON_CALL]);
    on_call.checks(&socket, &["block", "add", "10.0.0.66", "--for", "1h", "--reason", "by hand"], 0, "");
    let entry = &daemon.done(&["block", "list"])["entries"][0];
    assert_eq!((&entry["source"], &entry["actor"]), (&json!("10.0.0.66"), &json!("operator:471008")));
    // Whoever may only block cannot let anybody through, by no way.
    for lifts in LIFTS {
        on_call.checks(&socket, lifts, 4, "denied");
    }
    on_call.checks(&socket, &["block", "add", "10.0.0.67", "--force"], 4, "denied");
    on_call.checks(&socket, &["block", "add", "10.0.0.66", "--for", "2h"], 0, "");

    roles_are_added(&socket);
    rights_are_recorded(&daemon, &world.folder);
    a_reload_changes_roles(&daemon, &socket, &on_call);
}

/// In by the group, and no more: neither its own nor a supplementary one gives a role.
#[track_caller]
fn whoever_has_no_role_may_nothing(socket: &Path) {
    for nobody in [Person(EVE, EDGE, &[]), Person(EVE, EVE, &[EDGE])] {
        nobody.checks(socket, &["status"], 4, "denied");
        nobody.checks(socket, &["watch", "--count", "1"], 4, "denied");
        nobody.checks(socket, &["block", "export"], 4, "denied");
        nobody.checks(socket, &["key", "list"], 4, "denied");
        nobody.checks(socket, &["top", "--once"], 4, "denied");
        let (code, said) = nobody.runs(socket, &["whoami"]);
        assert_eq!((code, &said["actor"], &said["roles"]), (0, &json!("operator:471008"), &json!([])), "{said}");
        assert!(
            said["missing"].as_array().is_some_and(|all| all.iter().any(|one| one["by"] == "group 471102")),
            "{said}"
        );
    }
}

/// Another's roles are added, by user and by group.
#[track_caller]
fn roles_are_added(socket: &Path) {
    let alice = Person(ALICE, ON_CALL, &[EDGE]);
    alice.checks(socket, &["block", "add", "10.0.0.66", "--for", "1h"], 0, "");
    alice.checks(socket, &["block", "del", "10.0.0.66"], 0, "");
    alice.checks(socket, &["allow", "add", "10.0.0.2"], 0, "");
    alice.checks(socket, &["allow", "add", "0.0.0.0/0", "--yes"], 4, "denied");
    alice.checks(socket, &["reload"], 4, "denied");
    Person(ALICE, ALICE, &[EDGE]).checks(socket, &["status"], 4, "denied");

    // Nobody gives a role that they do not have.
    let bob = Person(BOB, BOB, &[EDGE]);
    bob.checks(socket, &["admin-token", "new", "--name", "x", "--role", "configure"], 1, "no_admin_listener");
    bob.checks(socket, &["admin-token", "new", "--name", "x", "--role", "configure", "--role", "view"], 4, "denied");

    let lead = Person(EVE, LEADS, &[EDGE]);
    lead.checks(socket, &["reload"], 0, "");
    lead.checks(socket, &["block", "flush", "--yes"], 0, "");
}

/// What gave each the right is recorded, and what was denied.
#[track_caller]
fn rights_are_recorded(daemon: &Daemon<'_>, folder: &Path) {
    let chain = fs::read_to_string(folder.join("state/audit.jsonl")).unwrap();
    for told in [
        r#""actor":"operator:471008","by":["group 471102"],"command":"block_add""#,
        r#""event":"denied","actor":"operator:471008","command":"block_del","lacks":["allow"]"#,
        r#""actor":"operator:471007","by":["user 471007"],"command":"allow_add""#,
        r#""by":["group 471103"],"command":"reload""#,
    ] {
        assert!(chain.contains(told), "{told} is not in:\n{chain}");
    }
    daemon.done(&["audit", "verify", "--state-dir", folder.join("state").to_str().unwrap()]);
}

/// A reload changes what somebody may do, on the next command.
#[track_caller]
fn a_reload_changes_roles(daemon: &Daemon<'_>, socket: &Path, on_call: &Person) {
    daemon.edit("roles = [\"view\", \"block\"]", "roles = [\"view\"]");
    daemon.done(&["reload"]);
    on_call.checks(socket, &["block", "add", "10.0.0.66"], 4, "denied");
    on_call.checks(socket, &["status"], 0, "");
    daemon.edit("group = \"471102\"", "group = \"no-such-group\"");
    let told = daemon.cli(&["reload"]);
    let message = told.json["message"].as_str().unwrap_or_default();
    assert!(message.contains("operator[1].group: there is no group") && message.contains("gateway.toml:"), "{message}");
    on_call.checks(socket, &["status"], 0, "");
}

/// Makes the calling thread, and no other, one of a user without rights.
fn become_eve() {
    let root = Uid::ROOT;
    set_thread_res_uid(root, Uid::from_raw(EVE), root).unwrap();
}

#[test]
fn denied_commands_keep_nobody_else_from_being_served_and_fill_no_record() {
    if !report::may_run("operators-flood") {
        return;
    }
    let world = World::new();
    let settings = operators();
    let settings = Settings { guard: "control_mode = \"0666\"".to_owned(), ..settings };
    let daemon = Daemon::start(&world, &settings);
    let socket = world.folder.join("control.sock");
    // A user of this host holds as many connections as it can, and asks as fast as it can.
    let (socket, stopped) = (socket.as_path(), AtomicBool::new(false));
    let asked = thread::scope(|scope| {
        let hostile = scope.spawn(|| {
            become_eve();
            let held: Vec<UnixStream> = (0..64).filter_map(|_| UnixStream::connect(socket).ok()).collect();
            let mut asked: usize = 0;
            while !stopped.load(Ordering::Relaxed) {
                let Ok(mut stream) = UnixStream::connect(socket) else { continue };
                // Most of them find no room.
                let sent = stream.write_all(b"{\"ask\":\"reload\"}\n");
                asked += usize::from(sent.is_ok() && stream.read(&mut [0; 512]).is_ok_and(|length| length > 0));
            }
            drop(held);
            asked
        });
        for _ in 0..10 {
            assert!(daemon.status()["proxy_pid"].is_u64(), "root is served all the while");
        }
        stopped.store(true, Ordering::Relaxed);
        hostile.join().unwrap()
    });
    assert_eq!(asked, 0, "all places of this user are held");
    for _ in 0..100 {
        Person(EVE, EVE, &[]).checks(socket, &["reload"], 4, "denied");
    }
    let chain = fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    let denied = chain.lines().filter(|line| line.contains("\"event\":\"denied\"")).count();
    assert!((1..=90).contains(&denied), "{denied}");
    let logged = fs::read_to_string(world.folder.join("stderr.log")).unwrap();
    let logged = logged.lines().filter(|line| line.contains("a command was denied")).count();
    assert!((1..=60).contains(&logged), "{logged}");
}

/// A connection that the kernel keeps whoever closes it last waiting for.
fn lingering(listener: &TcpListener) -> TcpStream {
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    SockRef::from(&stream).set_linger(Some(Duration::from_secs(600))).unwrap();
    stream.set_nonblocking(true).unwrap();
    while stream.write(&[0; 65_536]).is_ok() {}
    stream
}

#[test]
fn descriptors_that_come_along_keep_nobody_waiting() {
    if !report::may_run("operators-descriptors") {
        return;
    }
    let world = World::new();
    let settings =
        Settings { guard: "control_mode = \"0666\"".to_owned(), interfaces: Vec::new(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let socket = world.folder.join("control.sock");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            become_eve();
            for _ in 0..8 {
                let stream = UnixStream::connect(&socket).unwrap();
                // One that is read, and one that is there when the connection is closed.
                for line in [&b"{\"ask\":"[..], b"\"status\"}\n", b"{\"ask\":\"status\"}\n"] {
                    let held = lingering(&listener);
                    let (descriptors, iov) = ([held.as_raw_fd()], [IoSlice::new(line)]);
                    let control = [ControlMessage::ScmRights(&descriptors)];
                    // The guard may have denied it by now.
                    sendmsg::<()>(stream.as_raw_fd(), &iov, &control, MsgFlags::MSG_NOSIGNAL, None).unwrap_or_default();
                    // Where the guard's copy is gone already, whoever closes this one waits as long as it lingers.
                    thread::spawn(move || drop(held));
                }
            }
        });
    });
    for _ in 0..20 {
        assert!(daemon.status()["proxy_pid"].is_u64());
    }
}
