//! Reads what a client's frames say (RFC 9113 4-6): requests and their bodies, or the error that the RFC names, of the stream
//! or of the connection (H09).

use std::task::Context;

use http::header;

use super::{
    body_buffer::{self, Body, BodyBuffer},
    frame::{
        self, ACK, ConnectionError, END_HEADERS, END_STREAM, FrameHead, HAS_PRIORITY, HEADER, MAX_PAYLOAD, PADDED,
        Reason,
    },
    frame_reader::Frame,
    head::{FieldBlock, FieldReader, HeadError},
    session::Session,
    stream::{ResponseSender, Stream, StreamState, Work},
};
use crate::{
    proxy::{
        service::{BodyError, Service},
        timing::deadline,
    },
    refusal::{Refusal, Reject},
};

/// How many frames the fields of one block may take (H03): four would do for the largest that may come.
const MAX_FRAMES: u32 = 32;

/// How much longer than what may be read a block may be: what is too large by little is answered.
const TOLERATED: usize = 4 * MAX_PAYLOAD;

impl<S: Service> Session<S>
where
    S::RequestBody: From<Body>,
{
    /// Takes what came.
    ///
    /// # Errors
    /// The connection cannot go on.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        let mut rest = bytes;
        while let Some(frame) = self.frames.next(&mut rest)? {
            match frame {
                Frame::Whole(head, payload) => self.frame(&head, payload)?,
                Frame::Joined(head, joined) => {
                    self.frame(&head, joined.get(HEADER..).unwrap_or_default())?;
                    self.frames.recycle(joined);
                }
            }
        }
        Ok(())
    }

    fn frame(&mut self, head: &FrameHead, payload: &[u8]) -> Result<(), ConnectionError> {
        if !self.flood.frame(head, payload, deadline::now()) {
            return Err(ConnectionError(Reason::EnhanceYourCalm, "flood of HTTP/2 frames"));
        }
        if !self.peer.have_come && head.kind != frame::SETTINGS {
            return Err(ConnectionError::protocol("no SETTINGS first"));
        }
        // RFC 9113 6.10: nothing comes between the frames of a block.
        if self.block.as_ref().is_some_and(|block| head.kind != frame::CONTINUATION || head.stream != block.stream) {
            return Err(ConnectionError::protocol("frame within fields"));
        }
        let taken = match head.kind {
            frame::DATA => self.data(head, payload),
            frame::HEADERS => self.headers(head, payload),
            frame::CONTINUATION => self.continuation(head, payload),
            frame::RST_STREAM => self.rst_stream(head, payload),
            frame::SETTINGS => self.settings(head, payload),
            frame::PING => self.ping(head, payload),
            frame::WINDOW_UPDATE => self.window_update(head, payload),
            frame::PRIORITY if head.stream == 0 => Err(ConnectionError::protocol("PRIORITY on the connection")),
            frame::PRIORITY if head.length != 5 => {
                Err(ConnectionError(Reason::FrameSize, "PRIORITY not of five bytes"))
            }
            frame::PUSH_PROMISE => Err(ConnectionError::protocol("PUSH_PROMISE of a client")),
            frame::GOAWAY if head.stream != 0 => Err(ConnectionError::protocol("GOAWAY on a stream")),
            frame::GOAWAY if head.length < 8 => Err(ConnectionError(Reason::FrameSize, "GOAWAY too short")),
            frame::GOAWAY => {
                self.shutdown.client_leaves();
                Ok(())
            }
            _ => Ok(()),
        };
        self.frames_read += u64::from(self.block.is_none());
        taken
    }

    fn data(&mut self, head: &FrameHead, payload: &[u8]) -> Result<(), ConnectionError> {
        if head.stream == 0 {
            return Err(ConnectionError::protocol("DATA on the connection"));
        }
        let length = u32::try_from(head.length).unwrap_or(u32::MAX);
        let content = unpad(head, payload)?;
        let padding = length.saturating_sub(u32::try_from(content.len()).unwrap_or(u32::MAX));
        self.flow.received(length)?;
        let slot = match self.streams.find(head.stream)? {
            Some(slot) if self.is_receiving(slot) => slot,
            other => {
                self.flow.free(length);
                if self.is_passed_over(head.stream) {
                    return self.count_late(length, head.has(END_STREAM));
                }
                return self.end_stream(head.stream, other, true, Reason::StreamClosed);
            }
        };
        let Some(body) = self.streams.stream(slot).and_then(|stream| stream.body.clone()) else {
            // Nobody wants it: its stream is about to be reset.
            self.flow.free(length);
            return Ok(());
        };
        let mut taken = body.push(content, padding);
        if head.has(END_STREAM) && taken.is_ok() {
            taken = body.end(None);
            self.end_remote(slot);
        }
        let reason = match taken {
            Ok(()) => return Ok(()),
            Err(body_buffer::DataError::Window) => Reason::FlowControl,
            Err(body_buffer::DataError::Length) => Reason::Protocol,
        };
        self.end_stream(head.stream, Some(slot), head.has(END_STREAM), reason)
    }

    fn headers(&mut self, head: &FrameHead, payload: &[u8]) -> Result<(), ConnectionError> {
        let mut fragment = unpad(head, payload)?;
        let mut depends_on_itself = false;
        if head.has(HAS_PRIORITY) {
            let (priority, behind) =
                fragment.split_first_chunk::<5>().ok_or(ConnectionError(Reason::FrameSize, "no priority"))?;
            let [a, b, c, d, _] = *priority;
            depends_on_itself = u32::from_be_bytes([a, b, c, d]) & frame::MOST == head.stream;
            fragment = behind;
        }
        let is_new = match self.streams.slot(head.stream) {
            // Trailers: whatever is wrong with them is found below.
            Some(slot) if self.is_receiving(slot) => false,
            Some(_) => return Err(ConnectionError(Reason::StreamClosed, "HEADERS on a stream that ended")),
            None if head.stream.is_multiple_of(2) => {
                return Err(ConnectionError::protocol("HEADERS on no stream of a client's"));
            }
            None if head.stream > self.streams.last() => true,
            None if self.is_passed_over(head.stream) => {
                self.count_late(0, true)?;
                false
            }
            None => return Err(ConnectionError(Reason::StreamClosed, "HEADERS on a stream that is closed")),
        };
        let ends = head.has(END_STREAM);
        if is_new {
            self.streams.open(head.stream);
            if self.shutdown.ignores(head.stream) {
                self.pass_over(ends);
                self.count_unserved()?;
            }
        }
        if head.has(END_HEADERS) {
            return self.fields(head.stream, ends, depends_on_itself, fragment);
        }
        if depends_on_itself {
            // As it will be found when the rest has come: the stream is known as one that is reset.
            self.refuse(head.stream, ends, Reason::Protocol)?;
        }
        self.block = Some(FieldBlock { stream: head.stream, ends, bytes: fragment.to_vec(), frames: 1 });
        Ok(())
    }

    fn continuation(&mut self, head: &FrameHead, payload: &[u8]) -> Result<(), ConnectionError> {
        let Some(mut block) = self.block.take() else {
            return Err(ConnectionError::protocol("CONTINUATION of nothing"));
        };
        block.frames += 1;
        block.bytes.extend_from_slice(payload);
        let most = self.service.head_limits().bytes.saturating_add(TOLERATED);
        if block.frames > MAX_FRAMES || block.bytes.len() > most {
            return Err(ConnectionError(Reason::EnhanceYourCalm, "fields without an end"));
        }
        if head.has(END_HEADERS) {
            return self.fields(block.stream, block.ends, false, &block.bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    /// Takes a whole block of fields.
    fn fields(&mut self, number: u32, ends: bool, is_wrong: bool, block: &[u8]) -> Result<(), ConnectionError> {
        let mut reader = FieldReader::new(self.service.head_limits());
        // Whatever becomes of the stream: what the fields leave in the table is for those that follow.
        self.decoder
            .decode(block, |field| reader.add(field))
            .map_err(|_error| ConnectionError(Reason::Compression, "fields that cannot be decoded"))?;
        if self.is_passed_over(number) {
            return Ok(());
        }
        if is_wrong {
            return self.refuse(number, ends, Reason::Protocol);
        }
        if let Some(slot) = self.streams.slot(number) {
            let trailers =
                if ends { reader.trailers() } else { Err(HeadError::Malformed("trailers that are not the end")) };
            let body = self.streams.stream(slot).and_then(|stream| stream.body.clone());
            self.end_remote(slot);
            let is_whole = trailers.ok().zip(body).is_some_and(|(trailers, body)| body.end(Some(trailers)).is_ok());
            return if is_whole { Ok(()) } else { self.end_stream(number, Some(slot), ends, Reason::Protocol) };
        }
        if self.streams.is_full() || self.connection.is_stale() {
            self.reset(number, ends, Reason::RefusedStream);
            return self.count_unserved();
        }
        match reader.request(ends) {
            Ok((parts, length)) => {
                let (slot, waker) = self.streams.free_slot();
                let expects = !ends && parts.headers.contains_key(header::EXPECT);
                let body = (!ends).then(|| BodyBuffer::new(length, expects, self.flow.freed(), waker));
                let received = body.as_ref().map_or_else(Default::default, |body| Body::new(body).into());
                let work = Work::Responding(Box::pin(self.service.respond(parts, received)));
                let state = StreamState::opened(Some(work), ends);
                self.streams.insert(slot, Stream::new(number, state, body, self.flow.initial()));
                Ok(())
            }
            Err(HeadError::TooLarge(line)) => {
                let (slot, waker) = self.streams.free_slot();
                // Nobody reads its body, whose window and end count all the same.
                let body = (!ends).then(|| BodyBuffer::new(None, false, self.flow.freed(), waker));
                drop(body.as_ref().map(Body::new));
                let refusal = Refusal::new(Reject::HeadersTooLarge, "head too large");
                let response = self.service.refuse(line.map(|line| *line), refusal);
                let resize = std::mem::take(&mut self.peer.resizes_table);
                let sender = ResponseSender::begin(response, number, resize, &mut self.io.out());
                let state = StreamState::opened(sender.map(Work::Sending), ends);
                self.streams.insert(slot, Stream::new(number, state, body, self.flow.initial()));
                Ok(())
            }
            Err(HeadError::Malformed(detail)) => {
                self.service.malformed(detail);
                self.refuse(number, ends, Reason::Protocol)
            }
        }
    }

    fn rst_stream(&mut self, head: &FrameHead, payload: &[u8]) -> Result<(), ConnectionError> {
        if head.stream == 0 {
            return Err(ConnectionError::protocol("RST_STREAM on the connection"));
        }
        if payload.len() != 4 {
            return Err(ConnectionError(Reason::FrameSize, "RST_STREAM not of four bytes"));
        }
        if let Some(slot) = self.streams.find(head.stream)? {
            self.close(slot);
        }
        Ok(())
    }

    fn settings(&mut self, head: &FrameHead, payload: &[u8]) -> Result<(), ConnectionError> {
        if head.stream != 0 {
            return Err(ConnectionError::protocol("SETTINGS on a stream"));
        }
        if head.has(ACK) {
            let is_good = payload.is_empty() && self.peer.have_come;
            return if is_good {
                Ok(())
            } else {
                Err(ConnectionError(Reason::FrameSize, "SETTINGS that acknowledge with content"))
            };
        }
        let (settings, []) = payload.as_chunks::<6>() else {
            return Err(ConnectionError(Reason::FrameSize, "SETTINGS of no multiple of six bytes"));
        };
        for &[a, b, c, d, e, f] in settings {
            self.setting(u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]))?;
        }
        self.peer.have_come = true;
        frame::settled(&mut self.io.out());
        Ok(())
    }

    fn setting(&mut self, setting: u16, value: u32) -> Result<(), ConnectionError> {
        match setting {
            // RFC 7541 4.2: ours is empty, whatever it might be.
            frame::HEADER_TABLE_SIZE => self.peer.resizes_table = true,
            frame::ENABLE_PUSH if value > 1 => {
                return Err(ConnectionError::protocol("SETTINGS_ENABLE_PUSH neither 0 nor 1"));
            }
            frame::INITIAL_WINDOW_SIZE => {
                let change = self.flow.set_initial(value)?;
                let mut changed = 0_u128;
                for (slot, stream) in self.streams.iter_mut() {
                    stream.window += change;
                    if stream.window > i64::from(frame::MOST) {
                        return Err(ConnectionError(Reason::FlowControl, "SETTINGS_INITIAL_WINDOW_SIZE too large"));
                    }
                    changed |= 1 << slot;
                }
                self.streams.schedule_all(changed);
            }
            // Ours are no larger than any client has to take.
            frame::MAX_FRAME_SIZE if !(16_384..1 << 24).contains(&value) => {
                return Err(ConnectionError::protocol("SETTINGS_MAX_FRAME_SIZE out of range"));
            }
            _ => {}
        }
        Ok(())
    }

    fn ping(&mut self, head: &FrameHead, payload: &[u8]) -> Result<(), ConnectionError> {
        if head.stream != 0 {
            return Err(ConnectionError::protocol("PING on a stream"));
        }
        if payload.len() != 8 {
            return Err(ConnectionError(Reason::FrameSize, "PING not of eight bytes"));
        }
        if !head.has(ACK) {
            frame::ping(ACK, payload, &mut self.io.out());
        } else if self.shutdown.is_answered_by(payload) {
            self.finish_shutdown();
        }
        Ok(())
    }

    fn window_update(&mut self, head: &FrameHead, payload: &[u8]) -> Result<(), ConnectionError> {
        let more: [u8; 4] = payload
            .try_into()
            .map_err(|_error| ConnectionError(Reason::FrameSize, "WINDOW_UPDATE not of four bytes"))?;
        let more = u32::from_be_bytes(more) & frame::MOST;
        if head.stream == 0 {
            let woken = self.flow.opened(more)?;
            self.streams.schedule_all(woken);
            return Ok(());
        }
        let Some(slot) = self.streams.find(head.stream)? else { return Ok(()) };
        let Some(stream) = self.streams.stream_mut(slot) else { return Ok(()) };
        stream.window += i64::from(more);
        let (is_too_large, ends) = (stream.window > i64::from(frame::MOST), !stream.state.is_receiving());
        self.streams.schedule(slot);
        match more {
            0 => self.end_stream(head.stream, Some(slot), ends, Reason::Protocol),
            _ if is_too_large => self.end_stream(head.stream, Some(slot), ends, Reason::FlowControl),
            _ => Ok(()),
        }
    }

    /// Whether the client has not sent all of what the stream at `slot` is to get.
    fn is_receiving(&self, slot: usize) -> bool {
        self.streams.stream(slot).is_some_and(|stream| stream.state.is_receiving())
    }

    /// Whether frames of this stream may come, and mean nothing: we have reset it, or will not serve it.
    fn is_passed_over(&self, number: u32) -> bool {
        self.streams.was_reset(number) || self.shutdown.ignores(number)
    }

    /// The client has sent all of it.
    fn end_remote(&mut self, slot: usize) {
        if let Some(stream) = self.streams.stream_mut(slot) {
            stream.state.end_remote();
            self.streams.schedule(slot);
        }
    }

    /// Drops a stream as it is.
    fn close(&mut self, slot: usize) {
        if let Some(stream) = self.streams.take(slot) {
            self.release(&stream);
        }
        self.streams.vacate(slot);
    }

    /// Resets a stream for the client's fault, wherever it is. `ends`: the client has ended it.
    fn refuse(&mut self, number: u32, ends: bool, reason: Reason) -> Result<(), ConnectionError> {
        self.end_stream(number, self.streams.slot(number), ends, reason)
    }

    fn end_stream(
        &mut self,
        number: u32,
        slot: Option<usize>,
        ends: bool,
        reason: Reason,
    ) -> Result<(), ConnectionError> {
        if let Some((slot, mut stream)) = slot.and_then(|slot| Some((slot, self.streams.take(slot)?))) {
            stream.cut(BodyError::Broken);
            if let Some(Work::Responding(responding)) = stream.state.work()
                && let Some(waker) = self.streams.waker(slot)
            {
                // Whoever reads its body says in the log what was wrong with it; nobody hears the response.
                drop(responding.as_mut().poll(&mut Context::from_waker(waker)));
                drop(self.connection.interim.take());
            }
            self.release(&stream);
            self.streams.vacate(slot);
        }
        self.reset_for_fault(number, ends, reason)
    }
}

/// What is not padding (RFC 9113 6.1).
fn unpad<'a>(head: &FrameHead, payload: &'a [u8]) -> Result<&'a [u8], ConnectionError> {
    if !head.has(PADDED) {
        return Ok(payload);
    }
    let (&padding, rest) = payload.split_first().ok_or(ConnectionError(Reason::FrameSize, "no padding"))?;
    let length =
        rest.len().checked_sub(usize::from(padding)).ok_or(ConnectionError::protocol("more padding than there is"))?;
    Ok(rest.get(..length).unwrap_or_default())
}
