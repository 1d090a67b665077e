//! Decides how a connection to a server is opened: which address its name stands for, and in which order they are
//! tried.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
};

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::tls::Secure;
pub(super) use super::tls::Stream;
use crate::proxy::deadline;

/// How long a resolved name is believed, in nanoseconds. When it cannot be resolved again, the last answer stands.
const BELIEVED: u64 = 5_000_000_000;

/// Opens connections to one server.
pub(super) struct Dialer {
    /// `host:port`.
    pub(super) name: String,
    /// `None`: no TLS.
    secure: Option<Secure>,
    resolved: Rc<Resolved>,
}

struct Resolved {
    addresses: RefCell<Addresses>,
    resolving: Cell<bool>,
}

enum Addresses {
    Literal(SocketAddr),
    Name { known: Vec<SocketAddr>, until: u64 },
}

impl Dialer {
    pub(super) fn new(name: &str, secure: Option<Secure>) -> Self {
        let addresses = match name.parse() {
            Ok(address) => Addresses::Literal(address),
            Err(_) => Addresses::Name { known: Vec::new(), until: 0 },
        };
        let resolved = Resolved { addresses: RefCell::new(addresses), resolving: Cell::new(false) };
        Self { name: name.to_owned(), secure, resolved: Rc::new(resolved) }
    }

    /// A connected stream that began with `introduction`. The caller sets the deadline.
    pub(super) async fn dial(&self, introduction: &[u8]) -> io::Result<Stream> {
        let mut last = io::Error::from(io::ErrorKind::HostUnreachable);
        for address in self.addresses().await? {
            match TcpStream::connect(address).await {
                Ok(mut stream) => {
                    stream.set_nodelay(true)?;
                    // Before TLS: whoever ends TLS there has to know the client first.
                    stream.write_all(introduction).await?;
                    return match &self.secure {
                        Some(secure) => secure.connect(stream).await,
                        None => Ok(Stream::Plain(stream)),
                    };
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The addresses that are known. Only the first time anybody waits for them: afterwards they are asked for beside,
    /// so that name servers that do not answer cost no request its deadline.
    async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let known = match &*self.resolved.addresses.borrow() {
            Addresses::Literal(address) => return Ok(vec![*address]),
            Addresses::Name { known, until } if *until > deadline::now() => return Ok(known.clone()),
            Addresses::Name { known, .. } => known.clone(),
        };
        if known.is_empty() {
            return self.resolved.resolve(&self.name).await;
        }
        if !self.resolved.resolving.replace(true) {
            let (resolved, name) = (Rc::clone(&self.resolved), self.name.clone());
            tokio::task::spawn_local(async move {
                // Without an answer the last one stands, until the next request asks again.
                resolved.resolve(&name).await.unwrap_or_default();
                resolved.resolving.set(false);
            });
        }
        Ok(known)
    }
}

impl Resolved {
    async fn resolve(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        let addresses: Vec<_> = tokio::net::lookup_host(name).await?.collect();
        let until = deadline::now().saturating_add(BELIEVED);
        *self.addresses.borrow_mut() = Addresses::Name { known: addresses.clone(), until };
        Ok(addresses)
    }
}
