//! The body of a response on its way in. As long as its request is being sent, the body is read as it comes, whether or not
//! the client takes it: if the connection ends then, the library forgets that a response had ended which nobody has read.
//!
//! *Invariant:* no more of it is held than the window of its stream allows. The server may send again only what the client
//! has taken.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http_body::SizeHint;

use crate::proxy::upstream::error::UpstreamError;

/// The body of a response.
#[derive(Default)]
pub(super) struct ReceivedBody {
    /// `None`: all of it was taken.
    stream: Option<RecvStream>,
    /// What was read and not taken yet.
    ahead: VecDeque<Bytes>,
    /// How much has not been read, where that is known.
    left: Option<u64>,
    // Boxed, as most have none.
    trailers: Option<Box<HeaderMap>>,
    /// Whether all of it was read.
    is_whole: bool,
    /// Why the rest never comes.
    broken: Option<UpstreamError>,
    /// Another task reads it, and wakes whoever takes it.
    is_read_ahead: bool,
    taker: Option<Waker>,
}

impl ReceivedBody {
    /// A body of `length`, where that is known.
    pub(super) fn new(stream: RecvStream, length: Option<u64>) -> Self {
        Self { stream: Some(stream), left: length, ..Self::default() }
    }

    /// Whether all of it was taken.
    pub(super) const fn is_over(&self) -> bool {
        self.stream.is_none()
    }

    /// How much is left to be taken.
    pub(super) fn size_hint(&self) -> SizeHint {
        if self.is_over() {
            return SizeHint::with_exact(0);
        }
        let Some(left) = self.left else { return SizeHint::new() };
        let held = self.ahead.iter().fold(0_u64, |held, piece| held.saturating_add(length(piece)));
        SizeHint::with_exact(left.saturating_add(held))
    }

    /// The trailers, once it is over.
    pub(super) fn trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take().map(|trailers| *trailers)
    }

    /// Takes the next piece. `None`: that was all.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        let piece = match self.ahead.pop_front() {
            Some(piece) => piece,
            None if self.is_read_ahead && !self.is_whole && self.broken.is_none() => {
                self.taker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            None => match ready!(self.read(cx)) {
                Some(Ok(piece)) => piece,
                Some(Err(broken)) => return Poll::Ready(Some(Err(broken))),
                None => {
                    self.stream = None;
                    return Poll::Ready(None);
                }
            },
        };
        // This is called only when the client takes more: the server may send as much again.
        let released = self.stream.as_mut().map(|stream| stream.flow_control().release_capacity(piece.len()));
        if released.is_some_and(|released| released.is_err()) {
            return Poll::Ready(Some(Err(UpstreamError::Truncated)));
        }
        if self.is_whole && self.ahead.is_empty() {
            self.stream = None;
        }
        Poll::Ready(Some(Ok(piece)))
    }

    /// Whoever takes it waits for another task, which reads it.
    pub(super) const fn begin_reading_ahead(&mut self) {
        self.is_read_ahead = true;
    }

    /// Whoever takes it reads it from now on.
    pub(super) fn end_reading_ahead(&mut self) {
        self.is_read_ahead = false;
        self.wake();
    }

    /// Reads what has come. Ready once nothing more will.
    pub(super) fn read_ahead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let read = ready!(self.read(cx));
            self.wake();
            match read {
                Some(Ok(piece)) => self.ahead.push_back(piece),
                Some(Err(_)) | None => return Poll::Ready(()),
            }
        }
    }

    /// Reads the next piece. `None`: there is none.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        if let Some(broken) = self.broken {
            return Poll::Ready(Some(Err(broken)));
        }
        let Some(stream) = self.stream.as_mut().filter(|_| !self.is_whole) else { return Poll::Ready(None) };
        let error = match ready!(stream.poll_data(cx)) {
            Some(Ok(piece)) => {
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(length(&piece));
                }
                self.is_whole = stream.is_end_stream();
                return Poll::Ready(Some(Ok(piece)));
            }
            Some(Err(error)) => error,
            None => match ready!(stream.poll_trailers(cx)) {
                Ok(trailers) => {
                    (self.trailers, self.is_whole) = (trailers.map(Box::new), true);
                    return Poll::Ready(None);
                }
                Err(error) => error,
            },
        };
        if self.left == Some(0) && cuts_nothing(&error) {
            self.is_whole = true;
            return Poll::Ready(None);
        }
        let broken = match error.is_remote() && error.is_reset() {
            true => UpstreamError::Malformed("the server reset the response"),
            false => UpstreamError::Truncated,
        };
        self.broken = Some(broken);
        Poll::Ready(Some(Err(broken)))
    }

    fn wake(&mut self) {
        if let Some(taker) = self.taker.take() {
            taker.wake();
        }
    }
}

fn length(piece: &Bytes) -> u64 {
    u64::try_from(piece.len()).unwrap_or(u64::MAX)
}

