//! The wall clock is set by an hour in both directions, and back, while the gateway serves: rates and bans last as long as
//! they would have lasted, quotas begin once an hour, and tokens are judged by what the clock says.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use nix::{
    sys::{signal::Signal, time::TimeSpec},
    time::{ClockId, clock_gettime, clock_settime},
};
use serde_json::{Value, json};
use support::{
    daemon::{Daemon, send},
    http1::Client,
    report,
    settings::{Settings, bad_tokens, route},
    tokens::{self, Algorithm},
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{ATTACKER_V4, GOOD_V4, World, bystander},
};

use crate::load::{Load, Outcomes, since_boot};

const HOUR: i64 = 3_600;

/// Of the limit whose client sends twice as much: an emulated machine on a busy one serves hardly more.
const RATE: u32 = 3;
const BURST: u32 = 6;

/// Of the limit that a clock an hour ahead would fill.
const HOURLY: usize = 20;

const QUOTA: usize = 5;

const STRIKES: u32 = 5;
const BAN: Duration = Duration::from_secs(180);
const BLOCK: Duration = Duration::from_secs(3_600);

/// How much later than it ends a ban may be seen to have ended, on a machine that is emulated.
const LATE: Duration = Duration::from_secs(5);

/// No answer for so long: none will come.
const SILENCE: Duration = Duration::from_millis(500);

/// For how long the clock is left alone.
const PHASE: Duration = Duration::from_secs(12);

/// How the wall clock is set, in seconds.
#[derive(Clone, Copy)]
enum Set {
    By(i64),
    /// Counted from the hour in which the test begins.
    To(i64),
}

/// What holds after the clock was set.
struct Phase {
    name: &'static str,
    set: Set,
    /// How many requests the quota admits.
    quota: usize,
    /// Why tokens are refused: one that expires five minutes after the hour, one that is valid ten minutes after the hour,
    /// one that was issued a minute before the test began.
    tokens: [Option<&'static str>; 3],
}

/// The test begins at a quarter to the hour.
const BEGIN: i64 = HOUR / 4 * 3;

/// The moment before the hour from which one is waited for.
const BEFORE_THE_HOUR: i64 = HOUR - 3;

const EXPIRED: Option<&str> = Some("expired_token");
const EARLY: Option<&str> = Some("not_yet_valid");

const PHASES: [Phase; 8] = [
    Phase { name: "begin", set: Set::By(0), quota: QUOTA, tokens: [None, EARLY, None] },
    Phase { name: "an hour ahead", set: Set::By(HOUR), quota: 0, tokens: [EXPIRED, None, None] },
    Phase { name: "right again", set: Set::By(-HOUR), quota: 0, tokens: [None, EARLY, None] },
    Phase { name: "set back", set: Set::To(HOUR / 2), quota: 0, tokens: [None, EARLY, EARLY] },
    Phase { name: "the hour", set: Set::To(BEFORE_THE_HOUR), quota: QUOTA, tokens: [None, EARLY, None] },
    Phase { name: GUARD_DIES, set: Set::By(-HOUR), quota: 0, tokens: [None, EARLY, EARLY] },
    Phase { name: "the hour again", set: Set::To(BEFORE_THE_HOUR), quota: 0, tokens: [None, EARLY, None] },
    Phase { name: "ahead again", set: Set::By(HOUR), quota: 0, tokens: [EXPIRED, None, None] },
];

/// In this phase the guard is killed.
const GUARD_DIES: &str = "an hour behind";

/// A block, and between which moments it began.
struct Block<'world> {
    client: Client<'world>,
    lasts: Duration,
    began: (Duration, Duration),
}

/// Ends the clients, also where the test fails.
struct EndWhenDropped<'flag>(&'flag AtomicBool);

impl Drop for EndWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn steps() {
    let hour = wall() / HOUR * HOUR;
    set_wall(hour + BEGIN);
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut daemon = Daemon::start(&world, &settings());
    let blocks = [ban(&world, &daemon), block(&world, &daemon)];
    let tokens = tokens(hour);
    let loads = [
        Load::new(bystander(0), "/files/steady", 2 * RATE),
        Load::new(bystander(1), "/files/hourly", 1),
        Load::new(bystander(2), "/files/counted", 2),
    ];

