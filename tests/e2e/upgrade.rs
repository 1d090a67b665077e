//! Another program on disk: the next proxy is it, and whoever is served does not notice (M02).

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use support::{
    daemon::{Daemon, binary, install, send},
    http1::{Client, Request},
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, GOOD_V4, World, bystander},
};

const SILENCE: Duration = Duration::from_millis(200);

/// The file that a process runs.
fn program_of(pid: u32) -> u64 {
    fs::metadata(format!("/proc/{pid}/exe")).unwrap().ino()
}

#[test]
fn a_reload_brings_the_program_that_is_on_disk() {
    if !report::may_run("upgrade") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let gateway = PathBuf::from(binary());
    let path = world.folder.join("gateway");
    install(&gateway, &path, 0o755);
    let first = fs::metadata(&path).unwrap().ino();
    let settings = Settings { interfaces: Vec::new(), rules: String::new(), ..Settings::default() };
    let exec = format!("exec {} \"$@\"", path.display());
    let daemon = Daemon::start_under(&world, &settings, &["sh", "-c", &exec]);
    let guard = daemon.guard_pid();
    assert_eq!((program_of(guard), program_of(daemon.proxy_pid())), (first, first));
    let reload = |daemon: &Daemon<'_>| {
        let told = daemon.cli(&["reload"]);
        (told.code, told.json.to_string() + &told.errors)
    };

    // The same program, then another, under load.
    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let client = Client::new(&world, GOOD_V4);
            while !over.load(Ordering::Relaxed) {
                let answer = client.get("/health", "").unwrap_or_else(|error| panic!("a request failed: {error}"));
                assert_eq!(answer.status, 200);
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (code, told) = reload(&daemon);
        assert!(code == 0 && !told.contains("program"), "{told}");
        assert_eq!(program_of(daemon.proxy_pid()), first);
        install(&gateway, &path, 0o755);
        let (code, told) = reload(&daemon);
        assert!(code == 0 && told.contains("the program that is on disk now"), "{told}");
        let before = served.load(Ordering::Relaxed);
        until("requests by the new program", SOON, || {
            (served.load(Ordering::Relaxed) > before + 20 || load.is_finished()).then_some(())
        });
        over.store(true, Ordering::Relaxed);
        load.join().unwrap();
    });
    let second = fs::metadata(&path).unwrap().ino();
    let proxy = daemon.proxy_pid();
    assert_ne!(first, second);
    assert_eq!((program_of(guard), program_of(proxy)), (first, second), "the guard stays what it was");

    // What never gets ready, what others may write, and nothing at all.
    install(Path::new("/bin/false"), &path, 0o755);
    let (code, told) = reload(&daemon);
    assert!(code != 0 && told.contains("proxy_failed") && told.contains("put the one that runs back"), "{told}");
    assert_eq!(daemon.proxy_pid(), proxy, "the same serves on");
    install(&gateway, &path, 0o777);
    let (code, told) = reload(&daemon);
    assert!(code == 0 && told.contains("not used: ") && told.contains("others than its owner may write"), "{told}");
    assert_eq!(program_of(daemon.proxy_pid()), second);
    install(&gateway, &path, 0o755);
    // Whoever may write to its folder could replace it.
    fs::set_permissions(&world.folder, fs::Permissions::from_mode(0o777)).unwrap();
    let (code, told) = reload(&daemon);
    let folder = format!("not used: {}: others than its owner may write", world.folder.display());
    assert!(code == 0 && told.contains(&folder), "{told}");
    fs::set_permissions(&world.folder, fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&gateway, &path).unwrap();
    let (code, told) = reload(&daemon);
    assert!(code == 0 && told.contains("a symbolic link"), "{told}");
    fs::remove_file(&path).unwrap();
    let (code, told) = reload(&daemon);
    assert!(code == 0 && told.contains("No such file"), "{told}");

    // The guard that follows one which died goes on with it.
    let serving = daemon.proxy_pid();
    send(guard, Signal::SIGKILL);
    let guard = daemon.guard_pid_other_than(guard);
    assert_eq!(daemon.proxy_pid(), serving, "the proxy of the reload is adopted");
    assert_eq!((program_of(guard), program_of(serving)), (first, second));

    // One that dies comes back as what it was.
    let pid = daemon.proxy_pid();
    send(pid, Signal::SIGKILL);
    let next = daemon.proxy_pid_other_than(pid);
    assert_eq!(program_of(next), second);
    until("it to serve", SOON, || Client::new(&world, GOOD_V4).get("/health", "").ok().filter(|it| it.status == 200));
}

