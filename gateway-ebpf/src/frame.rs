//! Reads the bytes of a packet: the only place that does.

use core::{cell::Cell, mem::size_of};

use aya_ebpf::{
    EbpfContext as _, Global, bindings::xdp_md, helpers::generated::bpf_xdp_get_buff_len, programs::XdpContext,
};
use gateway_common::packet::{FURTHEST, Frame, Word};

/// Whether packets may be in pieces. The daemon sets it to 0 where the kernel refuses that: the verifier leaves out what
/// is never reached.
#[unsafe(no_mangle)]
static PIECES: Global<u32> = Global::new(1);

/// The packet at hand.
pub(crate) struct Received {
    start: usize,
    end: usize,
    context: *mut xdp_md,
    /// What is readable, until it was asked for more.
    length: Cell<usize>,
}

impl Received {
    #[inline(always)]
    pub(crate) fn new(context: &XdpContext) -> Self {
        let (start, end) = (context.data(), context.data_end());
        Self { start, end, context: context.as_ptr().cast(), length: Cell::new(end - start) }
    }

    /// As [`Frame::length`], as far as it had to be known to judge the packet: what says of itself that it is longer
    /// than its readable beginning has been measured, whatever else is counted by that beginning.
    #[inline(always)]
    pub(crate) fn counted(&self) -> usize {
        self.length.get()
    }
}

impl Frame for Received {
    #[inline(always)]
    fn length(&self) -> usize {
        if PIECES.load() == 0 {
            return self.end - self.start;
        }
        // SAFETY: the pointer is the context that the kernel called the program with.
        let length = unsafe { bpf_xdp_get_buff_len(self.context) };
        self.length.set(length as usize);
        length as usize
    }

    /// Few packets are in pieces; the others need no call to be measured.
    #[inline(always)]
    fn holds(&self, bytes: usize) -> bool {
        bytes <= self.end - self.start || bytes <= self.length()
    }

    #[inline(always)]
    fn words<const N: usize>(&self, offset: usize) -> Option<[Word; N]> {
        if offset > FURTHEST || self.start + offset + size_of::<[Word; N]>() > self.end {
            return None;
        }
        // SAFETY: the bounds were checked in the line above, in the form that the verifier follows. The kernel puts
        // packets at even addresses, and every header that is asked for begins at an even offset.
        Some(unsafe { *((self.start + offset) as *const [Word; N]) })
    }
}
