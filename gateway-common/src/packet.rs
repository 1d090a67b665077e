//! Parses a frame: who sent it, and which port it is for, from its headers alone.
//!
//! *Invariant:* a source is found in every form that a network stack would accept from it: under two VLAN tags, with
//! options, in fragments, behind extension headers. Where the port cannot be known, that is said ([`Port::Unknown`])
//! and never guessed.
//!
//! The same code runs in the kernel, in unit tests and in fuzzing: it reads through [`Frame`] only.

use crate::source::SourceKey;

/// How many VLAN tags are looked under (802.1Q, 802.1ad). What lies deeper is [`Parsed::NotIp`].
pub const VLAN_TAGS: usize = 2;

/// How many IPv6 extension headers are walked to find the port. Behind more, it is [`Port::Unknown`].
pub const EXTENSION_HEADERS: usize = 6;

/// The furthest that a header may begin, in bytes. Behind it, the port is [`Port::Unknown`].
pub const FURTHEST: usize = 0x3fff;

/// The longest packet that a length in an IP header can tell of.
const LONGEST: usize = 0xffff;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const SERVICE_VLAN: u16 = 0x88a8;

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ENCRYPTED: u8 = 50;
const AUTHENTICATION: u8 = 51;
const ICMPV6: u8 = 58;
const DESTINATION: u8 = 60;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Sixteen bits as they are in a frame, most significant byte first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Word(u16);

impl Word {
    /// The word that these two bytes are.
    #[inline(always)]
    #[must_use]
    pub const fn new(bytes: [u8; 2]) -> Self {
        Self(u16::from_ne_bytes(bytes))
    }

    /// The number that it is.
    #[inline(always)]
    #[must_use]
    pub const fn value(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The first byte.
    #[inline(always)]
    #[must_use]
    pub const fn first(self) -> u8 {
        self.value().to_be_bytes()[0]
    }

    /// The second byte.
    #[inline(always)]
    #[must_use]
    pub const fn second(self) -> u8 {
        self.value().to_be_bytes()[1]
    }
}

/// An Ethernet frame, readable at its beginning.
pub trait Frame {
    /// Bytes in the whole frame, readable or not.
    fn length(&self) -> usize;

    /// Whether the frame has so many bytes, readable or not.
    #[inline(always)]
    fn holds(&self, bytes: usize) -> bool {
        bytes <= self.length()
    }

    /// The words that begin at `offset`; `None` unless all of them are readable. Must be `None` where `offset` is over
    /// [`FURTHEST`].
    fn words<const N: usize>(&self, offset: usize) -> Option<[Word; N]>;
}

/// The source address of a packet, in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// IPv4.
    V4(u32),
    /// IPv6: the upper and the lower half.
    V6(u64, u64),
}

impl Address {
    /// The key of the exact-match maps, with `ipv6_mask` of the limits in force.
    #[inline(always)]
    #[must_use]
    pub const fn key(self, ipv6_mask: u64) -> SourceKey {
        match self {
            Self::V4(address) => SourceKey::ipv4(address),
            Self::V6(upper, _) => SourceKey::ipv6(upper, ipv6_mask),
        }
    }
}

/// Where at the destination a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// A protocol without ports.
    None,
    /// TCP.
    Tcp(u16),
    /// UDP.
    Udp(u16),
    /// It may be any: a fragment, encrypted, or too far behind. Treated as if it were a guarded one.
    Unknown,
}

/// What the headers of a packet say, as far as they were read.
///
/// Words, and never partly set: a value that is undefined on some path (as the content of an enum's other variants is)
/// becomes, once compiled, whatever lay in a register, and the kernel's verifier refuses to let that be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// The source's upper half in IPv6; in IPv4 all of it. In host byte order.
    pub upper: u64,
    /// The source's lower half in IPv6.
    pub lower: u64,
    /// Whether it is IPv4.
    pub is_ipv4: bool,
    /// The protocol that the port is of: 6 TCP, 17 UDP; 0: one without ports; [`Self::ANY`]: it cannot be known.
    pub protocol: u8,
    /// The destination's port; 0 where there is none, or it cannot be known.
    pub port: u16,
    /// A TCP segment that asks for a connection: SYN without ACK, RST or FIN.
    pub asks: bool,
    /// Where in the frame the IP header of one that asks begins; of any TCP segment or UDP datagram, if [`Self::locates`].
    pub network: u16,
    /// Where its TCP header does.
    pub transport: u16,
    /// Set before a frame is read: the offsets are wanted of others as well. In the kernel the verifier follows each of them by
    /// itself.
    pub locates: bool,
}

