//! Opens connections to a server: resolves its name, and tries its addresses in turn (Happy Eyeballs, RFC 8305).
//!
//! *Invariant:* once a name was resolved, no request waits for a name server again. A name that can no longer be resolved
//! keeps its addresses. Until it was resolved, all requests wait for one lookup, and a lookup that failed counts for
//! [`HELD`]: a name server that is silent costs one thread for a name, however many clients ask.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Poll, ready},
    time::Duration,
};

use thiserror::Error;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    sync::Notify,
    time::{Sleep, sleep},
};

pub(in crate::proxy::upstream) use super::tls::MaybeTlsStream;
use super::tls::{Alpn, ServerTls};
use crate::proxy::timing::deadline;

/// How long a connection may take until the next address is tried beside it (RFC 8305 8).
const HEAD_START: Duration = Duration::from_millis(250);

/// How long a first lookup that failed is not repeated, in nanoseconds.
const HELD: u64 = 1_000_000_000;

/// Opens connections to one server.
pub(in crate::proxy::upstream) struct Dialer {
    /// `host:port`.
    pub(in crate::proxy::upstream) name: String,
    /// `None`: no TLS.
    secure: Option<ServerTls>,
    resolved: Rc<Resolved>,
}

struct Resolved {
    /// For the log.
    name: String,
    addresses: RefCell<Addresses>,
    /// How long resolved addresses are used before they are resolved again, in nanoseconds.
    refresh_after: u64,
    resolving: Cell<bool>,
    /// Notified when a lookup has ended.
    ended: Notify,
    /// Why the last lookup failed while no address was known, and until when that counts.
    failed: RefCell<Option<(Unresolved, u64)>>,
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
            name: name.to_owned(),
            addresses: RefCell::new(addresses),
            refresh_after,
            resolving: Cell::new(false),
            ended: Notify::new(),
            failed: RefCell::default(),
        };
        Self { name: name.to_owned(), secure, resolved: Rc::new(resolved) }
    }

    /// A connected stream that began with `introduction`, and to whom it leads. The caller sets the deadline.
    pub(in crate::proxy::upstream) async fn dial(
        &self,
        introduction: &[u8],
        offer: Alpn,
    ) -> io::Result<(MaybeTlsStream, SocketAddr)> {
        let addresses = self.resolved.addresses(|| look_up(self.name.clone())).await?;
        let (mut stream, address) = connect(alternate(addresses)).await?;
        stream.set_nodelay(true)?;
        // Before TLS: whoever ends TLS there has to know the client first.
        stream.write_all(introduction).await?;
        let stream = match &self.secure {
            Some(secure) => secure.connect(stream, offer).await?,
            None => MaybeTlsStream::Plain(stream.into()),
        };
        Ok((stream, address))
    }

    /// Whether connecting has got no further than asking for addresses.
    pub(in crate::proxy::upstream) fn awaits_addresses(&self) -> bool {
        self.resolved.resolving.get() && self.resolved.known().is_empty()
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

    /// Asks for the addresses again, beside everything else, if it is time to.
    pub(in crate::proxy::upstream) fn refresh(&self, now: u64) {
        match &*self.resolved.addresses.borrow() {
            // A name that was never resolved is asked for by whoever needs it.
            Addresses::Name { known, until } if *until <= now && !known.is_empty() => {}
            _ => return,
        }
        self.resolved.begin(|| look_up(self.name.clone()));
    }

    /// The same, and waits until they are there, or cannot be found.
    pub(in crate::proxy::upstream) async fn refreshed(&self, now: u64) {
        let ended = self.resolved.ended.notified();
        self.refresh(now);
        if self.resolved.resolving.get() {
            ended.await;
        }
    }
}

impl Resolved {
    /// The addresses that are known. Only the first time anybody waits for them.
    async fn addresses<F>(self: &Rc<Self>, look_up: impl Fn() -> F) -> io::Result<Vec<SocketAddr>>
    where
        F: Future<Output = Result<Vec<SocketAddr>, Unresolved>> + 'static,
    {
        loop {
            let known = self.known();
            if !known.is_empty() {
                return Ok(known);
            }
            if let Some((why, _)) = self.failed.borrow().as_ref().filter(|(_, until)| deadline::now() < *until) {
                return Err(why.clone().into());
            }
            let ended = self.ended.notified();
            self.begin(&look_up);
            ended.await;
        }
    }

    fn known(&self) -> Vec<SocketAddr> {
        match &*self.addresses.borrow() {
            Addresses::Literal(address) => vec![*address],
            Addresses::Name { known, .. } => known.clone(),
        }
    }

    /// Has the name looked up, unless that is under way. In a task of its own: it is for all who wait, and the first may
    /// leave.
    fn begin<F>(self: &Rc<Self>, look_up: impl FnOnce() -> F)
    where
        F: Future<Output = Result<Vec<SocketAddr>, Unresolved>> + 'static,
    {
        if self.resolving.replace(true) {
            return;
        }
        let (resolved, found) = (Rc::clone(self), look_up());
        tokio::task::spawn_local(async move {
            resolved.hear(found.await);
            resolved.resolving.set(false);
            resolved.ended.notify_waiters();
        });
    }

