//! The requests of one connection, as HTTP/1 and HTTP/2 hand them over: each goes through the pipeline.

use std::rc::Rc;

use http::{Response, request::Parts};

use super::{exchange::Exchange, pipeline, problem, respond::CommonHeaders, response_body::ResponseBody};
use crate::{
    clock::Now,
    proxy::{
        body::Incoming,
        connection::Connection,
        service::{RequestLine, Service},
        tunnel::Tunnel,
        worker::Worker,
    },
    refusal::{Refusal, Reject},
    settings::{proxy::HeadLimits, timeouts::Timeouts},
    signal::Signal,
};

/// Answers the requests of one connection.
pub(in crate::proxy) struct Requests {
    pub(in crate::proxy) worker: Rc<Worker>,
    pub(in crate::proxy) connection: Rc<Connection>,
}

impl Service for Requests {
    type RequestBody = Incoming;
    type ResponseBody = ResponseBody;

    fn head_limits(&self) -> HeadLimits {
        self.worker.shared.snapshot.settings.head
    }

    fn timeouts(&self) -> &Timeouts {
        &self.worker.shared.snapshot.settings.timeouts
    }

    fn respond(&self, head: Box<Parts>, body: Incoming) -> impl Future<Output = Response<ResponseBody>> + 'static {
        pipeline::serve(Rc::clone(&self.worker), Rc::clone(&self.connection), head, body)
    }

    fn refuse(&self, line: Option<RequestLine>, refusal: Refusal) -> Response<ResponseBody> {
        let exchange = Exchange::begin(&self.worker, &self.connection, line, Now::read());
        problem::refuse(exchange, refusal, true)
    }

    fn replace(&self, broken: &mut ResponseBody) -> Option<Response<ResponseBody>> {
        let (exchange, detail) = broken.take_broken()?;
        Some(self.refuse_late(exchange, Refusal::new(Reject::UpstreamFailed, detail)))
    }

    fn refuse_tunnel(&self, tunnel: Box<Tunnel>) -> Response<ResponseBody> {
        self.refuse_late(tunnel.give_up(), Refusal::new(Reject::BadRequest, "bytes before the tunnel"))
    }

    fn malformed(&self, detail: &'static str) {
        Exchange::fault(&self.worker, &self.connection, Refusal::new(Reject::BadRequest, detail));
    }

    fn too_slow(&self, detail: &'static str) {
        Exchange::observe(&self.worker, &self.connection, Signal::SlowClient, detail);
    }
}

impl Requests {
    /// The response in place of one that was made already.
    fn refuse_late(&self, exchange: Box<Exchange>, refusal: Refusal) -> Response<ResponseBody> {
        let common = CommonHeaders::of(&self.worker.shared.snapshot, &self.connection, &exchange, false);
        let mut response = problem::refuse(exchange, refusal, true);
        common.write(None, &mut response);
        response
    }
}
