//! Builds test frames: right by default, wrong where a test says so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where IPv4 frames go.
pub const DESTINATION_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
/// Where IPv6 frames go.
pub const DESTINATION_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1));

/// TCP, as an IP protocol number.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// ICMP over IPv4.
pub const ICMP: u8 = 1;
/// ICMP over IPv6.
pub const ICMPV6: u8 = 58;

/// IPv6 extension headers, as protocol numbers.
pub mod extension {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing.
    pub const ROUTING: u8 = 43;
    /// Fragment.
    pub const FRAGMENT: u8 = 44;
    /// Authentication.
    pub const AUTHENTICATION: u8 = 51;
    /// Destination options.
    pub const DESTINATION: u8 = 60;
}

/// A frame with an IP packet in it.
#[derive(Clone, Debug)]
pub struct Frame {
    source: IpAddr,
    tags: Vec<u16>,
    hop_limit: u8,
    options: usize,
    fragment: Option<(u16, bool)>,
    extensions: Vec<(u8, usize)>,
    protocol: u8,
    transport: Vec<u8>,
}

impl Frame {
    /// A packet of any protocol.
    ///
    /// # Panics
    /// If `source` is no address.
    #[must_use]
    pub fn of(source: &str, protocol: u8, transport: Vec<u8>) -> Self {
        Self {
            source: source.parse().unwrap(),
            tags: Vec::new(),
            hop_limit: 64,
            options: 0,
            fragment: None,
            extensions: Vec::new(),
            protocol,
            transport,
        }
    }

    /// A TCP segment with the ACK flag, from port 40000.
    #[must_use]
    pub fn tcp(source: &str, port: u16) -> Self {
        let mut segment = ports(port);
        segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
        Self::of(source, TCP, segment)
    }

    /// A TCP segment that asks for a connection, from port 40000, with the options of a usual client: 20 bytes of them.
    #[must_use]
    pub fn syn(source: &str, port: u16) -> Self {
        let mut segment = ports(port);
        segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0xa0, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
        // Segment size, selective acknowledgement, timestamp, nothing, window scale.
        segment.extend([2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7]);
        Self::of(source, TCP, segment)
    }

    /// An empty UDP datagram, from port 40000.
    #[must_use]
    pub fn udp(source: &str, port: u16) -> Self {
        let mut datagram = ports(port);
        datagram.extend([0, 8, 0, 0]);
        Self::of(source, UDP, datagram)
    }

    /// Under VLAN tags of these types, outermost first.
    #[must_use]
    pub fn tags(mut self, types: &[u16]) -> Self {
        self.tags = types.to_vec();
        self
    }

    /// With this hop limit, or time to live.
    #[must_use]
    pub const fn hop_limit(mut self, limit: u8) -> Self {
        self.hop_limit = limit;
        self
    }

    /// With this many words of four bytes of IPv4 options, at most 10.
    #[must_use]
    pub const fn options(mut self, words: usize) -> Self {
        self.options = words;
        self
    }

    /// A fragment at `offset` (in units of eight bytes), with more to follow or not.
    #[must_use]
    pub const fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = Some((offset, more));
        self
    }

    /// Behind one more IPv6 extension header of this type and length (bytes; a multiple of 8).
    #[must_use]
    pub fn extension(mut self, kind: u8, length: usize) -> Self {
        self.extensions.push((kind, length));
        self
    }

    /// With its transport header cut to so many bytes.
    #[must_use]
    pub fn cut_transport(mut self, bytes: usize) -> Self {
        self.transport.truncate(bytes);
        self
    }

    /// Where the IP header begins.
    #[must_use]
    pub fn ip(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    /// The frame.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for kind in &self.tags {
            frame.extend(kind.to_be_bytes());
            frame.extend([0, 100]);
        }
        match self.source {
            IpAddr::V4(source) => {
                frame.extend([0x08, 0x00]);
                frame.extend(self.ipv4(source.octets()));
            }
            IpAddr::V6(source) => {
                frame.extend([0x86, 0xdd]);
                frame.extend(self.ipv6(source.octets()));
            }
        }
        frame
    }

    fn ipv4(&self, source: [u8; 4]) -> Vec<u8> {
        let header = 20 + 4 * self.options;
        let total = u16::try_from(header + self.transport.len()).unwrap();
        let (offset, more) = self.fragment.unwrap_or_default();
        let mut packet = vec![0x40 | u8::try_from(header / 4).unwrap(), 0];
        packet.extend(total.to_be_bytes());
        packet.extend([0x12, 0x34]);
        packet.extend((offset | u16::from(more) << 13).to_be_bytes());
        packet.extend([self.hop_limit, self.protocol, 0, 0]);
        packet.extend(source);
        packet.extend([198, 51, 100, 1]);
        // No-operation options.
        packet.extend(vec![1; 4 * self.options]);
        packet.extend(&self.transport);
        packet
    }

    fn ipv6(&self, source: [u8; 16]) -> Vec<u8> {
        let mut chain = self.extensions.clone();
        if self.fragment.is_some() {
            chain.push((extension::FRAGMENT, 8));
        }
        let mut payload = Vec::new();
        for (index, (kind, length)) in chain.iter().enumerate() {
            let next = chain.get(index + 1).map_or(self.protocol, |(kind, _)| *kind);
            let mut header = vec![0; *length];
            header[0] = next;
            header[1] =
                u8::try_from(if *kind == extension::AUTHENTICATION { length / 4 - 2 } else { length / 8 - 1 }).unwrap();
            if *kind == extension::FRAGMENT {
                let (offset, more) = self.fragment.unwrap_or_default();
                header[1] = 0;
                header[2..4].copy_from_slice(&(offset << 3 | u16::from(more)).to_be_bytes());
            }
            payload.extend(header);
        }
        payload.extend(&self.transport);
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        packet.extend([chain.first().map_or(self.protocol, |(kind, _)| *kind), self.hop_limit]);
        packet.extend(source);
        packet.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        packet.extend(payload);
        packet
    }
}

fn ports(destination: u16) -> Vec<u8> {
    let [a, b] = destination.to_be_bytes();
    vec![0x9c, 0x40, a, b]
}

/// A frame with other bytes from `offset` on.
///
/// # Panics
/// If it is shorter.
#[must_use]
pub fn patched(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}

/// An ARP request.
#[must_use]
pub fn arp() -> Vec<u8> {
    let mut frame = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 0x08, 0x06];
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 203, 0, 113, 7, 0, 0, 0, 0, 0, 0, 198, 51, 100, 1]);
    frame
}
