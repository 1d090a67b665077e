//! What is noted of a connection outside of any request.

use std::{borrow::Cow, rc::Rc};

use super::exchange::Exchange;
use crate::{
    os::clock::Now,
    proxy::{connection::Connection, generation::ListenerRef, worker::Worker},
    refusal::{Refusal, RefusalRow},
    signal::Signal,
};

impl Exchange {
    /// Notes a fault of a connection outside of any request.
    pub(in crate::proxy) fn fault(
        worker: &Rc<Worker>,
        connection: &Rc<Connection>,
        listener: ListenerRef,
        refusal: Refusal,
    ) {
        let mut exchange = Self::new(worker, connection, listener, None, Now::read(), false);
        exchange.refuse(refusal);
        exchange.outcome.status = 0;
    }

    /// Notes a signal about the source of a connection outside of any request.
    pub(in crate::proxy) fn observe(
        worker: &Rc<Worker>,
        connection: &Rc<Connection>,
        listener: ListenerRef,
        signal: Signal,
        detail: impl Into<Cow<'static, str>>,
    ) {
        let mut exchange = Self::new(worker, connection, listener, None, Now::read(), false);
        exchange.outcome.status = 0;
        exchange.observed(signal, None, &[]);
        let row =
            RefusalRow { status: http::StatusCode::BAD_REQUEST, title: "", label: signal.name(), signal: Some(signal) };
        exchange.outcome.refused = Some((row, detail.into()));
    }

    /// Notes a handshake that failed and says nothing about its source.
    pub(in crate::proxy) fn failed_handshake(
        worker: &Rc<Worker>,
        connection: &Rc<Connection>,
        listener: ListenerRef,
        detail: Cow<'static, str>,
    ) {
        let mut exchange = Self::new(worker, connection, listener, None, Now::read(), false);
        exchange.outcome.status = 0;
        let row =
            RefusalRow { status: http::StatusCode::BAD_REQUEST, title: "", label: "failed_handshake", signal: None };
        exchange.outcome.refused = Some((row, detail));
    }
}
