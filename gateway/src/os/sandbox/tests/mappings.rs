//! Memory: none is run but what was loaded before.

use std::os::fd::{AsRawFd as _, OwnedFd};

use super::*;

/// `PROT_READ`, `PROT_WRITE`, `PROT_EXEC`.
const R: usize = 1;
const W: usize = 2;
const X: usize = 4;
/// `MAP_SHARED`, `MAP_PRIVATE`, `MAP_PRIVATE | MAP_ANONYMOUS`.
const SHARED: usize = 1;
const PRIVATE: usize = 2;
const ANONYMOUS: usize = 0x22;

/// What a process may hold and write to: a file of its state, and a file in memory. And a library, which it may only read.
pub(super) fn writable(folder: &Path) -> [(&'static str, OwnedFd, i32); 3] {
    let file = OpenOptions::new().read(true).write(true).open(folder.join("state/ours")).unwrap();
    let memory = rustix::fs::memfd_create("code", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let program = File::open(env::current_exe().unwrap()).unwrap();
    [("a file", file.into(), 0), ("memory", memory, 0), ("a program", program.into(), libc::EACCES)]
}

/// None of it can be run, whatever is written there. `writable` says of each whether it can be mapped for writing.
pub(super) fn nothing_new_is_run(writable: &[(&'static str, OwnedFd, i32)]) {
    use libc::EPERM;
    for &(name, ref file, written) in writable {
        let file = usize::try_from(file.as_raw_fd()).unwrap();
        for how in [PRIVATE, SHARED] {
            check(&[
                (name, libc::SYS_mmap, &[0, 4_096, R | X, how, file, 0], EPERM),
                (name, libc::SYS_mmap, &[0, 4_096, X, how, file, 0], EPERM),
                (name, libc::SYS_mmap, &[0, 4_096, R | W | X, how, file, 0], EPERM),
                (name, libc::SYS_mmap, &[0, 4_096, R, how, file, 0], 0),
            ]);
        }
        check(&[(name, libc::SYS_mmap, &[0, 4_096, R | W, SHARED, file, 0], written)]);
    }
    check(&[
        ("W+X", libc::SYS_mmap, &[0, 4_096, R | W | X, ANONYMOUS, NOWHERE, 0], EPERM),
        ("W+X unread", libc::SYS_mmap, &[0, 4_096, W | X, ANONYMOUS, NOWHERE, 0], EPERM),
        ("X of no file", libc::SYS_mmap, &[0, 4_096, R | X, ANONYMOUS, NOWHERE, 0], EPERM),
        ("W", libc::SYS_mmap, &[0, 4_096, R | W, ANONYMOUS, NOWHERE, 0], 0),
        ("turned to X", libc::SYS_mprotect, &[0, 4_096, R | X], EPERM),
        ("turned to W+X", libc::SYS_mprotect, &[0, 4_096, R | W | X], EPERM),
        ("with a key", libc::SYS_pkey_mprotect, &[0, 4_096, R | X, 0], EPERM),
        ("remap_file_pages", libc::SYS_remap_file_pages, &[0, 4_096, 0, 0, 0], EPERM),
    ]);
}
