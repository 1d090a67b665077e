//! Sends lines over TCP or TLS, each message with its length in front of it (RFC 6587 3.4.1, RFC 5425 4.3).

use std::{
    io::{self, Write},
    net::{TcpStream, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;

use super::{backoff::Backoff, frame::SyslogFrame};
use crate::{
    log::drops::{DropReason, Dropped, lines},
    os::clock::Now,
    text::digits::append_decimal,
};

/// How long a connection may take to open, and how long the server may take nothing.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Sends lines over a connection, which is opened again when it has ended.
pub(in crate::log) struct StreamOutput {
    address: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    frame: SyslogFrame,
    connection: Option<Connection>,
    backoff: Backoff,
    message: Vec<u8>,
}

/// A connection to the server.
struct Connection {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl StreamOutput {
    pub(super) fn new(
        address: String,
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
        frame: SyslogFrame,
    ) -> Self {
        Self { address, tls, frame, connection: None, backoff: Backoff::default(), message: Vec::new() }
    }

    /// Sends whole lines. A line that was sent in part when the connection ended is sent again, whole, on the next.
    pub(in crate::log) fn write(&mut self, block: &[u8]) -> Dropped {
        let now = Now::read();
        let mut rest = block;
        // A server that has said goodbye would take the next lines and read none of them.
        if self.connection.as_mut().is_some_and(|connection| !connection.is_open()) {
            self.connection = None;
        }
        // One buffer for all lines of the block.
        let mut bare = Vec::new();
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, behind) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            self.message.clear();
            bare.clear();
            self.frame.write(line, now, &mut bare);
            append_decimal(u64::try_from(bare.len()).unwrap_or(u64::MAX), &mut self.message);
            self.message.push(b' ');
            self.message.extend_from_slice(&bare);
            if !self.send() {
                return Some((DropReason::Unreachable, lines(rest)));
            }
            rest = behind.get(1..).unwrap_or_default();
        }
        None
    }

    /// Sends the message. `false`: the server cannot be reached, and has not been for a while.
    fn send(&mut self) -> bool {
        loop {
            if self.connection.is_none() {
                if !self.backoff.is_due() {
                    return false;
                }
                match Connection::open(&self.address, self.tls.as_ref()) {
                    Ok(connection) => self.connection = Some(connection),
                    Err(error) => {
                        tracing::debug!(%error, address = self.address, "the access log's server cannot be reached");
                        self.backoff.failed();
                        continue;
                    }
                }
            }
            let Some(connection) = &mut self.connection else { continue };
            match connection.send(&self.message) {
                Ok(()) => {
                    self.backoff.works();
                    return true;
                }
                Err(error) => {
                    tracing::debug!(%error, address = self.address, "the connection to the access log's server ended");
                    self.connection = None;
                    self.backoff.failed();
                    if !self.backoff.is_patient() {
                        return false;
                    }
                }
            }
        }
    }
}

impl Connection {
    fn open(address: &str, tls: Option<&(Arc<ClientConfig>, ServerName<'static>)>) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for server in address.to_socket_addrs()? {
            let socket = match TcpStream::connect_timeout(&server, TIMEOUT) {
                Ok(socket) => socket,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            socket.set_write_timeout(Some(TIMEOUT))?;
            socket.set_read_timeout(Some(TIMEOUT))?;
            let Some((config, name)) = tls else { return Ok(Self { socket, tls: None }) };
            let tls = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
            let mut connection = Self { socket, tls: Some(Box::new(tls)) };
            connection.shake_hands()?;
            return Ok(connection);
        }
        Err(last)
    }

    fn shake_hands(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.is_handshaking() {
            tls.complete_io(&mut self.socket)?;
        }
        Ok(())
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return self.socket.write_all(message) };
        tls.writer().write_all(message)?;
        while tls.wants_write() {
            tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// Whether the server has not ended the connection. Takes what it has sent, which says nothing.
    fn is_open(&mut self) -> bool {
        if self.socket.set_nonblocking(true).is_err() {
            return false;
        }
        let is_open = self.listen();
        is_open && self.socket.set_nonblocking(false).is_ok()
    }

    fn listen(&mut self) -> bool {
        let Some(tls) = &mut self.tls else {
            let mut space = [0; 512];
            loop {
                match io::Read::read(&mut self.socket, &mut space) {
                    Ok(0) => return false,
                    Ok(_) => {}
                    Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
                }
            }
        };
        loop {
            match tls.read_tls(&mut self.socket) {
                Ok(0) => return false,
                Ok(_) => {
                    let Ok(state) = tls.process_new_packets() else { return false };
                    if state.peer_has_closed() {
                        return false;
                    }
                    let mut said = vec![0; state.plaintext_bytes_to_read()];
                    io::Read::read(&mut tls.reader(), &mut said).unwrap_or_default();
                }
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }
}
