//! Sends traces to a collector: in batches, again after a pause where that fails, and from a queue that is bounded. What
//! finds it full is dropped and counted.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{clock, message::telemetry::Trace, settings::traces::Settings, sparse::Sparse};

mod otlp;

/// The most traces that wait.
const WAITING: usize = 4_096;

/// The most traces that are sent at once.
const BATCH: usize = 256;

/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest pause between two tries.
const LONGEST: Duration = Duration::from_secs(30);

const SECOND: Duration = Duration::from_secs(1);

/// How often the same trouble with the collector is logged at most.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Traces that wait for the collector.
#[derive(Default)]
pub(super) struct Exporter {
    settings: RefCell<Option<Settings>>,
    queue: RefCell<VecDeque<Trace>>,
    lost: Cell<u64>,
    failed: Sparse,
    refused: Sparse,
}

impl Exporter {
    /// Goes on with other settings. `None`: nothing is sent.
    pub(super) fn configure(&self, settings: Option<Settings>) {
        *self.settings.borrow_mut() = settings;
    }

    /// Takes traces of a proxy; how many of them are none.
    pub(super) fn add(&self, traces: Vec<Trace>) -> u64 {
        let (mut queue, mut refused) = (self.queue.borrow_mut(), 0);
        for trace in traces {
            if !trace.is_valid() {
                refused += 1;
            } else if queue.len() < WAITING && self.settings.borrow().is_some() {
                queue.push_back(trace);
            } else {
                self.lose(1);
            }
        }
        refused
    }

    /// How many traces were dropped.
    pub(super) const fn lost(&self) -> u64 {
        self.lost.get()
    }

    fn lose(&self, traces: usize) {
        self.lost.set(self.lost.get().saturating_add(u64::try_from(traces).unwrap_or(u64::MAX)));
    }

    /// Sends what waits, as long as the process lives.
    pub(super) async fn run(self: Rc<Self>) {
        let mut pause = SECOND;
        loop {
            sleep(pause).await;
            let settings = self.settings.borrow().clone();
            pause = match settings {
                Some(settings) => self.send_waiting(&settings, pause).await,
                None => SECOND,
            };
        }
    }

    /// Sends what waits, until a batch fails: the endpoint may be another after the pause. `pause`: how long the last one
    /// was. Returns the next.
    async fn send_waiting(&self, settings: &Settings, mut pause: Duration) -> Duration {
        while !self.queue.borrow().is_empty() {
            let batch: Vec<Trace> = {
                let mut queue = self.queue.borrow_mut();
                let count = queue.len().min(BATCH);
                queue.drain(..count).collect()
            };
            match self.send(settings, &batch).await {
                Ok(()) => pause = SECOND,
                Err(error) => {
                    if let Some(others) = self.failed.is_due_every(TOLD_EVERY, clock::monotonic()) {
                        tracing::warn!(error, others, "the collector of traces.endpoint takes no traces; trying again");
                    }
                    return self.put_back(batch, pause);
                }
            }
        }
        SECOND
    }

    /// Puts a batch back to the front, as far as there is room; how long to wait.
    fn put_back(&self, batch: Vec<Trace>, pause: Duration) -> Duration {
        let mut queue = self.queue.borrow_mut();
        for trace in batch.into_iter().rev() {
            if queue.len() >= WAITING {
                self.lose(1);
            } else {
                queue.push_front(trace);
            }
        }
        (pause * 2).min(LONGEST)
    }

    /// Sends a batch. What the collector does not want is dropped; an error is worth another try.
    async fn send(&self, settings: &Settings, batch: &[Trace]) -> Result<(), String> {
        let body = otlp::encode(&settings.service, batch);
        let status = timeout(PATIENCE, post(settings, body)).await;
        let status = status.map_err(|_late| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
        match status.as_u16() {
            200..=299 => Ok(()),
            429 | 502..=504 => Err(format!("status {status}")),
            _ => {
                if let Some(others) = self.refused.is_due_every(TOLD_EVERY, clock::monotonic()) {
                    let traces = batch.len();
                    tracing::error!(%status, traces, others, "the collector of traces.endpoint refuses traces");
                }
                self.lose(batch.len());
                Ok(())
            }
        }
    }
}

async fn post(settings: &Settings, body: Vec<u8>) -> io::Result<StatusCode> {
    let endpoint = &settings.endpoint;
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let host = if endpoint.host.contains(':') { format!("[{}]", endpoint.host) } else { endpoint.host.clone() };
    let request = Request::post(endpoint.path.as_str())
        .header(header::HOST, format!("{host}:{}", endpoint.port))
        .header(header::CONTENT_TYPE, "application/x-protobuf")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(io::Error::other)?;
    let answered = async {
        let answered = sender.send_request(request).await.map_err(io::Error::other);
        answered.map(|answered| answered.status())
    };
    tokio::select! {
        answered = answered => answered,
        ended = connection => {
            ended.map_err(io::Error::other)?;
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::traces::{Accept, Endpoint};

    #[test]
    fn the_queue_is_bounded() {
        let exporter = Exporter::default();
        let trace = otlp::tests::trace();
        assert_eq!(exporter.add(vec![trace.clone()]), 0);
        assert_eq!((exporter.lost(), exporter.queue.borrow().len()), (1, 0), "nobody wants it");
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: 1, path: "/v1/traces".to_owned() };
        let settings = Settings { endpoint, sample: 1, accept: Accept::Nobody, service: "gateway".to_owned() };
        exporter.configure(Some(settings));
        assert_eq!(exporter.add(vec![Trace { id: 0, ..trace.clone() }]), 1);
        assert_eq!(exporter.add(vec![trace.clone(); WAITING + 3]), 0);
        assert_eq!((exporter.lost(), exporter.queue.borrow().len()), (4, WAITING));
        assert_eq!(exporter.put_back(vec![trace; 2], SECOND), 2 * SECOND);
        assert_eq!((exporter.lost(), exporter.queue.borrow().len()), (6, WAITING));
    }

    #[test]
    fn the_pause_grows_while_the_collector_fails() {
        let exporter = Exporter::default();
        // Nobody listens there.
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: 1, path: "/v1/traces".to_owned() };
        let settings = Settings { endpoint, sample: 1, accept: Accept::Nobody, service: "gateway".to_owned() };
        exporter.configure(Some(settings.clone()));
        exporter.add(vec![otlp::tests::trace()]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut pause = SECOND;
        let pauses = [2, 4, 8, 16, 30, 30].map(|expect| {
            pause = runtime.block_on(exporter.send_waiting(&settings, pause));
            (pause, Duration::from_secs(expect))
        });
        assert!(pauses.iter().all(|(pause, expect)| pause == expect), "{pauses:?}");
        assert_eq!((exporter.lost(), exporter.queue.borrow().len()), (0, 1));
        exporter.queue.borrow_mut().clear();
        assert_eq!(runtime.block_on(exporter.send_waiting(&settings, pause)), SECOND);
    }
}
