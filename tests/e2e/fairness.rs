//! How exact and how fair limits are over sockets: while the configuration is put in force anew every second, among many
//! equal clients that ask for twice what there is, and beside one that asks for a hundred times its share. `paced` has
//! rates from ten to five thousand requests a second, `shared` one upstream that is too slow for all.
//!
//! Here it is short, and times are not judged. `cargo xtask bench fairness` runs it for longer, on cores of its own, and
//! judges them.

mod paced;
mod shared;

use std::{
    env,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use support::{
    daemon::Daemon,
    http1::{Client, Request},
    http2, report,
    settings::Settings,
    tokens::{self, Algorithm},
    upstream::Upstream,
    wait::pause,
    world::{GOOD_V4, World},
};

/// How many equal clients there are.
const CLIENTS: usize = 50;

/// How many connections the greedy one has.
const GREEDY: u32 = 16;

/// What each of them may have a second.
const SHARE: u64 = 20;

/// Whether times are judged, too.
fn judges() -> bool {
    env::var_os("GATEWAY_FAIRNESS_JUDGES").is_some()
}

/// How long each part takes.
fn length() -> Duration {
    let seconds = env::var("GATEWAY_FAIRNESS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(2))
}

/// A verdict of what is judged here, as it is printed.
fn verdict(is_good: bool) -> &'static str {
    match (judges(), is_good) {
        (true, true) => "good",
        (true, false) => "NOT GOOD",
        (false, _) => "not judged",
    }
}

fn start<'world>(world: &'world World, more: &str) -> Daemon<'world> {
    start_with(world, Settings { more: more.to_owned(), ..Settings::default() })
}

/// One worker, on a core of its own where times are judged.
fn start_with(world: &World, settings: Settings) -> Daemon<'_> {
    let proxy = "workers = 1".to_owned();
    let settings = Settings { interfaces: Vec::new(), rules: String::new(), proxy, ..settings };
    if !judges() {
        return Daemon::start(world, &settings);
    }
    let mut cores = CpuSet::new();
    cores.set(1).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cores).expect("two cores: one for the gateway, one for the load");
    Daemon::start_under(world, &settings, &["taskset", "--cpu-list", "0"])
}

fn token(subject: &str) -> String {
    tokens::ISSUERS.token(Algorithm::Es256, &tokens::claims(subject, &["reader"]))
}

/// What one client got.
#[derive(Default)]
struct Got {
    sent: u64,
    admitted: u64,
    /// The longest time between two requests.
    gap: Duration,
    /// How long the served ones took.
    took: Vec<Duration>,
}

impl Got {
    /// Sends requests one after the other, each `pace` after the one before or as soon as that is answered.
    fn over_http1(client: &Client<'_>, token: &str, pace: Duration, is_over: &AtomicBool) -> Self {
        let mut connection = client.connect().unwrap();
        let request = Request::new("GET", "/me").token(token);
        let (mut got, began, mut last) = (Self::default(), Instant::now(), Instant::now());
        while !is_over.load(Ordering::Relaxed) {
            let due = began + pace * u32::try_from(got.sent).unwrap();
            pause(due.saturating_duration_since(Instant::now()));
            let sent = Instant::now();
            got.gap = got.gap.max(sent - last);
            last = sent;
            let status = connection.exchange(&request).unwrap().status;
            got.note(status);
            if status == 200 {
                got.took.push(sent.elapsed());
            }
        }
        got
    }

    /// Sends as many at once as fit a connection, again and again.
    fn over_http2(client: &Client<'_>, token: &str, is_over: &AtomicBool) -> Self {
        let (mut got, mut last) = (Self::default(), Instant::now());
        while !is_over.load(Ordering::Relaxed) {
            got.gap = got.gap.max(last.elapsed());
            last = Instant::now();
            for answer in client.send_http2((0..40).map(|_| http2::get("/me", token)).collect()).unwrap() {
                got.note(answer.unwrap().status().as_u16());
            }
        }
        got
    }

    /// What several connections got together.
    fn sum(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            sent: sum.sent + one.sent,
            admitted: sum.admitted + one.admitted,
            gap: sum.gap.max(one.gap),
            took: [sum.took, one.took].concat(),
        })
    }

    fn note(&mut self, status: u16) {
        assert!(matches!(status, 200 | 429 | 503), "{status}");
        self.sent += 1;
        self.admitted += u64::from(status == 200);
    }
}

/// Puts a limit of another capacity in force each second. In the end its text is what it was.
fn reload_each_second(daemon: &Daemon<'_>, limit: &dyn Fn(u32) -> String, first: u32) {
    let (began, mut capacity) = (Instant::now(), first);
    while began.elapsed() < length() {
        pause(Duration::from_secs(1).min(length() / 2));
        daemon.edit(&limit(capacity), &limit(capacity + 1));
        capacity += 1;
        daemon.done(&["reload"]);
    }
    daemon.edit(&limit(capacity), &limit(first));
}

