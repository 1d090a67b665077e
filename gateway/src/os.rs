//! Decides nothing: the call of the C library that the proxy needs and that nobody offers in a safe form.

/// Has the allocator give the kernel back what is free in the middle of its heaps, which it does not by itself.
pub(crate) fn give_memory_back() {
    // SAFETY: takes no pointer, and locks what it works on against other threads (malloc_trim(3): MT-Safe).
    unsafe { libc::malloc_trim(0) };
}
