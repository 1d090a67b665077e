//! What it means to read a client's HTTP/2 safely, for all bytes there are: used by
//! the tests here, and written for a fuzzer.
//!
//! Wherever the bytes are cut, they are read alike. The client is sent what RFC 9113 lets it be sent, and nothing that is
//! counted gets lost.

use self::{
    observer::Observer,
    probe::{Probe, Unconnected},
};
use super::{
    flow_control::CONNECTION_WINDOW,
    frame::{self, ConnectionError, PREFACE},
    session::Session,
};
use crate::proxy::{
    hpack::{self, Decoder, FieldValue},
    pieces::{Cut, Pieces},
    timing::deadline,
};

mod observer;
mod probe;

/// When it happens, in nanoseconds: nothing depends on the clock.
const NOW: u64 = 1_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// How often a connection has its turn once all has come.
const TURNS: usize = 8;

thread_local! {
    static UNCONNECTED: Option<Unconnected> = Unconnected::new().ok();
}

/// What is wrong with how `bytes` are read; `None`: nothing is.
pub(in crate::proxy) fn fault(bytes: &[u8]) -> Option<String> {
    let tried = UNCONNECTED.with(|unconnected| {
        let unconnected = unconnected.as_ref().ok_or("there is no socket")?;
        let whole = read(unconnected, bytes, Cut::Whole);
        for cut in Cut::ways(bytes) {
            let found = read(unconnected, bytes, cut);
            if found != whole {
                return Err(format!("cut by {cut:?}, {whole:?} is {found:?}"));
            }
        }
        driven(unconnected, bytes)
    });
    tried.err()
}

/// The same for what comes behind a beginning that is as it must be, and as a block of fields.
pub(in crate::proxy) fn fault_behind(bytes: &[u8]) -> Option<String> {
    let mut whole = PREFACE.to_vec();
    frame::settings(&[], &mut whole);
    whole.extend_from_slice(bytes);
    fault(&whole).or_else(|| fields(bytes).err())
}

/// What is read of a connection before any request of it is answered.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    seen: Vec<String>,
    error: Option<ConnectionError>,
    frames: u64,
    streams: usize,
    /// What is replied at once, and then in one turn.
    replies: [Vec<u8>; 2],
}

/// A connection of which nothing has come.
fn begun(unconnected: &Unconnected, probe: &Probe) -> Session<Probe> {
    deadline::tick(NOW);
    unconnected.io.out().clear();
    Session::new(probe.clone(), &unconnected.connection, &unconnected.io)
}

fn read(unconnected: &Unconnected, bytes: &[u8], cut: Cut) -> Reading {
    let probe = Probe::default();
    let mut session = begun(unconnected, &probe);
    let error = Pieces::new(bytes, cut).find_map(|piece| session.receive(&piece).err());
    let (frames, streams) = (session.frames_read, session.streams.active());
    let at_once = std::mem::take(&mut *unconnected.io.out());
    if error.is_none() {
        session.go_round();
    }
    let then = std::mem::take(&mut *unconnected.io.out());
    Reading { seen: probe.seen.take(), error, frames, streams, replies: [at_once, then] }
}

/// What is wrong with a connection whose requests are answered while it comes.
fn driven(unconnected: &Unconnected, bytes: &[u8]) -> Result<(), String> {
    let (probe, mut observer) = (Probe::default(), Observer::new());
    let mut session = begun(unconnected, &probe);
    let [cut, ..] = Cut::ways(bytes);
    for piece in Pieces::new(bytes, cut) {
        observer.sends(&piece);
        let received = session.receive(&piece);
        if let Err(error) = received.and_then(|()| turn(&mut session)) {
            let _ended = session.fail(error);
            return observer.gets(&std::mem::take(&mut *unconnected.io.out()));
        }
        observer.gets(&std::mem::take(&mut *unconnected.io.out()))?;
        accounted(&mut session)?;
    }
    observer.is_answered()?;
    // Whoever was answered early has a second to end; then nobody listens.
    for step in [1, 3, 5] {
        deadline::tick(NOW + step * SECOND);
        if step == 5 {
            session.half_close();
        }
        for _ in 0..TURNS {
            if turn(&mut session).is_err() {
                return observer.gets(&std::mem::take(&mut *unconnected.io.out()));
            }
            observer.gets(&std::mem::take(&mut *unconnected.io.out()))?;
            accounted(&mut session)?;
        }
    }
    Ok(())
}

