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
    message::{
        Mailbox,
        header::{ContentType, HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, AsyncTokioStream},
        commands,
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
};

use super::{
    sending::{AlertSender, Sending},
    words,
};
use crate::{
    message::observer::alert::secret,
    observer::alert::dispatch::{NotificationOutcome, RefusedAlerts},
    outbound::{
        Server,
        client::{OutboundClient, encrypt},
    },
    settings::alert::{Mail, MailSecurity},
    web::url::Url,
};

/// The longest answer before TLS, in bytes.
const LONGEST: usize = 4_096;

/// What a server says first. After STARTTLS it does not say it again, and the library waits for it.
const GREETING: &[u8] = b"220 ready\r\n";

/// Why mail was not taken, or not by all.
#[derive(Clone, Debug, PartialEq, Eq)]
enum MailError {
    /// It may be taken by the next try.
    Failed(String),
    /// Some have it, and others do not. Who has it would get it twice by another try.
    Partial(String),
    /// The server does not want it: a permanent error (5yz).
    Refused(String),
}

impl From<String> for MailError {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl From<lettre::transport::smtp::Error> for MailError {
    fn from(error: lettre::transport::smtp::Error) -> Self {
        if error.is_permanent() { Self::Refused(error.to_string()) } else { Self::Failed(error.to_string()) }
    }
}

/// Sends something by the mail of a receiver of this name.
pub(super) async fn send(
    client: &OutboundClient,
    server: &Server,
    (receiver, mail): (&str, &Mail),
    sending: &Sending,
    sender: AlertSender<'_>,
) -> NotificationOutcome {
    let message = match message(receiver, mail, sending, sender) {
        Ok(message) => message,
        Err(why) => return NotificationOutcome::failed(why),
    };
    match deliver(client, server, mail, &message, sender).await {
        Ok(()) => NotificationOutcome::Sent,
        Err(MailError::Failed(why)) => NotificationOutcome::failed(why),
        Err(MailError::Partial(why)) => NotificationOutcome::Refused { why, alerts: RefusedAlerts::Only(Vec::new()) },
        Err(MailError::Refused(why)) => NotificationOutcome::refused(why),
    }
}

async fn deliver(
    client: &OutboundClient,
    server: &Server,
    mail: &Mail,
    message: &Message,
    sender: AlertSender<'_>,
) -> Result<(), MailError> {
    let scheme = if mail.security == MailSecurity::Plain { "http" } else { "https" };
    let host = if mail.host.contains(':') { format!("[{}]", mail.host) } else { mail.host.clone() };
    let url = Url::parse(&format!("{scheme}://{host}:{}/", mail.port)).map_err(str::to_owned)?;
    let mut socket = client.connect(server, &url).await.map_err(|failure| failure.why.into_owned())?;
    let name = crate::os::syslog::host(sender.instance);
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
    let sent = hand_over(&mut connection, message).await;
    // It is taken or not: how the connection ends is of no interest.
    drop(connection.quit().await);
    sent
}

/// Hands it over for everybody whom the server takes it for: a mailbox that is gone or full keeps nobody else from being
/// told. Who has not got it gets the next one, as the others would get the same mail twice.
async fn hand_over(connection: &mut AsyncSmtpConnection, message: &Message) -> Result<(), MailError> {
    let (envelope, text) = (message.envelope(), message.formatted());
    let is_ascii = envelope.from().into_iter().chain(envelope.to()).all(|address| address.to_string().is_ascii());
    let mut parameters = Vec::new();
    for (is_needed, extension, parameter) in [
        (!is_ascii, Extension::SmtpUtfEight, MailParameter::SmtpUtfEight),
        (!text.is_ascii(), Extension::EightBitMime, MailParameter::Body(MailBodyParameter::EightBitMime)),
    ] {
        if is_needed && !connection.server_info().supports_feature(extension) {
            return Err(format!("the server does not offer {extension}").into());
        }
        parameters.extend(is_needed.then_some(parameter));
    }
    connection.command(commands::Mail::new(envelope.from().cloned(), parameters)).await?;
    let (mut refused, mut is_final) = (Vec::new(), true);
    for to in envelope.to() {
        match connection.command(commands::Rcpt::new(to.clone(), Vec::new())).await {
            Ok(_taken) => {}
            Err(error) if error.status().is_some() => {
                is_final &= error.is_permanent();
                refused.push(format!("{to}: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let why = refused.join("; ");
    if refused.len() == envelope.to().len() {
        return Err(if is_final { MailError::Refused(why) } else { MailError::Failed(why) });
    }
    connection.command(commands::Data).await?;
    connection.message(&text).await?;
    if refused.is_empty() { Ok(()) } else { Err(MailError::Partial(format!("{why}; the others have it"))) }
}

fn message(receiver: &str, mail: &Mail, sending: &Sending, sender: AlertSender<'_>) -> Result<Message, String> {
    let mailbox = |text: &str| text.parse::<Mailbox>().map_err(|error| format!("{text}: {error}"));
    let mut builder = Message::builder().from(mailbox(&mail.from)?);
    for to in &mail.to {
        builder = builder.to(mailbox(to)?);
    }
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(sender.now.unix_millis);
    let id = format!("<{}@{}>", sending.id(receiver, sender), crate::os::syslog::host(sender.instance));
    builder
        .date(time)
        .message_id(Some(id))
        .subject(format!("[gateway] {}", words::title(sending, sender)).replace(char::is_control, " "))
        .header(ContentType::TEXT_PLAIN)
        // Nobody's absence is told to a program (RFC 3834).
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, BufReader, DuplexStream, duplex};

    use super::*;

    /// A server that answers each recipient so, and says what it has taken.
    async fn serve(stream: DuplexStream, answers: &[(&str, &str)]) -> (Vec<String>, String) {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 mail\r\n").await.unwrap();
        let (mut taken, mut text, mut line) = (Vec::new(), String::new(), String::new());
        while stream.read_line(&mut line).await.unwrap_or(0) > 0 {
            let answer = match line.trim_end() {
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await.unwrap();
                    while !text.ends_with("\r\n.\r\n") {
                        stream.read_line(&mut text).await.unwrap();
                    }
                    "250 taken"
                }
                command if command.starts_with("RCPT") => {
                    let (who, answer) = answers.iter().find(|(who, _)| command.contains(who)).unwrap();
                    taken.extend(answer.starts_with("250").then(|| (*who).to_owned()));
                    *answer
                }
                _ => "250 well",
            };
            line.clear();
            stream.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
        }
        (taken, text)
    }

    #[track_caller]
    fn check(answers: &[(&str, &str)], expect: Result<(), MailError>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut message = Message::builder().from("gateway@example.com".parse().unwrap());
        for (who, _) in answers {
            message = message.to(format!("{who}@example.com").parse().unwrap());
        }
        let message = message.body("it is so\n".to_owned()).unwrap();
        let (near, far) = duplex(65_536);
        let inner = MailStream { peer: SocketAddr::from(([127, 0, 0, 1], 25)), before: &[], inner: near };
        let send = async {
            let name = ClientId::Domain("edge1".to_owned());
            let mut connection = AsyncSmtpConnection::connect_with_transport(Box::new(inner), &name).await.unwrap();
            hand_over(&mut connection, &message).await
        };
        let (sent, (taken, text)) = runtime.block_on(async { tokio::join!(send, serve(far, answers)) });
        assert_eq!(sent, expect, "{answers:?}");
        let takers: Vec<&str> =
            answers.iter().filter(|(_, answer)| answer.starts_with("250")).map(|(who, _)| *who).collect();
        assert_eq!(taken, takers, "{answers:?}");
        assert_eq!(text.contains("it is so"), !takers.is_empty(), "{answers:?}");
    }

    #[test]
    fn a_mailbox_that_is_refused_keeps_nobody_else_from_being_told() {
        let (gone, full) = ("550 5.1.1 no such user", "452 4.2.2 over quota");
        let (is_gone, is_full) =
            ("permanent error (550): 5.1.1 no such user", "transient error (452): 4.2.2 over quota");
        check(&[("ops", "250 yes"), ("boss", "250 yes")], Ok(()));
        for (ops, boss, expect) in [
            ("250 yes", gone, MailError::Partial(format!("boss@example.com: {is_gone}; the others have it"))),
            (gone, "250 yes", MailError::Partial(format!("ops@example.com: {is_gone}; the others have it"))),
            // It is not sent again to who has it.
            (full, "250 yes", MailError::Partial(format!("ops@example.com: {is_full}; the others have it"))),
            (gone, gone, MailError::Refused(format!("ops@example.com: {is_gone}; boss@example.com: {is_gone}"))),
            (gone, full, MailError::Failed(format!("ops@example.com: {is_gone}; boss@example.com: {is_full}"))),
        ] {
            check(&[("ops", ops), ("boss", boss)], Err(expect));
        }
    }
}
