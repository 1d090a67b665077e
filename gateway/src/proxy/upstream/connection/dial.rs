//! Opens connections to a server: resolves its name, and tries its addresses in turn (Happy Eyeballs, RFC 8305).
//!
//! *Invariant:* once a name was resolved, no request waits for a name server again. A name that can no longer be resolved
//! keeps its addresses.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use thiserror::Error;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

pub(in crate::proxy::upstream) use super::tls::MaybeTlsStream;
use super::tls::{Alpn, ServerTls};
use crate::proxy::timing::deadline::{self, Alarm};

/// How long a connection may take until the next address is tried beside it (RFC 8305 8).
const HEAD_START: Duration = Duration::from_millis(250);

/// Opens connections to one server.
pub(in crate::proxy::upstream) struct Dialer {
    /// `host:port`.
    pub(in crate::proxy::upstream) name: String,
    /// `None`: no TLS.
    secure: Option<ServerTls>,
    resolved: Rc<Resolved>,
}

struct Resolved {
    addresses: RefCell<Addresses>,
    /// How long resolved addresses are used before they are resolved again, in nanoseconds.
    refresh_after: u64,
    resolving: Cell<bool>,
    /// Whether a request is waiting for the first addresses.
    awaited: Cell<bool>,
}

enum Addresses {
    Literal(SocketAddr),
    Name { known: Vec<SocketAddr>, until: u64 },
}

impl Dialer {
    /// Asks for the addresses of `name` again every `interval`.
    pub(in crate::proxy::upstream) fn new(name: &str, secure: Option<ServerTls>, interval: Duration) -> Self {
        let addresses = match name.parse() {
            Ok(address) => Addresses::Literal(address),
            Err(_) => Addresses::Name { known: Vec::new(), until: 0 },
        };
        let refresh_after = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        let resolved = Resolved {
            addresses: RefCell::new(addresses),
            refresh_after,
            resolving: Cell::new(false),
            awaited: Cell::new(false),
        };
        Self { name: name.to_owned(), secure, resolved: Rc::new(resolved) }
    }

    /// A connected stream that began with `introduction`, and to whom it leads. The caller sets the deadline.
    pub(in crate::proxy::upstream) async fn dial(
        &self,
        introduction: &[u8],
        offer: Alpn,
    ) -> io::Result<(MaybeTlsStream, SocketAddr)> {
        let (mut stream, address) = connect(alternate(self.addresses().await?)).await?;
        stream.set_nodelay(true)?;
        // Before TLS: whoever ends TLS there has to know the client first.
        stream.write_all(introduction).await?;
        let stream = match &self.secure {
            Some(secure) => secure.connect(stream, offer).await?,
            None => MaybeTlsStream::Plain(stream.into()),
        };
        Ok((stream, address))
    }

    /// How TLS is spoken, if it is.
    pub(in crate::proxy::upstream) const fn secure(&self) -> Option<&ServerTls> {
        self.secure.as_ref()
    }

    /// Whether connecting has got no further than asking for addresses.
    pub(in crate::proxy::upstream) fn awaits_addresses(&self) -> bool {
        self.resolved.awaited.get()
    }

    /// Whether TLS is spoken.
    pub(in crate::proxy::upstream) const fn is_secure(&self) -> bool {
        self.secure.is_some()
    }

    /// Whether the server still has this address.
    pub(in crate::proxy::upstream) fn is_current(&self, address: SocketAddr) -> bool {
        match &*self.resolved.addresses.borrow() {
            Addresses::Literal(_) => true,
            Addresses::Name { known, .. } => known.contains(&address),
        }
    }

    /// The addresses that are known. Only the first time anybody waits for them.
    async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let known = match &*self.resolved.addresses.borrow() {
            Addresses::Literal(address) => return Ok(vec![*address]),
            Addresses::Name { known, .. } => known.clone(),
        };
        if !known.is_empty() {
            return Ok(known);
        }
        self.resolved.awaited.set(true);
        let resolved = self.resolved.resolve(&self.name).await;
        self.resolved.awaited.set(false);
        resolved
    }

    /// Asks for the addresses again, beside everything else, if it is time to.
    pub(in crate::proxy::upstream) fn refresh(&self, now: u64) {
        match &*self.resolved.addresses.borrow() {
            // A name that was never resolved is asked for by whoever needs it.
            Addresses::Name { known, until } if *until <= now && !known.is_empty() => {}
            _ => return,
        }
        if self.resolved.resolving.replace(true) {
            return;
        }
        let (resolved, name) = (Rc::clone(&self.resolved), self.name.clone());
        tokio::task::spawn_local(async move {
            if let Err(error) = resolved.resolve(&name).await {
                tracing::warn!(server = name, %error, "cannot resolve the server's name; keeping its addresses");
                resolved.put_off();
            }
            resolved.resolving.set(false);
        });
    }
}