/// Gives the streams their turn.
fn turn(session: &mut Session<Probe>) -> Result<(), ConnectionError> {
    session.go_round();
    session.error.map_or(Ok(()), Err)
}

/// What is counted is there.
fn accounted(session: &mut Session<Probe>) -> Result<(), String> {
    let (receivable, freed, held) = session.flow.accounts();
    let (mut kept, mut holding, mut count) = (0_u32, 0, 0);
    for (_, stream) in session.streams.iter_mut() {
        kept += stream.body.as_ref().map_or(0, |body| body.kept());
        holding += stream.state.sender().map_or(0, |sender| sender.held());
        count += 1;
    }
    let window = receivable + freed + kept;
    let counts = (count, window, holding);
    if counts == (session.streams.active(), CONNECTION_WINDOW, held) {
        return Ok(());
    }
    Err(format!("{counts:?} are streams, window and bytes held, and not {:?}", (session.streams.active(), held)))
}

/// What is wrong with how a block of fields is read by itself.
fn fields(block: &[u8]) -> Result<(), String> {
    let (mut decoder, mut headers) = (Decoder::new(), Vec::new());
    let decoded = decoder.decode(block, |field| {
        if let FieldValue::Header(name, value) = &field.content {
            headers.push((name.clone(), value.clone()));
        }
    });
    let (counted, real) = decoder.sizes();
    if counted != real || real > hpack::TABLE {
        return Err(format!("the table of fields has {real} bytes, and not {counted}"));
    }
    if decoded.is_err() {
        return Ok(());
    }
    let mut packed = Vec::new();
    headers.iter().for_each(|(name, value)| hpack::field(name.as_str().as_bytes(), value.as_bytes(), &mut packed));
    let mut again = Vec::new();
    let decoded = Decoder::new().decode(&packed, |field| {
        if let FieldValue::Header(name, value) = &field.content {
            again.push((name.clone(), value.clone()));
        }
    });
    if decoded.is_ok() && again == headers { Ok(()) } else { Err(format!("{headers:?} are read as {again:?}")) }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            flow_control::STREAM_WINDOW,
            frame::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HAS_PRIORITY, HEADERS, PADDED, PRIORITY, Reason},
            ready::SLOTS,
        },
        *,
    };
    use crate::{os::file::seed, proxy::pieces::spoiled};

    const ENDS: u8 = END_STREAM;
    const GOES_ON: u8 = 0;

    fn block(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        let pseudo = [(":method", method), (":scheme", "https"), (":authority", "a.example"), (":path", path)];
        for (name, value) in pseudo.iter().chain(more) {
            hpack::field(name.as_bytes(), value.as_bytes(), &mut block);
        }
        block
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
        frame::head(payload.len(), kind, flags, stream, out);
        out.extend_from_slice(payload);
    }

    /// A connection that begins as it must.
    #[track_caller]
    fn check(build: impl FnOnce(&mut Vec<u8>), requests: usize, error: Option<Reason>) {
        let mut bytes = PREFACE.to_vec();
        frame::settings(&[(frame::HEADER_TABLE_SIZE, 4_096)], &mut bytes);
        build(&mut bytes);
        seed(&bytes[PREFACE.len()..]);
        assert_eq!(fault(&bytes).or_else(|| fault_behind(&bytes[PREFACE.len()..])), None);
        let found = UNCONNECTED.with(|unconnected| read(unconnected.as_ref().unwrap(), &bytes, Cut::Whole));
        assert_eq!((found.seen.len(), found.error.map(|error| error.0)), (requests, error), "{found:?}");
        for spoiled in spoiled(&bytes) {
            assert_eq!(fault(&spoiled), None, "{spoiled:?}");
        }
    }

    /// What becomes of a connection on which so many requests wait for their responses, if `build` comes behind them.
    #[track_caller]
    fn floods(waiting: usize, build: impl FnOnce(&mut Vec<u8>), expect: Option<Reason>) {
        let mut bytes = PREFACE.to_vec();
        frame::settings(&[], &mut bytes);
        for number in (1..).step_by(2).take(waiting) {
            frame::headers(&block("GET", "/p", &[]), ENDS, number, &mut bytes);
        }
        build(&mut bytes);
        let found = UNCONNECTED.with(|unconnected| read(unconnected.as_ref().unwrap(), &bytes, Cut::Whole));
        assert_eq!((found.seen.len(), found.error.map(|error| error.0)), (waiting, expect), "{:?}", found.error);
    }

    /// Streams over the limit, and what comes for streams that were reset: what can have been on its way, and more.
    #[test]
    fn h08_what_is_refused_counts_once_it_is_far_too_much() {
        // The first stream behind those that there may be.
        const REFUSED: u32 = 257;
        let post = block("POST", "/p", &[]);
        let mut trailers = Vec::new();
        hpack::field(b"x-a", b"b", &mut trailers);
        let calm = Some(Reason::EnhanceYourCalm);
        // All heads first, then all ends: a client that does not know yet how many it may begin.
        for (uploads, expect) in [(600, None), (5_000, None), (6_100, calm)] {
            let numbers = || (REFUSED..).step_by(2).take(uploads);
            let build = |out: &mut Vec<u8>| {
                numbers().for_each(|number| frame::headers(&post, GOES_ON, number, out));
                numbers().for_each(|number| frame(DATA, END_STREAM, number, b"x", out));
            };
            floods(SLOTS, build, expect);
        }
        type Piece<'a> = &'a dyn Fn(&mut Vec<u8>);
        let pieces: [Piece<'_>; 3] = [
            &|out| frame(DATA, END_STREAM, REFUSED, b"", out),
            &|out| frame::headers(&trailers, ENDS, REFUSED, out),
            &|out| frame(DATA, 0, REFUSED, b"x", out),
        ];
        for piece in pieces {
            for (count, expect) in [(900, None), (1_100, calm)] {
                let build = |out: &mut Vec<u8>| {
                    frame::headers(&post, GOES_ON, REFUSED, out);
                    // All that its window lets come.
                    (0..STREAM_WINDOW / 16_384).for_each(|_| frame(DATA, 0, REFUSED, &[0; 16_384], out));
                    (0..count).for_each(|_| piece(out));
                };
                floods(SLOTS, build, expect);
            }
        }
        // Nothing can be on its way to streams that had ended when they were refused, however many there are.
        for (count, expect) in [(900, None), (1_100, calm)] {
            let build = |out: &mut Vec<u8>| {
                for number in (REFUSED..).step_by(2).take(2_000) {
                    frame::headers(&block("GET", "/p", &[]), ENDS, number, out);
                }
                (0..count).for_each(|_| frame(DATA, END_STREAM, REFUSED, b"x", out));
            };
            floods(SLOTS, build, expect);
        }
        // One that is refused by 431 has ended once its client has ended it.
        for (count, expect) in [(1, None), (1_100, calm)] {
            let build = |out: &mut Vec<u8>| {
                frame::headers(&block("POST", "/", &[("x", &"y".repeat(900))]), GOES_ON, 1, out);
                (0..count).for_each(|_| frame(DATA, END_STREAM, 1, b"", out));
            };
            floods(0, build, expect);
        }
    }

    /// Streams of a client that was told that they are not served: only one that had not ended may have more on its way.
    #[test]
    fn h08_what_comes_after_the_end_of_a_drain_counts_by_how_it_ended() {
        for (flags, expect) in [(GOES_ON, Ok(())), (ENDS, Err(Reason::EnhanceYourCalm))] {
            let mut begin = PREFACE.to_vec();
            frame::settings(&[], &mut begin);
            let mut late = Vec::new();
            let numbers = || (1..).step_by(2).take(1_100);
            numbers().for_each(|number| frame::headers(&block("POST", "/p", &[]), flags, number, &mut late));
            numbers().for_each(|number| frame(DATA, END_STREAM, number, b"x", &mut late));
            UNCONNECTED.with(|unconnected| {
                let (unconnected, probe) = (unconnected.as_ref().unwrap(), Probe::default());
                let mut session = begun(unconnected, &probe);
                assert_eq!(session.receive(&begin), Ok(()));
                session.finish_shutdown();
                assert_eq!(session.receive(&late).map_err(|error| error.0), expect, "flags: {flags}");
            });
        }
    }

    /// Trailers of a request that nobody serves are no fault: of one that comes too late in a drain, and of one that
    /// is answered 431.
    #[test]
    fn trailers_of_what_is_not_served_are_passed_over() {
        let mut begin = PREFACE.to_vec();
        frame::settings(&[], &mut begin);
        let request = |more: &[(&str, &str)]| {
            let (mut bytes, mut trailers) = (Vec::new(), Vec::new());
            hpack::field(b"x-a", b"b", &mut trailers);
            frame::headers(&block("POST", "/p", more), GOES_ON, 1, &mut bytes);
            frame(DATA, 0, 1, b"x", &mut bytes);
            frame::headers(&trailers, ENDS, 1, &mut bytes);
            bytes
        };
        UNCONNECTED.with(|unconnected| {
            let (unconnected, probe) = (unconnected.as_ref().unwrap(), Probe::default());
            let mut session = begun(unconnected, &probe);
            assert_eq!(session.receive(&begin), Ok(()));
            session.finish_shutdown();
            assert_eq!(session.receive(&request(&[])), Ok(()));
            assert_eq!((session.streams.active(), probe.seen.take()), (0, Vec::new()));
            let large = [begin, request(&[("x", &"y".repeat(900))])].concat();
            let found = read(unconnected, &large, Cut::Whole);
            assert_eq!((found.error, found.streams), (None, 1));
        });
    }

    #[test]
    fn connections_are_read_alike_and_answered_by_the_rules() {
        check(|out| frame::headers(&block("GET", "/", &[]), ENDS, 1, out), 1, None);
        let echo = |out: &mut Vec<u8>| {
            frame::headers(&block("POST", "/e", &[("expect", "100-continue")]), GOES_ON, 1, out);
            frame(DATA, 0, 1, b"hello", out);
            frame(DATA, PADDED, 1, b"\x03abc\0\0\0", out);
            let mut trailers = Vec::new();
            hpack::field(b"x-a", b"b", &mut trailers);
            frame::headers(&trailers, ENDS, 1, out);
        };
        check(echo, 1, None);
        let large = |out: &mut Vec<u8>| {
            frame::settings(&[(frame::INITIAL_WINDOW_SIZE, 7), (frame::MAX_FRAME_SIZE, 16_384)], out);
            frame::headers(&block("GET", "/l", &[]), ENDS, 1, out);
            frame::headers(&block("POST", "/l", &[("content-length", "3")]), GOES_ON, 3, out);
            frame::window(1, 30_000, out);
            frame::window(0, 1 << 20, out);
            frame(DATA, END_STREAM, 3, b"abc", out);
            frame::settings(&[(frame::INITIAL_WINDOW_SIZE, 60_000)], out);
            frame::window(3, 60_000, out);
        };
        check(large, 2, None);
        let endings = |out: &mut Vec<u8>| {
            frame::headers(&block("GET", "/t", &[]), ENDS, 1, out);
            frame::headers(&block("GET", "/b", &[]), ENDS, 3, out);
            frame::headers(&block("POST", "/f", &[]), GOES_ON, 5, out);
            frame(DATA, 0, 5, b"abc", out);
            frame::headers(&block("POST", "/w", &[]), GOES_ON, 7, out);
            frame::headers(&block("GET", "/p", &[]), ENDS, 9, out);
            frame::reset(9, Reason::Cancel, out);
            frame::ping(0, b"12345678", out);
            frame::goaway(0, Reason::NoError, out);
            frame(0x16, 0, 0, b"?", out);
        };
        check(endings, 5, None);
        let pieces = |out: &mut Vec<u8>| {
            let block = block("GET", "/", &[("x-long", &"y".repeat(200))]);
            let (first, rest) = block.split_at(20);
            frame(HEADERS, END_STREAM | HAS_PRIORITY, 1, &[&[0, 0, 0, 3, 9][..], first].concat(), out);
            frame(CONTINUATION, 0, 1, &rest[..9], out);
            frame(CONTINUATION, END_HEADERS, 1, &rest[9..], out);
            frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 9], out);
            frame::headers(&[0x82, 0x87, 0x84, 0x41, 1, b'a', 0x40, 1, b'x', 1, b'y'], ENDS, 3, out);
            frame::headers(&[0x82, 0x87, 0x84, 0xbf, 0xbe], ENDS, 5, out);
        };
        check(pieces, 3, None);
        // What is no request, and what is too large for one.
        check(|out| frame::headers(&block("GET", "", &[]), ENDS, 1, out), 1, None);
        check(|out| frame::headers(&block("GET", "/", &[("x", &"y".repeat(900))]), GOES_ON, 1, out), 0, None);
        check(|out| frame(DATA, 0, 1, b"", out), 0, Some(Reason::Protocol));
        check(|out| frame::window(0, 0, out), 0, Some(Reason::Protocol));
        check(|out| frame(HEADERS, END_HEADERS, 1, &[0x80], out), 0, Some(Reason::Compression));
    }
}
