//! Decides nothing: the two calls of the C library that threads need and that nobody offers in a safe form.

use std::io;

/// How the scheduler treats a thread (sched(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
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
pub(crate) fn schedule(policy: Policy) -> io::Result<()> {
    let policy = match policy {
        Policy::Normal => libc::SCHED_OTHER,
        Policy::Batch => libc::SCHED_BATCH,
    };
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameters outlive the call, which only reads them; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
