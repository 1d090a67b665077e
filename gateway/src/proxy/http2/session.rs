//! What is known of a connection of HTTP/2, and how it ends.

use std::rc::Rc;

use super::{
    flood::Flood,
    flow_control::{FlowControl, STREAM_WINDOW},
    frame::{self, ConnectionError, Reason},
    frame_reader::FrameReader,
    goaway::Shutdown,
    head::FieldBlock,
    keep_alive::{HeadDeadline, KeepAlive},
    ready::SLOTS,
    stream::Stream,
    streams::Streams,
};
use crate::proxy::{
    connection::{Connection, client_io::ClientIo},
    hpack::Decoder,
    service::Service,
    timing::deadline,
};

/// How much is collected before the client has to take some of it, in bytes.
pub(super) const FULL: usize = 64 * 1_024;

/// How a connection ended.
pub(in crate::proxy) enum Ended {
    /// The client left, or was too slow: nothing more is to be said.
    Cut,
    /// All is said. `unread`: a request was answered before its body was read, so the client may still be sending.
    Done { unread: bool },
    /// The client broke HTTP/2, and was told so.
    Broken(&'static str),
    /// It sent what only cost us work, and was told so.
    Flood(&'static str),
}

/// A connection of HTTP/2.
pub(super) struct Session<S: Service> {
    pub(super) service: S,
    pub(super) connection: Rc<Connection>,
    pub(super) io: Rc<ClientIo>,
    pub(super) frames: FrameReader,
    /// Fields whose last frame has not come.
    pub(super) block: Option<FieldBlock>,
    /// How many frames have come, those of one block as one.
    pub(super) frames_read: u64,
    pub(super) decoder: Decoder,
    pub(super) peer: PeerSettings,
    pub(super) streams: Streams<S::ResponseBody>,
    pub(super) flow: FlowControl,
    pub(super) flood: Flood,
    pub(super) shutdown: Shutdown,
    pub(super) head_deadline: HeadDeadline,
    pub(super) keep_alive: KeepAlive,
    /// Whether a request was answered before its body was read.
    pub(super) unread: bool,
    /// Why the connection cannot go on.
    pub(super) error: Option<ConnectionError>,
}

/// What the client has set, besides its windows (RFC 9113 6.5).
#[derive(Default)]
pub(super) struct PeerSettings {
    /// Whether its first settings have come.
    pub(super) have_come: bool,
    /// Whether it is still to be told that our table of fields is empty (RFC 7541 4.2).
    pub(super) resizes_table: bool,
}

impl<S: Service> Session<S> {
    /// Begins a connection: our settings are the first to be sent.
    pub(super) fn new(service: S, connection: &Rc<Connection>, io: &Rc<ClientIo>) -> Self {
        let limit = service.head_limits().bytes;
        let ours = [
            (frame::MAX_CONCURRENT_STREAMS, u32::try_from(SLOTS).unwrap_or(u32::MAX)),
            (frame::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (frame::MAX_HEADER_LIST_SIZE, u32::try_from(limit).unwrap_or(u32::MAX)),
        ];
        let mut out = io.out();
        frame::settings(&ours, &mut out);
        frame::window(0, FlowControl::first_grant(), &mut out);
        drop(out);
        Self {
            service,
            connection: Rc::clone(connection),
            io: Rc::clone(io),
            frames: FrameReader::default(),
            block: None,
            frames_read: 0,
            decoder: Decoder::new(),
            peer: PeerSettings::default(),
            streams: Streams::new(),
            flow: FlowControl::new(),
            flood: Flood::default(),
            shutdown: Shutdown::default(),
            head_deadline: HeadDeadline::default(),
            keep_alive: KeepAlive::default(),
            unread: false,
            error: None,
        }
    }

    /// Tells the client which streams are served.
    pub(super) fn finish_shutdown(&mut self) {
        self.shutdown.finish(self.streams.last(), &mut self.io.out());
    }

    /// Tells the client why the connection cannot go on.
    pub(super) fn fail(&self, error: ConnectionError) -> Ended {
        let ConnectionError(reason, detail) = error;
        frame::goaway(self.streams.last(), reason, &mut self.io.out());
        match reason {
            Reason::NoError => Ended::Done { unread: self.unread },
            Reason::EnhanceYourCalm => Ended::Flood(detail),
            _ => Ended::Broken(detail),
        }
    }

    /// Resets a stream, and remembers that. `ends`: the client has ended it, so nothing more can be on its way.
    pub(super) fn reset(&mut self, stream: u32, ends: bool, reason: Reason) {
        frame::reset(stream, reason, &mut self.io.out());
        self.streams.remember_reset(stream);
        self.pass_over(ends);
    }

    /// Notes a stream whose frames mean nothing any more. `ends`: none of them can be on its way.
    pub(super) const fn pass_over(&mut self, ends: bool) {
        if !ends {
            self.flood.passed_over();
        }
    }

    /// Resets a stream for a fault of the client's. `ends`: as with [`Self::reset`].
    ///
    /// # Errors
    /// Too many of its streams had to be reset.
    pub(super) fn reset_for_fault(&mut self, stream: u32, ends: bool, reason: Reason) -> Result<(), ConnectionError> {
        self.reset(stream, ends, reason);
        within(self.flood.fault(deadline::now()), "streams that have to be reset")
    }

    /// Counts a frame of a stream that we have reset or do not serve, with so many bytes of DATA. `ends`: it ends the
    /// stream.
    ///
    /// # Errors
    /// There were more of them than can have been on their way.
    pub(super) fn count_late(&mut self, bytes: u32, ends: bool) -> Result<(), ConnectionError> {
        within(self.flood.late(bytes, ends, deadline::now()), "frames of streams that were reset")
    }

    /// Counts a stream that is not served, as there are too many, or as the connection ends.
    ///
    /// # Errors
    /// There were far too many.
    pub(super) fn count_unserved(&mut self) -> Result<(), ConnectionError> {
        within(self.flood.unserved(deadline::now()), "more streams at once than are allowed")
    }

    /// What a stream holds is held no more.
    pub(super) fn release(&mut self, stream: &Stream<S::ResponseBody>) {
        if let Some(sender) = stream.state.sender() {
            self.flow.drop_held(sender.held());
        }
        self.streams.schedule_all(self.flow.with_memory());
    }

    /// Gives back what an idle connection does not need.
    pub(super) fn shrink(&mut self) {
        self.io.shrink();
        self.frames.shrink();
        self.streams.shrink();
    }
}

/// Ends the connection of a client that sends more than it may.
const fn within(is_within: bool, detail: &'static str) -> Result<(), ConnectionError> {
    if is_within { Ok(()) } else { Err(ConnectionError(Reason::EnhanceYourCalm, detail)) }
}
