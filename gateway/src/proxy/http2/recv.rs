//! Decides what a client's frames come to (RFC 9113 4-6): requests and their bodies, or the error that the RFC names,
//! to the stream or to the connection (H09).

use std::{
    rc::Rc,
    task::{Context, Waker},
};

use http::header;

use super::{
    body_buffer::{self, Body, BodyBuffer},
    frame::{self, ACK, END_HEADERS, END_STREAM, HAS_PRIORITY, HEADER, Head, MAX_PAYLOAD, PADDED, PREFACE, Reason},
    head::{Reader, Wrong},
    ready::SLOTS,
    session::{Fault, GOODBYE, Leaving, Session},
    stream::{Stream, Work},
};
use crate::{
    clock::Now,
    proxy::{
        body::{BodyError, Incoming},
        request::{exchange::Record, pipeline, problem},
        timing::deadline,
    },
    refusal::{Refusal, Reject},
};

/// How many frames the fields of one block may take (H03): four would do for the largest that may come.
const MAX_PIECES: u32 = 32;

/// How much longer than what may be read a block may be: what is too large by little is answered.
const TOLERATED: usize = 4 * MAX_PAYLOAD;

/// Fields whose last frame has not come.
pub(super) struct Block {
    stream: u32,
    ends: bool,
    bytes: Vec<u8>,
    pieces: u32,
}

const fn fault(detail: &'static str) -> Fault {
    Fault(Reason::Protocol, detail)
}

