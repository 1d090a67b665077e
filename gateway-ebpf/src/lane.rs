//! Lets packets of connections that proved themselves through while the budget of all sources is spent.
//!
//! The proxy marks such a connection by the priority of its socket, so there is no list of them that could be wrong: the
//! mark goes with the connection. The socket is asked for only while the budget is spent.
//!
//! *Invariant:* a socket that was found is released on every path.

use core::mem::size_of;

use aya_ebpf::{
    EbpfContext as _, Global,
    bindings::{bpf_sock_tuple, xdp_md},
    helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_release, bpf_xdp_load_bytes},
    programs::XdpContext,
};
use gateway_common::{
    maps::{FAST_LANE, Limits},
    packet::{self, Headers, PacketKind},
};

use crate::{budget, frame::Received};

/// Whether the program contains this part. The daemon sets it to 0 where the kernel refuses it.
#[unsafe(no_mangle)]
static LANE: Global<u32> = Global::new(1);

/// `BPF_F_CURRENT_NETNS`: that of the interface.
const THIS_NETWORK: u64 = u64::MAX;

const TCP: u8 = 6;

/// Whether a packet beyond the budget of all sources is of a connection that proved itself, and fits the fast lane.
#[inline(always)]
pub(crate) fn overtakes(context: &XdpContext, headers: &Headers, limits: &Limits, now: u64) -> bool {
    if LANE.load() == 0 || limits.fast_lane.interval == 0 || headers.protocol != TCP || headers.asks {
        return false;
    }
    connection_priority(context.as_ptr().cast()) == FAST_LANE && budget::overtakes(now)
}

/// The priority of the connection that a packet is of; 0: there is none.
///
/// A function of its own that the whole kernel may call: the verifier follows it once, and not from every way that a
/// packet may have come. For that it reads the headers again.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn connection_priority(packet: *mut xdp_md) -> u32 {
    let frame = Received::new(&XdpContext::new(packet));
    let mut headers = Headers { locates: true, ..Headers::default() };
    if !matches!(packet::read(&frame, &mut headers), PacketKind::Ip) || headers.protocol != TCP {
        return 0;
    }
    let (network, transport) = (u32::from(headers.network), u32::from(headers.transport));
    // SAFETY: the kernel calls the program with this context.
    unsafe {
        if headers.is_ipv4 { priority4(packet, network, transport) } else { priority6(packet, network, transport) }
    }
}

/// The priority of the connection that a packet of IPv4 is of; 0: there is none.
///
/// # Safety
/// `packet` is the context that the kernel called the program with.
#[inline(never)]
unsafe fn priority4(packet: *mut xdp_md, network: u32, transport: u32) -> u32 {
    // Addresses, then ports.
    let mut tuple = [0_u32; 3];
    // SAFETY: the caller's.
    unsafe { priority(packet, network + 12, transport, &mut tuple) }
}

/// As [`priority4`], of IPv6.
///
/// # Safety
/// As [`priority4`].
#[inline(never)]
unsafe fn priority6(packet: *mut xdp_md, network: u32, transport: u32) -> u32 {
    let mut tuple = [0_u32; 9];
    // SAFETY: the caller's.
    unsafe { priority(packet, network + 8, transport, &mut tuple) }
}

/// Asks the network stack for the connection. `addresses`: where in the packet both stand.
///
/// # Safety
/// As [`priority4`].
#[inline(always)]
unsafe fn priority<const N: usize>(packet: *mut xdp_md, addresses: u32, transport: u32, tuple: &mut [u32; N]) -> u32 {
    let bytes = size_of::<[u32; N]>() as u32;
    // SAFETY: the caller's; each length is that of memory in `tuple`, and the kernel checks those in the packet.
    unsafe {
        let words = tuple.as_mut_ptr();
        if bpf_xdp_load_bytes(packet, addresses, words.cast(), bytes - 4) < 0
            || bpf_xdp_load_bytes(packet, transport, words.add(N - 1).cast(), 4) < 0
        {
            return 0;
        }
        let socket = bpf_sk_lookup_tcp(packet.cast(), words.cast::<bpf_sock_tuple>(), bytes, THIS_NETWORK, 0);
        if socket.is_null() {
            return 0;
        }
        let priority = (*socket).priority;
        bpf_sk_release(socket.cast());
        priority
    }
}
