//! Asks name servers over UDP. The C library could do so as well; it does not tell a name that does not exist from a server
//! that does not answer, and has no time to live.
//!
//! *Invariant:* an answer counts only if it comes from the server that was asked, to the port that asked, and repeats number
//! and question. Whatever else comes is passed over until the time is up.

use std::{
    cell::RefCell,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

pub(super) use message::RecordKind;
use message::{FoundRecords, Reading, read, write};

mod message;

/// How long one server has for an answer.
const WAIT: Duration = Duration::from_secs(2);

/// How often each server is asked.
const TRIES: usize = 2;

/// How many servers of this system are asked, as the C library does it.
const MOST: usize = 3;

/// How old may be what is known of the servers of this system.
const FRESH: Duration = Duration::from_secs(30);

/// Where this system says whom to ask.
const FILE: &str = "/etc/resolv.conf";

/// Of that so much is read, in bytes.
const LONGEST: u64 = 64 * 1_024;

const PORT: u16 = 53;

/// Whom this system asks, and when that was read.
#[derive(Default)]
pub(super) struct Resolver {
    system: RefCell<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Resolver {
    /// What there is of a name; `None`: there is nothing. Without `servers` those of this system are asked.
    ///
    /// # Errors
    /// Nobody says, and why.
    pub(super) async fn ask(
        &self,
        servers: &[SocketAddr],
        name: &str,
        kind: RecordKind,
    ) -> Result<Option<FoundRecords>, &'static str> {
        let system = if servers.is_empty() { self.system() } else { Vec::new() };
        let servers: &[SocketAddr] = if servers.is_empty() { &system } else { servers };
        let mut why = "there is no name server";
        for _ in 0..TRIES {
            for server in servers {
                match ask_one(*server, name, kind).await {
                    Ok(found) => return Ok(found),
                    Err(failed) => why = failed,
                }
            }
        }
        Err(why)
    }

    fn system(&self) -> Vec<SocketAddr> {
        let mut known = self.system.borrow_mut();
        if let Some((_, servers)) = known.as_ref().filter(|(read, _)| read.elapsed() < FRESH) {
            return servers.clone();
        }
        let mut text = String::new();
        let read = std::fs::File::open(FILE).and_then(|file| file.take(LONGEST).read_to_string(&mut text));
        if let Err(error) = read {
            tracing::warn!(%error, "{FILE} cannot be read: no crawler can be looked up");
        }
        let servers = servers(&text);
        *known = Some((Instant::now(), servers.clone()));
        servers
    }
}

/// Name servers in a `resolv.conf`. One with a zone is left out.
fn servers(text: &str) -> Vec<SocketAddr> {
    let read = |line: &str| {
        let server = line.trim().strip_prefix("nameserver")?.split_ascii_whitespace().next()?;
        Some(SocketAddr::new(server.parse().ok()?, PORT))
    };
    text.lines().filter_map(read).take(MOST).collect()
}

/// The name under which an address has its names.
pub(super) fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let digits = format!("{:032x}", address.to_bits());
            let digits = digits.chars().rev().flat_map(|digit| [digit, '.']);
            format!("{}ip6.arpa", digits.collect::<String>())
        }
    }
}

async fn ask_one(server: SocketAddr, name: &str, kind: RecordKind) -> Result<Option<FoundRecords>, &'static str> {
    let mut id = [0; 2];
    aws_lc_rs::rand::fill(&mut id).map_err(|_unspecified| "the machine has no randomness")?;
    let id = u16::from_be_bytes(id);
    let question = write(id, name, kind).ok_or("it has a name that cannot be asked about")?;
    let failed = "the name server cannot be asked";
    let socket = socket(server).map_err(|_unreachable| failed)?;
    socket.send(&question).await.map_err(|_unreachable| failed)?;
    let until = Instant::now() + WAIT;
    let mut bytes = [0; 4_096];
    loop {
        let came = timeout_at(until, socket.recv(&mut bytes)).await.map_err(|_elapsed| "the name server is silent")?;
        let length = came.map_err(|_unreachable| failed)?;
        match read(bytes.get(..length).unwrap_or_default(), id, name, kind) {
            Reading::Answer(found) => return Ok(found),
            Reading::Failed(why) => return Err(why),
            Reading::Other => {}
        }
    }
}

/// A socket of its own for each question, from a port that the kernel picks at random: nobody else guesses it. It hears
/// this server alone.
fn socket(server: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(server), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    socket.bind(&SocketAddr::new(any, 0).into())?;
    socket.connect(&server.into())?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_addresses() {
        for (address, expect) in [
            ("192.0.2.1", "1.2.0.192.in-addr.arpa"),
            ("2001:db8::1:ff", "f.f.0.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"),
        ] {
            assert_eq!(reverse_name(address.parse().unwrap()), expect);
        }
    }

    #[test]
    fn servers_of_this_system() {
        let text = "# nameserver 192.0.2.9\nsearch example\nnameserver 192.0.2.1 # first\n  nameserver\t2001:db8::1\n\
                    nameserver fe80::1%eth0\nnameserver nobody\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let found: Vec<String> = servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]);
    }
}
