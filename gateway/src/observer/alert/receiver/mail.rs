//! Mail by SMTP. The connection and its TLS are this program's own, so that addresses and certificates are judged as
//! everywhere; what is said over it is the library's.
//!
//! *Invariant:* with `smtp://` nothing but EHLO and STARTTLS is said before TLS, and what a server says before TLS counts
//! for nothing after it.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use lettre::{
    Message,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, AsyncTokioStream},
        extension::ClientId,
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
};

use super::{
    sending::{Sender, Sending},
    words,
};
use crate::{
    message::alert::secret,
    observer::alert::dispatch::Outcome,
    outbound::{
        Server,
        client::{Client, encrypt},
    },
    settings::alert::{Mail, MailSecurity},
    url::Url,
};

/// The longest answer before TLS, in bytes.
const LONGEST: usize = 4_096;

/// What a server says first. After STARTTLS it does not say it again, and the library waits for it.
const GREETING: &[u8] = b"220 ready\r\n";

/// Why mail was not taken, and whether it would not be taken the next time either.
struct MailError {
    why: String,
    is_final: bool,
}

impl From<String> for MailError {
    fn from(why: String) -> Self {
        Self { why, is_final: false }
    }
}

pub(super) async fn send(
    client: &Client,
    server: &Server,
    mail: &Mail,
    sending: &Sending,
    sender: Sender<'_>,
) -> Outcome {
    match deliver(client, server, mail, sending, sender).await {
        Ok(()) => Outcome::Sent,
        Err(MailError { why, is_final: true }) => Outcome::Refused(why),
        Err(MailError { why, .. }) => Outcome::Failed { why, wait: 0 },
    }
}

async fn deliver(
    client: &Client,
    server: &Server,
    mail: &Mail,
    sending: &Sending,
    sender: Sender<'_>,
) -> Result<(), MailError> {
    let message = message(mail, sending, sender)?;
    let scheme = if mail.security == MailSecurity::Plain { "http" } else { "https" };
    let host = if mail.host.contains(':') { format!("[{}]", mail.host) } else { mail.host.clone() };
    let url = Url::parse(&format!("{scheme}://{host}:{}/", mail.port)).map_err(str::to_owned)?;
    let mut socket = client.connect(server, &url).await.map_err(|failure| failure.why.into_owned())?;
    let name = crate::syslog::host(sender.instance);
    let stream: Box<dyn AsyncTokioStream> = match mail.security {
        MailSecurity::Plain => Box::new(MailStream { peer: peer(&socket)?, before: &[], inner: socket }),
        MailSecurity::StartTls => {
            start_tls(&mut socket, &name).await.map_err(|error| error.to_string())?;
            let peer = peer(&socket)?;
            let inner = encrypt(server, &url, socket, Vec::new()).await.map_err(|failure| failure.why.into_owned())?;
            Box::new(MailStream { peer, before: GREETING, inner })
        }
        MailSecurity::Tls => {
            let peer = peer(&socket)?;
            let inner = encrypt(server, &url, socket, Vec::new()).await.map_err(|failure| failure.why.into_owned())?;
            Box::new(MailStream { peer, before: &[], inner })
        }
    };
    let said = |error: lettre::transport::smtp::Error| error.to_string();
    let mut connection =
        AsyncSmtpConnection::connect_with_transport(stream, &ClientId::Domain(name)).await.map_err(said)?;
    if let (Some(user), Some(password)) = (&mail.user, &mail.password) {
        let password = String::from_utf8_lossy(secret(password)).into_owned();
        let credentials = Credentials::new(user.clone(), password);
        connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await.map_err(said)?;
    }
    let sent = connection.send(message.envelope(), &message.formatted()).await;
    sent.map_err(|error| MailError { is_final: error.is_permanent(), why: error.to_string() })?;
    // It is taken: how the connection ends is of no interest.
    drop(connection.quit().await);
    Ok(())
}

fn message(mail: &Mail, sending: &Sending, sender: Sender<'_>) -> Result<Message, String> {
    let mailbox = |text: &str| text.parse::<Mailbox>().map_err(|error| format!("{text}: {error}"));
    let mut builder = Message::builder().from(mailbox(&mail.from)?);
    for to in &mail.to {
        builder = builder.to(mailbox(to)?);
    }
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(sender.now.unix_millis);
    let id = format!("<{}.{}@{}>", sender.now.unix_millis, sender.now.monotonic, crate::syslog::host(sender.instance));
    builder
        .date(time)
        .message_id(Some(id))
        .subject(format!("[gateway] {}", words::title(sending, sender)).replace(char::is_control, " "))
        .header(ContentType::TEXT_PLAIN)
        .body(format!("{}\n", words::text(sending)))
        .map_err(|error| error.to_string())
}

fn peer(socket: &TcpStream) -> Result<SocketAddr, String> {
    socket.peer_addr().map_err(|error| error.to_string())
}

/// Comes so far that TLS is what follows.
async fn start_tls(socket: &mut TcpStream, name: &str) -> io::Result<()> {
    expect(socket, "220").await?;
    socket.write_all(format!("EHLO {name}\r\n").as_bytes()).await?;
    let offered = expect(socket, "250").await?;
    let offers =
        offered.lines().any(|line| line.get(4..).is_some_and(|word| word.trim().eq_ignore_ascii_case("STARTTLS")));
    if !offers {
        return Err(io::Error::other("it does not offer STARTTLS"));
    }
    socket.write_all(b"STARTTLS\r\n").await?;
    expect(socket, "220").await.map(drop)
}

/// Reads an answer, octet by octet: what comes behind it belongs to TLS.
async fn expect(socket: &mut TcpStream, code: &str) -> io::Result<String> {
    let mut answer = Vec::new();
    loop {
        let start = answer.len();
        while answer.last() != Some(&b'\n') || answer.len() == start {
            if answer.len() >= LONGEST {
                return Err(io::Error::other("its answer is too long"));
            }
            answer.push(socket.read_u8().await?);
        }
        let line = answer.get(start..).unwrap_or_default();
        if line.get(..3) != Some(code.as_bytes()) {
            let line = String::from_utf8_lossy(line.trim_ascii()).replace(char::is_control, " ");
            return Err(io::Error::other(format!("it answers: {line}")));
        }
        if line.get(3) != Some(&b'-') {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
    }
}

/// A connection that has said something before it says what comes.
struct MailStream<S> {
    peer: SocketAddr,
    before: &'static [u8],
    inner: S,
}

impl<S> fmt::Debug for MailStream<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Stream({})", self.peer)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MailStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.inner).poll_read(context, buffer);
        }
        let (now, later) = self.before.split_at(self.before.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.before = later;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MailStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> AsyncTokioStream for MailStream<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}
