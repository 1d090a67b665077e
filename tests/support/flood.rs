//! Floods of packets: frames built once, sent at a fixed rate, of a fixed number, from inside a test's own
//! namespace. It ends by itself, and cannot leave the pair of interfaces that the [`World`] made.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use crate::{
    wait::pause,
    world::{GATE, GATE_MAC, GATEWAY_V4, OUTSIDE, OUTSIDE_MAC, World},
};

/// The longest that any flood may last.
const LONGEST: Duration = Duration::from_secs(3);
/// Frames handed to the kernel at once.
const BATCH: usize = 64;
/// Where a flood is sent to that shall reach nobody.
const NOWHERE: &str = "nowhere0";

/// Where spoofed packets come from: a network for benchmarks (RFC 2544), which is nobody's.
const SPOOFED: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// How many different spoofed sources there are.
const SPOOFED_SOURCES: u32 = 1 << 14;

/// A number of packets at a rate.
#[derive(Clone, Debug)]
pub struct Flood {
    frames: Vec<Vec<u8>>,
    per_second: u32,
    packets: u32,
    through: &'static str,
    cpu: Option<usize>,
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Packets that the kernel took.
    pub packets: u64,
    /// How long that took.
    pub took: Duration,
}

impl Flood {
    /// SYNs from one address, each from another port.
    #[must_use]
    pub fn from_one(source: Ipv4Addr, port: u16) -> Self {
        Self::of_frames(
            (0..4_096).map(|number| segment(source, 1_024 + number, port, u32::from(number), SYN)).collect(),
        )
    }

    /// Segments of connections that there are not, from one address.
    #[must_use]
    pub fn acks_from_one(source: Ipv4Addr, port: u16) -> Self {
        Self::of_frames(
            (0..4_096).map(|number| segment(source, 1_024 + number, port, u32::from(number), ACK)).collect(),
        )
    }

    fn of_frames(frames: Vec<Vec<u8>>) -> Self {
        Self { frames, per_second: 0, packets: 0, through: OUTSIDE, cpu: None }
    }

    /// SYNs from 16384 addresses that nobody has, in no order.
    #[must_use]
    pub fn spoofed(port: u16) -> Self {
        Self::of_frames(scattered(port, SYN))
    }

    /// Segments of connections that there are not, from 16384 addresses that nobody has, in no order.
    #[must_use]
    pub fn spoofed_acks(port: u16) -> Self {
        Self::of_frames(scattered(port, ACK))
    }

    /// So many packets per second, for so long.
    ///
    /// # Panics
    /// If that is longer than a flood may last.
    #[must_use]
    pub fn at(mut self, per_second: u32, time: Duration) -> Self {
        assert!(time <= LONGEST, "floods last {LONGEST:?} at most");
        self.per_second = per_second;
        self.packets = u32::try_from(u128::from(per_second) * time.as_millis() / 1_000).unwrap();
        self
    }

    /// Has it sent by one processor, which then also does the kernel's work on what arrives.
    #[must_use]
    pub fn on(mut self, cpu: Option<usize>) -> Self {
        self.cpu = cpu;
        self
    }

    /// Sends it to nobody: into the cable of [`dead_end`].
    #[must_use]
    pub fn nowhere(mut self) -> Self {
        self.through = NOWHERE;
        self
    }

    /// Sends it from the outside world; returns when it is over. Where the kernel is too slow for the rate, fewer
    /// packets are sent, not for longer.
    ///
    /// # Panics
    /// If there is no right to.
    #[must_use]
    pub fn send(&self, world: &World) -> Sent {
        world.outside.enter(|| {
            if let Some(cpu) = self.cpu {
                pin(|number| number == cpu);
            }
            self.send_here(&link(self.through).expect("a packet socket needs root"))
        })
    }

    fn send_here(&self, socket: &Socket) -> Sent {
        let mut parts: Vec<libc::iovec> = (self.frames.iter())
            .map(|frame| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = (parts.iter_mut())
            .map(|part| {
                // SAFETY: a header of zeros is one without address, parts, control data and flags.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_iov = part;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        let start = Instant::now();
        let most = Duration::from_secs(1) * self.packets / self.per_second;
        let (mut packets, mut turn) = (0_u64, 0);
        while packets < u64::from(self.packets) && start.elapsed() < most {
            let due = start.elapsed().as_micros() * u128::from(self.per_second) / 1_000_000;
            if u128::from(packets) > due {
                pause(Duration::from_micros(50));
                continue;
            }
            let batch = &mut messages[turn..];
            let count = batch.len().min(BATCH);
            turn = (turn + count) % self.frames.len();
            // SAFETY: `count` headers that live through the call, each with one part that points to a frame of
            // `self`; the kernel only reads the frames.
            let sent =
                unsafe { libc::sendmmsg(socket.as_raw_fd(), batch.as_mut_ptr(), u32::try_from(count).unwrap(), 0) };
            match u64::try_from(sent) {
                Ok(sent) => packets += sent,
                Err(_negative) => {
                    let error = io::Error::last_os_error();
                    assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS), "a flood: {error}");
                }
            }
        }
        Sent { packets, took: start.elapsed() }
    }
}

/// Packets that have arrived on the gateway's end of the cable.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn received(world: &World) -> u64 {
    let table = world.gate.enter(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap());
    let line = table.lines().find_map(|line| line.trim().strip_prefix(&format!("{GATE}:"))).expect("the interface");
    line.split_whitespace().nth(1).and_then(|packets| packets.parse().ok()).expect("its packets")
}

