//! What the operating system does for the processes: clocks, files, sandbox, sockets of whole messages, starting
//! programs, the log of each process and syslog. This file has the calls of the C library that no crate offers in a safe
//! form.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use seccompiler::sock_filter;

pub(crate) mod alternating_files;
pub mod clock;
pub mod file;
pub mod launch;
pub(crate) mod program_log;
pub(crate) mod resident;
pub mod sandbox;
pub mod seqpacket;
pub(crate) mod syslog;

/// How the scheduler treats a thread (sched(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SchedulingPolicy {
    /// `SCHED_OTHER`: woken, it may interrupt whoever runs.
    Normal,
    /// `SCHED_BATCH`: woken, it waits until whoever runs has had its turn.
    Batch,
}

/// Has the allocator give the kernel back what is free in the middle of its heaps, which it does not by itself.
pub(crate) fn give_memory_back() {
    // SAFETY: takes no pointer, and locks what it works on against other threads (malloc_trim(3): MT-Safe).
    unsafe { libc::malloc_trim(0) };
}

/// Sets how the calling thread is treated. No right is needed to go either way.
///
/// # Errors
/// The kernel refuses, as a filter around us may.
pub(crate) fn schedule(policy: SchedulingPolicy) -> io::Result<()> {
    let policy = match policy {
        SchedulingPolicy::Normal => libc::SCHED_OTHER,
        SchedulingPolicy::Batch => libc::SCHED_BATCH,
    };
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameters outlive the call, which only reads them; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The groups that the process on the other end of a Unix socket was in when it connected, besides its own.
///
/// # Errors
/// It is no such socket.
pub(crate) fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let room = groups.len() * size_of::<u32>();
        let mut length = libc::socklen_t::try_from(room).map_err(io::Error::other)?;
        let to = groups.as_mut_ptr().cast();
        // SAFETY: the list outlives the call and has room for as many bytes as the length says.
        let answer =
            unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERGROUPS, to, &raw mut length) };
        let count = usize::try_from(length).map_err(io::Error::other)? / size_of::<u32>();
        if answer == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // The list is too short, and the length says what it takes.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

/// What every process does first that the launcher has started: it hears signals, which the launcher hears in another way
/// and has blocked; and the kernel kills it once the launcher is gone.
///
/// # Errors
/// The kernel refuses, as a filter around us may.
pub(crate) fn begin_under_launcher() -> io::Result<()> {
    nix::sys::signal::SigSet::all().thread_unblock()?;
    Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?)
}

/// Loads a library for as long as the process lives. `false`: it cannot be.
pub(crate) fn load_library(name: &CStr) -> bool {
    // SAFETY: the name ends with a zero byte. What the library does as it is loaded is as trusted as what the C library would
    // load by itself.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
    !handle.is_null()
}

/// Puts a seccomp filter in force, for every thread of the process and whatever it starts. It needs `no_new_privs`.
/// `log`: the kernel logs what it refuses.
///
/// # Errors
/// The kernel refuses it, or a thread has another one already.
pub(crate) fn filter(program: &[sock_filter], log: bool) -> io::Result<()> {
    let length = libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?;
    // The kernel only reads it, though its type says otherwise.
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC | if log { libc::SECCOMP_FILTER_FLAG_LOG } else { 0 };
    // SAFETY: the program and its description, of which both types have the kernel's layout, outlive the call.
    match unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) } {
        0 => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        thread => Err(io::Error::other(format!("thread {thread} has a filter of its own"))),
    }
}

/// Makes a system call as whoever has taken the process over would; the error's number, or 0.
#[cfg(test)]
pub(crate) fn attempt(call: i64, arguments: [usize; 6]) -> i32 {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: tests make calls that are refused, or that do no harm to a process which ends right after: pointers are
    // null, or to what lives through the call.
    match unsafe { libc::syscall(call, a, b, c, d, e, f) } {
        -1 => io::Error::last_os_error().raw_os_error().unwrap_or(-1),
        _ => 0,
    }
}

/// As [`attempt`], by the way that 32-bit programs have; `getpid`.
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) fn attempt_32_bit() -> i32 {
    let mut call = 20_i32;
    // SAFETY: the call takes no argument and touches no memory.
    unsafe { std::arch::asm!("int 0x80", inout("eax") call, out("r8") _, out("r9") _, out("r10") _, out("r11") _) };
    call
}

/// Has the calling thread, woken, run in short turns, for which it waits less; it gets no larger share. Threads and
/// processes that it starts are scheduled as usual. Kernels before 6.12 know of no such turns and change nothing.
///
/// # Errors
/// The kernel refuses, as a filter around us may.
pub(crate) fn take_short_turns() -> io::Result<()> {
    /// `struct sched_attr`, as it was first (sched_setattr(2)).
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    const SIZE: u32 = 48;
    const RESET_ON_FORK: u64 = 1;
    /// The shortest turn that there is: 100 us.
    const TURN: u64 = 100_000;
    let attributes = Attributes {
        size: SIZE,
        policy: 0,
        flags: RESET_ON_FORK,
        nice: rustix::process::getpriority_process(None)?,
        priority: 0,
        runtime: TURN,
        deadline: 0,
        period: 0,
    };
    // SAFETY: the attributes outlive the call, which only reads as many bytes as they say they have; 0 is the calling
    // thread.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_who_connects() {
        use std::os::{fd::AsFd as _, unix::net::UnixStream};
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        let groups: Vec<u32> = groups.split_ascii_whitespace().map(|group| group.parse().unwrap()).collect();
        assert_eq!(peer_groups(ours.as_fd()).unwrap(), groups);
        assert!(peer_groups(std::net::UdpSocket::bind("127.0.0.1:0").unwrap().as_fd()).is_err());
    }

    #[test]
    fn turns_are_asked_for_by_anybody() {
        take_short_turns().unwrap();
    }
}
