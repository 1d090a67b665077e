//! What it means to agree with a parser by other authors, for every frame there is: used by the tests here and by
//! the fuzz target in `tests/fuzz`, whose root names the same items as this file's parent does.
//!
//! The other parser is asked laxly, so that a broken tail does not hide the source from it. What it says is the whole
//! answer: a source here that it does not find is as much a disagreement as one that is missed.

extern crate std;
use std::{format, string::String, vec::Vec};

use etherparse::{
    LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice, SlicedPacket, TransportSlice, ether_type, ip_number,
};

use super::{Address, FURTHEST, Frame, Parsed, Port, VLAN_TAGS, Word, parse};

/// A frame that is readable up to `readable` bytes.
pub(super) struct Bytes<'a> {
    pub(super) frame: &'a [u8],
    pub(super) readable: usize,
}

impl Frame for Bytes<'_> {
    fn length(&self) -> usize {
        self.frame.len()
    }

    fn words<const N: usize>(&self, offset: usize) -> Option<[Word; N]> {
        if offset > FURTHEST {
            return None;
        }
        let readable = self.frame.get(..self.readable.min(self.frame.len()))?;
        let mut words = readable.get(offset..)?.get(..2 * N)?.iter().copied();
        let mut read = [Word::new([0, 0]); N];
        for word in &mut read {
            *word = Word::new([words.next()?, words.next()?]);
        }
        Some(read)
    }
}

/// Says where this parser and the other disagree about a frame.
pub(super) fn disagreement(frame: &[u8]) -> Result<(), String> {
    let ours = parse(&Bytes { frame, readable: frame.len() });
    let theirs = theirs(frame);
    let agree = match &theirs {
        Theirs::Cut => ours == Parsed::Malformed(None),
        Theirs::NotIp => ours == Parsed::NotIp,
        // The other parser names a source only once the header's first byte is put right: here, it is malformed.
        Theirs::Repaired(source) => ours == Parsed::Malformed(Some(*source)),
        Theirs::Ip(packet) => agrees(packet, ours),
    };
    if agree { Ok(()) } else { Err(format!("here {ours:?}, there {theirs:?}: {frame:02x?}")) }
}

/// What the other parser makes of a frame.
#[derive(Debug)]
enum Theirs {
    /// It ends in a header that is needed to find the source.
    Cut,
    /// No IP, or IP where this parser says that it does not look.
    NotIp,
    /// As an IP packet it is refused; with a sound version and header length it has this source.
    Repaired(Address),
    /// An IP packet.
    Ip(Packet),
}

/// An IP packet, as the other parser reads it.
#[derive(Debug)]
struct Packet {
    source: Address,
    /// TCP's or UDP's destination, where its header could be read.
    port: Option<Port>,
    /// Why it stopped reading before the payload, if it did.
    stopped: bool,
    /// A message of neighbour discovery (RFC 4861).
    discovery: bool,
    /// No fault was found in it, asked strictly.
    sound: bool,
}

/// Whether this parser's reading is one that the other's allows.
fn agrees(packet: &Packet, ours: Parsed) -> bool {
    match ours {
        // Passed whatever a list says, by design: what IPv6 needs to find its neighbours.
        Parsed::NotIp => {
            matches!(packet.source, Address::V6(upper, _) if upper >> 54 == 0xfe80 >> 6 || packet.discovery)
        }
        Parsed::Malformed(source) => source == Some(packet.source) && !packet.sound,
        Parsed::Ip(source, port) => {
            source == packet.source
                && match (port, packet.port) {
                    // Fragments, encryption, more extension headers than are walked: never a guess.
                    (Port::Unknown, _) => true,
                    (own, Some(other)) => own == other,
                    // Faults within TCP's and UDP's own headers (offset, length), and hop-by-hop options in a later
                    // place, stop the other parser; the port is where it is.
                    (Port::Tcp(_) | Port::Udp(_), None) => packet.stopped,
                    (Port::None, None) => true,
                }
        }
    }
}

fn theirs(frame: &[u8]) -> Theirs {
    // It refuses outright only what is shorter than an Ethernet header.
    let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else { return Theirs::Cut };
    let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link else { return Theirs::NotIp };
    let (mut kind, mut offset) = (ethernet.ether_type(), 14);
    for (depth, tag) in packet.link_exts.iter().enumerate() {
        // It looks under three tags, under 0x9100 and under MACsec. This parser says it does not: two of 802.1Q or
        // 802.1ad are what a stack that is not told otherwise takes off.
        if depth == VLAN_TAGS || !is_tag(kind) {
            return Theirs::NotIp;
        }
        let LaxLinkExtSlice::Vlan(tag) = tag else { return Theirs::NotIp };
        (kind, offset) = (tag.ether_type(), offset + 4);
    }
    let is_ipv4 = match kind {
        ether_type::IPV4 => true,
        ether_type::IPV6 => false,
        kind if is_tag(kind) && packet.link_exts.len() < VLAN_TAGS => return Theirs::Cut,
        _ => return Theirs::NotIp,
    };
    match read(&packet, frame) {
        // It goes by the version alone; stacks go by the Ethernet type first, and so does this parser.
        Some(read) if matches!(read.source, Address::V4(_)) == is_ipv4 => Theirs::Ip(read),
        _ => repaired(frame, offset, is_ipv4),
    }
}

const fn is_tag(kind: etherparse::EtherType) -> bool {
    matches!(kind, ether_type::VLAN_TAGGED_FRAME | ether_type::PROVIDER_BRIDGING)
}

/// What it makes of a frame whose IP header it refused, once the version is the Ethernet type's and the header is as
/// short as it can be.
fn repaired(frame: &[u8], offset: usize, is_ipv4: bool) -> Theirs {
    let mut frame: Vec<u8> = frame.into();
    if let Some(first) = frame.get_mut(offset) {
        *first = if is_ipv4 { 0x45 } else { 0x60 };
    }
    match LaxSlicedPacket::from_ethernet(&frame).ok().and_then(|packet| read(&packet, &frame)) {
        Some(packet) => Theirs::Repaired(packet.source),
        None => Theirs::Cut,
    }
}

fn read(packet: &LaxSlicedPacket<'_>, frame: &[u8]) -> Option<Packet> {
    let (source, discovery) = match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(slice) => (Address::V4(slice.header().source_addr().into()), false),
        LaxNetSlice::Ipv6(slice) => {
            let (header, payload) = (slice.header(), slice.payload());
            let [a, b, c, d, e, f, g, h] = header.source_addr().segments().map(u64::from);
            let source = Address::V6(a << 48 | b << 32 | c << 16 | d, e << 48 | f << 32 | g << 16 | h);
            let is_first = header.next_header() == ip_number::IPV6_ICMP && header.hop_limit() == 255;
            (source, is_first && matches!(payload.payload.first(), Some(133..=137)))
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let port = match &packet.transport {
        Some(TransportSlice::Tcp(header)) => Some(Port::Tcp(header.destination_port())),
        Some(TransportSlice::Udp(header)) => Some(Port::Udp(header.destination_port())),
        _ => None,
    };
    let sound = SlicedPacket::from_ethernet(frame).is_ok();
    Some(Packet { source, port, stopped: packet.stop_err.is_some(), discovery, sound })
}
