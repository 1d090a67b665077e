//! A stream that hides failed writes, so that a response is read to its end.
//!
//! A server may respond early and close. The library ends the connection at the first failed write, and would lose a
//! response that has arrived already. With this, only the end of what the server sends ends the connection.
//!
//! That end is told one turn late if it comes with the last frames. As soon as the library knows of it, it forgets that
//! streams had ended whose requests are still being sent. So whoever waits for a response sees its frames first.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose writes never fail: after the first error they are discarded.
pub(in crate::proxy::upstream) struct IgnoreWriteErrors<S> {
    stream: S,
    discards: bool,
    /// Something was read that nobody could look at yet.
    is_fresh: bool,
    /// The end of what the server sends, until it is told.
    end: Option<io::Result<()>>,
}

impl<S> IgnoreWriteErrors<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, discards: false, is_fresh: false, end: None }
    }

    /// Turns an error into the success `done`, and discards all that is written from then on.
    fn hide<T>(&mut self, written: Poll<io::Result<T>>, done: T) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(Err(_)) => {
                self.discards = true;
                Poll::Ready(Ok(done))
            }
            written => written,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for IgnoreWriteErrors<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(end) = self.end.take() {
            return Poll::Ready(end);
        }
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                self.is_fresh = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(end) if self.is_fresh => {
                (self.is_fresh, self.end) = (false, Some(end));
                // Behind those whose frames have just arrived.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            read => {
                self.is_fresh = false;
                read
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for IgnoreWriteErrors<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.discards {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.hide(written, bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.discards {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.hide(flushed, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        task::{Wake, Waker},
    };

    use super::*;

    /// How often it was woken.
    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What a server sends before it ends, or fails with this error.
    struct ScriptedReads(&'static [u8], Option<io::ErrorKind>);

    impl AsyncRead for ScriptedReads {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let sent = std::mem::take(&mut self.0);
            buffer.put_slice(sent);
            Poll::Ready(self.1.filter(|_| sent.is_empty()).map_or(Ok(()), |kind| Err(kind.into())))
        }
    }

    #[test]
    fn the_end_is_told_a_turn_after_what_came_with_it() {
        use Poll::{Pending, Ready};
        let reset = io::ErrorKind::ConnectionReset;
        for (sent, fails, expect, woken) in [
            (&b"frames"[..], None, [Ready(Ok(6)), Pending, Ready(Ok(0)), Ready(Ok(0))], 1),
            (b"frames", Some(reset), [Ready(Ok(6)), Pending, Ready(Err(reset)), Ready(Err(reset))], 1),
            (b"", None, [Ready(Ok(0)); 4], 0),
        ] {
            let wakes = Arc::new(Woken::default());
            let waker: Waker = Arc::clone(&wakes).into();
            let mut stream = IgnoreWriteErrors::new(ScriptedReads(sent, fails));
            let read = expect.map(|_| {
                let mut space = [0; 16];
                let mut buffer = ReadBuf::new(&mut space);
                let read = Pin::new(&mut stream).poll_read(&mut Context::from_waker(&waker), &mut buffer);
                read.map(|read| read.map(|()| buffer.filled().len()).map_err(|error| error.kind()))
            });
            assert_eq!((read, wakes.0.load(Ordering::Relaxed)), (expect, woken), "{sent:?} {fails:?}");
        }
    }
}