/// Whether a response whose body has arrived in its full length is complete although this error came next: the server left
/// out the frame that ends its stream.
fn cuts_nothing(error: &h2::Error) -> bool {
    let is_left = error.is_go_away() || error.reason() == Some(Reason::NO_ERROR);
    error.is_io() || error.is_remote() && is_left
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        pin::{Pin, pin},
    };

    use http::Request;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::{super::ignore_write_errors::IgnoreWriteErrors, *};

    const HEADERS: u8 = 1;
    const DATA: u8 = 0;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream][..], payload].concat()
    }

    /// A server that sends these, each when the one before was looked at, and then ends the connection. It reads nothing.
    struct Script(VecDeque<Option<Vec<u8>>>);

    impl AsyncRead for Script {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            match self.0.pop_front() {
                Some(Some(sent)) => buffer.put_slice(&sent),
                Some(None) => return Poll::Pending,
                None => {}
            }
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Script {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// What is taken of a response to a request that is still being sent, if the connection ends with these frames before
    /// any of the body is taken: the text, the number of trailers, and whether it is whole.
    #[track_caller]
    fn check(length: Option<u64>, frames: &[Vec<u8>], expect: (&str, usize, Result<(), UpstreamError>)) {
        for is_waited_for in [false, true] {
            let cx = &mut Context::from_waker(Waker::noop());
            let settings = frame(4, 0, 0, &[]);
            let script = Script([Some(settings), None, None, Some(frames.concat())].into());
            let connected = pin!(h2::client::Builder::new().handshake::<_, Bytes>(IgnoreWriteErrors::new(script)));
            let Poll::Ready(Ok((mut sender, mut driver))) = connected.poll(cx) else { panic!("no connection") };
            assert!(Pin::new(&mut driver).poll(cx).is_pending());
            let request = Request::post("http://a.example/").body(()).unwrap();
            let (answer, _sending) = sender.send_request(request, false).unwrap();
            assert!(Pin::new(&mut driver).poll(cx).is_pending(), "the head is sent");
            assert!(Pin::new(&mut driver).poll(cx).is_pending(), "the end is not told yet");
            let Poll::Ready(Ok(answer)) = pin!(answer).poll(cx) else { panic!("no response") };
            let mut body = ReceivedBody::new(answer.into_body(), length);
            if is_waited_for {
                body.begin_reading_ahead();
                assert!(body.poll_piece(cx).is_pending());
            }
            let is_settled = body.read_ahead(cx).is_ready();
            assert!(body.taker.is_none() || !is_settled && body.ahead.is_empty(), "whoever waits is woken");
            assert!(Pin::new(&mut driver).poll(cx).is_ready(), "the connection has ended");
            assert!(is_settled || body.read_ahead(cx).is_ready());
            let (mut text, mut end) = (Vec::new(), Ok(()));
            while !body.is_over() {
                match body.poll_piece(cx) {
                    Poll::Ready(Some(Ok(piece))) => text.extend_from_slice(&piece),
                    Poll::Ready(Some(Err(broken))) => {
                        end = Err(broken);
                        break;
                    }
                    Poll::Ready(None) => {}
                    Poll::Pending => panic!("nothing more comes"),
                }
            }
            let trailers = body.trailers().map_or(0, |trailers| trailers.len());
            let text = String::from_utf8(text).unwrap();
            assert_eq!((&*text, trailers, end), expect, "waited for: {is_waited_for}");
        }
    }

    #[test]
    fn what_has_come_outlasts_the_connection() {
        let head = frame(HEADERS, END_HEADERS, 1, b"\x88");
        let sized = frame(HEADERS, END_HEADERS, 1, b"\x88\x0f\x0d\x015");
        let (data, last) = (frame(DATA, 0, 1, b"early"), frame(DATA, END_STREAM, 1, b"early"));
        let end = frame(DATA, END_STREAM, 1, b"");
        let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\0\x01a\x01b");
        let left = frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
        let row = |frames: &[&Vec<u8>]| frames.iter().map(|&frame| frame.clone()).collect::<Vec<_>>();
        check(None, &row(&[&head, &data, &last]), ("earlyearly", 0, Ok(())));
        check(None, &row(&[&head, &data, &last, &left]), ("earlyearly", 0, Ok(())));
        check(None, &row(&[&head, &data, &end]), ("early", 0, Ok(())));
        check(None, &row(&[&head, &end]), ("", 0, Ok(())));
        check(None, &row(&[&head, &data, &trailers]), ("early", 1, Ok(())));
        check(Some(5), &row(&[&sized, &last]), ("early", 0, Ok(())));
        // The length says that it is whole, or that it is not.
        check(Some(5), &row(&[&sized, &data]), ("early", 0, Ok(())));
        check(Some(5), &row(&[&sized]), ("", 0, Err(UpstreamError::Truncated)));
        check(None, &row(&[&head, &data]), ("early", 0, Err(UpstreamError::Truncated)));
        check(None, &row(&[&head]), ("", 0, Err(UpstreamError::Truncated)));
    }
}
