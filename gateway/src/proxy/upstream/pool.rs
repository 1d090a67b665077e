//! Decides which connection to a server carries a request: a kept one, else a new one. One pool per server and worker,
//! so that no request waits for a lock.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, time::Duration};

use http::{Request, response};

use super::{
    super::body::{Flow, Upload},
    client::{Broken, Link},
    dial::Dialer,
    tls::describe,
};
use crate::proxy::{
    deadline::{self, within},
    reject::{Refusal, Reject},
};

/// Connections of one worker to one server.
pub(super) struct Pool {
    dialer: Dialer,
    /// Kept connections, the one used last at the end.
    idle: RefCell<Vec<Idle>>,
    max_idle: usize,
    /// How long they are kept.
    patience: Duration,
}

/// A connection that waits for its next request.
struct Idle {
    link: Link,
    /// Whom it leads to.
    address: SocketAddr,
    since: u64,
}

/// A connection in use. Dropped: closed.
pub(in crate::proxy) struct Lease {
    pool: Rc<Pool>,
    pub(super) link: Link,
    address: SocketAddr,
    kept: bool,
    /// It may carry other clients' requests.
    shared: bool,
    /// The request's body, which may be on its way still.
    flow: Option<Rc<Flow>>,
}

impl Pool {
    pub(super) const fn new(dialer: Dialer, max_idle: usize, patience: Duration) -> Self {
        Self { dialer, idle: RefCell::new(Vec::new()), max_idle, patience }
    }

    /// Closes connections that were kept for long enough by `now`, that the server has closed, or that lead to an
    /// address which is the server's no more.
    pub(super) fn sweep(&self, now: u64) {
        let over = |idle: &Idle| u128::from(now.saturating_sub(idle.since)) > self.patience.as_nanos();
        self.idle
            .borrow_mut()
            .retain(|idle| !over(idle) && idle.link.is_alive() && self.dialer.is_current(idle.address));
        self.dialer.refresh(now);
    }

    /// A connection that is ready for a request; a new one if it has to be `fresh`. One that is new takes at most
    /// `patience`. With an `introduction` it begins with that, and carries this request alone.
    pub(super) async fn lease(
        self: &Rc<Self>,
        fresh: bool,
        introduction: &[u8],
        patience: Duration,
    ) -> Result<Lease, Refusal> {
        let (pool, shared) = (Rc::clone(self), introduction.is_empty());
        if shared
            && !fresh
            && let Some((link, address)) = self.take()
        {
            return Ok(Lease { pool, link, address, kept: true, shared, flow: None });
        }
        let name = &self.dialer.name;
        match within(patience, self.dialer.dial(introduction)).await {
            Some(Ok((stream, address))) => {
                Ok(Lease { pool, link: Link::new(stream), address, kept: false, shared, flow: None })
            }
            Some(Err(error)) => {
                Err(Refusal::new(Reject::UpstreamFailed, format!("{name}: cannot connect: {}", describe(&error))))
            }
            None => Err(Refusal::new(Reject::UpstreamTimeout, format!("{name}: connecting took too long"))),
        }
    }

    /// The kept connection that was used last and that the server left open.
    fn take(&self) -> Option<(Link, SocketAddr)> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { link, address, .. }) = idle.pop() {
            if link.is_alive() {
                return Some((link, address));
            }
        }
        None
    }
}

impl Lease {
    /// Whether the connection carried requests before: the upstream may be about to close it.
    pub(super) const fn is_kept(&self) -> bool {
        self.kept
    }

    /// As [`Link::send`].
    pub(super) async fn send(&mut self, request: &mut Request<Upload>) -> Result<response::Parts, Broken> {
        self.link.send(request).await
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
        if self.shared && self.link.is_reusable() && self.pool.dialer.is_current(self.address) {
            let mut idle = self.pool.idle.borrow_mut();
            if idle.len() >= self.pool.max_idle {
                idle.retain(|idle| idle.link.is_alive());
            }
            if idle.len() < self.pool.max_idle {
                idle.push(Idle { link: self.link, address: self.address, since: deadline::now() });
            }
        }
        true
    }
}