#[test]
fn an_upgrade_brings_the_program_that_is_on_disk_for_all_but_the_launcher() {
    if !report::may_run("upgrade: all") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let gateway = PathBuf::from(binary());
    let path = world.folder.join("gateway");
    install(&gateway, &path, 0o755);
    let first = fs::metadata(&path).unwrap().ino();
    let exec = format!("exec {} \"$@\"", path.display());
    let daemon = Daemon::start_under(&world, &Settings::default(), &["sh", "-c", &exec]);
    daemon.done(&["block", "add", "10.0.0.66", "--for", "1h"]);
    let programs = || [daemon.pid(), daemon.guard_pid(), daemon.proxy_pid()].map(program_of);
    assert_eq!(programs(), [first; 3]);
    let upgrade = || {
        let told = daemon.cli(&["upgrade"]);
        assert!(Client::new(&world, ATTACKER_V4).is_ignored(SILENCE), "a ban has a gap: {}", told.json);
        (told.code, told.json.to_string() + &told.errors)
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let client = Client::new(&world, GOOD_V4);
            while !over.load(Ordering::Relaxed) {
                let answer = client.get("/health", "").unwrap_or_else(|error| panic!("a request failed: {error}"));
                assert_eq!(answer.status, 200);
            }
        });
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let (code, told) = upgrade();
            assert!(code == 0 && told.contains("is the one that runs"), "{told}");
            install(&gateway, &path, 0o755);
            let second = fs::metadata(&path).unwrap().ino();
            let (code, told) = upgrade();
            assert!(code == 0 && told.contains("guard and proxy are the program on disk"), "{told}");
            assert_eq!(programs(), [first, second, second]);

            // What never gets ready, and what others may write.
            let (guard, proxy) = (daemon.guard_pid(), daemon.proxy_pid());
            install(Path::new("/bin/false"), &path, 0o755);
            let (code, told) = upgrade();
            assert!(code == 1 && told.contains("never got ready"), "{told}");
            assert_eq!((programs(), daemon.proxy_pid()), ([first, second, second], proxy));
            assert_ne!(daemon.guard_pid(), guard);
            assert!(daemon.status()["warnings"].to_string().contains("the last upgrade"), "{}", daemon.status());
            // What is no program at all.
            let text = world.folder.join("text");
            fs::write(&text, "no program\n").unwrap();
            let guard = daemon.guard_pid();
            install(&text, &path, 0o755);
            let (code, told) = upgrade();
            assert!(code == 1 && told.contains("never got ready"), "{told}");
            assert_eq!((programs(), daemon.proxy_pid()), ([first, second, second], proxy));
            assert_ne!(daemon.guard_pid(), guard);
            install(&gateway, &path, 0o777);
            let (code, told) = upgrade();
            assert!(code == 1 && told.contains("others than its owner may write"), "{told}");

            install(&gateway, &path, 0o755);
            let (code, told) = upgrade();
            assert!(code == 0, "{told}");
            assert_eq!(daemon.status()["upgrade_reverted"], false);

            // One that dies as soon as it serves is no better than one that never did.
            let third = fs::metadata(&path).unwrap().ino();
            let guard = daemon.guard_pid();
            assert_eq!(program_of(guard), third);
            send(guard, Signal::SIGKILL);
            let _back = daemon.guard_pid_other_than(guard);
            until("the program before it, for all", SOON, || {
                let told = daemon.cli(&["status"]).json;
                let is_back = told["upgrade_reverted"] == true && told["proxy_pid"].is_u64();
                (is_back && programs() == [first, second, second]).then_some(())
            });
        }));
        over.store(true, Ordering::Relaxed);
        let load = load.join();
        rounds.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        load.unwrap();
    });
}

