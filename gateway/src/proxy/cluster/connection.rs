//! One connection to a server of the store: commands go out together, their replies come back in the same order.
//!
//! *Invariant:* after a failure the connection is of no use any more, and is dropped: a late reply is nobody else's.

use std::{borrow::Cow, fmt, io, sync::Arc, time::Duration};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::resp::{self, Malformed, Value};
use crate::{
    net::reach::{Reach, reach},
    proxy::upstream::connection::tls::describe,
};

/// How long connecting may take, with resolving the name, TLS and logging in.
const CONNECT: Duration = Duration::from_secs(2);

/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// A command, word by word.
pub(super) type RespCommand = Vec<Vec<u8>>;

/// Why there is no answer: for the log and for operators. Holds nothing that was asked or answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    why: Cow<'static, str>,
    /// It answers, and with what answers nothing that was asked.
    pub(super) is_malformed: bool,
}

impl Failure {
    pub(super) fn new(why: impl Into<Cow<'static, str>>) -> Self {
        Self { why: why.into(), is_malformed: false }
    }

    /// An answer that is none.
    pub(super) fn malformed(why: impl Into<Cow<'static, str>>) -> Self {
        Self { why: why.into(), is_malformed: true }
    }

    /// What the server says: the word that names the error alone, as the rest may hold what was asked.
    pub(super) fn said(what: &str, error: &str) -> Self {
        let word: String =
            error.split(' ').next().unwrap_or_default().chars().filter(|c| c.is_ascii_graphic()).take(32).collect();
        Self::new(format!("it refuses {what}: {word}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.why)
    }
}

impl From<Malformed> for Failure {
    fn from(Malformed(what): Malformed) -> Self {
        Self::malformed(what)
    }
}

/// How a server is logged in to.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Option<Arc<Zeroizing<Vec<u8>>>>,
    pub(super) tls: Option<(Arc<ClientConfig>, Option<String>)>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection that is logged in.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
}

impl Connection {
    /// Connects to `host:port` and logs in.
    pub(super) async fn open(server: &str, login: &Login) -> Result<Self, Failure> {
        let opened = timeout(CONNECT, Self::open_at_leisure(server, login)).await;
        let opened = opened.unwrap_or_else(|_late| Err(Failure::new("no connection within 2 s")));
        opened.map_err(|failure| Failure { why: format!("{server}: {failure}").into(), ..failure })
    }

    async fn open_at_leisure(server: &str, login: &Login) -> Result<Self, Failure> {
        let (host, port) = server.rsplit_once(':').ok_or_else(|| Failure::new("it has no port"))?;
        let host = host.trim_matches(['[', ']']);
        let port = port.parse().map_err(|_no_port| Failure::new("it has no port"))?;
        let socket = connect(host, port).await?;
        // Without it an answer comes later, and that is all.
        socket.set_nodelay(true).unwrap_or_default();
        let stream: Box<dyn Stream> = match &login.tls {
            None => Box::new(socket),
            Some((config, name)) => {
                let name = ServerName::try_from(name.clone().unwrap_or_else(|| host.to_owned()))
                    .map_err(|_no_name| Failure::new("no certificate can have its name"))?;
                let connecting = TlsConnector::from(Arc::clone(config)).connect(name, socket);
                Box::new(connecting.await.map_err(|error| Failure::new(describe(&error).into_owned()))?)
            }
        };
        let mut connection = Self { stream, input: Vec::new() };
        connection.log_in(login).await?;
        Ok(connection)
    }

    async fn log_in(&mut self, login: &Login) -> Result<(), Failure> {
        let Some(password) = &login.password else { return Ok(()) };
        let mut command = vec![b"AUTH".to_vec()];
        command.extend(login.user.as_ref().map(|user| user.as_bytes().to_vec()));
        command.push(password.to_vec());
        match self.exchange(std::slice::from_ref(&command)).await?.first().and_then(Value::error) {
            Some(error) => Err(Failure::said("the user or password", error)),
            None => Ok(()),
        }
    }

    /// Sends commands, and waits for the reply of each within `wait`.
    pub(super) async fn ask(&mut self, commands: &[RespCommand], wait: Duration) -> Result<Vec<Value>, Failure> {
        match timeout(wait, self.exchange(commands)).await {
            Ok(replies) => replies,
            Err(_late) => Err(Failure::new(format!("no answer within {} ms", wait.as_millis()))),
        }
    }

    /// Sends one command, and waits for its reply within `wait`. What it says of an error is a failure.
    pub(super) async fn ask_one(&mut self, words: &[&str], wait: Duration) -> Result<Value, Failure> {
        let command: RespCommand = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        let reply = self.ask(&[command], wait).await?.pop().ok_or_else(|| Failure::new("no answer"))?;
        match reply.error() {
            Some(error) => Err(Failure::said(words.first().unwrap_or(&"the command"), error)),
            None => Ok(reply),
        }
    }

    async fn exchange(&mut self, commands: &[RespCommand]) -> Result<Vec<Value>, Failure> {
        let broken = |error: &io::Error| Failure::new(format!("the connection broke: {error}"));
        let mut output = Zeroizing::new(Vec::new());
        for command in commands {
            resp::write(&mut output, command);
        }
        self.stream.write_all(&output).await.map_err(|error| broken(&error))?;
        self.stream.flush().await.map_err(|error| broken(&error))?;
        let mut replies = Vec::new();
        while replies.len() < commands.len() {
            if let Some((reply, length)) = resp::read(&self.input)? {
                self.input.drain(..length);
                replies.push(reply);
                continue;
            }
            if self.stream.read_buf(&mut self.input).await.map_err(|error| broken(&error))? == 0 {
                return Err(Failure::new("it closed the connection"));
            }
        }
        Ok(replies)
    }
}

/// Connects to the first address that takes the connection. Others than the operator name addresses, too: Sentinels and
/// servers that redirect.
async fn connect(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let found = lookup_host((host, port)).await.map_err(|error| Failure::new(format!("it has no address: {error}")))?;
    let mut failed = Failure::new("it has no address");
    for address in found.take(MAX_ADDRESSES) {
        if let Reach::Never(why) = reach(address.ip()) {
            failed = Failure::new(format!("the address {} {why}: not connected to", address.ip()));
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = Failure::new(error.to_string()),
        }
    }
    Err(failed)
}
