//! Decides which connection to a server carries a request: a kept one, else a new one. One pool per server and worker,
//! so that no request waits for a lock.

use std::{cell::RefCell, io, rc::Rc, time::Duration};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::{
    super::body::{Flow, Upload},
    dial::Dialer,
};
use crate::proxy::{
    deadline::{self, within},
    reject::{Refusal, Reject},
};

/// Connections of one worker to one server.
pub(super) struct Pool {
    dialer: Dialer,
    /// Kept connections, the one used last at the end.
    idle: RefCell<Vec<Link>>,
    max_idle: usize,
    /// How long they are kept.
    patience: Duration,
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
    pool: Rc<Pool>,
    link: Link,
    kept: bool,
    /// The request's body, which may be on its way still.
    flow: Option<Rc<Flow>>,
}

impl Pool {
    pub(super) const fn new(dialer: Dialer, max_idle: usize, patience: Duration) -> Self {
        Self { dialer, idle: RefCell::new(Vec::new()), max_idle, patience }
    }

    /// Closes connections that were kept for long enough by `now`, or that the server has closed.
    pub(super) fn sweep(&self, now: u64) {
        let over = |link: &Link| u128::from(now.saturating_sub(link.since)) > self.patience.as_nanos();
        self.idle.borrow_mut().retain(|link| !over(link) && !link.sender.is_closed());
    }

    /// A connection that is ready for a request; a new one if it has to be `fresh`. One that is new takes at most
    /// `patience`.
    pub(super) async fn lease(self: &Rc<Self>, fresh: bool, patience: Duration) -> Result<Lease, Refusal> {
        while !fresh && let Some(mut link) = self.take() {
            // Back in the pool a moment ago, it may have its last answer's end still to read.
            if link.sender.is_ready() || matches!(within(patience, link.sender.ready()).await, Some(Ok(()))) {
                return Ok(Lease { pool: Rc::clone(self), link, kept: true, flow: None });
            }
        }
        let name = &self.dialer.name;
        match within(patience, self.connect()).await {
            Some(Ok(link)) => Ok(Lease { pool: Rc::clone(self), link, kept: false, flow: None }),
            Some(Err(error)) => {
                Err(Refusal::new(Reject::UpstreamFailed, format!("{name}: cannot connect: {}", error.kind())))
            }
            None => Err(Refusal::new(Reject::UpstreamTimeout, format!("{name}: connecting took too long"))),
        }
    }

    fn take(&self) -> Option<Link> {
        let mut idle = self.idle.borrow_mut();
        while let Some(link) = idle.pop() {
            if !link.sender.is_closed() {
                return Some(link);
            }
        }
        None
    }

    async fn connect(&self) -> io::Result<Link> {
        let stream = self.dialer.dial().await?;
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
        let mut idle = self.pool.idle.borrow_mut();
        if idle.len() >= self.pool.max_idle {
            idle.retain(|link| !link.sender.is_closed());
        }
        if idle.len() < self.pool.max_idle && !self.link.sender.is_closed() {
            let mut link = self.link;
            link.since = deadline::now();
            idle.push(link);
        }
        true
    }
}