    let mut refused = Vec::new();
    let over = AtomicBool::new(false);
    let began = since_boot();
    thread::scope(|scope| {
        let _end = EndWhenDropped(&over);
        for load in &loads {
            scope.spawn(|| load.run(&world, &over));
        }
        for phase in &PHASES {
            let start = since_boot();
            let before = loads.each_ref().map(Load::outcomes);
            phase.set.apply(hour);
            if phase.name == GUARD_DIES {
                let guard = daemon.guard_pid();
                send(guard, Signal::SIGKILL);
                assert_ne!(daemon.guard_pid_other_than(guard), guard);
            }
            refused.extend(phase.judge(&Client::new(&world, GOOD_V4), &tokens));
            blocks.iter().for_each(|block| block.check(&daemon, phase.name));
            pause((start + PHASE).saturating_sub(since_boot()));
            let after = loads.each_ref().map(Load::outcomes);
            phase.check(&before, &after, since_boot() - start);
        }
    });
    let lasted = since_boot() - began;
    let [steady, hourly, counted] = loads.each_ref().map(Load::outcomes);
    check_rate("all of it", steady.served.len(), lasted);
    let most = HOURLY + usize::try_from(lasted.as_secs()).unwrap() * HOURLY / 3_600 + 1;
    assert!((HOURLY..=most).contains(&hourly.served.len()), "{} an hour", hourly.served.len());
    assert_eq!(counted.served.len(), 2 * QUOTA, "two hours of the calendar");
    report::note(&format!(
        "clock: {} of {} requests at {RATE}/s in {lasted:.1?}, {} of {HOURLY} an hour, {} of {QUOTA} in each of two hours",
        steady.served.len(),
        steady.served.len() + steady.refused,
        hourly.served.len(),
        counted.served.len(),
    ));
    blocks[0].check_end();
    let (last, why) = refused.last().unwrap();
    assert_eq!(daemon.logged(last)["signal"], *why);
    let log = daemon.access_log();
    for (id, why) in refused {
        let line = log.iter().find(|line| line["id"] == *id).unwrap();
        assert_eq!(line["signal"], why, "{line}");
    }

    // A start while the clock is an hour behind.
    Set::By(-HOUR).apply(hour);
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().success());
    daemon.start_again();
    blocks[1].check(&daemon, "a restart");
    let again = Client::new(&world, bystander(2)).get("/files/counted", "").unwrap();
    assert_eq!(again.status, 429, "the quota after a restart");
    let log = fs::read_to_string(world.folder.join("stderr.log")).unwrap();
    assert!(log.contains("the wall clock was set"), "{log}");
}

impl Set {
    fn apply(self, hour: i64) {
        match self {
            Self::By(0) => {}
            Self::By(seconds) => set_wall(wall() + seconds),
            Self::To(seconds) => set_wall(hour + seconds),
        }
    }
}

impl Phase {
    /// Whether tokens are refused that should be: the ids of the requests, and why.
    fn judge(&self, client: &Client<'_>, tokens: &[String; 3]) -> Vec<(String, &'static str)> {
        let mut refused = Vec::new();
        for (token, expect) in tokens.iter().zip(self.tokens) {
            let answer = client.get("/me", token).unwrap();
            assert_eq!(answer.status, if expect.is_some() { 401 } else { 200 }, "{}: {expect:?}", self.name);
            refused.extend(expect.map(|why| (answer.id(), why)));
        }
        refused
    }

    /// Whether as many requests were served as the limits allow.
    fn check(&self, before: &[Outcomes; 3], after: &[Outcomes; 3], lasted: Duration) {
        let [steady, _, counted] = [0, 1, 2].map(|load| after[load].served.len() - before[load].served.len());
        assert!(after[0].refused > before[0].refused, "{}: the clients are slower than the limit", self.name);
        check_rate(self.name, steady, lasted);
        assert_eq!(counted, self.quota, "{}: of the quota", self.name);
    }
}

