//! A byte stream over a Unix socket with somebody who is not trusted to send bytes alone.
//!
//! Descriptors may come along with bytes, and to close the last one of a socket takes as long as whoever made it has
//! wanted (`SO_LINGER`). They are closed on a thread of their own, and so is the stream, which may hold some unread. The
//! first that comes ends the stream: a connection costs two threads at most.

use std::{
    io,
    os::fd::AsFd as _,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::UnixStream,
};

use crate::message::channel::{close_elsewhere, receive_bytes};

/// Such a stream.
#[derive(Debug)]
pub struct ByteStream(Option<UnixStream>);

impl ByteStream {
    /// Takes a connection.
    #[must_use]
    pub const fn new(stream: UnixStream) -> Self {
        Self(Some(stream))
    }

    /// The socket, for as long as the stream is there.
    #[must_use]
    pub const fn socket(&self) -> Option<&UnixStream> {
        self.0.as_ref()
    }

    fn end(&mut self) {
        if let Some(stream) = self.0.take() {
            close_elsewhere(stream);
        }
    }

    fn write_half(&mut self) -> io::Result<Pin<&mut UnixStream>> {
        self.0.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for ByteStream {
    fn drop(&mut self) {
        self.end();
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(stream) = &self.0 else { return Poll::Ready(Ok(())) };
        loop {
            ready!(stream.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            match stream.try_io(Interest::READABLE, || receive_bytes(stream.as_fd(), room)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    // Whoever reads on after an error reads nothing more.
                    self.end();
                    return Poll::Ready(Err(error));
                }
                Ok(length) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write_half()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_half()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_half()?.poll_shutdown(context)
    }
}
