//! Another program on disk: the next proxy is it, and whoever is served does not notice (M02).

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use nix::sys::signal::Signal;
use support::{
    daemon::{Daemon, binary, send},
    http1::Client,
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

/// Puts a copy of `program` into the place of `path`, as package managers do.
fn replace(path: &Path, program: &Path, mode: u32) {
    let new = path.with_extension("new");
    fs::copy(program, &new).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).unwrap();
    fs::rename(&new, path).unwrap();
}

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
    replace(&path, &gateway, 0o755);
    let first = fs::metadata(&path).unwrap().ino();
    let settings = Settings { interfaces: Vec::new(), rules: String::new(), ..Settings::default() };
    let exec = format!("exec {} \"$@\"", path.display());
    let mut daemon = Daemon::start_under(&world, &settings, &["sh", "-c", &exec]);
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
        replace(&path, &gateway, 0o755);
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
    replace(&path, Path::new("/bin/false"), 0o755);
    let (code, told) = reload(&daemon);
    assert!(code != 0 && told.contains("proxy_failed") && told.contains("put the one that runs back"), "{told}");
    assert_eq!(daemon.proxy_pid(), proxy, "the same serves on");
    replace(&path, &gateway, 0o777);
    let (code, told) = reload(&daemon);
    assert!(code == 0 && told.contains("not used: more users may write it"), "{told}");
    assert_eq!(program_of(daemon.proxy_pid()), second);
    fs::remove_file(&path).unwrap();
    let (code, told) = reload(&daemon);
    assert!(code == 0 && told.contains("not used: No such file"), "{told}");

    // One that dies comes back as what it was.
    let pid = daemon.proxy_pid();
    send(pid, Signal::SIGKILL);
    let next = daemon.proxy_pid_other_than(pid);
    assert_eq!(program_of(next), second);
    until("it to serve", SOON, || Client::new(&world, GOOD_V4).get("/health", "").ok().filter(|it| it.status == 200));
}
