//! A server behind the gateway that follows a script, exchange by exchange: the script has the connection in its hand,
//! so that it can answer early, stop reading, or break off where no library would.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use crate::world::Namespace;

/// A request as the server got it.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Its request line.
    pub line: String,
    /// All of its head.
    pub head: String,
    /// What of its body was read.
    pub body: Vec<u8>,
    /// Whether that was all.
    pub is_whole: bool,
}

type Record = Arc<Mutex<Vec<Heard>>>;

/// A running server. It goes with the test.
pub struct Scripted(Record);

/// One exchange, in the hand of the script.
pub struct Exchange<'a> {
    stream: &'a mut TcpStream,
    rest: &'a mut Vec<u8>,
    record: &'a Record,
    place: usize,
    /// Which one on its connection, counted from 1.
    pub nth: usize,
    /// Its request line.
    pub line: String,
}

impl Scripted {
    /// Serves on `address` in `namespace`. `script`: whether the connection goes on.
    ///
    /// # Panics
    /// If the address is taken.
    #[must_use]
    pub fn start(
        namespace: &Namespace,
        address: &str,
        script: impl Fn(&mut Exchange<'_>) -> io::Result<bool> + Send + Sync + 'static,
    ) -> Self {
        let listener = namespace.enter(|| TcpListener::bind(address)).expect("the server's address");
        let (record, script) = (Record::default(), Arc::new(script));
        let kept = Arc::clone(&record);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (record, script) = (Arc::clone(&kept), Arc::clone(&script));
                // A gateway that leaves is what tests are about.
                thread::spawn(move || drop(converse(&mut stream, &record, &*script)));
            }
        });
        Self(record)
    }

    /// What was heard so far.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets it.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn converse(
    stream: &mut TcpStream,
    record: &Record,
    script: &dyn Fn(&mut Exchange<'_>) -> io::Result<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut rest = Vec::new();
    for nth in 1.. {
        let head = loop {
            if let Some(end) = rest.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = rest.drain(..end + 4).collect();
                break String::from_utf8_lossy(&head).into_owned();
            }
            more(stream, &mut rest)?;
        };
        let line = head.lines().next().unwrap_or_default().to_owned();
        let place = {
            let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
            record.push(Heard { line: line.clone(), head, ..Heard::default() });
            record.len() - 1
        };
        if !script(&mut Exchange { stream, rest: &mut rest, record, place, nth, line })? {
            return Ok(());
        }
    }
    Ok(())
}

fn more(stream: &mut TcpStream, rest: &mut Vec<u8>) -> io::Result<()> {
    let mut piece = [0; 65_536];
    match stream.read(&mut piece)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => {
            rest.extend_from_slice(&piece[..read]);
            Ok(())
        }
    }
}

impl Exchange<'_> {
    /// Sends these bytes.
    ///
    /// # Errors
    /// As the connection.
    pub fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a whole answer.
    ///
    /// # Errors
    /// As the connection.
    pub fn answer(&mut self, status: &str, headers: &str, body: &str) -> io::Result<()> {
        let length = body.len();
        self.say(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}").as_bytes())
    }

    /// Waits until the gateway closes.
    ///
    /// # Errors
    /// If it resets.
    pub fn wait_for_the_end(&mut self) -> io::Result<()> {
        while self.stream.read(&mut [0; 4_096])? > 0 {}
        Ok(())
    }

    /// Reads the body, to its end, or until there are `most` bytes of it.
    ///
    /// # Errors
    /// As the connection; `UnexpectedEof` if it ends first.
    pub fn body(&mut self, most: usize) -> io::Result<()> {
        let head = self.heard(|heard| heard.head.to_ascii_lowercase());
        let value =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
        if let Some(length) = value("content-length:") {
            let length: usize = length.parse().map_err(io::Error::other)?;
            self.piece(length.min(most))?;
            self.heard(|heard| heard.is_whole = length <= most);
        } else if value("transfer-encoding:").is_some() {
            while self.heard(|heard| heard.body.len()) < most {
                let size = self.line()?;
                let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
                self.piece(size)?;
                let _end = self.line()?;
                if size == 0 {
                    self.heard(|heard| heard.is_whole = true);
                    break;
                }
            }
        } else {
            self.heard(|heard| heard.is_whole = true);
        }
        Ok(())
    }

    fn heard<T>(&self, use_it: impl FnOnce(&mut Heard) -> T) -> T {
        use_it(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner)[self.place])
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.rest.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            more(self.stream, self.rest)?;
        }
    }

    fn piece(&mut self, mut length: usize) -> io::Result<()> {
        while length > 0 {
            if self.rest.is_empty() {
                more(self.stream, self.rest)?;
            }
            let taken: Vec<u8> = self.rest.drain(..length.min(self.rest.len())).collect();
            length -= taken.len();
            self.heard(|heard| heard.body.extend_from_slice(&taken));
        }
        Ok(())
    }
}