/// A socket that frames are sent through as they are, on an interface of the outside world.
fn link(interface: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    let index = nix::net::if_::if_nametoindex(interface)?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: the address of a packet socket is plain words, smaller than the storage, and valid as zeros.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
    address.sll_ifindex = i32::try_from(index).unwrap();
    let length = u32::try_from(size_of::<libc::sockaddr_ll>()).unwrap();
    // SAFETY: the storage holds an address of the family that it names, of this length.
    socket.bind(&unsafe { SockAddr::new(storage, length) })?;
    Ok(socket)
}

/// Flags of TCP.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A segment from each of the addresses that nobody has.
fn scattered(port: u16, flags: u8) -> Vec<Vec<u8>> {
    let frames = (0..SPOOFED_SOURCES).map(|number| {
        // A permutation: the multiplier is odd.
        let scattered = number.wrapping_mul(0x9e35) % SPOOFED_SOURCES;
        let from = 1_024 + u16::try_from(number % 60_000).unwrap();
        segment(Ipv4Addr::from(SPOOFED + scattered), from, port, number, flags)
    });
    frames.collect()
}

/// A segment to the gateway with good checksums (RFC 791 3.1, RFC 9293 3.1), as a whole frame.
fn segment(source: Ipv4Addr, from: u16, port: u16, number: u32, flags: u8) -> Vec<u8> {
    let IpAddr::V4(gateway) = GATEWAY_V4 else { unreachable!("it is an IPv4 address") };
    let mut ip = vec![0x45, 0, 0, 44, 0, 1, 0, 0, 64, 6, 0, 0];
    ip.extend(source.octets());
    ip.extend(gateway.octets());
    let sum = checksum(&ip, 0);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let mut tcp = Vec::new();
    tcp.extend(from.to_be_bytes());
    tcp.extend(port.to_be_bytes());
    tcp.extend(number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    tcp.extend([0; 4]);
    // Six words, the flags, the whole window, no checksum yet, not urgent; a maximum segment size of 1460.
    tcp.extend([0x60, flags, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 0x05, 0xb4]);
    let pseudo: u32 = [source, gateway].iter().map(|address| words(&address.octets())).sum::<u32>() + 6 + 24;
    let sum = checksum(&tcp, pseudo);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());

    [&GATE_MAC[..], &OUTSIDE_MAC, &[0x08, 0x00], &ip, &tcp].concat()
}

fn words(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum()
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start + words(bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// Lets the outside world's end take what the gateway's program sends back, until the answer is dropped.
///
/// What XDP sends out of a veth waits in a ring of the other end, which the kernel empties only if that end has an XDP
/// program too (`veth_xdp_flush`): with GRO alone the ring fills after 256 packets, and all others are lost. Network
/// cards are not like that.
///
/// # Panics
/// If there is no right to.
#[must_use = "the program is gone when this is"]
pub fn take_answers(world: &World) -> OwnedFd {
    attach(world, OUTSIDE, XDP_PASS)
}

/// Lays a cable in the outside world of which the other end drops everything at once, until the answer is dropped. What
/// a flood costs whoever makes it, it costs here as well.
///
/// # Panics
/// If there is no right to.
#[must_use = "the program is gone when this is"]
pub fn dead_end(world: &World) -> OwnedFd {
    const END: &str = "nowhere1";
    world.outside.configure(&format!(
        "link add {NOWHERE} type veth peer name {END}\nlink set {END} up\nlink set {NOWHERE} up\n"
    ));
    attach(world, END, XDP_DROP)
}

/// Keeps the calling thread, and what it starts from now on, on some processors.
///
/// # Panics
/// If the kernel refuses.
pub fn pin(to: impl Fn(usize) -> bool) {
    let mut set = CpuSet::new();
    (0..CpuSet::count()).filter(|number| to(*number)).for_each(|number| set.set(number).unwrap());
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

const XDP_DROP: u64 = 1;
const XDP_PASS: u64 = 2;

/// Has a program that always answers the same judge what arrives on an interface of the outside world.
fn attach(world: &World, interface: &str, verdict: u64) -> OwnedFd {
    const LOAD: libc::c_long = 5;
    const LINK: libc::c_long = 28;
    // `r0 = verdict; exit`.
    let instructions: [u64; 2] = [verdict << 32 | 0xb7, 0x95];
    let licence = c"MIT";
    let program = bpf(
        LOAD,
        &[
            // An XDP program of two instructions.
            6 | 2 << 32,
            instructions.as_ptr().expose_provenance() as u64,
            licence.as_ptr().expose_provenance() as u64,
        ],
    );
    let program = program.expect("loading a program needs root");
    world.outside.enter(|| {
        let index = u64::from(nix::net::if_::if_nametoindex(interface).unwrap());
        let program = u64::try_from(program.as_raw_fd()).unwrap();
        // `BPF_XDP`, in the driver.
        bpf(LINK, &[program | index << 32, 37 | 4 << 32]).expect("a veth takes XDP programs")
    })
}

/// A bpf(2) command that answers with a descriptor; `attributes` as the kernel lays them out.
fn bpf(command: libc::c_long, attributes: &[u64]) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads so many bytes of attributes, and what they point to lives through the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    let descriptor = i32::try_from(answer).ok().filter(|number| *number >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
