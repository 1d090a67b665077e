//! A link between the gateway and a real server, which can be bad: slow, cut, or with other bytes than were sent.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crate::{wait::pause, world::Namespace};

/// What becomes of what the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// It arrives.
    Good,
    /// It ends within its body.
    Cut,
    /// Its body arrives with other bytes.
    Garbled,
    /// Nobody is there: connections end at once.
    Gone,
    /// A byte every tenth of a second.
    Slow,
}

/// A running link. It goes with the test.
pub struct Link(Arc<Mutex<Quality>>);

impl Link {
    /// Listens on `port` of 127.0.0.1 in `namespace`, and connects to `server` there.
    ///
    /// # Panics
    /// If the port is taken.
    #[must_use]
    pub fn start(namespace: &Namespace, port: u16, server: u16) -> Self {
        let quality = Arc::new(Mutex::new(Quality::Good));
        let shared = Arc::clone(&quality);
        let (sender, receiver) = std::sync::mpsc::channel();
        let (from, to) = (SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([127, 0, 0, 1], server)));
        namespace.enter(|| {
            let listener = TcpListener::bind(from).expect("the link's port");
            // Threads that this one starts stay in the namespace with it.
            thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    if now(&shared) != Quality::Gone
                        && let Ok(server) = TcpStream::connect(to)
                    {
                        join(client, server, &shared);
                    }
                }
            });
            sender.send(()).unwrap();
        });
        receiver.recv().unwrap();
        Self(quality)
    }

    /// How it is from now on, for what is said on open connections too.
    pub fn set(&self, quality: Quality) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = quality;
    }
}

fn now(quality: &Mutex<Quality>) -> Quality {
    *quality.lock().unwrap_or_else(PoisonError::into_inner)
}

fn join(client: TcpStream, server: TcpStream, quality: &Arc<Mutex<Quality>>) {
    let (mut asked, mut told) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (mut ask, mut tell, quality) = (server, client, Arc::clone(quality));
    thread::spawn(move || {
        drop(std::io::copy(&mut asked, &mut ask));
        drop(ask.shutdown(Shutdown::Write));
    });
    thread::spawn(move || {
        let mut piece = [0; 65_536];
        while let Ok(read @ 1..) = told.read(&mut piece) {
            if pass(&mut piece[..read], &mut tell, now(&quality)).is_none() {
                break;
            }
        }
        drop((tell.shutdown(Shutdown::Both), told.shutdown(Shutdown::Both)));
    });
}

/// Hands a piece on; `None`: the connection is over.
fn pass(piece: &mut [u8], tell: &mut TcpStream, quality: Quality) -> Option<()> {
    let body = piece.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |end| end + 4);
    match quality {
        Quality::Good => tell.write_all(piece).ok(),
        Quality::Gone => None,
        Quality::Cut => {
            drop(tell.write_all(&piece[..body + (piece.len() - body) / 2]));
            None
        }
        Quality::Garbled => {
            piece[body..].iter_mut().for_each(|byte| *byte ^= 1);
            tell.write_all(piece).ok()
        }
        Quality::Slow => {
            for byte in piece {
                tell.write_all(&[*byte]).ok()?;
                pause(Duration::from_millis(100));
            }
            Some(())
        }
    }
}