impl Headers {
    /// The port may be any, of any protocol: see [`Port::Unknown`].
    pub const ANY: u8 = 255;

    /// The source's key in the exact-match maps, with `ipv6_mask` of the limits in force.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "IPv4 addresses have 32 bits")]
    pub const fn key(&self, ipv6_mask: u64) -> SourceKey {
        if self.is_ipv4 { SourceKey::ipv4(self.upper as u32) } else { SourceKey::ipv6(self.upper, ipv6_mask) }
    }

    /// The source address.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "IPv4 addresses have 32 bits")]
    pub const fn source(&self) -> Address {
        if self.is_ipv4 { Address::V4(self.upper as u32) } else { Address::V6(self.upper, self.lower) }
    }

    /// Where the packet goes.
    #[must_use]
    pub const fn port(&self) -> Port {
        match self.protocol {
            TCP => Port::Tcp(self.port),
            UDP => Port::Udp(self.port),
            Self::ANY => Port::Unknown,
            _ => Port::None,
        }
    }
}

/// What a frame is; whose it is and where it goes is in [`Headers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// An IP packet.
    Ip,
    /// Its headers contradict each other or the frame. The source is known; the port is as for [`Self::Ip`], where
    /// the headers say that it should be.
    Malformed,
    /// As [`Self::Malformed`], and there is no source to be read.
    Nobody,
    /// Nothing that a list may apply to: see [`Parsed::NotIp`].
    NotIp,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An IP packet from this address to this port.
    Ip(Address, Port),
    /// Its headers contradict each other or the frame. The address, if the fixed IP header is there.
    Malformed(Option<Address>),
    /// Nothing that a list may apply to: no IP, or what IPv6 needs to find its neighbours (RFC 4861), which passes
    /// whatever is said, as ARP does.
    NotIp,
}

/// What a frame is, in one value.
#[must_use]
pub fn parse<F: Frame>(frame: &F) -> Parsed {
    let mut headers = Headers::default();
    match read(frame, &mut headers) {
        PacketKind::Ip => Parsed::Ip(headers.source(), headers.port()),
        PacketKind::Malformed => Parsed::Malformed(Some(headers.source())),
        PacketKind::Nobody => Parsed::Malformed(None),
        PacketKind::NotIp => Parsed::NotIp,
    }
}

/// Reads the headers of a frame into `headers`, which are to be as by default before.
#[inline(always)]
pub fn read<F: Frame>(frame: &F, headers: &mut Headers) -> PacketKind {
    let Some([kind]) = frame.words(12) else { return PacketKind::Nobody };
    let (mut kind, mut offset) = (kind.value(), 14);
    for _ in 0..VLAN_TAGS {
        if kind != VLAN && kind != SERVICE_VLAN {
            break;
        }
        let Some([_, inner]) = frame.words(offset) else { return PacketKind::Nobody };
        (kind, offset) = (inner.value(), offset + 4);
    }
    match kind {
        IPV4 => ipv4(frame, offset, headers),
        IPV6 => ipv6(frame, offset, headers),
        _ => PacketKind::NotIp,
    }
}

/// RFC 791.
#[inline(always)]
fn ipv4<F: Frame>(frame: &F, offset: usize, headers: &mut Headers) -> PacketKind {
    let Some([version, total, _, fragment, protocol, _, high, low, _, _]) = frame.words(offset) else {
        return PacketKind::Nobody;
    };
    headers.is_ipv4 = true;
    headers.upper = (high.value() as u64) << 16 | low.value() as u64;
    let (is_version, header) = (version.first() >> 4 == 4, (version.first() & 0x0f) as usize * 4);
    let (mut form, mut end) = (PacketKind::Ip, offset + total.value() as usize);
    if !is_version || header < 20 || end < offset + header || !frame.holds(end) {
        // Segments that the host itself has joined may be more than the field can say, which is 0 then (BIG TCP).
        if is_version && header >= 20 && total.value() == 0 && frame.length() > offset + LONGEST {
            end = frame.length();
        } else {
            form = PacketKind::Malformed;
        }
    }
    // More-fragments or an offset: also the first fragment, whose port another fragment could contradict.
    if fragment.value() & 0x3fff != 0 {
        return anywhere(form, headers);
    }
    let at = offset + if header < 20 { 20 } else { header };
    match protocol.second() {
        // IPv4 stacks carry anything in these two; in IPv6, authentication headers are walked.
        AUTHENTICATION => anywhere(form, headers),
        protocol => transport(frame, form, protocol, [offset, at], end, headers),
    }
}

