//! The system calls that each process may make, by what it makes them for.
//!
//! *Invariant:* the launcher may make every call that the others may: they begin with its filter.

use super::filter::{AllowedCalls, ArgumentCondition, is, masked};

/// What any program does that has threads, memory, files to read and sockets. Calls that a C library of another version
/// makes in the place of one of them are here too.
const ALWAYS: &[i64] = &[
    // Memory. What may be mapped with which rights is below.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    // Signals to oneself, as a program that aborts sends.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Time.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    // Who and where one is.
    libc::SYS_capget,
    libc::SYS_getcwd,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_getuid,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    // Descriptors, and files to read: which ones is Landlock's business.
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_faccessat,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pselect6,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_write,
    libc::SYS_writev,
    // Sockets. Which kinds may be made is below; binding one to a TCP port is Landlock's business.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
];

/// As [`ALWAYS`], for calls that are newer than some libraries know: since Linux 5.3 they have one number everywhere.
const ALWAYS_RECENT: &[i64] = &[
    436, // close_range
    437, // openat2
    439, // faccessat2
    441, // epoll_pwait2
    449, // futex_waitv
    453, // map_shadow_stack
    454, // futex_wake
    455, // futex_wait
    456, // futex_requeue
    462, // mseal
];

/// The same again by the older calls that newer architectures do without.
#[cfg(target_arch = "x86_64")]
const ALWAYS_OLD: &[i64] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_getrlimit,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALWAYS_OLD: &[i64] = &[];

/// How a process comes to speak to anybody whom it does not speak to already.
const MEETING: &[i64] =
    &[libc::SYS_accept, libc::SYS_accept4, libc::SYS_bind, libc::SYS_connect, libc::SYS_socket, libc::SYS_socketpair];

/// What the guard does besides: it keeps files.
const GUARD: &[i64] = &[
    // Files and folders of its own; where is Landlock's business.
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_flock,
    libc::SYS_ftruncate,
    libc::SYS_mkdirat,
    libc::SYS_renameat2,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    // A configuration handed over in memory.
    libc::SYS_memfd_create,
    452, // fchmodat2
];

#[cfg(target_arch = "x86_64")]
const GUARD_OLD: &[i64] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_mkdir,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_rmdir,
    libc::SYS_sync_file_range,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const GUARD_OLD: &[i64] = &[
    38, // renameat
    84, // sync_file_range
];

/// bpf(2) commands that the guard goes on using: element lookup, update, delete, next key (1 to 4), pin and open a pin
/// (6, 7), information (15), batches (24 to 27), create, update and detach a link (28, 29, 34). Creating maps and
/// loading programs are not among them.
const BPF_COMMANDS: [u64; 14] = [1, 2, 3, 4, 6, 7, 15, 24, 25, 26, 27, 28, 29, 34];

/// What the start of a guard takes besides: it makes maps and loads the program (0, 5, 18, 22, 35), and finds out what
/// there is already (11 to 14, 16, 19, 30, 31).
const BPF_COMMANDS_START: [u64; 13] = [0, 5, 11, 12, 13, 14, 16, 18, 19, 22, 30, 31, 35];

/// What the launcher does: it listens, and starts, signals and buries processes. And what is done once as another process
/// starts, before that confines itself.
const LAUNCHER: &[i64] = &[
    libc::SYS_getpriority,
    libc::SYS_listen,
    libc::SYS_sched_setattr,
    libc::SYS_setpgid,
    libc::SYS_signalfd4,
    // Another process.
    libc::SYS_chdir,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_kill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setuid,
    libc::SYS_tgkill,
    libc::SYS_tkill,
    libc::SYS_wait4,
    libc::SYS_waitid,
    // How that one confines itself.
    libc::SYS_capset,
    libc::SYS_seccomp,
    444, // landlock_create_ruleset
    445, // landlock_add_rule
    446, // landlock_restrict_self
];

#[cfg(target_arch = "x86_64")]
const LAUNCHER_OLD: &[i64] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const LAUNCHER_OLD: &[i64] = &[];

/// `SIOCETHTOOL`: what an interface can do.
const IOCTL_START: u64 = 0x8946;

