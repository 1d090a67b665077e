//! A server whose answer is a list of steps, the same by HTTP/1.1 and by HTTP/2. It takes them in an order that no library
//! would, so that it can be hostile.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use support::{wait::pause, world::Namespace};

use crate::h2_hostile::{DATA, END_HEADERS, END_STREAM, HEADERS, PING, SETTINGS, fields, frame};

const ACK: u8 = 1;
const PREFACE: usize = 24;

/// One thing that the server does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Sends a head with a status and headers.
    Head(u16, Vec<(&'static str, String)>),
    /// The same, with END_STREAM in HTTP/2.
    LastHead(u16),
    /// Sends so many heads of this status at once.
    Heads(usize, u16),
    /// Sends content.
    Data(&'static str),
    /// Sends content, with END_STREAM in HTTP/2.
    Last(&'static str),
    /// Waits for so many bytes of the request's body, or for its end where that is chunked.
    Body(usize),
    /// Waits until the test says that it may go on.
    Gate,
    Pause(Duration),
    /// Closes the connection.
    Close,
}

/// An interim response with a `Link`.
pub(crate) fn hint(status: u16) -> Step {
    Step::Head(status, vec![("link", "</a.css>; rel=preload".to_owned())])
}

/// The head of a final response with five bytes of content.
pub(crate) fn good() -> Step {
    Step::Head(200, vec![("content-length", "5".to_owned())])
}

/// These steps, and `hello` as the final response.
pub(crate) fn then_hello(steps: &[Step]) -> Vec<Step> {
    [steps, &[good(), Step::Last("hello")]].concat()
}

/// A running server. It goes with the test.
pub(crate) struct Stepped {
    shared: Arc<Shared>,
    gate: Sender<()>,
}

struct Shared {
    steps: Mutex<Vec<Step>>,
    gate: Mutex<Receiver<()>>,
    connections: AtomicUsize,
}

impl Stepped {
    pub(crate) fn start(namespace: &Namespace, address: &str, by_http2: bool) -> Self {
        let listener = namespace.enter(|| TcpListener::bind(address)).unwrap();
        let (gate, opened) = channel();
        let (steps, connections) = Default::default();
        let shared = Arc::new(Shared { steps, gate: Mutex::new(opened), connections });
        let kept = Arc::clone(&shared);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let shared = Arc::clone(&kept);
                shared.connections.fetch_add(1, SeqCst);
                // A gateway that leaves is what tests are about.
                thread::spawn(move || match by_http2 {
                    true => drop(converse_http2(&mut stream, &shared)),
                    false => drop(converse(&mut stream, &shared)),
                });
            }
        });
        Self { shared, gate }
    }

    /// Answers every request by these from now on.
    pub(crate) fn answer(&self, steps: &[Step]) {
        steps.clone_into(&mut self.shared.steps.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets it go on behind [`Step::Gate`].
    pub(crate) fn open_gate(&self) {
        self.gate.send(()).unwrap();
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }
}

impl Shared {
    fn steps(&self) -> Vec<Step> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A step that is the same in both protocols.
    fn wait(&self, step: &Step) -> io::Result<()> {
        match step {
            Step::Gate => {
                let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
                gate.recv().map_err(io::Error::other)?;
            }
            Step::Pause(time) => pause(*time),
            _ => return Err(io::ErrorKind::ConnectionAborted.into()),
        }
        Ok(())
    }
}

fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> io::Result<()> {
    let mut piece = [0; 16_384];
    let count = stream.read(&mut piece)?;
    read.extend_from_slice(&piece[..count]);
    if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

fn converse(stream: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut read = Vec::new();
    loop {
        let end = loop {
            match read.windows(4).position(|end| end == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => more(stream, &mut read)?,
            }
        };
        let asked: Vec<u8> = read.drain(..end).collect();
        let is_chunked = String::from_utf8_lossy(&asked).to_ascii_lowercase().contains("\r\ntransfer-encoding:");
        for step in shared.steps() {
            let head = |status: u16| format!("HTTP/1.1 {status} x\r\n");
            match step {
                Step::Head(status, headers) => {
                    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                    stream.write_all(format!("{}{lines}\r\n", head(status)).as_bytes())?;
                }
                Step::LastHead(status) => stream.write_all(format!("{}\r\n", head(status)).as_bytes())?,
                Step::Heads(count, status) => {
                    stream.write_all(format!("{}\r\n", head(status)).repeat(count).as_bytes())?;
                }
                Step::Data(content) | Step::Last(content) => stream.write_all(content.as_bytes())?,
                Step::Body(length) => {
                    while if is_chunked { !read.ends_with(b"0\r\n\r\n") } else { read.len() < length } {
                        more(stream, &mut read)?;
                    }
                    read.clear();
                }
                other => shared.wait(&other)?,
            }
        }
    }
}

/// The next frame.
fn next(stream: &mut TcpStream) -> io::Result<([u8; 9], Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload)?;
    match (head[3], head[4] & ACK) {
        (SETTINGS, 0) => stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
        (PING, 0) => stream.write_all(&frame(PING, ACK, 0, &payload))?,
        _ => {}
    }
    Ok((head, payload))
}

fn converse_http2(stream: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.read_exact(&mut [0; PREFACE])?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    loop {
        let (head, _) = next(stream)?;
        if head[3] != HEADERS {
            continue;
        }
        let number = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let headers = |status: u16, flags: u8, rest: &[(&str, &str)]| {
            let status = status.to_string();
            let all = [&[(":status", &*status)], rest].concat();
            frame(HEADERS, END_HEADERS | flags, number, &fields(&all))
        };
        for step in shared.steps() {
            match step {
                Step::Head(status, rest) => {
                    let rest: Vec<_> = rest.iter().map(|(name, value)| (*name, &**value)).collect();
                    stream.write_all(&headers(status, 0, &rest))?;
                }
                Step::LastHead(status) => stream.write_all(&headers(status, END_STREAM, &[]))?,
                Step::Heads(count, status) => stream.write_all(&headers(status, 0, &[]).repeat(count))?,
                Step::Data(content) => stream.write_all(&frame(DATA, 0, number, content.as_bytes()))?,
                Step::Last(content) => stream.write_all(&frame(DATA, END_STREAM, number, content.as_bytes()))?,
                Step::Body(length) => {
                    let mut left = length;
                    while left > 0 {
                        let (head, payload) = next(stream)?;
                        left -= if head[3] == DATA { payload.len() } else { 0 };
                    }
                }
                other => shared.wait(&other)?,
            }
        }
    }
}