/// Whoever is over a rate limit is so in the next proxy as well, whatever brings that.
#[test]
fn d07_a_new_proxy_gives_nobody_another_burst() {
    if !report::may_run("upgrade: limits") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let path = world.folder.join("gateway");
    let gateway = PathBuf::from(binary());
    install(&gateway, &path, 0o755);
    let exec = format!("exec {} \"$@\"", path.display());
    let settings = Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        proxy: "workers = 1\npin_workers = false".to_owned(),
        more: "[limit.client]\nrequests = 8\nper = \"10h\"\nburst = 8\n\
               [connection_limit.source]\nconnections = 15\nper = \"10h\"\nburst = 15\n"
            .to_owned(),
        ..Settings::default()
    };
    let daemon = Daemon::start_under(&world, &settings, &["sh", "-c", &exec]);
    let [half, full, connects] = [0, 1, 2].map(|number| Client::new(&world, bystander(number)));
    let served = |client: &Client<'_>, count: usize| {
        let mut connection = client.connect().unwrap();
        let ask = || connection.exchange(&Request::new("GET", "/health")).unwrap().status;
        std::iter::repeat_with(ask).take(count).filter(|status| *status == 200).count()
    };
    assert_eq!((served(&half, 5), served(&full, 12)), (5, 8));
    let opened = (0..20).filter(|_| connects.get("/health", "").is_ok()).count();
    assert_eq!(opened, 15, "connections of one source");
    let new_program = || install(&gateway, &path, 0o755);
    let ways: [(&str, &dyn Fn()); 3] = [
        ("reload", &|| daemon.edit("pin_workers = false", "pin_workers = true")),
        ("reload", &new_program),
        ("upgrade", &new_program),
    ];
    for (command, prepare) in ways {
        let before = daemon.proxy_pid();
        prepare();
        let told = daemon.cli(&[command]);
        assert_eq!(told.code, 0, "{command}: {}{}", told.json, told.errors);
        assert_ne!(daemon.proxy_pid(), before, "{command}");
        assert_eq!(served(&full, 8), 0, "{command}");
        assert!(connects.get("/health", "").is_err(), "{command}: another connection");
    }
    assert_eq!(served(&half, 8), 3);
}

/// Whatever a program on trial does, the guard before it comes back with what was in force; and it has no process started
/// that is root, or that the launcher has not judged (T08).
#[test]
fn t08_a_program_on_trial_has_no_say_before_it_serves() {
    if !report::may_run("upgrade: trial") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let path = world.folder.join("gateway");
    install(&PathBuf::from(binary()), &path, 0o755);
    let exec = format!("exec {} \"$@\"", path.display());
    let settings = Settings { interfaces: Vec::new(), ..Settings::default() };
    let daemon = Daemon::start_under(&world, &settings, &["sh", "-c", &exec]);
    let in_force = || ["config_since", "config_digest", "proxy_pid"].map(|key| daemon.status()[key].clone());
    let (before, guard) = (in_force(), daemon.guard_pid());
    // What is on disk is not what is in force.
    daemon.edit("path = \"/health\"", "path = \"/alive\"");
    install(Path::new(env!("CARGO_BIN_EXE_hostile-proxy")), &path, 0o755);
    let told = daemon.cli(&["upgrade"]);
    assert!(told.code == 1 && told.json["code"] == "never_ready", "{}{}", told.json, told.errors);
    let said = fs::read_to_string(world.folder.join("guard-heard")).unwrap();
    let heard: Vec<&str> = said.lines().collect();
    let refused = [libc::EPERM, libc::ENOENT].map(|error| format!("not started: {error}"));
    assert_eq!(heard, ["kept", &refused[0], &refused[1]], "{said}");
    let _back = daemon.guard_pid_other_than(guard);
    assert_eq!(in_force(), before, "what the trial wanted to be kept is not kept");
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
}
