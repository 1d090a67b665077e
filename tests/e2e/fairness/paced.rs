//! Exact at any rate: so many requests a second of so many keys, each of which asks for twice what it may have, while the
//! configuration is put in force anew every second.

use support::http1::Connection;

use super::*;

/// Requests a second, and of how many keys.
const ROWS: [(u32, u32); 4] = [(10, 1), (100, 10), (1_000, 100), (5_000, 1_000)];

/// How many requests of one key come at once at most.
const BURST: u64 = 5;

/// Where requests are sent in batches: one each ten milliseconds.
const BATCHES: u32 = 100;

/// One connection, of either version.
enum Way<'a> {
    Http1(Connection),
    Http2(&'a support::http2_call::Caller),
}

impl Way<'_> {
    /// Sends requests of these keys at once. How many were admitted.
    fn send(&mut self, keys: &[String]) -> u64 {
        let statuses: Vec<u16> = match self {
            Self::Http1(connection) => {
                let requests = keys.iter().map(|key| Request::new("GET", "/health").header("x-app", key).bytes());
                connection.write(&requests.collect::<Vec<_>>().concat()).unwrap();
                keys.iter().map(|_| connection.response("GET").unwrap().status).collect()
            }
            Self::Http2(caller) => {
                let url = format!("https://{}/health", support::pki::HOST);
                let begin = |key: &String| {
                    let request = http::Request::get(&url).header("x-app", key).body(()).unwrap();
                    caller.begin(request, true).unwrap()
                };
                let calls: Vec<_> = keys.iter().map(begin).collect();
                calls.into_iter().map(|call| call.answer().unwrap().head.status.as_u16()).collect()
            }
        };
        assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
        statuses.iter().filter(|status| **status == 200).count() as u64
    }
}

#[test]
fn d05_d07_exact_at_paced_rates() {
    if !report::may_run("fairness: paced") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    for (rate, keys) in ROWS.into_iter().take(if judges() { ROWS.len() } else { 3 }) {
        // Half of what each asks for.
        let each = rate / keys;
        let limit = |capacity: u32| {
            format!(
                "[limit.key]\nby = [\"header:x-app\"]\nrequests = {each}\nper = \"2s\"\nburst = {BURST}\ncapacity = {capacity}\n"
            )
        };
        let daemon = start(&world, &limit(4_000));
        let client = Client::new(&world, GOOD_V4);
        let caller = client.caller().unwrap();
        for is_http2 in [false, true] {
            let way = if is_http2 { Way::Http2(&caller) } else { Way::Http1(client.connect().unwrap()) };
            let is_over = AtomicBool::new(false);
            let (sent, admitted, elapsed) = thread::scope(|scope| {
                let load = scope.spawn(|| load(way, rate, keys, is_http2, &is_over));
                reload_each_second(&daemon, &limit, 4_000);
                is_over.store(true, Ordering::Relaxed);
                load.join().unwrap()
            });
            let may = |seconds: f64| f64::from(keys) * (BURST as f64 + f64::from(each) / 2.0 * seconds);
            let seconds = elapsed.as_secs_f64();
            let (most, least) = (may(seconds) * 1.01 + f64::from(keys), may(seconds) * 0.99 - 2.0 * f64::from(keys));
            let is_reached = f64::from(u32::try_from(sent).unwrap()) >= 0.95 * f64::from(rate) * seconds;
            let is_exact = (least..=most).contains(&(admitted as f64));
            report::note(&format!(
                "fairness: {rate}/s of {keys} keys over HTTP/{}: {admitted} of {sent} admitted in {elapsed:?}, due {:.0}: {}",
                if is_http2 { "2" } else { "1.1" },
                may(seconds),
                verdict(is_exact && is_reached)
            ));
            assert!(admitted as f64 <= most, "{rate}/s of {keys} keys: {admitted} of {sent}, due {:.0}", may(seconds));
            if judges() {
                assert!(is_reached, "{rate}/s: only {sent} were sent in {elapsed:?}: nothing is shown");
                assert!(is_exact, "{rate}/s of {keys} keys: {admitted} of {sent}, due {:.0}", may(seconds));
            }
        }
    }
}

/// Sends at this rate until it is over: how many were sent and admitted, and in which time.
fn load(mut way: Way<'_>, rate: u32, keys: u32, is_http2: bool, is_over: &AtomicBool) -> (u64, u64, Duration) {
    let (batch, gap) = match rate.checked_div(BATCHES) {
        Some(batch) if batch > 0 => (batch, Duration::from_secs(1) / BATCHES),
        _ => (1, Duration::from_secs(1) / rate),
    };
    let (began, mut sent, mut admitted) = (Instant::now(), 0_u32, 0);
    while !is_over.load(Ordering::Relaxed) {
        pause((began + gap * (sent / batch)).saturating_duration_since(Instant::now()));
        let keys: Vec<String> = (sent..sent + batch).map(|number| format!("{is_http2}-{}", number % keys)).collect();
        admitted += way.send(&keys);
        sent += batch;
    }
    (sent.into(), admitted, began.elapsed())
}