#[test]
fn d05_d07_exact_while_reloading_every_second() {
    if !report::may_run("fairness: reloads") {
        return;
    }
    const RATE: u64 = 100;
    const BURST: u64 = 20;
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let limit = |capacity: u32| format!("burst = {BURST}\ncapacity = {capacity}\n");
    let more = format!(
        "[limit.client]\nby = [\"principal\"]\nrequests = {RATE}\n{}[quota.client-hour]\nby = [\"principal\"]\n\
         requests = 1000000\nper = \"hour\"\n",
        limit(1_000)
    );
    let daemon = start(&world, &more);
    let client = Client::new(&world, GOOD_V4);
    for (is_http2, name) in [(false, "one"), (true, "two")] {
        let (token, is_over) = (token(name), AtomicBool::new(false));
        let began = Instant::now();
        let (got, elapsed) = thread::scope(|scope| {
            let load = scope.spawn(|| {
                if is_http2 {
                    Got::over_http2(&client, &token, &is_over)
                } else {
                    Got::over_http1(&client, &token, Duration::ZERO, &is_over)
                }
            });
            reload_each_second(&daemon, &limit, 1_000);
            is_over.store(true, Ordering::Relaxed);
            (load.join().unwrap(), began.elapsed())
        });
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "small"
        )]
        let due = (elapsed.as_secs_f64() * RATE as f64) as u64;
        let most = due + due / 100 + BURST + 1;
        assert!(got.admitted <= most, "HTTP/{name}: {} of {} in {elapsed:?}", got.admitted, got.sent);
        // Where the machine is too busy to ask for more than there is, no less can be said.
        let asks_enough = got.sent >= 2 * due && got.gap < Duration::from_millis(1_000 * BURST / RATE);
        if asks_enough || judges() {
            let least = due.saturating_sub(due / 100 + 1 + if is_http2 { 40 } else { 0 });
            assert!(got.admitted >= least, "HTTP/{name}: {} of {} in {elapsed:?}", got.admitted, got.sent);
        }
        let key = format!("principal={name}");
        let shown = daemon.done(&["quota", "show", &key]);
        assert_eq!(shown["rows"][0]["used"], got.admitted, "the quota has counted the same: {shown}");
        report::note(&format!(
            "fairness: HTTP/{name}: {} of {} admitted in {elapsed:?}, due {due} and a burst of {BURST}",
            got.admitted, got.sent
        ));
    }
}

/// Runs all clients, and the one that asks for `greedy` times its share, if it is there.
fn run(world: &World, greedy: Option<u32>) -> (Vec<Got>, Option<Got>, Duration) {
    let (is_over, start) = (AtomicBool::new(false), Barrier::new(CLIENTS + 1));
    let client = Client::new(world, GOOD_V4);
    let pace = Duration::from_secs(1) / u32::try_from(2 * SHARE).unwrap();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (is_over, start, client) = (&is_over, &start, &client);
                let token = token(&format!("client-{number}-{}", greedy.is_some()));
                scope.spawn(move || {
                    start.wait();
                    // Not all in the same moment.
                    pause(pace * u32::try_from(number).unwrap() / u32::try_from(CLIENTS).unwrap());
                    Got::over_http1(client, &token, pace, is_over)
                })
            })
            .collect();
        // One connection has not enough answers in a second.
        let greedy = greedy.map(|times| {
            let (is_over, client) = (&is_over, &client);
            let pace = Duration::from_secs(1) * GREEDY / (u32::try_from(SHARE).unwrap() * times);
            let token = token("greedy");
            let each = || {
                let token = token.clone();
                scope.spawn(move || Got::over_http1(client, &token, pace, is_over))
            };
            (0..GREEDY).map(|_| each()).collect::<Vec<_>>()
        });
        start.wait();
        let from = Instant::now();
        pause(length());
        is_over.store(true, Ordering::Relaxed);
        let got = clients.into_iter().map(|client| client.join().unwrap()).collect();
        let greedy = greedy.map(|all| Got::sum(all.into_iter().map(|one| one.join().unwrap())));
        (got, greedy, from.elapsed())
    })
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn jain(got: &[Got]) -> f64 {
    let sum: f64 = got.iter().map(|got| got.admitted as f64).sum();
    let squares: f64 = got.iter().map(|got| (got.admitted as f64).powi(2)).sum();
    sum.powi(2) / (got.len() as f64 * squares.max(1.0))
}

fn p99(got: &[Got]) -> Duration {
    let mut took: Vec<Duration> = got.iter().flat_map(|got| got.took.iter().copied()).collect();
    took.sort_unstable();
    took.get(took.len() * 99 / 100).copied().unwrap_or_default()
}

#[test]
fn d05_equal_clients_get_equal_shares() {
    if !report::may_run("fairness: shares") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let limit = format!("[limit.client]\nby = [\"principal\"]\nrequests = {SHARE}\nburst = 5\n");
    let _daemon = start(&world, &limit);
    let (alone, _, elapsed) = run(&world, None);
    let (beside, greedy, _) = run(&world, Some(100));
    let greedy = greedy.unwrap();
    let (fair, fair_beside) = (jain(&alone), jain(&beside));
    let (before, after) = (p99(&alone), p99(&beside));
    // A hundred times its share, but for one part in twenty.
    let is_greedy = greedy.sent >= SHARE * 95 * elapsed.as_secs();
    report::note(&format!(
        "fairness: Jain {fair:.4} alone, {fair_beside:.4} beside one that sent {} in {elapsed:?} and got {}; p99 {before:?}, \
         then {after:?}: {}",
        greedy.sent,
        greedy.admitted,
        verdict(is_greedy && fair >= 0.99 && fair_beside >= 0.99 && after <= before.mul_f64(1.2))
    ));
    let most = SHARE * (elapsed.as_secs() + 2) + 6;
    assert!(
        alone.iter().chain(&beside).chain([&greedy]).all(|got| got.admitted <= most),
        "nobody has more than its share"
    );
    // Where the machine is too busy for all to ask for more than there is, shares are what the machine gives.
    let least = SHARE * elapsed.as_secs() * 3 / 2;
    if judges() || alone.iter().chain(&beside).all(|got| got.sent >= least) {
        assert!(fair >= 0.99 && fair_beside >= 0.99, "Jain {fair} alone, {fair_beside} beside a greedy one");
    }
    if judges() {
        assert!(is_greedy, "the greedy one sent only {} in {elapsed:?}: nothing is shown", greedy.sent);
        assert!(after <= before.mul_f64(1.2), "p99 was {before:?} and is {after:?} beside a greedy one");
    }
}
