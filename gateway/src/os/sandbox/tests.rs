//! Each process confines itself in a child of the test, and then tries what it must not and what it must be able to do.

use std::{
    env, fs,
    fs::{File, OpenOptions},
    io,
    io::{Read as _, Write as _},
    net::{TcpListener, ToSocketAddrs as _, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use super::*;
use crate::os::{self, SchedulingPolicy};

mod mappings;

/// Which process the child plays; set for children only.
const ROLE: &str = "GATEWAY_SANDBOX_ROLE";
const FOLDER: &str = "GATEWAY_SANDBOX_FOLDER";

/// Runs the one test below as a child that plays `role`.
fn play(role: &str, folder: &Path) -> Output {
    let mut child = Command::new(env::current_exe().unwrap());
    let (_crate, module) = module_path!().split_once("::").unwrap();
    child.args([&format!("{module}::child"), "--exact", "--nocapture", "--test-threads=1"]);
    child.env(ROLE, role).env(FOLDER, folder).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn holds(role: &str, folder: &Path) {
    let output = play(role, folder);
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success() && said.contains("confined and done"), "{role}: {}\n{said}", output.status);
}

fn folder(name: &str) -> PathBuf {
    let folder = env::temp_dir().join(format!("gateway-sandbox-{}-{name}", std::process::id()));
    for one in ["state", "logs", "run", "other", "around/pins"] {
        fs::create_dir_all(folder.join(one)).unwrap();
    }
    for file in ["logs/access.log", "run/control.sock", "other/theirs", "state/ours", "around/theirs"] {
        fs::write(folder.join(file), "as it was").unwrap();
    }
    folder
}

#[test]
fn the_proxy_can_do_what_it_needs_and_no_more() {
    let folder = folder("proxy");
    holds("proxy", &folder);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_compiler_meets_nobody() {
    let folder = folder("compiler");
    holds("compiler", &folder);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_guard_can_do_what_it_needs_and_no_more() {
    let folder = folder("guard");
    holds("guard", &folder);
    assert_eq!(fs::read_to_string(folder.join("other/theirs")).unwrap(), "as it was");
    fs::remove_dir_all(folder).unwrap();
}

/// The numbers of 32-bit programs mean other calls: no list would hold.
#[cfg(target_arch = "x86_64")]
#[test]
fn calls_of_32_bit_programs_end_the_process() {
    use std::os::unix::process::ExitStatusExt as _;
    let folder = folder("32");
    for role in ["proxy 32", "guard 32"] {
        // SIGSYS, or SIGSEGV where the kernel has no such calls at all.
        let status = play(role, &folder).status;
        assert!([Some(31), Some(11)].contains(&status.signal()), "{role}: {status}");
    }
    fs::remove_dir_all(folder).unwrap();
}

/// Not a test of its own: what [`play`] runs.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    let folder = PathBuf::from(env::var_os(FOLDER).unwrap());
    let writable = mappings::writable(&folder);
    let report = match role.split(' ').next() {
        Some("guard") => guard(&[
            Writes::Everything(folder.join("state")),
            Writes::Log(folder.join("logs/access.log")),
            Writes::Socket(folder.join("run/control.sock")),
            Writes::Mounted(folder.join("around")),
        ]),
        Some("compiler") => compiler(),
        _ => proxy(&[]),
    };
    let report = report.unwrap();
    assert!(report.seccomp > 100 && !report.landlock.is_empty(), "{report}");
    if role.ends_with(" 32") {
        #[cfg(target_arch = "x86_64")]
        os::attempt_32_bit();
        return;
    }
    if role == "compiler" {
        refused_to_the_compiler();
        eprintln!("confined and done");
        return;
    }
    refused_to_both();
    mappings::nothing_new_is_run(&writable);
    refused_once_confined();
    works_for_both();
    // Reads and writes are Landlock's, and a kernel may be without.
    let has_landlock = !report.landlock.starts_with("NOT");
    if role == "guard" {
        refused_to_the_guard();
        works_for_the_guard(&folder, has_landlock);
    } else {
        refused_to_the_proxy();
        if has_landlock {
            files_of_the_proxy(&folder);
        }
    }
    eprintln!("confined and done");
}

/// Makes each call, and compares the error with what is expected; 0 is none.
#[track_caller]
fn check(table: &[(&str, i64, &[usize], i32)]) {
    for (name, call, given, expect) in table {
        let mut arguments = [0; 6];
        arguments[..given.len()].copy_from_slice(given);
        assert_eq!(os::attempt(*call, arguments), *expect, "{name} {given:?}");
    }
}

const STREAM: usize = 1;
const DATAGRAM: usize = 2;
const RAW: usize = 3;
const NOWHERE: usize = usize::MAX;

fn refused_to_both() {
    use libc::{EAFNOSUPPORT, ENOSYS, EPERM};
    for (flag, name) in [
        (0x0002_0000, "CLONE_NEWNS"),
        (0x0200_0000, "CLONE_NEWCGROUP"),
        (0x0400_0000, "CLONE_NEWUTS"),
        (0x0800_0000, "CLONE_NEWIPC"),
        (0x1000_0000, "CLONE_NEWUSER"),
        (0x2000_0000, "CLONE_NEWPID"),
        (0x4000_0000, "CLONE_NEWNET"),
    ] {
        check(&[
            (name, libc::SYS_clone, &[flag | 17], EPERM),
            (name, libc::SYS_clone, &[flag | 0x0001_0000], EPERM),
            (name, libc::SYS_unshare, &[flag], EPERM),
        ]);
    }
    check(&[
        ("clone3", libc::SYS_clone3, &[0, 0], ENOSYS),
        ("setns", libc::SYS_setns, &[0, 0], EPERM),
        // Of Linux 6.18, and one that there is not yet.
        ("listns", 470, &[], ENOSYS),
        ("the future", 999, &[], ENOSYS),
    ]);
    if cfg!(target_arch = "x86_64") {
        check(&[("getpid of x32", 0x4000_0000 | 39, &[], ENOSYS), ("execve of x32", 0x4000_0208, &[], ENOSYS)]);
    }
    for (family, name) in [
        (4, "AF_IPX"),
        (15, "AF_KEY"),
        (17, "AF_PACKET"),
        (29, "AF_CAN"),
        (31, "AF_BLUETOOTH"),
        (38, "AF_ALG"),
        (40, "AF_VSOCK"),
        (43, "AF_SMC"),
        (44, "AF_XDP"),
    ] {
        for kind in [STREAM, DATAGRAM, RAW] {
            check(&[(name, libc::SYS_socket, &[family, kind, 0], EAFNOSUPPORT)]);
        }
        check(&[(name, libc::SYS_socketpair, &[family, STREAM, 0, 0], EAFNOSUPPORT)]);
    }
    for family in [2, 10] {
        check(&[
            ("raw", libc::SYS_socket, &[family, RAW, 1], EPERM),
            ("ping", libc::SYS_socket, &[family, DATAGRAM, 1], EPERM),
            ("SCTP", libc::SYS_socket, &[family, STREAM, 132], EPERM),
            ("MPTCP", libc::SYS_socket, &[family, STREAM, 262], EPERM),
            ("UDP-Lite", libc::SYS_socket, &[family, DATAGRAM, 136], EPERM),
            ("a pair", libc::SYS_socketpair, &[family, STREAM, 0, 0], EPERM),
            ("TCP", libc::SYS_socket, &[family, STREAM | 0x800, 6], 0),
            ("UDP", libc::SYS_socket, &[family, DATAGRAM | 0x8_0000, 0], 0),
        ]);
    }
    check(&[
        ("UNIX", libc::SYS_socket, &[1, STREAM, 0], 0),
        ("listen", libc::SYS_listen, &[0, 1], EPERM),
        ("SO_ATTACH_FILTER", libc::SYS_setsockopt, &[0, 1, 26, 0, 0], EPERM),
        ("SO_ATTACH_BPF", libc::SYS_setsockopt, &[0, 1, 50, 0, 0], EPERM),
        ("SO_ATTACH_REUSEPORT_CBPF", libc::SYS_setsockopt, &[0, 1, 51, 0, 0], EPERM),
        ("SO_ATTACH_REUSEPORT_EBPF", libc::SYS_setsockopt, &[0, 1, 52, 0, 0], EPERM),
        ("PR_SET_DUMPABLE", libc::SYS_prctl, &[4, 1], EPERM),
        ("PR_SET_SECCOMP", libc::SYS_prctl, &[22, 2, 0], EPERM),
        ("PR_SET_MM", libc::SYS_prctl, &[35, 1, 0, 0, 0], EPERM),
        ("PR_SET_PTRACER", libc::SYS_prctl, &[0x5961_6d61, NOWHERE], EPERM),
        ("TIOCSTI", libc::SYS_ioctl, &[0, 0x5412, 0], EPERM),
        ("TIOCLINUX", libc::SYS_ioctl, &[0, 0x541c, 0], EPERM),
        ("SIOCSIFADDR", libc::SYS_ioctl, &[0, 0x8916, 0], EPERM),
        ("F_SETOWN", libc::SYS_fcntl, &[0, 8, 1], EPERM),
        ("F_SETSIG", libc::SYS_fcntl, &[0, 10, 9], EPERM),
        ("F_SETPIPE_SZ", libc::SYS_fcntl, &[0, 1_031, 1 << 20], EPERM),
        ("SCHED_FIFO", libc::SYS_sched_setscheduler, &[0, 1, 0], EPERM),
        ("limits of others", libc::SYS_prlimit64, &[1, 7, 0, 0], EPERM),
    ]);
    let never = [
        libc::SYS_acct,
        libc::SYS_add_key,
        libc::SYS_adjtimex,
        libc::SYS_chroot,
        libc::SYS_clock_adjtime,
        libc::SYS_clock_settime,
        libc::SYS_delete_module,
        libc::SYS_fanotify_init,
        libc::SYS_finit_module,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fsopen,
        libc::SYS_fspick,
        libc::SYS_init_module,
        libc::SYS_inotify_init1,
        libc::SYS_io_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_io_uring_setup,
        libc::SYS_ioprio_set,
        libc::SYS_kcmp,
        libc::SYS_kexec_load,
        libc::SYS_keyctl,
        libc::SYS_linkat,
        libc::SYS_mbind,
        libc::SYS_migrate_pages,
        libc::SYS_mknodat,
        libc::SYS_mlockall,
        libc::SYS_mount,
        libc::SYS_mount_setattr,
        libc::SYS_move_mount,
        libc::SYS_move_pages,
        libc::SYS_mq_open,
        libc::SYS_msgget,
        libc::SYS_name_to_handle_at,
        libc::SYS_open_by_handle_at,
        libc::SYS_open_tree,
        libc::SYS_perf_event_open,
        libc::SYS_personality,
        libc::SYS_pidfd_getfd,
        libc::SYS_pivot_root,
        libc::SYS_process_madvise,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_ptrace,
        libc::SYS_quotactl,
        libc::SYS_readahead,
        libc::SYS_reboot,
        libc::SYS_request_key,
        libc::SYS_sched_setattr,
        libc::SYS_semget,
        libc::SYS_setdomainname,
        libc::SYS_setfsuid,
        libc::SYS_sethostname,
        libc::SYS_setpriority,
        libc::SYS_settimeofday,
        libc::SYS_setxattr,
        libc::SYS_shmget,
        libc::SYS_splice,
        libc::SYS_swapoff,
        libc::SYS_swapon,
        libc::SYS_symlinkat,
        libc::SYS_syslog,
        libc::SYS_timer_create,
        libc::SYS_umount2,
        libc::SYS_userfaultfd,
        libc::SYS_vhangup,
        libc::SYS_vmsplice,
    ];
    for call in never {
        check(&[("never", call, &[], EPERM)]);
    }
    #[cfg(target_arch = "x86_64")]
    for call in [libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_mknod, libc::SYS_symlink] {
        check(&[("never", call, &[], EPERM)]);
    }
}

fn works_for_both() {
    let sum: u64 = (0..4).map(|number| thread::spawn(move || number).join().unwrap()).sum();
    assert_eq!(sum, 6, "threads");
    os::schedule(SchedulingPolicy::Batch).unwrap();
    os::schedule(SchedulingPolicy::Normal).unwrap();
    os::give_memory_back();
    let cores = rustix::thread::sched_getaffinity(None).unwrap();
    rustix::thread::sched_setaffinity(None, &cores).unwrap();
    rustix::thread::set_name(c"confined").unwrap();
    assert!("localhost:80".to_socket_addrs().unwrap().count() > 0, "names are resolved");
    // By a server that is not there: what matters is how it fails.
    assert!("none.invalid:80".to_socket_addrs().is_err());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(socket.local_addr().unwrap()).unwrap();
    assert_eq!(socket.send(b"x").unwrap(), 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut here, mut there) = tokio::net::UnixStream::pair().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut here, b"x").await.unwrap();
        assert_eq!(tokio::io::AsyncReadExt::read_u8(&mut there).await.unwrap(), b'x');
        tokio::task::spawn_blocking(std::time::Instant::now).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    });
    assert!(std::panic::catch_unwind(|| panic!("a panic is caught and told")).is_err());
    assert!(!std::backtrace::Backtrace::force_capture().to_string().is_empty());
    let large = vec![1_u8; 64 << 20];
    assert_eq!(large.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 64 << 20);
}