impl Resolved {
    async fn resolve(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        let looked_up = tokio::net::lookup_host(name).await;
        let addresses: Vec<_> = looked_up.map_err(unresolved)?.collect();
        if addresses.is_empty() {
            return Err(Unresolved("it has no address".to_owned()).into());
        }
        let until = deadline::now().saturating_add(self.refresh_after);
        *self.addresses.borrow_mut() = Addresses::Name { known: addresses.clone(), until };
        Ok(addresses)
    }

    fn put_off(&self) {
        if let Addresses::Name { until, .. } = &mut *self.addresses.borrow_mut() {
            *until = deadline::now().saturating_add(self.refresh_after);
        }
    }
}

/// Whether the gateway itself lacks what a connection needs: descriptors, ports, memory, rights.
pub(in crate::proxy::upstream) fn is_ours(error: &io::Error) -> bool {
    use rustix::io::Errno as E;
    let code = error.raw_os_error().map(E::from_raw_os_error);
    code.is_some_and(|code| {
        matches!(code, E::ACCESS | E::ADDRNOTAVAIL | E::MFILE | E::NFILE | E::NOBUFS | E::NOMEM | E::PERM)
    })
}

/// A failed lookup as an error with its reason. An error of the operating system stays as it is.
fn unresolved(error: io::Error) -> io::Error {
    if error.raw_os_error().is_some() { error } else { Unresolved(error.to_string()).into() }
}

/// A name without an address, and why.
#[derive(Debug, Error)]
#[error("its name cannot be resolved: {0}")]
struct Unresolved(String);

impl From<Unresolved> for io::Error {
    fn from(unresolved: Unresolved) -> Self {
        Self::new(io::ErrorKind::NotFound, unresolved)
    }
}

/// Addresses of both families in turn, beginning with the family of the first (RFC 8305 4).
fn alternate(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut second = second.into_iter();
    let mut alternating = VecDeque::new();
    for address in first {
        alternating.push_back(address);
        alternating.extend(second.next());
    }
    alternating.extend(second);
    alternating
}

/// The first connection that comes about. Another address is tried as soon as one fails, or has not answered for
/// [`HEAD_START`].
async fn connect(mut left: VecDeque<SocketAddr>) -> io::Result<(TcpStream, SocketAddr)> {
    type Connecting = Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>;
    let mut attempts: Vec<(SocketAddr, Connecting)> = Vec::new();
    let mut alarm = Alarm::default();
    let mut last = io::Error::from(io::ErrorKind::HostUnreachable);
    poll_fn(|cx| {
        loop {
            let mut at = 0;
            while let Some((address, attempt)) = attempts.get_mut(at) {
                match attempt.as_mut().poll(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok((stream, *address))),
                    Poll::Ready(Err(error)) => {
                        last = error;
                        drop(attempts.swap_remove(at));
                        alarm.rest();
                    }
                    Poll::Pending => at += 1,
                }
            }
            let is_time = attempts.is_empty() || (!left.is_empty() && alarm.poll(HEAD_START, cx).is_ready());
            if !is_time {
                return Poll::Pending;
            }
            let Some(address) = left.pop_front() else {
                return Poll::Ready(Err(std::mem::replace(&mut last, io::ErrorKind::HostUnreachable.into())));
            };
            alarm.rest();
            attempts.push((address, Box::pin(TcpStream::connect(address))));
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate() {
        #[track_caller]
        fn check(addresses: &[&str], expect: &[&str]) {
            let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
            let made: Vec<String> = alternate(addresses).iter().map(ToString::to_string).collect();
            assert_eq!(made, expect);
        }
        check(&[], &[]);
        check(&["10.0.0.1:1", "10.0.0.2:1"], &["10.0.0.1:1", "10.0.0.2:1"]);
        check(&["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1"], &["[::1]:1", "10.0.0.1:1", "[::2]:1", "[::3]:1"]);
        check(&["10.0.0.1:1", "[::1]:1", "[::2]:1"], &["10.0.0.1:1", "[::1]:1", "[::2]:1"]);
    }
}
