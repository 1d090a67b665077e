//! The control socket: who may open it, and how much they may send: one line of JSON at a time, bounded in length,
//! number and time. What somebody may ask, the guard's loop decides.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::UnixListener,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    ControlAnswer, ControlRequest, DENIED, TOO_MANY,
    caller::{Caller, PeerProcess},
    watch::{WatchEvent, WatchTarget, Watchers},
};
use crate::{message::channel::byte_stream::ByteStream, settings::operators::ControlMode};

/// The longest request, in bytes.
const LONGEST: u64 = 64 * 1024;

/// How many clients are served at once, of root and the guard's own user, and again of all others.
const CLIENTS: usize = 32;

/// How many of those others may be one user's.
const CLIENTS_OF_ONE: usize = 8;

/// How long a client may take to send a line or to take its answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A request that waits for its answer.
#[derive(Debug)]
pub(crate) struct Call {
    /// What is asked.
    pub(crate) request: ControlRequest,
    /// Who asks.
    pub(crate) caller: Caller,
    /// Where the answer goes.
    pub(crate) answer: oneshot::Sender<ControlAnswer>,
}

/// Makes the socket. A file that is there already and nobody listens on is replaced.
///
/// # Errors
/// The folder cannot be made or written, or somebody listens there.
pub(crate) fn bind(path: &Path, mode: ControlMode, group: Option<u32>) -> io::Result<std::os::unix::net::UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another gateway answers there"));
    }
    bind_again(path, mode, group)
}

/// As [`bind`], where whoever listens there is a process of this gateway, which is handed the new socket.
///
/// # Errors
/// The folder cannot be made or written.
pub(crate) fn bind_again(
    path: &Path,
    mode: ControlMode,
    group: Option<u32>,
) -> io::Result<std::os::unix::net::UnixListener> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    // First the group, as far as it may go: nobody of another group is let in meanwhile.
    fs::set_permissions(path, Permissions::from_mode(ControlMode::Owner.bits()))?;
    if group.is_some() {
        std::os::unix::fs::chown(path, None, group)?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode.bits()))?;
    Ok(listener)
}

/// Serves clients until the guard ends. Requests go to `calls`, one after the other.
pub(crate) async fn serve(listener: UnixListener, calls: mpsc::Sender<Call>, watchers: Watchers) {
    let room = ConnectionSlots::default();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => ByteStream::new(stream),
            Err(error) => {
                // Out of descriptors: wait for some to come back.
                tracing::warn!(%error, "a control client could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let peer = stream.socket().and_then(|socket| socket.peer_cred().ok());
        let Some(place) = peer.and_then(|peer| room.enter(peer.uid())) else { continue };
        let (calls, watchers) = (calls.clone(), watchers.clone());
        tokio::spawn(async move {
            if let Err(error) = client(stream, calls, watchers).await {
                tracing::debug!(%error, "a control client went away");
            }
            drop(place);
        });
    }
}

/// Who is served at the moment: nobody without rights keeps root from being served.
#[derive(Clone, Default)]
struct ConnectionSlots(Arc<Mutex<BTreeMap<u32, usize>>>);

/// A place in the [`ConnectionSlots`], until it is dropped.
struct ConnectionSlot(ConnectionSlots, u32);

impl ConnectionSlots {
    /// One more client of this user; `None`: there are too many.
    fn enter(&self, uid: u32) -> Option<ConnectionSlot> {
        let is_trusted = |uid: u32| uid == 0 || uid == nix::unistd::geteuid().as_raw();
        let mut served = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alike: usize =
            served.iter().filter(|(other, _)| is_trusted(**other) == is_trusted(uid)).map(|(_, count)| count).sum();
        let own = served.get(&uid).copied().unwrap_or(0);
        if alike >= CLIENTS || !is_trusted(uid) && own >= CLIENTS_OF_ONE {
            return None;
        }
        served.insert(uid, own + 1);
        Some(ConnectionSlot(self.clone(), uid))
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut served = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = served.get(&self.1).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            served.remove(&self.1);
        } else {
            served.insert(self.1, left);
        }
    }
}

/// Serves a client until it goes away. What it began to import and did not commit ends with its connection.
async fn client(stream: ByteStream, calls: mpsc::Sender<Call>, watchers: Watchers) -> io::Result<()> {
    let Some(socket) = stream.socket() else { return Ok(()) };
    let caller = Caller::Peer(PeerProcess::of(socket).await?);
    let mut imports = Vec::new();
    let served = converse(stream, &calls, &caller, watchers, &mut imports).await;
    for id in imports {
        let (answer, _nobody_waits) = oneshot::channel();
        let request = ControlRequest::BlockImportAbort { id, reason: None };
        // The guard is stopping: its imports end with it.
        drop(calls.send(Call { request, caller: caller.clone(), answer }).await);
    }
    served
}

