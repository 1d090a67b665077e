//! The requests of one connection, as HTTP/1 and HTTP/2 hand them over: each goes through the pipeline.

use std::{cell::RefCell, rc::Rc};

use http::{Response, request::Parts};

use super::{
    exchange::Exchange,
    pipeline,
    response::{
        problem,
        respond::{self, CommonHeaders},
        response_body,
    },
};
use crate::{
    os::clock::Now,
    proxy::{
        body::Incoming,
        connection::Connection,
        generation::ListenerRef,
        service::{RequestLine, Service},
        tunnel::Tunnel,
        worker::Worker,
    },
    refusal::{Refusal, Reject},
    settings::{proxy::HeadLimits, timeouts::Timeouts},
    signal::Signal,
};

/// Answers the requests of one connection.
#[derive(Clone)]
pub(in crate::proxy) struct ConnectionRequests {
    worker: Rc<Worker>,
    pub(in crate::proxy) connection: Rc<Connection>,
    /// Shared by all clones: none keeps a configuration longer than the connection needs it.
    listener: Rc<RefCell<ListenerRef>>,
}

impl ConnectionRequests {
    /// `listener` is the one that the connection came in by, in the configuration that was in force then.
    pub(in crate::proxy) fn new(worker: &Rc<Worker>, connection: &Rc<Connection>, listener: ListenerRef) -> Self {
        let listener = Rc::new(RefCell::new(listener));
        Self { worker: Rc::clone(worker), connection: Rc::clone(connection), listener }
    }

    /// The listener in the configuration in force. Where it is gone, the connection stays with the one that had it until
    /// it is closed, which is soon.
    fn listener(&self) -> ListenerRef {
        let mut listener = self.listener.borrow_mut();
        if !self.worker.serves(&listener.generation)
            && let Some(next) = listener.at(&self.worker.generation())
        {
            *listener = next;
        }
        listener.clone()
    }

    /// Notes a signal about the client outside of any request.
    pub(in crate::proxy) fn observe(&self, signal: Signal, detail: &'static str) {
        Exchange::observe(&self.worker, &self.connection, self.listener(), signal, detail);
    }

    /// Notes a fault of the connection outside of any request.
    pub(in crate::proxy) fn fault(&self, detail: &'static str) {
        let refusal = Refusal::new(Reject::BadRequest, detail);
        Exchange::fault(&self.worker, &self.connection, self.listener(), refusal);
    }
}

impl Service for ConnectionRequests {
    type RequestBody = Incoming;
    type ResponseBody = response_body::ResponseBody;

    fn head_limits(&self) -> HeadLimits {
        self.worker.generation().snapshot().settings.head
    }

    fn timeouts(&self) -> Timeouts {
        self.worker.generation().snapshot().settings.timeouts
    }

    fn respond(
        &self,
        head: Box<Parts>,
        body: Incoming,
    ) -> impl Future<Output = Response<response_body::ResponseBody>> + 'static {
        pipeline::serve(Rc::clone(&self.worker), Rc::clone(&self.connection), self.listener(), head, body)
    }

    fn refuse(&self, line: Option<RequestLine>, refusal: Refusal) -> Response<response_body::ResponseBody> {
        let exchange = Exchange::begin(&self.worker, &self.connection, self.listener(), line, Now::read());
        problem::refuse(exchange, refusal, true)
    }

    fn replace(&self, broken: &mut response_body::ResponseBody) -> Option<Response<response_body::ResponseBody>> {
        let (exchange, detail) = broken.take_broken()?;
        Some(self.refuse_late(exchange, Refusal::new(Reject::UpstreamFailed, detail)))
    }

    fn refuse_tunnel(&self, tunnel: Box<Tunnel>) -> Response<response_body::ResponseBody> {
        self.refuse_late(tunnel.give_up(), Refusal::new(Reject::BadRequest, "bytes before the tunnel"))
    }

    fn malformed(&self, detail: &'static str) {
        self.fault(detail);
    }

    fn too_slow(&self, detail: &'static str) {
        self.observe(Signal::SlowClient, detail);
    }
}

impl ConnectionRequests {
    /// The response in place of one that was made already.
    fn refuse_late(&self, exchange: Box<Exchange>, refusal: Refusal) -> Response<response_body::ResponseBody> {
        let listener = exchange.listener.clone();
        let common = CommonHeaders::of(&listener, &self.connection, &exchange, false);
        let mut response = problem::refuse(exchange, refusal, true);
        common.write(&mut response);
        respond::note(&listener, response)
    }
}
