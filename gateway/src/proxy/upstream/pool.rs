//! Decides which connection carries a request: a kept one of the server whose turn it is, else a new one, else another
//! server's. One pool per worker, so that no request waits for a lock.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::AbortHandle};

use super::{
    super::body::{Flow, Upload},
    Failure,
};
use crate::proxy::{
    deadline::{self, within},
    reject::{Refusal, Reject},
    settings::Upstream,
};

/// How long a resolved name is believed, in nanoseconds. When it cannot be resolved again, the last answer stands.
const BELIEVED: u64 = 5_000_000_000;

/// The servers of one upstream, seen from one worker.
pub(in crate::proxy) struct Group {
    servers: Box<[Rc<Server>]>,
    turn: Cell<usize>,
}

/// One server.
struct Server {
    /// `host:port`.
    name: String,
    resolved: RefCell<Resolved>,
    /// Kept connections, the one used last at the end.
    idle: RefCell<Vec<Link>>,
    max_idle: usize,
    /// How long they are kept.
    patience: Duration,
    resolving: Cell<bool>,
}

enum Resolved {
    Literal(SocketAddr),
    Name { addresses: Vec<SocketAddr>, until: u64 },
}

/// A connection. Dropped: closed, whatever it was at.
struct Link {
    sender: http1::SendRequest<Upload>,
    driver: AbortHandle,
    /// Since when it is idle.
    since: u64,
}

impl Drop for Link {
    /// hyper goes on with a body that the upstream does not take, though nobody waits for the answer any more.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A connection in use. Dropped: closed.
pub(in crate::proxy) struct Lease {
    server: Rc<Server>,
    link: Link,
    kept: bool,
    /// The request's body, which may be on its way still.
    flow: Option<Rc<Flow>>,
}

impl Group {
    pub(in crate::proxy) fn new(settings: &Upstream) -> Self {
        let servers = settings.servers.iter().map(|name| {
            let resolved = match name.parse() {
                Ok(address) => Resolved::Literal(address),
                Err(_) => Resolved::Name { addresses: Vec::new(), until: 0 },
            };
            let (resolved, idle) = (RefCell::new(resolved), RefCell::default());
            let (name, max_idle, patience) = (name.clone(), settings.max_idle, settings.idle);
            Rc::new(Server { name, resolved, idle, max_idle, patience, resolving: Cell::new(false) })
        });
        Self { servers: servers.collect(), turn: Cell::new(0) }
    }

    /// Closes connections that were kept for long enough by `now`, or that the upstream has closed.
    pub(in crate::proxy) fn sweep(&self, now: u64) {
        for server in &self.servers {
            let over = |link: &Link| u128::from(now.saturating_sub(link.since)) > server.patience.as_nanos();
            server.idle.borrow_mut().retain(|link| !over(link) && !link.sender.is_closed());
        }
    }

    /// A connection that is ready for a request; a new one if it has to be `fresh`.
    pub(super) async fn lease(&self, fresh: bool, patience: Duration) -> Result<Lease, Failure> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let mut refusal = Refusal::new(Reject::UpstreamFailed, "no server");
        for offset in 0..self.servers.len() {
            let Some(server) = self.servers.get(turn.wrapping_add(offset) % self.servers.len()) else { break };
            while !fresh && let Some(mut link) = server.take() {
                // Back in the pool a moment ago, it may have its last answer's end still to read.
                if link.sender.is_ready() || matches!(within(patience, link.sender.ready()).await, Some(Ok(()))) {
                    return Ok(Lease { server: Rc::clone(server), link, kept: true, flow: None });
                }
            }
            match within(patience, server.connect()).await {
                Some(Ok(link)) => return Ok(Lease { server: Rc::clone(server), link, kept: false, flow: None }),
                Some(Err(error)) => {
                    refusal = Refusal::new(
                        Reject::UpstreamFailed,
                        format!("{}: cannot connect: {}", server.name, error.kind()),
                    );
                }
                None => {
                    refusal =
                        Refusal::new(Reject::UpstreamTimeout, format!("{}: connecting took too long", server.name));
                }
            }
        }
        Err(refusal.into())
    }
}

impl Server {
    fn take(&self) -> Option<Link> {
        let mut idle = self.idle.borrow_mut();
        while let Some(link) = idle.pop() {
            if !link.sender.is_closed() {
                return Some(link);
            }
        }
        None
    }

    async fn connect(self: &Rc<Self>) -> io::Result<Link> {
        let stream = self.dial().await?;
        stream.set_nodelay(true)?;
        let mut builder = http1::Builder::new();
        // Heads and small bodies leave in one write (measured: cheaper than gathering).
        builder.writev(false);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let driver = tokio::task::spawn_local(async move {
            // Whoever waits for an answer is told by hyper; an idle connection that breaks is simply gone.
            connection.await.unwrap_or_default();
        });
        Ok(Link { sender, driver: driver.abort_handle(), since: deadline::now() })
    }

    async fn dial(self: &Rc<Self>) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::HostUnreachable);
        for address in self.addresses().await? {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The addresses that are known. Only the first time anybody waits for them: afterwards they are asked for beside,
    /// so that name servers that do not answer cost no request its deadline.
    async fn addresses(self: &Rc<Self>) -> io::Result<Vec<SocketAddr>> {
        let known = match &*self.resolved.borrow() {
            Resolved::Literal(address) => return Ok(vec![*address]),
            Resolved::Name { addresses, until } if *until > deadline::now() => return Ok(addresses.clone()),
            Resolved::Name { addresses, .. } => addresses.clone(),
        };
        if known.is_empty() {
            return self.resolve().await;
        }
        if !self.resolving.replace(true) {
            let server = Rc::clone(self);
            tokio::task::spawn_local(async move {
                // Without an answer the last one stands, until the next request asks again.
                server.resolve().await.unwrap_or_default();
                server.resolving.set(false);
            });
        }
        Ok(known)
    }

    async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let addresses: Vec<_> = tokio::net::lookup_host(&self.name).await?.collect();
        let until = deadline::now().saturating_add(BELIEVED);
        *self.resolved.borrow_mut() = Resolved::Name { addresses: addresses.clone(), until };
        Ok(addresses)
    }
}

impl Lease {
    /// Whether the connection carried requests before: the upstream may be about to close it.
    pub(super) const fn is_kept(&self) -> bool {
        self.kept
    }

    pub(super) fn send(
        &mut self,
        request: Request<Upload>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload>>>> + use<> {
        self.link.sender.try_send_request(request)
    }

    /// The lease of a connection that is being sent the body behind `flow`.
    pub(super) fn with(self, flow: Option<Rc<Flow>>) -> Self {
        Self { flow, ..self }
    }

    /// The answer was read to its end: the connection may carry another. `false`: the client was answered early and
    /// is still sending. Nobody else is to wait for that client, so the connection ends.
    #[must_use]
    pub(in crate::proxy) fn give_back(self) -> bool {
        if self.flow.is_some_and(|flow| !flow.ended.get()) {
            return false;
        }
        let mut idle = self.server.idle.borrow_mut();
        if idle.len() >= self.server.max_idle {
            idle.retain(|link| !link.sender.is_closed());
        }
        if idle.len() < self.server.max_idle && !self.link.sender.is_closed() {
            let mut link = self.link;
            link.since = deadline::now();
            idle.push(link);
        }
        true
    }
}