/// Answers one request after the other. `imports` are those that are open.
async fn converse(
    stream: ByteStream,
    calls: &mpsc::Sender<Call>,
    caller: &Caller,
    watchers: Watchers,
    imports: &mut Vec<u64>,
) -> io::Result<()> {
    let (read, mut write) = tokio::io::split(stream);
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let length = timeout(TIMEOUT, (&mut read).take(LONGEST).read_until(b'\n', &mut line)).await??;
        if length == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            return answer(&mut write, &refused("bad_request", "a request is one line of at most 64 KiB")).await;
        }
        let reply = match serde_json::from_slice(&line) {
            Err(error) => refused("bad_request", &format!("not a request: {error}")),
            Ok(request) => {
                let (sender, receiver) = oneshot::channel();
                let gone = || refused("stopping", "the guard is stopping");
                let watched = match request {
                    ControlRequest::Watch { kernel: Some(ref traced), .. } => {
                        // What is no source was refused before.
                        let source = traced.source().unwrap_or_default();
                        Some(WatchTarget::Kernel { source, drops_only: traced.drops_only })
                    }
                    ControlRequest::Watch { decisions, packets, kernel: None } => {
                        Some(WatchTarget::Events { decisions, packets })
                    }
                    _ => None,
                };
                let part = ImportPart::of(&request);
                let call = Call { request, caller: caller.clone(), answer: sender };
                let reply = match calls.send(call).await {
                    // Who does not wait for a commit takes it back: nothing is put in force that was told to have failed.
                    Ok(()) if matches!(part, ImportPart::Commit(_)) => tokio::select! {
                        reply = receiver => reply.unwrap_or_else(|_dropped| gone()),
                        () = closed(&mut read) => return Ok(()),
                    },
                    Ok(()) => receiver.await.unwrap_or_else(|_dropped| gone()),
                    Err(_closed) => gone(),
                };
                part.note(&reply, imports);
                match (watched, &reply) {
                    (Some(what), ControlAnswer::Done { .. }) => return watch(read, write, &watchers, what).await,
                    _ => reply,
                }
            }
        };
        answer(&mut write, &reply).await?;
        // Who is denied has to come again for every try.
        if matches!(&reply, ControlAnswer::Refused { code, .. } if code == DENIED) {
            return Ok(());
        }
    }
}

/// What a request is to an import.
#[derive(Clone, Copy)]
enum ImportPart {
    Begin,
    Commit(u64),
    Abort(u64),
    Other,
}

impl ImportPart {
    const fn of(request: &ControlRequest) -> Self {
        match request {
            ControlRequest::BlockImportBegin { .. } => Self::Begin,
            ControlRequest::BlockImportCommit { id, .. } => Self::Commit(*id),
            ControlRequest::BlockImportAbort { id, .. } => Self::Abort(*id),
            _ => Self::Other,
        }
    }

    /// Keeps in mind which imports are open, after this answer.
    fn note(self, reply: &ControlAnswer, imports: &mut Vec<u64>) {
        match (self, reply) {
            (Self::Begin, ControlAnswer::Import(import)) => imports.push(import.id),
            (Self::Commit(id) | Self::Abort(id), _) => imports.retain(|open| *open != id),
            _ => {}
        }
    }
}

/// Waits until the client has closed its end. A client that says more instead is there.
async fn closed(read: &mut (impl AsyncBufRead + Unpin)) {
    if !matches!(read.fill_buf().await, Ok([]) | Err(_)) {
        std::future::pending::<()>().await;
    }
}

/// Tells one watcher until it goes away or falls behind.
async fn watch(
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
    watchers: &Watchers,
    watched: WatchTarget,
) -> io::Result<()> {
    let Some(mut watcher) = watchers.join(watched) else {
        return answer(&mut write, &refused(TOO_MANY, "too many watch already")).await;
    };
    if let Err(reason) = timeout(TIMEOUT, watcher.begun()).await? {
        return answer(&mut write, &refused("not_traced", &reason)).await;
    }
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
        if timeout(TIMEOUT, write.write_all(line.as_bytes())).await.is_err() {
            watchers.let_go();
            return Ok(());
        }
    }
}

async fn answer(write: &mut (impl AsyncWrite + Unpin), answer: &ControlAnswer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    timeout(TIMEOUT, write.write_all(&line)).await?
}

