//! A name server: it answers over UDP what a test has put into its zone, and remembers what it was asked.

use std::{
    collections::HashMap,
    net::{IpAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::world::Namespace;

/// What it answers to a question.
#[derive(Clone, Debug)]
pub enum Reply {
    /// One record: an address.
    Address(IpAddr),
    /// It has failed (SERVFAIL).
    Failure,
    /// One record: a name.
    Name(String),
    /// Nothing at all.
    Silence,
}

/// By the question: a name and a type, `crawl.example A`. What is not there does not exist.
type Zone = Arc<Mutex<HashMap<String, Reply>>>;

/// A name server. It ends when it is dropped.
pub struct NameServer {
    zone: Zone,
    asked: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Answers at `address` in `namespace`.
    ///
    /// # Panics
    /// The address is in use.
    #[must_use]
    pub fn start(namespace: &Namespace, address: &str) -> Self {
        let socket = namespace.enter(|| UdpSocket::bind(address)).expect("nobody else is there");
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (zone, asked, over) = (Zone::default(), Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let (of_thread, remembered, is_over) = (Arc::clone(&zone), Arc::clone(&asked), Arc::clone(&over));
        let thread = thread::spawn(move || {
            let mut bytes = [0; 1_500];
            while !is_over.load(Ordering::Relaxed) {
                // Nothing has come for a while, or whoever asked last is gone.
                let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
                let Some((question, end)) = question(&bytes[..length]) else { continue };
                remembered.lock().unwrap().push(question.clone());
                let reply = of_thread.lock().unwrap().get(&question).cloned();
                if let Some(answer) = answer(&bytes[..end], reply.as_ref()) {
                    drop(socket.send_to(&answer, from));
                }
            }
        });
        Self { zone, asked, over, thread: Some(thread) }
    }

    /// Answers a question like this from now on.
    ///
    /// # Panics
    /// If the thread has panicked.
    pub fn put(&self, question: &str, reply: Reply) {
        self.zone.lock().unwrap().insert(question.to_owned(), reply);
    }

    /// What it was asked, as `1.0.0.10.in-addr.arpa PTR`.
    ///
    /// # Panics
    /// If the thread has panicked.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The question of a message, and where it ends.
fn question(bytes: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*bytes.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(bytes.get(at + 1..at + 1 + length)?).into_owned());
        at += 1 + length;
    }
    let kind = match bytes.get(at + 1..at + 3)? {
        [0, 1] => "A",
        [0, 12] => "PTR",
        [0, 28] => "AAAA",
        _ => return None,
    };
    Some((format!("{} {kind}", labels.join(".")), at + 5))
}

/// The answer to a message that ends with its question.
fn answer(asked: &[u8], reply: Option<&Reply>) -> Option<Vec<u8>> {
    let (code, value) = match reply {
        Some(Reply::Silence) => return None,
        Some(Reply::Failure) => (2, None),
        Some(Reply::Address(IpAddr::V4(address))) => (0, Some(address.octets().to_vec())),
        Some(Reply::Address(IpAddr::V6(address))) => (0, Some(address.octets().to_vec())),
        Some(Reply::Name(name)) => {
            let labels = name
                .split('.')
                .flat_map(|label| [&[u8::try_from(label.len()).unwrap()][..], label.as_bytes()].concat());
            (0, Some(labels.chain([0]).collect()))
        }
        None => (3, None),
    };
    let mut bytes = asked[..2].to_vec();
    bytes.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(value.is_some()), 0, 0, 0, 0]);
    bytes.extend(&asked[12..]);
    if let Some(value) = value {
        // The name and the type of the question, and a minute.
        bytes.extend([0xc0, 12]);
        bytes.extend(&asked[asked.len() - 4..]);
        bytes.extend([0, 0, 0, 60, 0, u8::try_from(value.len()).unwrap()]);
        bytes.extend(value);
    }
    Some(bytes)
}
