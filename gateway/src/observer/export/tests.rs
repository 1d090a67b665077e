//! Queues that fill, collectors that fail, and what is told of them.

use super::*;
use crate::settings::audit::AnchorUrl;

/// Nobody listens there.
fn collector() -> Collector {
    let endpoint = AnchorUrl {
        is_tls: false,
        host: "127.0.0.1".to_owned(),
        port: 1,
        authority: "127.0.0.1:1".to_owned(),
        path: "/v1/traces".to_owned(),
    };
    Collector { endpoint, ca: None, headers: Vec::new(), service: "gateway".to_owned() }
}

fn state(exporter: &Exporter<Trace>) -> (u64, usize) {
    (exporter.lost.get(), exporter.queue.borrow().len())
}

#[test]
fn the_queue_is_bounded() {
    let exporter = Exports::default().traces;
    let trace = traces::tests::trace();
    exporter.add(trace.clone());
    assert_eq!(state(&exporter), (1, 0), "nobody wants it");
    exporter.configure(Some(&collector()));
    (0..WAITING + 3).for_each(|_| exporter.add(trace.clone()));
    assert_eq!(state(&exporter), (4, WAITING));
    exporter.put_back(vec![trace; 2]);
    assert_eq!(state(&exporter), (6, WAITING));
}

#[test]
fn the_pause_grows_while_the_collector_fails() {
    let exporter = Exports::default().traces;
    exporter.configure(Some(&collector()));
    exporter.add(traces::tests::trace());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = exporter.target.client().unwrap();
    let mut pause = SECOND;
    let pauses = [2, 4, 8, 16, 30, 30].map(|expect| {
        pause = runtime.block_on(exporter.send_waiting(&client, pause));
        (pause, Duration::from_secs(expect))
    });
    assert!(pauses.iter().all(|(pause, expect)| pause == expect), "{pauses:?}");
    assert_eq!(state(&exporter), (0, 1));
    exporter.queue.borrow_mut().clear();
    assert_eq!(runtime.block_on(exporter.send_waiting(&client, pause)), SECOND);
}

#[test]
fn a_collector_that_cannot_be_used_gets_nothing() {
    let exporter = Exports::default().traces;
    let mut broken = collector();
    (broken.endpoint.is_tls, broken.ca) = (true, Some(b"no certificate".to_vec()));
    exporter.configure(Some(&broken));
    exporter.add(traces::tests::trace());
    assert_eq!(state(&exporter), (1, 0));
}

#[test]
fn metrics_that_could_not_be_sent_are_counted() {
    let exporter = MetricsExporter::default();
    exporter.configure(Some(&(collector(), 1)));
    let mut samples = Samples::default();
    samples.count(Metric::Lost, &["shed"], 1);
    let mut store = Store::default();
    let telemetry = crate::message::telemetry::Telemetry { changed: samples.into_inner(), ..Default::default() };
    store.receive((crate::message::telemetry::MetricRole::Proxy, 1), telemetry);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = exporter.target.client().unwrap();
    runtime.block_on(exporter.send(&client, &RefCell::new(store)));
    assert_eq!(exporter.failures.get(), 1);
}
