//! Decides who may speak on the control socket, and how much: root and the guard's own user, one line of JSON at a
//! time, bounded in length, number and time.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{
    Answer, Request,
    watch::{WatchEvent, Watchers},
};

/// The longest request, in bytes.
const LONGEST: u64 = 64 * 1024;

/// How many clients are served at once; more are told to come back.
const CLIENTS: usize = 32;

/// How long a client may take to send a line or to take its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request that waits for its answer.
#[derive(Debug)]
pub(crate) struct Call {
    /// What is asked.
    pub(crate) request: Request,
    /// The user id of whoever asks.
    pub(crate) uid: u32,
    /// Where the answer goes.
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// Makes the socket. A file that is there already and nobody listens on is replaced.
///
/// # Errors
/// The folder cannot be made or written, or somebody listens there.
pub(crate) fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another gateway answers there"));
            }
            fs::remove_file(path)?;
        }
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves clients until the guard ends. Requests go to `calls`, one after the other.
pub(crate) async fn serve(listener: UnixListener, calls: mpsc::Sender<Call>, watchers: Watchers) {
    let room = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors: wait for some to come back.
                tracing::warn!(%error, "a control client could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
        let (calls, watchers) = (calls.clone(), watchers.clone());
        tokio::spawn(async move {
            if let Err(error) = client(stream, calls, watchers).await {
                tracing::debug!(%error, "a control client went away");
            }
            drop(permit);
        });
    }
}

async fn client(stream: UnixStream, calls: mpsc::Sender<Call>, watchers: Watchers) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    if uid != 0 && uid != nix::unistd::geteuid().as_raw() {
        // The socket's mode says the same; this is for whoever was passed an open descriptor.
        return answer(&mut write, &refused("not_permitted", "only root and the guard's own user may ask")).await;
    }
    loop {
        let mut line = Vec::new();
        let length = timeout(PATIENCE, (&mut read).take(LONGEST).read_until(b'\n', &mut line)).await??;
        if length == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            return answer(&mut write, &refused("bad_request", "a request is one line of at most 64 KiB")).await;
        }
        let reply = match serde_json::from_slice(&line) {
            Err(error) => refused("bad_request", &format!("not a request: {error}")),
            Ok(Request::Watch { decisions, packets }) => {
                return watch(read, write, &watchers, (decisions, packets)).await;
            }
            Ok(request) => {
                let (sender, receiver) = oneshot::channel();
                let gone = || refused("stopping", "the guard is stopping");
                match calls.send(Call { request, uid, answer: sender }).await {
                    Ok(()) => receiver.await.unwrap_or_else(|_dropped| gone()),
                    Err(_closed) => gone(),
                }
            }
        };
        answer(&mut write, &reply).await?;
    }
}

/// Tells one watcher until it goes away or falls behind.
async fn watch(
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
    watchers: &Watchers,
    (decisions, packets): (bool, bool),
) -> io::Result<()> {
    let Some(mut watcher) = watchers.join(decisions, packets) else {
        return answer(&mut write, &refused("too_many", "too many watch already")).await;
    };
    write.write_all(b"{\"event\":\"watching\"}\n").await?;
    let mut ignored = [0; 64];
    loop {
        let heard = tokio::select! {
            heard = watcher.hear() => heard,
            // Nothing more is expected of a watcher than that it goes.
            read = read.read(&mut ignored) => match read? {
                0 => return Ok(()),
                _ => continue,
            },
        };
        let line = match heard {
            WatchEvent::Line(line) => format!("{line}\n"),
            WatchEvent::Skipped(packets) => format!("{{\"event\":\"skipped\",\"packets\":{packets}}}\n"),
            WatchEvent::Ended => return Ok(()),
            WatchEvent::TooSlow => {
                watchers.let_go();
                return answer(&mut write, &refused("too_slow", "this watcher did not keep up")).await;
            }
        };
        if timeout(PATIENCE, write.write_all(line.as_bytes())).await.is_err() {
            watchers.let_go();
            return Ok(());
        }
    }
}

async fn answer(write: &mut (impl AsyncWrite + Unpin), answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    timeout(PATIENCE, write.write_all(&line)).await?
}

fn refused(code: &str, message: &str) -> Answer {
    Answer::Refused { code: code.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(request: &[u8], expect: &str) {
        let path = std::env::temp_dir().join(format!("gateway-control-{}-{}", std::process::id(), request.len()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let text = runtime.block_on(async {
            let listener = UnixListener::from_std(bind(&path).unwrap()).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let (sender, mut calls) = mpsc::channel::<Call>(1);
            tokio::spawn(serve(listener, sender, Watchers::default()));
            tokio::spawn(async move {
                while let Some(call) = calls.recv().await {
                    let done = Answer::Done { message: format!("{:?}", call.request), changed: 0 };
                    assert!(call.answer.send(done).is_ok());
                }
            });
            let mut client = UnixStream::connect(&path).await.unwrap();
            client.write_all(request).await.unwrap();
            let mut line = String::new();
            BufReader::new(client).read_line(&mut line).await.unwrap();
            line
        });
        fs::remove_file(&path).unwrap();
        assert!(text.contains(expect), "{text}");
    }

    #[test]
    fn one_line_one_answer() {
        check(b"{\"ask\":\"status\"}\n", "Status");
        check(b"{\"ask\":\"why\",\"address\":\"192.0.2.1\"}\n", "192.0.2.1");
        check(b"{\"ask\":\"why\",\"address\":\"192.0.2.1\",\"more\":1}\n", "bad_request");
        check(b"{\"ask\":\"block_del\",\"source\":\"192.0.2.1/24\"}\n", "bad_request");
        check(b"GET / HTTP/1.1\r\n\n", "bad_request");
        check(&[b'x'; 70_000], "at most 64 KiB");
    }
}
