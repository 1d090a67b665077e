//! A client that sends at a steady pace, whatever the wall clock says, and remembers when it was served.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};
use support::{
    http1::{Connection, Request, TIMEOUT},
    wait::pause,
    world::World,
};

/// Where the gateway listens without TLS: handshakes would cost an emulated machine more than all requests.
const TARGET: &str = "10.0.0.1:8080";

/// What a client sends, and what became of it.
pub(crate) struct Load {
    source: IpAddr,
    path: &'static str,
    gap: Duration,
    outcomes: Mutex<Outcomes>,
}

/// What became of requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes {
    /// When they were served, by `CLOCK_BOOTTIME`.
    pub(crate) served: Vec<Duration>,
    /// How many were refused with 429.
    pub(crate) refused: usize,
}

impl Load {
    /// A client at `source` that asks for `path` so often.
    pub(crate) fn new(source: IpAddr, path: &'static str, per_second: u32) -> Self {
        Self { source, path, gap: Duration::from_secs(1) / per_second, outcomes: Mutex::default() }
    }

    /// Sends until it is over. A request that comes late is sent at once, so that as many are sent as there should be.
    ///
    /// # Panics
    /// If a request is answered by anything but 200 and 429.
    pub(crate) fn run(&self, world: &World, over: &AtomicBool) {
        let request = Request::new("GET", self.path);
        let mut connection = self.connect(world).unwrap();
        let start = Instant::now();
        for number in 0.. {
            pause((start + self.gap * number).saturating_duration_since(Instant::now()));
            if over.load(Ordering::Relaxed) {
                return;
            }
            let answer = connection.exchange(&request).unwrap_or_else(|error| panic!("{}: {error}", self.path));
            let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            match answer.status {
                200 => outcomes.served.push(since_boot()),
                429 => outcomes.refused += 1,
                status => panic!("{}: {status} {}", self.path, answer.text()),
            }
        }
    }

    /// What became of requests so far.
    pub(crate) fn outcomes(&self) -> Outcomes {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn connect(&self, world: &World) -> io::Result<Connection> {
        let target: SocketAddr = TARGET.parse().map_err(io::Error::other)?;
        let stream = world.outside.connect(self.source, target, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Connection::plain(stream))
    }
}

/// `CLOCK_BOOTTIME`: nobody sets it.
///
/// # Panics
/// If there is no such clock.
pub(crate) fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap().into()
}