/// `PR_SET_PDEATHSIG`: no process outlives the launcher. `PR_CAPBSET_DROP`, `PR_CAP_AMBIENT`: how a process gives up
/// capabilities.
const PRCTL_START: &[u64] = &[1, 24, 47];

/// `CLONE_NEWNS`, `CLONE_NEWCGROUP`, `_NEWUTS`, `_NEWIPC`, `_NEWUSER`, `_NEWPID`, `_NEWNET`.
const NAMESPACES: u64 = 0x7e02_0000;
const CLONE_THREAD: u64 = 0x0001_0000;

const WRITE: u64 = 2;
const EXECUTE: u64 = 4;
/// `MAP_TYPE`, `MAP_PRIVATE`, `MAP_ANONYMOUS`.
const MAPPING: u64 = 0xf;
const PRIVATE: u64 = 2;
const ANONYMOUS: u64 = 0x20;

const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const AF_NETLINK: u64 = 16;

const SOL_SOCKET: u64 = 1;
/// `SO_ATTACH_FILTER`, `SO_ATTACH_BPF`, `SO_ATTACH_REUSEPORT_CBPF`, `SO_ATTACH_REUSEPORT_EBPF`.
const PROGRAMS: [u64; 4] = [26, 50, 51, 52];

/// `F_DUPFD`, `F_GETFD`, `F_SETFD`, `F_GETFL`, `F_SETFL`, `F_DUPFD_CLOEXEC`.
const FCNTL: &[u64] = &[0, 1, 2, 3, 4, 1_030];
/// Locks (`F_GETLK` to `F_SETLKW`, `F_OFD_GETLK` to `F_OFD_SETLKW`) and seals (`F_ADD_SEALS`, `F_GET_SEALS`).
const FCNTL_GUARD: &[u64] = &[5, 6, 7, 36, 37, 38, 1_033, 1_034];

/// `TCGETS` and `TCGETS2` (is it a terminal), `TIOCGWINSZ`, `FIONREAD`, `FIONBIO`, `FIOCLEX`, and the index and the name
/// of an interface.
const IOCTL: &[u64] = &[0x5401, 0x802c_542a, 0x5413, 0x541b, 0x5421, 0x5451, 0x8933, 0x8910];

/// `PR_GET_DUMPABLE`, `PR_SET_NAME`, `PR_GET_NAME`, `PR_CAPBSET_READ`, `PR_SET_NO_NEW_PRIVS`, `PR_GET_NO_NEW_PRIVS`,
/// `PR_SET_VMA` (names of memory) and `PR_GET_AUXV`.
const PRCTL: &[u64] = &[3, 15, 16, 23, 38, 39, 0x5356_4d41, 0x4155_5856];
const PR_SET_DUMPABLE: u64 = 4;

/// `SCHED_OTHER`, `SCHED_BATCH`.
const POLICIES: &[u64] = &[0, 3];

/// What the proxy may do, `pid` being its own id.
pub(super) fn proxy(pid: u32) -> AllowedCalls {
    alone(pid)
}

/// What the compiler may do, `pid` being its own id: it has a channel, and makes no other.
pub(super) fn compiler(pid: u32) -> AllowedCalls {
    let mut allow = alone(pid);
    allow.never(MEETING);
    allow
}

/// What the guard may do, `pid` being its own id.
pub(super) fn guard(pid: u32) -> AllowedCalls {
    let mut allow = alone(pid);
    for calls in [GUARD, GUARD_OLD] {
        allow.always(calls);
    }
    allow.any_of(libc::SYS_bpf, 0, &BPF_COMMANDS);
    allow.any_of(libc::SYS_fcntl, 1, FCNTL_GUARD);
    allow.when(libc::SYS_prctl, &[is(0, PR_SET_DUMPABLE), is(1, 0)]);
    // What addresses this host has.
    allow.when(libc::SYS_socket, &[is(0, AF_NETLINK), is(2, 0)]);
    allow
}

