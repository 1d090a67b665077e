//! How the fields of commands and notices lie in their bytes: one behind the other, little-endian, the rest zero.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::{
    program::{ProgramFault, ProgramId, UnfitProgram},
    role::ProcessRole,
};

/// The length of every command and notice, in bytes.
pub const LENGTH: usize = 64;

/// The first byte of every command and notice. Raised when one of them changes its meaning.
pub(super) const VERSION: u8 = 2;

/// Puts one field behind the other, little-endian. The longest command leaves room.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![VERSION, kind])
    }

    pub(super) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub(super) fn number(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    pub(super) fn signed(mut self, number: i32) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }

    pub(super) fn role(self, role: ProcessRole) -> Self {
        self.byte(role.code())
    }

    pub(super) fn program(self, program: ProgramId) -> Self {
        self.number(program.device).number(program.inode)
    }

    pub(super) fn unfit(self, unfit: Option<UnfitProgram>) -> Self {
        let Some(UnfitProgram { fault, depth }) = unfit else { return self.byte(0).signed(0).number(0) };
        let (code, number) = match fault {
            ProgramFault::Kind => (1, 0),
            ProgramFault::Open(number) => (2, number),
            ProgramFault::Owner => (3, 0),
            ProgramFault::Link => (4, 0),
            ProgramFault::Writable => (5, 0),
        };
        self.byte(code).signed(number).number(depth.into())
    }

    pub(super) fn address(mut self, address: SocketAddr) -> Self {
        let (family, octets, flow, scope) = match address {
            SocketAddr::V4(address) => (4, address.ip().to_ipv6_mapped().octets(), 0, 0),
            SocketAddr::V6(address) => (6, address.ip().octets(), address.flowinfo(), address.scope_id()),
        };
        self.0.push(family);
        self.0.extend(octets);
        self.0.extend(address.port().to_le_bytes());
        self.0.extend(u32::to_le_bytes(flow));
        self.0.extend(u32::to_le_bytes(scope));
        self
    }

    pub(super) fn end(mut self) -> [u8; LENGTH] {
        self.0.resize(LENGTH, 0);
        self.0.try_into().unwrap_or([0; LENGTH])
    }
}

/// Takes one field after the other.
pub(super) struct Reader<'bytes>(&'bytes [u8]);

impl<'bytes> Reader<'bytes> {
    pub(super) fn new(bytes: &'bytes [u8]) -> Option<(u8, Self)> {
        match bytes {
            [VERSION, kind, rest @ ..] if bytes.len() == LENGTH => Some((*kind, Self(rest))),
            _ => None,
        }
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    /// A process id that kill(2) does not take for a group.
    pub(super) fn pid(&mut self) -> Option<u32> {
        self.small().filter(|pid| (1..=i32::MAX.unsigned_abs()).contains(pid))
    }

    pub(super) fn signed(&mut self) -> Option<i32> {
        self.take().map(i32::from_le_bytes)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.take()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    pub(super) fn role(&mut self) -> Option<ProcessRole> {
        let [code] = self.take()?;
        ProcessRole::ALL.into_iter().find(|role| role.code() == code)
    }

    pub(super) fn program(&mut self) -> Option<ProgramId> {
        Some(ProgramId { device: self.number()?, inode: self.number()? })
    }

    pub(super) fn unfit(&mut self) -> Option<Option<UnfitProgram>> {
        let ([code], number, depth) = (self.take()?, self.signed()?, u16::try_from(self.number()?).ok()?);
        let fault = match (code, number) {
            (0, 0) if depth == 0 => return Some(None),
            (1, 0) => ProgramFault::Kind,
            (2, number) => ProgramFault::Open(number),
            (3, 0) => ProgramFault::Owner,
            (4, 0) => ProgramFault::Link,
            (5, 0) => ProgramFault::Writable,
            _ => return None,
        };
        Some(Some(UnfitProgram { fault, depth }))
    }

    pub(super) fn address(&mut self) -> Option<SocketAddr> {
        let ([family], octets) = (self.take()?, self.take::<16>()?);
        let (port, flow, scope) = (self.take().map(u16::from_le_bytes)?, self.take()?, self.take()?);
        let (ip, flow, scope) = (Ipv6Addr::from(octets), u32::from_le_bytes(flow), u32::from_le_bytes(scope));
        match (family, ip.to_ipv4_mapped(), flow, scope) {
            (4, Some(ip), 0, 0) => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip.octets())), port)),
            (6, _, flow, scope) => Some(SocketAddr::V6(SocketAddrV6::new(ip, port, flow, scope))),
            _ => None,
        }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}