/// What the launcher alone does, or is done before a process confines itself.
fn refused_once_confined() {
    use libc::EPERM;
    check(&[
        ("another process", libc::SYS_clone, &[17], EPERM),
        ("a signal to others", libc::SYS_tgkill, &[1, 1, 0], EPERM),
        ("PR_CAPBSET_DROP", libc::SYS_prctl, &[24, 1], EPERM),
    ]);
    for call in [
        libc::SYS_capset,
        libc::SYS_chdir,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_kill,
        libc::SYS_landlock_create_ruleset,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_send_signal,
        libc::SYS_seccomp,
        libc::SYS_setgid,
        libc::SYS_setgroups,
        libc::SYS_setresuid,
        libc::SYS_setuid,
        libc::SYS_wait4,
    ] {
        check(&[("not once confined", call, &[], EPERM)]);
    }
}

fn refused_to_the_compiler() {
    use libc::{EAFNOSUPPORT, EPERM};
    refused_once_confined();
    check(&[
        ("IPv4", libc::SYS_socket, &[2, 1, 0], EAFNOSUPPORT),
        ("IPv6", libc::SYS_socket, &[10, 2, 0], EAFNOSUPPORT),
        ("UNIX", libc::SYS_socket, &[1, 1, 0], EAFNOSUPPORT),
        ("a pair", libc::SYS_socketpair, &[1, 1, 0, 0], EAFNOSUPPORT),
        ("accept", libc::SYS_accept4, &[0, 0, 0, 0], EPERM),
        ("bind", libc::SYS_bind, &[0, 0, 0], EPERM),
        ("connect", libc::SYS_connect, &[0, 0, 0], EPERM),
        ("bpf", libc::SYS_bpf, &[0, 0, 0], EPERM),
    ]);
    let large = vec![1_u8; 16 << 20];
    let compiled = thread::spawn(move || large.len()).join().unwrap();
    assert_eq!(compiled, 16 << 20, "memory and threads");
}

