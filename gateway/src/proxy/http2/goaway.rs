//! Ends a connection of HTTP/2 so that no request is lost (RFC 9113 6.8): the client is told to open no more streams, and
//! told which streams are served once it has had the time to hear that.
//!
//! The client's side may end first: by GOAWAY, or because it will never send anything again.

use std::{task::Context, time::Duration};

use super::{
    frame::{self, Reason},
    keep_alive::poll_every,
};
use crate::proxy::timing::deadline::Alarm;

/// The payload of the PING that is sent along with the first GOAWAY.
pub(super) const GOODBYE: [u8; 8] = *b"goodbye!";

/// How long a client may take to answer it.
const REPLY: Duration = Duration::from_secs(1);

/// How often it is asked whether a client is there that sends no more.
const PROBE: Duration = Duration::from_millis(250);

/// What the client was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum GoawaySent {
    #[default]
    Nothing,
    /// To open no more streams. It may have before it heard that.
    Announced,
    /// That no stream after this one is served.
    Final(u32),
}

/// How far the end of a connection is.
#[derive(Default)]
pub(super) struct Shutdown {
    told: GoawaySent,
    reply: Alarm,
    /// The client opens no more streams.
    client_leaves: bool,
    /// It has sent all that it will ever send, and may still wait for responses.
    is_half_closed: bool,
    probe: Alarm,
}

impl Shutdown {
    /// Whether the client has not been told yet that the connection ends.
    pub(super) fn is_untold(&self) -> bool {
        self.told == GoawaySent::Nothing
    }

    /// Tells the client to open no more streams.
    pub(super) fn announce(&mut self, out: &mut Vec<u8>) {
        frame::goaway(frame::MOST, Reason::NoError, out);
        // What the client sent before it heard that comes before its answer to this.
        frame::ping(0, &GOODBYE, out);
        self.told = GoawaySent::Announced;
    }

    /// Whether the client waits to be told which streams are served, and answers the PING now by this `payload`.
    pub(super) fn is_answered_by(&self, payload: &[u8]) -> bool {
        self.told == GoawaySent::Announced && payload == GOODBYE
    }

    /// Whether the client has taken too long to answer: it has heard of the end all the same.
    pub(super) fn is_overdue(&mut self, cx: &Context<'_>) -> bool {
        self.told == GoawaySent::Announced && self.reply.poll(REPLY, cx).is_ready()
    }

    /// Tells the client that no stream after `last` is served.
    pub(super) fn finish(&mut self, last: u32, out: &mut Vec<u8>) {
        self.reply.rest();
        frame::goaway(last, Reason::NoError, out);
        self.told = GoawaySent::Final(last);
    }

    /// Whether the client was told that nobody looks at this stream.
    #[inline]
    pub(super) const fn ignores(&self, stream: u32) -> bool {
        matches!(self.told, GoawaySent::Final(last) if stream > last)
    }

    /// The client opens no more streams.
    pub(super) const fn client_leaves(&mut self) {
        self.client_leaves = true;
    }

    /// The client will never send anything again.
    pub(super) const fn half_close(&mut self) {
        (self.is_half_closed, self.client_leaves) = (true, true);
    }

    pub(super) const fn is_half_closed(&self) -> bool {
        self.is_half_closed
    }

    /// Whether it is time to look whether a client is there that sends no more.
    pub(super) fn probes(&mut self, cx: &Context<'_>) -> bool {
        self.is_half_closed && poll_every(&mut self.probe, PROBE, cx).is_ready()
    }

    /// Whether no stream will ever be opened again.
    pub(super) const fn takes_no_streams(&self) -> bool {
        self.client_leaves || matches!(self.told, GoawaySent::Final(_))
    }
}
