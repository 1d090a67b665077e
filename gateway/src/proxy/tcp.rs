//! A TCP connection, read and written with as few steps as possible: this is where most of a request's time goes.
//!
//! Against [`TcpStream`]: the system calls do not go through the C library, whose calls are points at which threads may be
//! cancelled, and a socket that is likely to be ready is tried before anything is asked of the driver.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::net::{RecvFlags, SendFlags};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    task::coop,
};

/// A TCP connection.
pub(in crate::proxy) struct Tcp(TcpStream);

impl Tcp {
    pub(in crate::proxy) const fn get(&self) -> &TcpStream {
        &self.0
    }

    pub(in crate::proxy) fn into_inner(self) -> TcpStream {
        self.0
    }

    /// Moves up to `wanted` bytes by `call`, or says that there is nothing to be done at present.
    fn attempt(
        &self,
        interest: Interest,
        wanted: usize,
        call: impl FnOnce() -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let mut moved = 0;
        let attempted = self.0.try_io(interest, || {
            moved = call()?;
            // Less than wanted: the kernel has no more. Told now, it need not be found out by another call.
            if (1..wanted).contains(&moved) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match attempted {
            Err(error) if moved == 0 => Err(error),
            _ => Ok(moved),
        }
    }
}

impl From<TcpStream> for Tcp {
    fn from(stream: TcpStream) -> Self {
        Self(stream)
    }
}

impl AsyncRead for Tcp {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buffer.initialized().len() < buffer.capacity() {
            // Bytes that were never written can be read into by the library alone.
            return Pin::new(&mut self.get_mut().0).poll_read(cx, buffer);
        }
        let progress = ready!(coop::poll_proceed(cx));
        loop {
            let space = buffer.initialize_unfilled();
            let wanted = space.len();
            match self.attempt(Interest::READABLE, wanted, || {
                rustix::net::recv(&self.0, space, RecvFlags::empty()).map(|(_, received)| received)
            }) {
                Ok(received) => {
                    progress.made_progress();
                    buffer.advance(received);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_read_ready(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self
                .attempt(Interest::WRITABLE, bytes.len(), || rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL))
            {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.0.poll_write_ready(cx))?,
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match slices {
            [slice] => self.poll_write(cx, slice),
            _ => Pin::new(&mut self.get_mut().0).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