impl Session {
    /// Takes what came.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut rest = bytes;
        if let Some(expected) = PREFACE.get(self.greeted..).filter(|expected| !expected.is_empty()) {
            let length = expected.len().min(rest.len());
            let (fresh, behind) = rest.split_at(length);
            if expected.get(..length) != Some(fresh) {
                return Err(fault("no preface of HTTP/2"));
            }
            self.greeted += length;
            rest = behind;
        }
        while !rest.is_empty() {
            if self.partial.is_empty()
                && let Some((head, behind)) = rest.split_first_chunk()
            {
                let head = announced(head)?;
                if let Some((payload, behind)) = behind.split_at_checked(head.length) {
                    self.frame(&head, payload)?;
                    rest = behind;
                    continue;
                }
            }
            let wanted = self.wanted()?.saturating_sub(self.partial.len()).min(rest.len());
            let (fresh, behind) = rest.split_at(wanted);
            self.partial.extend_from_slice(fresh);
            rest = behind;
            if self.partial.len() >= HEADER && self.wanted()? == self.partial.len() {
                let mut whole = std::mem::take(&mut self.partial);
                if let Some((head, payload)) = whole.split_first_chunk() {
                    self.frame(&Head::read(head), payload)?;
                }
                // Its room serves the next.
                whole.clear();
                self.partial = whole;
            }
        }
        Ok(())
    }

    /// How much of a frame makes it whole, or its header.
    fn wanted(&self) -> Result<usize, Fault> {
        match self.partial.first_chunk() {
            Some(head) => Ok(HEADER + announced(head)?.length),
            None => Ok(HEADER),
        }
    }

    fn frame(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fault> {
        if !self.flood.frame(head, deadline::now()) {
            return Err(Fault(Reason::EnhanceYourCalm, "flood of HTTP/2 frames"));
        }
        if !self.is_settled && head.kind != frame::SETTINGS {
            return Err(fault("no SETTINGS first"));
        }
        // RFC 9113 6.10: nothing comes between the frames of a block.
        if self.block.as_ref().is_some_and(|block| head.kind != frame::CONTINUATION || head.stream != block.stream) {
            return Err(fault("frame within fields"));
        }
        let taken = match head.kind {
            frame::DATA => self.data(head, payload),
            frame::HEADERS => self.headers(head, payload),
            frame::CONTINUATION => self.continuation(head, payload),
            frame::RST_STREAM => self.reset(head, payload),
            frame::SETTINGS => self.settings(head, payload),
            frame::PING => self.ping(head, payload),
            frame::WINDOW_UPDATE => self.window_update(head, payload),
            frame::PRIORITY if head.stream == 0 => Err(fault("PRIORITY on the connection")),
            frame::PRIORITY if head.length != 5 => Err(Fault(Reason::FrameSize, "PRIORITY not of five bytes")),
            frame::PUSH_PROMISE => Err(fault("PUSH_PROMISE of a client")),
            frame::GOAWAY if head.stream != 0 => Err(fault("GOAWAY on a stream")),
            frame::GOAWAY if head.length < 8 => Err(Fault(Reason::FrameSize, "GOAWAY too short")),
            frame::GOAWAY => {
                self.is_left = true;
                Ok(())
            }
            _ => Ok(()),
        };
        self.whole += u64::from(self.block.is_none());
        taken
    }

    fn data(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream == 0 {
            return Err(fault("DATA on the connection"));
        }
        let length = u32::try_from(head.length).unwrap_or(u32::MAX);
        let content = unpad(head, payload)?;
        let padding = length.saturating_sub(u32::try_from(content.len()).unwrap_or(u32::MAX));
        self.receivable = self
            .receivable
            .checked_sub(length)
            .ok_or(Fault(Reason::FlowControl, "more DATA than the connection's window"))?;
        let slot = match self.find(head.stream)? {
            Some(slot) if self.stream(slot).is_some_and(|stream| !stream.is_ended) => slot,
            other => {
                self.freed.set(self.freed.get().saturating_add(length));
                if self.forgotten.contains(&head.stream) || self.is_ignored(head.stream) {
                    return Ok(());
                }
                return self.end_stream(head.stream, other, Reason::StreamClosed);
            }
        };
        let Some(buffer) = self.stream(slot).and_then(|stream| stream.buffer.clone()) else {
            // Nobody wants it: its stream is about to be reset.
            self.freed.set(self.freed.get().saturating_add(length));
            return Ok(());
        };
        let mut taken = buffer.push(content, padding);
        if head.has(END_STREAM) && taken.is_ok() {
            taken = buffer.end(None);
            self.ended(slot);
        }
        let reason = match taken {
            Ok(()) => return Ok(()),
            Err(body_buffer::Fault::Window) => Reason::FlowControl,
            Err(body_buffer::Fault::Length) => Reason::Protocol,
        };
        self.end_stream(head.stream, Some(slot), reason)
    }

    fn headers(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fault> {
        let mut fragment = unpad(head, payload)?;
        let mut depends_on_itself = false;
        if head.has(HAS_PRIORITY) {
            let (priority, behind) =
                fragment.split_first_chunk::<5>().ok_or(Fault(Reason::FrameSize, "no priority"))?;
            let [a, b, c, d, _] = *priority;
            depends_on_itself = u32::from_be_bytes([a, b, c, d]) & frame::MOST == head.stream;
            fragment = behind;
        }
        let is_new = match self.slot(head.stream) {
            // Trailers: whatever is wrong with them is found below.
            Some(slot) if self.stream(slot).is_some_and(|stream| !stream.is_ended) => false,
            Some(_) => return Err(Fault(Reason::StreamClosed, "HEADERS on a stream that ended")),
            None if head.stream.is_multiple_of(2) => return Err(fault("HEADERS on no stream of a client's")),
            None if head.stream > self.last => true,
            None if self.forgotten.contains(&head.stream) => false,
            None => return Err(Fault(Reason::StreamClosed, "HEADERS on a stream that is closed")),
        };
        if is_new {
            self.last = head.stream;
        }
        let ends = head.has(END_STREAM);
        if head.has(END_HEADERS) {
            return self.fields(head.stream, ends, depends_on_itself, fragment);
        }
        if depends_on_itself {
            // As it will be found when the rest has come: the stream is known as one that is reset.
            self.refuse(head.stream, Reason::Protocol)?;
        }
        self.block = Some(Block { stream: head.stream, ends, bytes: fragment.to_vec(), pieces: 1 });
        Ok(())
    }

    fn continuation(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fault> {
        let Some(mut block) = self.block.take() else { return Err(fault("CONTINUATION of nothing")) };
        block.pieces += 1;
        block.bytes.extend_from_slice(payload);
        let most = self.worker.shared.snapshot.settings.head.bytes.saturating_add(TOLERATED);
        if block.pieces > MAX_PIECES || block.bytes.len() > most {
            return Err(Fault(Reason::EnhanceYourCalm, "fields without an end"));
        }
        if head.has(END_HEADERS) {
            return self.fields(block.stream, block.ends, false, &block.bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    /// Takes a whole block of fields.
    fn fields(&mut self, number: u32, ends: bool, is_wrong: bool, block: &[u8]) -> Result<(), Fault> {
        let mut reader = Reader::new(self.worker.shared.snapshot.settings.head);
        // Whatever becomes of the stream: what the fields leave in the table is for those that follow.
        self.decoder
            .decode(block, |field| reader.add(field))
            .map_err(|_error| Fault(Reason::Compression, "fields that cannot be decoded"))?;
        if self.forgotten.contains(&number) || self.is_ignored(number) {
            return Ok(());
        }
        if is_wrong {
            return self.refuse(number, Reason::Protocol);
        }
        if let Some(slot) = self.slot(number) {
            let trailers =
                if ends { reader.trailers() } else { Err(Wrong::Malformed("trailers that are not the end")) };
            let buffer = self.stream(slot).and_then(|stream| stream.buffer.clone());
            self.ended(slot);
            let ends = trailers.ok().zip(buffer).is_some_and(|(trailers, buffer)| buffer.end(Some(trailers)).is_ok());
            return if ends { Ok(()) } else { self.end_stream(number, Some(slot), Reason::Protocol) };
        }
        if self.active >= SLOTS || self.connection.is_stale() {
            frame::reset(number, Reason::RefusedStream, &mut self.io.out());
            self.forget(number);
            return Ok(());
        }
        match reader.request(ends) {
            Ok((parts, length)) => {
                let expects = !ends && parts.headers.contains_key(header::EXPECT);
                self.open(number, |session, waker| {
                    let buffer = (!ends).then(|| BodyBuffer::new(length, expects, &session.freed, waker.clone()));
                    let received = buffer.as_ref().map_or(Incoming::None, |buffer| Incoming::Http2(Body::new(buffer)));
                    let (worker, connection) = (Rc::clone(&session.worker), Rc::clone(&session.connection));
                    let work = Work::Answering(Box::pin(pipeline::serve(worker, connection, parts, received)));
                    Stream::new(number, work, buffer, ends, session.first_window)
                });
                Ok(())
            }
            Err(Wrong::TooLarge(line)) => {
                self.open(number, |session, _| {
                    let record =
                        Record::begin(&session.worker, &session.connection, line.map(|line| *line), Now::read());
                    let refusal = Refusal::new(Reject::HeadersTooLarge, "head too large");
                    let work = session.answer(problem::refuse(record, refusal, false), number);
                    Stream::new(number, work, None, ends, session.first_window)
                });
                Ok(())
            }
            Err(Wrong::Malformed(detail)) => {
                Record::fault(&self.worker, &self.connection, Refusal::new(Reject::BadRequest, detail));
                self.refuse(number, Reason::Protocol)
            }
        }
    }

    /// Opens a stream. Its place is woken.
    fn open(&mut self, number: u32, stream: impl FnOnce(&mut Self, &Waker) -> Stream) {
        let slot = match self.numbers.iter().position(|&number| number == 0) {
            Some(slot) => slot,
            None => {
                self.wakers.push(self.ready.waker(self.numbers.len()));
                self.numbers.push(0);
                self.streams.push(None);
                self.numbers.len() - 1
            }
        };
        let Some(waker) = self.wakers.get(slot).cloned() else { return };
        let stream = Box::new(stream(self, &waker));
        if let (Some(place), Some(known)) = (self.streams.get_mut(slot), self.numbers.get_mut(slot)) {
            (*place, *known) = (Some(stream), number);
            self.active += 1;
        }
        self.later |= 1 << slot;
    }

    fn reset(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream == 0 {
            return Err(fault("RST_STREAM on the connection"));
        }
        if payload.len() != 4 {
            return Err(Fault(Reason::FrameSize, "RST_STREAM not of four bytes"));
        }
        if let Some(slot) = self.find(head.stream)? {
            self.close(slot);
        }
        Ok(())
    }

    fn settings(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(fault("SETTINGS on a stream"));
        }
        if head.has(ACK) {
            let is_good = payload.is_empty() && self.is_settled;
            return if is_good {
                Ok(())
            } else {
                Err(Fault(Reason::FrameSize, "SETTINGS that acknowledge with content"))
            };
        }
        let (settings, []) = payload.as_chunks::<6>() else {
            return Err(Fault(Reason::FrameSize, "SETTINGS of no multiple of six bytes"));
        };
        for &[a, b, c, d, e, f] in settings {
            self.setting(u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]))?;
        }
        self.is_settled = true;
        frame::settled(&mut self.io.out());
        Ok(())
    }

    fn setting(&mut self, setting: u16, value: u32) -> Result<(), Fault> {
        match setting {
            // RFC 7541 4.2: ours is empty, whatever it might be.
            frame::HEADER_TABLE_SIZE => self.resize = true,
            frame::ENABLE_PUSH if value > 1 => return Err(fault("SETTINGS_ENABLE_PUSH neither 0 nor 1")),
            frame::INITIAL_WINDOW_SIZE if value > frame::MOST => {
                return Err(Fault(Reason::FlowControl, "SETTINGS_INITIAL_WINDOW_SIZE too large"));
            }
            frame::INITIAL_WINDOW_SIZE => {
                let more = i64::from(value) - self.first_window;
                self.first_window = i64::from(value);
                for (slot, stream) in self.streams.iter_mut().enumerate() {
                    let Some(stream) = stream else { continue };
                    stream.window += more;
                    if stream.window > i64::from(frame::MOST) {
                        return Err(Fault(Reason::FlowControl, "SETTINGS_INITIAL_WINDOW_SIZE too large"));
                    }
                    self.later |= 1 << slot;
                }
            }
            // Ours are no larger than any client has to take.
            frame::MAX_FRAME_SIZE if !(16_384..1 << 24).contains(&value) => {
                return Err(fault("SETTINGS_MAX_FRAME_SIZE out of range"));
            }
            _ => {}
        }
        Ok(())
    }

    fn ping(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(fault("PING on a stream"));
        }
        if payload.len() != 8 {
            return Err(Fault(Reason::FrameSize, "PING not of eight bytes"));
        }
        if !head.has(ACK) {
            frame::ping(ACK, payload, &mut self.io.out());
        } else if self.leaving == Leaving::Told && payload == GOODBYE {
            self.part();
        }
        Ok(())
    }

    fn window_update(&mut self, head: &Head, payload: &[u8]) -> Result<(), Fault> {
        let more: [u8; 4] =
            payload.try_into().map_err(|_error| Fault(Reason::FrameSize, "WINDOW_UPDATE not of four bytes"))?;
        let more = i64::from(u32::from_be_bytes(more) & frame::MOST);
        if head.stream == 0 {
            self.window += more;
            self.later |= std::mem::take(&mut self.shut);
            return match more {
                0 => Err(fault("WINDOW_UPDATE by nothing")),
                _ if self.window > i64::from(frame::MOST) => Err(Fault(Reason::FlowControl, "window too large")),
                _ => Ok(()),
            };
        }
        let Some(slot) = self.find(head.stream)? else { return Ok(()) };
        let Some(stream) = self.streams.get_mut(slot).and_then(Option::as_mut) else { return Ok(()) };
        stream.window += more;
        self.later |= 1 << slot;
        match more {
            0 => self.end_stream(head.stream, Some(slot), Reason::Protocol),
            _ if stream.window > i64::from(frame::MOST) => {
                self.end_stream(head.stream, Some(slot), Reason::FlowControl)
            }
            _ => Ok(()),
        }
    }

    /// Where the stream is, if it is open.
    fn slot(&self, number: u32) -> Option<usize> {
        self.numbers.iter().position(|&known| known == number && known != 0)
    }

    /// The same, of one that must have been opened.
    fn find(&self, number: u32) -> Result<Option<usize>, Fault> {
        if number > self.last || number.is_multiple_of(2) {
            return Err(fault("frame on an idle stream"));
        }
        Ok(self.slot(number))
    }

    fn stream(&self, slot: usize) -> Option<&Stream> {
        self.streams.get(slot)?.as_deref()
    }

    /// Whether the client was told that nobody looks at this stream.
    const fn is_ignored(&self, number: u32) -> bool {
        matches!(self.leaving, Leaving::After(last) if number > last)
    }

    /// The client has sent all of it.
    fn ended(&mut self, slot: usize) {
        if let Some(stream) = self.streams.get_mut(slot).and_then(Option::as_mut) {
            stream.is_ended = true;
            self.later |= 1 << slot;
        }
    }

    /// Drops a stream as it is.
    fn close(&mut self, slot: usize) {
        if let Some(stream) = self.streams.get_mut(slot).and_then(Option::take) {
            self.let_go(&stream);
        }
        self.vacate(slot);
    }

    /// Resets a stream for the client's fault, wherever it is.
    fn refuse(&mut self, number: u32, reason: Reason) -> Result<(), Fault> {
        self.end_stream(number, self.slot(number), reason)
    }

    fn end_stream(&mut self, number: u32, slot: Option<usize>, reason: Reason) -> Result<(), Fault> {
        let open = slot.and_then(|slot| Some((slot, self.streams.get_mut(slot)?.take()?, self.wakers.get(slot)?)));
        if let Some((slot, mut stream, waker)) = open {
            stream.cut(BodyError::Broken);
            if let Work::Answering(answering) = &mut stream.work {
                // Whoever reads its body says in the log what was wrong with it; nobody hears the answer.
                drop(answering.as_mut().poll(&mut Context::from_waker(waker)));
            }
            self.let_go(&stream);
            self.vacate(slot);
        }
        self.reproach(number, reason)
    }
}

/// The header of a frame; one that is too large is not waited for (RFC 9113 4.2).
fn announced(bytes: &[u8; HEADER]) -> Result<Head, Fault> {
    let head = Head::read(bytes);
    if head.length > MAX_PAYLOAD { Err(Fault(Reason::FrameSize, "frame too large")) } else { Ok(head) }
}

/// What is not padding (RFC 9113 6.1).
fn unpad<'a>(head: &Head, payload: &'a [u8]) -> Result<&'a [u8], Fault> {
    if !head.has(PADDED) {
        return Ok(payload);
    }
    let (&padding, rest) = payload.split_first().ok_or(Fault(Reason::FrameSize, "no padding"))?;
    let length = rest.len().checked_sub(usize::from(padding)).ok_or(fault("more padding than there is"))?;
    Ok(rest.get(..length).unwrap_or_default())
}