/// RFC 8200.
#[inline(always)]
fn ipv6<F: Frame>(frame: &F, offset: usize, headers: &mut Headers) -> PacketKind {
    let Some([version, _, payload, next, a, b, c, d, e, f, g, h, _, _, _, _, _, _, _, _]) = frame.words(offset) else {
        return PacketKind::Nobody;
    };
    (headers.upper, headers.lower) = (join(a, b, c, d), join(e, f, g, h));
    let mut at = offset + 40;
    // A length of zero is a jumbogram (RFC 2675), or nothing: bounded by the frame either way.
    let end = if payload.value() == 0 { frame.length() } else { at + payload.value() as usize };
    let (mut next, hop_limit) = (next.first(), next.second());
    let mut form = if version.first() >> 4 != 6 || !frame.holds(end) { PacketKind::Malformed } else { PacketKind::Ip };
    if matches!(form, PacketKind::Ip) {
        if a.value() & 0xffc0 == 0xfe80 {
            return PacketKind::NotIp;
        }
        if next == ICMPV6 && hop_limit == 255 && discovers_neighbours(frame, at) {
            return PacketKind::NotIp;
        }
    }
    for _ in 0..EXTENSION_HEADERS {
        match next {
            HOP_BY_HOP | ROUTING | DESTINATION | AUTHENTICATION => {
                if at + 8 > end {
                    form = PacketKind::Malformed;
                }
                let Some([head]) = frame.words(at) else { return anywhere(form, headers) };
                // The authentication header counts in words of four bytes, less two (RFC 4302).
                at += if next == AUTHENTICATION {
                    (head.second() as usize + 2) * 4
                } else {
                    (head.second() as usize + 1) * 8
                };
                if at > end {
                    form = PacketKind::Malformed;
                }
                next = head.first();
            }
            FRAGMENT => return anywhere(form, headers),
            next => return transport(frame, form, next, [offset, at], end, headers),
        }
    }
    anywhere(form, headers)
}

/// The packet of a protocol whose header begins at the second offset, in a packet between the first and `end`. Also of
/// a malformed one the port is read where it should be: whether the packet is in scope depends on it.
#[inline(always)]
fn transport<F: Frame>(
    frame: &F,
    form: PacketKind,
    protocol: u8,
    at: [usize; 2],
    end: usize,
    headers: &mut Headers,
) -> PacketKind {
    let [network, offset] = at;
    let header = match protocol {
        TCP => 20,
        UDP => 8,
        ENCRYPTED => return anywhere(form, headers),
        _ => return form,
    };
    let form = if offset + header > end { PacketKind::Malformed } else { form };
    let Some([_, port]) = frame.words(offset) else {
        // Cut off, or in the frame but not in its readable beginning.
        return anywhere(form, headers);
    };
    (headers.protocol, headers.port) = (protocol, port.value());
    if headers.locates {
        (headers.network, headers.transport) = (near(network), near(offset));
    }
    if protocol == TCP
        && matches!(form, PacketKind::Ip)
        && let Some([flags]) = frame.words(offset + 12)
        && flags.second() & (SYN | ACK | RST | FIN) == SYN
    {
        (headers.asks, headers.network, headers.transport) = (true, near(network), near(offset));
    }
    form
}

#[inline(always)]
const fn anywhere(form: PacketKind, headers: &mut Headers) -> PacketKind {
    headers.protocol = Headers::ANY;
    form
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "it was read from, and so is no further than `FURTHEST`")]
const fn near(offset: usize) -> u16 {
    offset as u16
}

/// Whether the ICMPv6 message at `offset` is one of neighbour discovery (RFC 4861 section 4).
#[inline(always)]
fn discovers_neighbours<F: Frame>(frame: &F, offset: usize) -> bool {
    matches!(frame.words(offset), Some([kind]) if matches!(kind.first(), 133..=137))
}

#[inline(always)]
const fn join(a: Word, b: Word, c: Word, d: Word) -> u64 {
    (a.value() as u64) << 48 | (b.value() as u64) << 32 | (c.value() as u64) << 16 | d.value() as u64
}

#[cfg(test)]
mod tests;
