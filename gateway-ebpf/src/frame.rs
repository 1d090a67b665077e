//! Decides which bytes of a packet may be read: the only place that does.

use core::mem::size_of;

use aya_ebpf::{EbpfContext as _, helpers::generated::bpf_xdp_get_buff_len, programs::XdpContext};
use gateway_common::packet::{FURTHEST, Frame, Word};

/// The packet at hand.
pub(crate) struct Received {
    start: usize,
    end: usize,
    length: usize,
}

impl Received {
    #[inline(always)]
    pub(crate) fn new(context: &XdpContext) -> Self {
        // SAFETY: the pointer is the context that the kernel called the program with.
        let length = unsafe { bpf_xdp_get_buff_len(context.as_ptr().cast()) };
        Self { start: context.data(), end: context.data_end(), length: length as usize }
    }
}

impl Frame for Received {
    #[inline(always)]
    fn length(&self) -> usize {
        self.length
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