impl Block<'_> {
    /// Whether it is in force, and lasts as long as it should.
    fn check(&self, daemon: &Daemon<'_>, when: &str) {
        let address = self.client.source.to_string();
        let before = since_boot();
        let why = daemon.done(&["why", &address]);
        let after = since_boot();
        let left = why["entry"]["remaining_seconds"].as_u64().unwrap_or_else(|| panic!("{when}: {address}: {why}"));
        let left_at = |moment: Duration| self.lasts.saturating_sub(moment).as_secs();
        let (least, most) = (left_at(after - self.began.0), left_at(before - self.began.1) + 1);
        assert!((least..=most).contains(&left), "{when}: {address}: {left} s left, not {least} to {most}");
        assert!(self.client.is_ignored(SILENCE), "{when}: {address} is answered");
    }

    /// Waits until it has ended, neither too early nor too late.
    fn check_end(&self) {
        let ended = until("the ban to end", self.lasts + SOON, || (!self.client.is_ignored(SILENCE)).then(since_boot));
        assert!(ended - self.began.0 >= self.lasts, "{:?} after it began at the earliest", ended - self.began.0);
        assert!(ended - self.began.1 <= self.lasts + LATE, "{:?} after it began at the latest", ended - self.began.1);
    }
}

/// As many as the rate allows, by one in a hundred and a burst.
fn check_rate(when: &str, served: usize, lasted: Duration) {
    let (allowed, served) = (lasted.as_secs_f64() * f64::from(RATE), f64::from(u32::try_from(served).unwrap()));
    let (least, most) = (allowed * 0.99 - f64::from(BURST), allowed * 1.01 + f64::from(BURST));
    assert!((least..=most).contains(&served), "{when}: {served} were served, {least:.0} to {most:.0} may be");
}

fn settings() -> Settings {
    let public =
        |name: &str| route(&format!("/files/{name}"), "[\"GET\"]", "[\"public\"]", &format!("name = \"{name}\""));
    let more = format!(
        "[limit.steady]\nroutes = [\"steady\"]\nrequests = {RATE}\nper = \"1s\"\nburst = {BURST}\n\
         [limit.hourly]\nroutes = [\"hourly\"]\nrequests = {HOURLY}\nper = \"1h\"\n\
         [quota.counted]\nroutes = [\"counted\"]\nrequests = {QUOTA}\nper = \"hour\"\n"
    );
    let usual = Settings::default();
    Settings {
        proxy: "workers = 1".to_owned(),
        listeners: format!("{}[[listener]]\naddress = \"10.0.0.1:8080\"\n", usual.listeners),
        routes: ["steady", "hourly", "counted"].map(public).concat()
            + &route("/me", "[\"GET\"]", "[\"authenticated\"]", ""),
        rules: bad_tokens(STRIKES, &format!("{}s", BAN.as_secs())),
        more,
        ..usual
    }
}

/// A ban by a rule.
fn ban<'world>(world: &'world World, daemon: &Daemon<'_>) -> Block<'world> {
    let client = Client::new(world, ATTACKER_V4);
    let forged = tokens::forged("mallory", &["reader"]);
    let before = since_boot();
    for _ in 0..STRIKES {
        assert_eq!(client.get("/me", &forged).unwrap().status, 401);
    }
    let address = client.source.to_string();
    until("the ban", SOON, || (daemon.done(&["why", &address])["verdict"] == "blocked").then_some(()));
    Block { client, lasts: BAN, began: (before, since_boot()) }
}

/// A block by an operator.
fn block<'world>(world: &'world World, daemon: &Daemon<'_>) -> Block<'world> {
    let client = Client::new(world, bystander(3));
    let before = since_boot();
    daemon.done(&["block", "add", &client.source.to_string(), "--for", &format!("{}s", BLOCK.as_secs())]);
    Block { client, lasts: BLOCK, began: (before, since_boot()) }
}

fn tokens(hour: i64) -> [String; 3] {
    let made = |claims: Value| {
        let mut all = tokens::claims("ada", &["reader"]);
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        tokens::ISSUERS.token(Algorithm::Es256, &all)
    };
    [
        made(json!({"iat": hour - HOUR, "exp": hour + HOUR + 300})),
        made(json!({"iat": hour - HOUR, "nbf": hour + HOUR + 600, "exp": hour + 10 * HOUR})),
        made(json!({"iat": hour + BEGIN - 60, "exp": hour + 10 * HOUR})),
    ]
}

/// The wall clock, in seconds.
fn wall() -> i64 {
    clock_gettime(ClockId::CLOCK_REALTIME).unwrap().tv_sec()
}

fn set_wall(seconds: i64) {
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(seconds, 0)).expect("root may set the clock");
}