/// What the launcher may do: all that those do which it starts.
pub(super) fn launcher() -> AllowedCalls {
    let mut allow = guard(std::process::id());
    for calls in [LAUNCHER, LAUNCHER_OLD] {
        allow.always(calls);
    }
    allow.when(libc::SYS_clone, &[masked(0, NAMESPACES, 0)]);
    // Programs begin with its filter, and load their libraries: from files, into memory of their own.
    allow.when(libc::SYS_mmap, &[masked(2, WRITE | EXECUTE, EXECUTE), masked(3, MAPPING | ANONYMOUS, PRIVATE)]);
    allow.any_of(libc::SYS_bpf, 0, &BPF_COMMANDS_START);
    allow.any_of(libc::SYS_ioctl, 1, &[IOCTL_START]);
    allow.any_of(libc::SYS_prctl, 0, PRCTL_START);
    allow
}

/// What a process may do that starts no other one, `pid` being its own id.
fn alone(pid: u32) -> AllowedCalls {
    let mut allow = shared();
    allow.when(libc::SYS_clone, &[masked(0, NAMESPACES | CLONE_THREAD, CLONE_THREAD)]);
    allow.when(libc::SYS_tgkill, &[is(0, pid.into())]);
    if cfg!(target_env = "musl") {
        // All that its raise(3) has.
        allow.always(&[libc::SYS_tkill]);
    }
    allow
}

fn shared() -> AllowedCalls {
    let mut allow = AllowedCalls::default();
    for calls in [ALWAYS, ALWAYS_RECENT, ALWAYS_OLD] {
        allow.always(calls);
    }
    // Nothing is run but what is loaded already. A library may not be loaded: a file that is open for writing, or one in
    // memory, could be written first.
    allow.when(libc::SYS_mmap, &[masked(2, EXECUTE, 0)]);
    allow.when(libc::SYS_mprotect, &[masked(2, EXECUTE, 0)]);
    // One's own limits.
    allow.when(libc::SYS_prlimit64, &[is(0, 0)]);
    allow.any_of(libc::SYS_sched_setscheduler, 1, POLICIES);
    allow.any_of(libc::SYS_fcntl, 1, FCNTL);
    allow.any_of(libc::SYS_ioctl, 1, IOCTL);
    allow.any_of(libc::SYS_prctl, 0, PRCTL);
    for family in [AF_INET, AF_INET6] {
        // `SOCK_STREAM` and `SOCK_DGRAM`, of whatever is usual for them, TCP or UDP.
        for (kind, protocol) in [(1, 0), (1, 6), (2, 0), (2, 17)] {
            allow.when(libc::SYS_socket, &[is(0, family), masked(1, 0xf, kind), is(2, protocol)]);
        }
    }
    allow.when(libc::SYS_socket, &[is(0, AF_UNIX)]);
    allow.when(libc::SYS_socketpair, &[is(0, AF_UNIX)]);
    // The kernel's socket filters are programs.
    allow.when(libc::SYS_setsockopt, &[ArgumentCondition::Not(1, SOL_SOCKET)]);
    allow.when(libc::SYS_setsockopt, &PROGRAMS.map(|option| ArgumentCondition::Not(2, option)));
    allow
}

/// The sockets that a process may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Families {
    /// Of the internet and of this host, and what addresses this host has.
    Netlink,
    /// None.
    None,
    /// Of the internet and of this host.
    Usual,
}

/// Sockets of other families are answered as by a kernel that does not have them: whoever tries goes on without, as
/// the resolver of the C library does.
pub(super) fn families(families: Families) -> AllowedCalls {
    let families: &[u64] = match families {
        Families::Netlink => &[AF_UNIX, AF_INET, AF_INET6, AF_NETLINK],
        Families::None => &[],
        Families::Usual => &[AF_UNIX, AF_INET, AF_INET6],
    };
    let others: Vec<ArgumentCondition> = families.iter().map(|family| ArgumentCondition::Not(0, *family)).collect();
    let mut found = AllowedCalls::default();
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        if others.is_empty() {
            found.always(&[call]);
        } else {
            found.when(call, &others);
        }
    }
    found
}

/// Answered as by a kernel that does not have it: its flags are in memory, where no filter sees them, and C libraries
/// then use clone(2).
pub(super) fn clone3() -> AllowedCalls {
    let mut found = AllowedCalls::default();
    found.always(&[libc::SYS_clone3]);
    found
}