fn refused(code: &str, message: &str) -> ControlAnswer {
    ControlAnswer::Refused { code: code.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    #[track_caller]
    fn check(request: &[u8], expect: &str) {
        let path = std::env::temp_dir().join(format!("gateway-control-{}-{}", std::process::id(), request.len()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let text = runtime.block_on(async {
            let listener = UnixListener::from_std(bind(&path, ControlMode::Owner, None).unwrap()).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let (sender, mut calls) = mpsc::channel::<Call>(1);
            tokio::spawn(serve(listener, sender, Watchers::default()));
            tokio::spawn(async move {
                while let Some(call) = calls.recv().await {
                    let done = ControlAnswer::Done { message: format!("{:?}", call.request), changed: 0 };
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
    fn nobody_keeps_root_from_being_served() {
        let room = ConnectionSlots::default();
        let of_one: Vec<ConnectionSlot> = std::iter::from_fn(|| room.enter(1_000_001)).collect();
        assert_eq!(of_one.len(), CLIENTS_OF_ONE);
        let others: Vec<ConnectionSlot> = (0..100).filter_map(|user| room.enter(1_000_002 + user / 4)).collect();
        assert_eq!(others.len(), CLIENTS - CLIENTS_OF_ONE);
        let root: Vec<ConnectionSlot> = std::iter::from_fn(|| room.enter(0)).collect();
        assert_eq!(root.len(), CLIENTS);
        drop((of_one, others, root));
        assert!(room.0.lock().unwrap().is_empty(), "nobody is kept in mind");
    }

    #[test]
    fn a_socket_is_taken_from_nobody_but_a_process_of_this_gateway() {
        let path = std::env::temp_dir().join(format!("gateway-control-again-{}", std::process::id()));
        let first = bind(&path, ControlMode::Owner, None).unwrap();
        assert_eq!(bind(&path, ControlMode::Owner, None).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let second = bind_again(&path, ControlMode::Owner, None).unwrap();
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert!(second.accept().is_ok(), "clients come to the new socket");
        drop((first, second));
        drop(bind(&path, ControlMode::Owner, None).unwrap());
        fs::write(path.with_extension("file"), "").unwrap();
        let found = bind(&path.with_extension("file"), ControlMode::Owner, None).unwrap_err().kind();
        assert_eq!(found, io::ErrorKind::AlreadyExists);
        fs::remove_file(path.with_extension("file")).unwrap();
        fs::remove_file(&path).unwrap();
    }

    /// An import that is not committed ends with its connection; one that is committed or given up is over.
    #[test]
    fn imports_end_with_their_connection() {
        const BEGIN: &str = "{\"ask\":\"block_import_begin\",\"seconds\":null,\"shadow\":false}\n";
        const COMMIT: &str = "{\"ask\":\"block_import_commit\",\"id\":7,\"digest\":\"\"}\n";
        const ABORT: &str = "{\"ask\":\"block_import_abort\",\"id\":7,\"reason\":\"it is a web page\"}\n";
        for (number, (said, answered, last)) in [
            (vec![BEGIN], 1, "BlockImportAbort { id: 7, reason: None }"),
            (vec![BEGIN, ABORT], 2, "BlockImportAbort { id: 7, reason: Some(\"it is a web page\") }"),
            (vec![BEGIN, COMMIT], 2, "BlockImportCommit { id: 7, digest: \"\", allow_empty: false }"),
            // Nobody answers the commit: the client does not wait, and whoever would answer it sees that.
            (vec![BEGIN, COMMIT], 1, "BlockImportAbort { id: 7, reason: None }"),
        ]
        .into_iter()
        .enumerate()
        {
            let path = std::env::temp_dir().join(format!("gateway-control-import-{}-{number}", std::process::id()));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let heard = runtime.block_on(async {
                let listener = UnixListener::from_std(bind(&path, ControlMode::Owner, None).unwrap()).unwrap();
                let (sender, mut calls) = mpsc::channel::<Call>(1);
                let serving = tokio::spawn(serve(listener, sender, Watchers::default()));
                let mut client = BufReader::new(UnixStream::connect(&path).await.unwrap());
                let (mut heard, mut unanswered) = (Vec::new(), Vec::new());
                for (at, line) in said.iter().enumerate() {
                    client.write_all(line.as_bytes()).await.unwrap();
                    let call = calls.recv().await.unwrap();
                    heard.push(format!("{:?}", call.request));
                    if at < answered {
                        let import = Box::new(crate::guard::control::ImportProgress { id: 7, ..Default::default() });
                        call.answer.send(ControlAnswer::Import(import)).unwrap();
                        client.read_line(&mut String::new()).await.unwrap();
                    } else {
                        unanswered.push(call.answer);
                    }
                }
                drop(client);
                for mut waiting in unanswered {
                    waiting.closed().await;
                }
                // Nobody else may call, so that nothing more comes once this client is not served any more.
                serving.abort();
                heard.extend(calls.recv().await.map(|call| format!("{:?}", call.request)));
                heard
            });
            fs::remove_file(&path).unwrap();
            assert_eq!(heard.last().map(String::as_str), Some(last), "{number}: {heard:?}");
        }
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