fn refused_to_the_proxy() {
    use libc::{EAFNOSUPPORT, EPERM};
    check(&[
        ("netlink", libc::SYS_socket, &[16, RAW, 0], EAFNOSUPPORT),
        ("netlink audit", libc::SYS_socket, &[16, RAW, 9], EAFNOSUPPORT),
        ("PR_SET_DUMPABLE 0", libc::SYS_prctl, &[4, 0], EPERM),
        ("F_SETLK", libc::SYS_fcntl, &[0, 6, 0], EPERM),
    ]);
    for call in [
        libc::SYS_bpf,
        libc::SYS_fchmodat,
        libc::SYS_fchownat,
        libc::SYS_ftruncate,
        libc::SYS_memfd_create,
        libc::SYS_mkdirat,
        libc::SYS_renameat2,
        libc::SYS_unlinkat,
    ] {
        check(&[("not the proxy", call, &[], EPERM)]);
    }
}

fn files_of_the_proxy(folder: &Path) {
    for path in [Path::new("/etc/passwd"), &folder.join("other/theirs"), Path::new("/proc/self/environ")] {
        let error = File::open(path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{}: {error}", path.display());
    }
    assert!(File::open("/etc/hosts").is_ok_and(|mut hosts| hosts.read(&mut [0; 1]).is_ok()));
    let made = File::create(folder.join("other/mine")).unwrap_err();
    assert_eq!(made.kind(), io::ErrorKind::PermissionDenied, "{made}");
    let bound = TcpListener::bind("127.0.0.1:0").map(drop).unwrap_err();
    assert_eq!(bound.kind(), io::ErrorKind::PermissionDenied, "{bound}");
}

fn refused_to_the_guard() {
    check(&[("netlink audit", libc::SYS_socket, &[16, RAW, 9], libc::EPERM)]);
    // Making maps (0), loading programs (5) and types (18), running them (10), attaching by other ways (8, 17), and
    // finding what others have by number (11 to 14).
    for command in [0, 5, 8, 9, 10, 11, 12, 13, 14, 16, 17, 18, 19, 20, 22, 23, 33, 35] {
        check(&[("bpf", libc::SYS_bpf, &[command, 0, 0], libc::EPERM)]);
    }
}

fn works_for_the_guard(folder: &Path, has_landlock: bool) {
    check(&[("netlink", libc::SYS_socket, &[16, RAW, 0], 0), ("PR_SET_DUMPABLE 0", libc::SYS_prctl, &[4, 0], 0)]);
    assert!(Command::new("/bin/sh").args(["-c", "echo started"]).output().is_err(), "it starts a program");
    assert!(fs::read("/etc/passwd").is_ok_and(|text| !text.is_empty()), "reads stay open");

    let state = folder.join("state");
    let store = rusqlite::Connection::open(state.join("bans.db")).unwrap();
    store.pragma_update(None, "journal_mode", "WAL").unwrap();
    store
        .execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1); VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    drop(store);
    fs::create_dir(state.join("more")).unwrap();
    fs::write(state.join("more/new"), "x").unwrap();
    fs::rename(state.join("more/new"), state.join("newer")).unwrap();
    fs::remove_dir_all(state.join("more")).unwrap();
    fs::remove_file(state.join("ours")).unwrap();

    let append = |path: &Path| OpenOptions::new().create(true).append(true).open(path);
    let log = folder.join("logs/access.log");
    append(&log).unwrap().write_all(b"x").unwrap();
    append(&folder.join("logs/another.log")).unwrap().write_all(b"x").unwrap();
    fs::remove_file(folder.join("run/control.sock")).unwrap();
    fs::create_dir(folder.join("around/pins/more")).unwrap();
    fs::remove_dir(folder.join("around/pins/more")).unwrap();
    if !has_landlock {
        return;
    }
    let refused = [
        ("a new file", File::create(folder.join("other/mine")).map(drop)),
        ("another's file", append(&folder.join("other/theirs")).map(drop)),
        ("a new folder", fs::create_dir(folder.join("other/folder"))),
        ("another's removed", fs::remove_file(folder.join("other/theirs"))),
        ("another's replaced", fs::rename(state.join("newer"), folder.join("other/theirs"))),
        ("a log removed", fs::remove_file(&log)),
        ("a log cut", File::create(&log).map(drop)),
        ("a new file beside the socket", File::create(folder.join("run/mine")).map(drop)),
        ("a file's bytes where pins are made", append(&folder.join("around/theirs")).map(drop)),
        ("the configuration", File::create("/etc/gateway-was-here").map(drop)),
        ("a TCP port", TcpListener::bind("127.0.0.1:0").map(drop)),
    ];
    for (what, refused) in refused {
        let error = refused.expect_err(what);
        // EXDEV: not from one folder into another.
        let is_denied = [io::ErrorKind::PermissionDenied, io::ErrorKind::CrossesDevices].contains(&error.kind());
        assert!(is_denied, "{what}: {error}");
    }
}

#[test]
fn every_process_begins_with_the_filter_of_the_launcher() {
    let launcher = calls::launcher();
    for of in [calls::proxy(1), calls::guard(1), calls::compiler(1)] {
        let missing: Vec<i64> = of.calls().filter(|call| !launcher.has(*call)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}

#[test]
fn the_report_is_readable() {
    let report = SandboxReport { capabilities: Vec::new(), landlock: "enforced".to_owned(), seccomp: 120 };
    assert_eq!(report.to_string(), "capabilities: none; landlock: enforced; seccomp: all but 120 calls refused");
}