    /// A lookup has ended. One that failed takes no address away.
    fn hear(&self, found: Result<Vec<SocketAddr>, Unresolved>) {
        let now = deadline::now();
        let mut addresses = self.addresses.borrow_mut();
        let Addresses::Name { known, until } = &mut *addresses else { return };
        *until = now.saturating_add(self.refresh_after);
        let failed = match found {
            Ok(found) => {
                *known = found;
                None
            }
            Err(why) if known.is_empty() => Some((why, now.saturating_add(HELD))),
            Err(error) => {
                tracing::warn!(server = self.name, %error, "cannot resolve the server's name; keeping its addresses");
                None
            }
        };
        self.failed.replace(failed);
    }
}

/// Asks the name servers. At least one address, or why there is none.
async fn look_up(name: String) -> Result<Vec<SocketAddr>, Unresolved> {
    let found: Vec<_> = tokio::net::lookup_host(name).await.map_err(|error| Unresolved::new(&error))?.collect();
    if found.is_empty() { Err(Unresolved::Name("it has no address".to_owned())) } else { Ok(found) }
}

/// Whether the gateway itself lacks what a connection needs: descriptors, ports, memory, rights.
pub(in crate::proxy::upstream) fn is_ours(error: &io::Error) -> bool {
    use rustix::io::Errno as E;
    let code = error.raw_os_error().map(E::from_raw_os_error);
    code.is_some_and(|code| {
        matches!(code, E::ACCESS | E::ADDRNOTAVAIL | E::MFILE | E::NFILE | E::NOBUFS | E::NOMEM | E::PERM)
    })
}

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum Unresolved {
    /// Of a name, and why.
    #[error("its name cannot be resolved: {0}")]
    Name(String),
    /// The operating system's error.
    #[error("{}", io::Error::from_raw_os_error(*.0))]
    System(i32),
}

impl Unresolved {
    fn new(error: &io::Error) -> Self {
        error.raw_os_error().map_or_else(|| Self::Name(error.to_string()), Self::System)
    }
}

impl From<Unresolved> for io::Error {
    fn from(unresolved: Unresolved) -> Self {
        match unresolved {
            Unresolved::Name(_) => Self::new(io::ErrorKind::NotFound, unresolved),
            Unresolved::System(code) => Self::from_raw_os_error(code),
        }
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
    // A timer of its own, as health checks connect on a thread that has no table of deadlines.
    let mut head_start: Option<Pin<Box<Sleep>>> = None;
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
                        head_start = None;
                    }
                    Poll::Pending => at += 1,
                }
            }
            if !attempts.is_empty() {
                if left.is_empty() {
                    return Poll::Pending;
                }
                let head_start = head_start.get_or_insert_with(|| Box::pin(sleep(HEAD_START)));
                ready!(head_start.as_mut().poll(cx));
            }
            let Some(address) = left.pop_front() else {
                return Poll::Ready(Err(std::mem::replace(&mut last, io::ErrorKind::HostUnreachable.into())));
            };
            head_start = None;
            attempts.push((address, Box::pin(TcpStream::connect(address))));
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many wait, the name server is asked once, and not again while its answer counts.
    #[test]
    fn one_lookup_for_all_who_wait() {
        const WAITING: usize = 500;
        let dialer = Rc::new(Dialer::new("api.test:80", None, Duration::from_secs(60)));
        let address: SocketAddr = "10.0.0.1:80".parse().unwrap();
        let none = Unresolved::Name("no such host".to_owned());
        let found: Result<Vec<SocketAddr>, Unresolved> = Ok(vec![address]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let local = tokio::task::LocalSet::new();
        let asked = Rc::new(Cell::new(0));
        // What is answered, how often it was asked for until then, and whether an earlier failure has expired.
        for (answer, expect, expired) in [
            (Err(none.clone()), 1, false),
            (Err(Unresolved::System(13)), 2, true),
            (found.clone(), 3, true),
            (Err(none), 3, true),
        ] {
            if expired && let Some((_, until)) = dialer.resolved.failed.borrow_mut().as_mut() {
                *until = 0;
            }
            let all = local.block_on(&runtime, async {
                let waiting: Vec<_> = (0..WAITING)
                    .map(|_| {
                        let (dialer, asked, answer) = (Rc::clone(&dialer), Rc::clone(&asked), answer.clone());
                        tokio::task::spawn_local(async move {
                            let look_up = || {
                                asked.set(asked.get() + 1);
                                let answer = answer.clone();
                                async move {
                                    tokio::task::yield_now().await;
                                    answer
                                }
                            };
                            dialer.resolved.addresses(look_up).await
                        })
                    })
                    .collect();
                let mut all = Vec::new();
                for one in waiting {
                    all.push(one.await.unwrap().map_err(|error| (error.kind(), error.to_string())));
                }
                all
            });
            assert_eq!((all.len(), asked.get()), (WAITING, expect), "{answer:?}");
            let is_known = expect == 3;
            let told = if is_known { found.clone() } else { answer };
            let told = told.map_err(io::Error::from).map_err(|error| (error.kind(), error.to_string()));
            assert!(all.iter().all(|one| *one == told), "{told:?}");
            assert!(!dialer.awaits_addresses(), "{told:?}");
        }
    }

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
