//! The command line's connection to the guard, and what a person is told when it fails.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

use super::{ControlAnswer, ControlRequest};

/// How long the guard may take for any step but a reload.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long it may take for a reload: a process compiles the configuration, then a proxy does, each for up to two minutes
/// with the longest `guard.compile_time`, and names are resolved before.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// The longest answer, in bytes: lists of as many blocks as the maps hold stay below it.
const LONGEST: u64 = 1 << 30;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum Unreachable {
    /// There is no socket.
    #[error("there is no {}: is the gateway running? Start it with `gateway run --config PATH`, or name its socket with --socket", .0.display())]
    Missing(PathBuf),
    /// There is a socket and nobody behind it.
    #[error("nobody answers at {}: the gateway ended. Start it with `gateway run --config PATH`", .0.display())]
    Gone(PathBuf),
    /// `guard.control_mode` keeps this user out.
    #[error("{} is not for this user: run as root, or ask to be let into the group of guard.control_group", .0.display())]
    Denied(PathBuf),
    /// It took too long.
    #[error("the gateway at {} did not answer in time: is it stopped (`ps -o stat,pid,args -C gateway`)?", .0.display())]
    Slow(PathBuf),
    /// It broke off, or said what this program does not understand.
    #[error("the gateway at {} gave no proper answer ({}): does `gateway version` agree with the running one?", .0.display(), .1)]
    Garbled(PathBuf, String),
    /// Anything else.
    #[error("cannot speak to the gateway at {}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] io::Error),
}

/// Asks one thing and waits for the answer.
///
/// # Errors
/// The guard cannot be reached or understood.
pub fn ask(path: &Path, request: &ControlRequest) -> Result<ControlAnswer, Unreachable> {
    Conversation::open(path)?.ask(request)
}

/// A connection that asks one thing after the other.
#[derive(Debug)]
pub struct Conversation {
    path: PathBuf,
    stream: BufReader<Socket>,
}

impl Conversation {
    /// Connects.
    ///
    /// # Errors
    /// The guard cannot be reached.
    pub fn open(path: &Path) -> Result<Self, Unreachable> {
        let stream = connect(path).map_err(|error| Unreachable::of(path, error))?;
        Ok(Self { path: path.to_owned(), stream: BufReader::new(stream) })
    }

    /// Asks one thing and waits for the answer.
    ///
    /// # Errors
    /// The guard cannot be reached or understood.
    pub fn ask(&mut self, request: &ControlRequest) -> Result<ControlAnswer, Unreachable> {
        let line = serde_json::to_vec(request).map_err(|error| Unreachable::of(&self.path, error.into()))?;
        let timeout = if matches!(request, ControlRequest::Reload { .. }) { RELOAD_TIMEOUT } else { TIMEOUT };
        let patient = self.stream.get_ref().set_read_timeout(Some(timeout));
        patient.map_err(|error| Unreachable::of(&self.path, error))?;
        self.ask_line(line)
    }

    /// As [`Self::ask`], of a request that is JSON already.
    ///
    /// # Errors
    /// The guard cannot be reached or understood.
    pub fn ask_line(&mut self, mut line: Vec<u8>) -> Result<ControlAnswer, Unreachable> {
        let fault = |error| Unreachable::of(&self.path, error);
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(fault)?;
        let mut answer = Vec::new();
        (&mut self.stream).take(LONGEST).read_until(b'\n', &mut answer).map_err(fault)?;
        if answer.is_empty() {
            return Err(Unreachable::Garbled(self.path.clone(), "it closed the connection".to_owned()));
        }
        serde_json::from_slice(&answer).map_err(|error| Unreachable::Garbled(self.path.clone(), error.to_string()))
    }
}

fn connect(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Before connecting: a Unix socket whose queue is full makes one wait by the same timeout.
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

impl Unreachable {
    /// Why the guard at `path` does not answer, by what the system says.
    #[must_use]
    pub fn of(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing(path),
            io::ErrorKind::ConnectionRefused => Self::Gone(path),
            io::ErrorKind::PermissionDenied => Self::Denied(path),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Slow(path),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Garbled(path, error.to_string()),
            _ => Self::Io(path, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// Asks a guard that answers `answer` to anything.
    fn asked(answer: &'static [u8]) -> Result<ControlAnswer, Unreachable> {
        let path = std::env::temp_dir().join(format!("gateway-client-{}-{}", std::process::id(), answer.len()));
        let listener = UnixListener::bind(&path).unwrap();
        let guard = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            (&stream).write_all(answer).unwrap();
            line
        });
        let told = ask(&path, &ControlRequest::Status);
        assert_eq!(guard.join().unwrap(), "{\"ask\":\"status\"}\n");
        let gone = ask(&path, &ControlRequest::Status);
        assert!(matches!(gone, Err(Unreachable::Gone(_))), "{gone:?}");
        std::fs::remove_file(&path).unwrap();
        told
    }

    #[test]
    fn answers_and_what_is_none() {
        let done = asked(b"{\"answer\":\"done\",\"message\":\"m\",\"changed\":1}\n").unwrap();
        assert_eq!(done, ControlAnswer::Done { message: "m".to_owned(), changed: 1 });
        assert!(matches!(asked(b""), Err(Unreachable::Garbled(..))));
        assert!(matches!(asked(b"{\"answer\":\"else\"}\n"), Err(Unreachable::Garbled(..))));
        let missing = ask(Path::new("/nonexistent/control.sock"), &ControlRequest::Status).unwrap_err();
        assert!(missing.to_string().contains("gateway run --config"), "{missing}");
    }
}
