//! How many requests get through, by what they are counted, and what clients and operators are told of it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use gateway_common::source::Source;
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::{report::LimitQuestion, *};
use crate::{
    config::{Config, Files},
    os::clock::SECOND,
    policy::auth::Identity,
};

mod accuracy;
mod asked;
mod in_flight;
mod keys;
mod quotas;
mod shared;
mod shared_quotas;
mod spent;
mod told;

/// Long after boot.
const START: u64 = 3_600 * SECOND;

/// What limits are configured with: three routes, the last of which has a parameter.
const BASE: &str = r#"
[[listener]]
address = "127.0.0.1:8080"

[upstream.items]
servers = ["127.0.0.1:9000"]

[roles]
admin = ["all"]
gold = ["all"]

[[route]]
name = "search"
tags = ["slow"]
path = "/search"
require = ["public"]
upstream = "items"

[[route]]
tags = ["slow"]
path = "/export"
require = ["public"]
upstream = "items"

[[route]]
path = "/items/{id}"
require = ["public"]
upstream = "items"
"#;

const SEARCH: Option<usize> = Some(0);
const EXPORT: Option<usize> = Some(1);
const ITEM: Option<usize> = Some(2);

static NO_HEADERS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);

/// A configuration that names no file.
struct Text(String);

impl Files for Text {
    fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        match path.extension() {
            Some(extension) if extension == "toml" => Ok(self.0.as_bytes().into()),
            Some(extension) if extension == "secret" => {
                Ok([path.file_stem().unwrap().as_encoded_bytes()[0]; 32].into())
            }
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn mode(&self, _path: &Path) -> Option<u32> {
        None
    }
}

fn config(text: &str) -> Config {
    let text = Text(format!("{BASE}{text}"));
    Config::load(Path::new("gateway.toml"), &text).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The claims that identities of these tests keep.
fn kept() -> Vec<ClaimPath> {
    vec![ClaimPath::of(&["tenant"]), ClaimPath::of(&["plan"])]
}

/// The limits of a configuration, and those of others that come after them.
struct World {
    settings: limit::Settings,
    limits: Limits,
}

impl World {
    fn new(text: &str) -> Self {
        let proxy = config(text).proxy;
        let limits = Limits::new(&proxy.limits, &proxy.routes, &kept(), proxy.ipv6_prefix, None).unwrap();
        Self { settings: proxy.limits, limits }
    }

    /// A limit of addresses alone.
    fn addresses(requests: u64, per: &str, burst: u64, capacity: usize) -> Self {
        Self::new(&format!(
            "[limit.address]\nrequests = {requests}\nper = \"{per}\"\nburst = {burst}\ncapacity = {capacity}\n"
        ))
    }

    /// Another configuration comes into force.
    fn reload(&mut self, text: &str, now: u64) {
        let proxy = config(text).proxy;
        let next = Limits::new(&proxy.limits, &proxy.routes, &kept(), proxy.ipv6_prefix, Some(&self.limits)).unwrap();
        next.put_in_force(&proxy.limits, &self.limits, now);
        (self.settings, self.limits) = (proxy.limits, next);
    }

    /// One request comes so far as limits let it.
    fn serve(&self, ask: &Ask<'_>, now: u64) -> Result<LimitResult, Refusal> {
        self.judge(ask, now).map_err(|refused| refused.0)
    }

    /// The same. `Err`: with what the client is told of limits.
    fn judge(&self, ask: &Ask<'_>, now: u64) -> Result<LimitResult, Box<(Refusal, LimitResult)>> {
        let mut headers = HeaderMap::new();
        for (name, value) in ask.headers {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        let address: IpAddr = ask.address.parse().unwrap();
        let arrived = LimitFacts {
            source: Source::of(address, 64),
            address: address.to_canonical(),
            ja4: ask.ja4,
            headers: &headers,
            target: None,
            route: None,
            identity: None,
            plan: None,
        };
        let mut judged = LimitResult::default();
        let done = self.limits.judge(When::Arrived, &arrived, now, &mut judged).and_then(|()| {
            let routed = LimitFacts { target: Some((ask.host, ask.path)), route: ask.route, ..arrived };
            self.limits.judge(When::Routed, &routed, now, &mut judged)?;
            let authorized = LimitFacts { identity: ask.identity.as_ref(), ..routed };
            self.limits.judge(When::Authorized, &authorized, now, &mut judged)
        });
        if let Err(refusal) = done {
            self.limits.settle(&mut judged, &RequestUsage::default(), now);
            return Err(Box::new((refusal, judged)));
        }
        Ok(judged)
    }

    /// How many of `count` such requests at once get through. They are over at once.
    fn served(&self, ask: &Ask<'_>, count: usize, now: u64) -> usize {
        let served = (0..count).filter_map(|_| self.serve(ask, now).ok());
        served.map(|mut judged| self.limits.settle(&mut judged, &RequestUsage::default(), now)).count()
    }

    fn addressed(&self, number: u32, now: u64) -> bool {
        let address = IpAddr::V4(Ipv4Addr::from_bits(number));
        let facts = LimitFacts {
            source: Source::of(address, 64),
            address,
            ja4: None,
            headers: &NO_HEADERS,
            target: None,
            route: None,
            identity: None,
            plan: None,
        };
        self.limits.judge(When::Arrived, &facts, now, &mut LimitResult::default()).is_ok()
    }

    /// What the client of a request is told.
    fn told(&self, judged: &LimitResult) -> (String, String) {
        let mut headers = HeaderMap::new();
        self.limits.tell(&judged.told().unwrap(), &mut headers);
        let text = |name| headers[name].to_str().unwrap().to_owned();
        (text("ratelimit"), text("ratelimit-policy"))
    }

    fn sum(&self, name: &str) -> report::LimitSum {
        self.limits.sums().into_iter().find(|sum| &*sum.name == name).unwrap()
    }
}

/// A request.
#[derive(Clone)]
struct Ask<'a> {
    address: &'a str,
    host: &'a str,
    path: &'a str,
    route: Option<usize>,
    headers: &'a [(&'a str, &'a str)],
    ja4: Option<&'a str>,
    identity: Option<Identity>,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self {
            address: "192.0.2.1",
            host: "a.example",
            path: "/items/7",
            route: ITEM,
            headers: &[],
            ja4: None,
            identity: None,
        }
    }
}

fn by(principal: &str, roles: &[&str], tenant: Value, plan: Value) -> Option<Identity> {
    let some = |value: Value| (!value.is_null()).then_some(value);
    Some(Identity::of_token(principal, roles, &[], vec![some(tenant), some(plan)]))
}

fn principal(name: &str) -> Option<Identity> {
    by(name, &[], Value::Null, Value::Null)
}

#[test]
fn d05_exact_across_threads() {
    let world = World::addresses(1_000, "1s", 100, 10_000);
    let (admitted, threads) = (AtomicU64::new(0), 8);
    let (ticks, tick) = (20_000, AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = tick.fetch_add(1, Ordering::Relaxed);
                    if at >= ticks {
                        return;
                    }
                    // One hot source, and company that moves the tables about.
                    world.addressed(u32::try_from(at).unwrap(), START);
                    if world.addressed(u32::MAX, START) {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 100, "time stood still: the burst and not one more");
}

#[test]
fn d06_an_offender_is_not_forgotten_in_a_crowd() {
    let world = World::addresses(1, "1s", 20, 1_000);
    let mut admitted = 0;
    for number in 0..1_000_000_u32 {
        let now = START + u64::from(number) * 1_000;
        world.addressed(number, now);
        if number % 100 == 0 && world.addressed(u32::MAX, now) {
            admitted += 1;
        }
    }
    assert_eq!(admitted, 20, "one second: the burst alone");
    let sum = world.sum("address");
    assert!(sum.keys <= 1_000 && sum.counts.shared > 0, "{sum:?}");
    assert_eq!(sum.counts.evicted, 0, "everybody was active");
}

#[test]
fn d06_only_who_is_idle_makes_room() {
    let world = World::addresses(10, "1s", 10, 1_000);
    let crowd = |from: u32, now: u64| (from..from + 1_000).filter(|number| world.addressed(*number, now)).count();
    // Its parts are never filled evenly: who finds no room shares a budget.
    assert!(crowd(0, START) >= 950);
    let free = 1_000 - world.sum("address").keys;
    let newcomers = crowd(10_000, START);
    let most = usize::try_from(free).unwrap() + 2 * 10;
    assert!(
        newcomers <= most,
        "they share one budget for each part of the table: {newcomers}, {free} places were free"
    );
    // Towards the end hardly anybody of those before is left.
    assert!(crowd(20_000, START + 2 * SECOND) > 950, "those before are idle");
    let sum = world.sum("address");
    assert!(sum.counts.evicted >= 900 && sum.keys <= 1_000, "{sum:?}");
}

#[test]
fn d06_memory_is_flat_at_capacity() {
    let world = World::addresses(1, "1h", 1, 50_000);
    let crowd = |range: std::ops::Range<u32>| range.filter(|number| world.addressed(*number, START)).count();
    crowd(0..100_000);
    let before = world.sum("address").keys;
    crowd(100_000..1_000_000);
    let sum = world.sum("address");
    assert_eq!((sum.keys, sum.keys <= 50_000, before >= 45_000), (before, true, true));
}

#[test]
fn d07_no_window_whose_edge_doubles_the_burst() {
    let world = World::addresses(10, "1s", 10, 100);
    let burst = |now| world.served(&Ask::default(), 100, now);
    assert_eq!(burst(START), 10);
    assert_eq!(burst(START + SECOND / 2), 5);
    assert_eq!(burst(START + SECOND - 1), 4);
    assert_eq!(burst(START + SECOND), 1);
    assert_eq!(burst(START + 86_400 * SECOND), 10, "idleness earns the burst and no more");
}

/// A clock that steps back (it is monotonic, but threads read it and then wait for a lock) takes nothing away.
#[test]
fn d07_an_earlier_now_is_harmless() {
    let world = World::addresses(10, "1s", 10, 10);
    assert!([START, START - SECOND / 20, START].into_iter().all(|now| world.served(&Ask::default(), 1, now) == 1));
}

#[test]
fn tells_when_to_come_back() {
    for (requests, per, burst, late, wait) in
        [(1, "1s", 1, 0, 1), (10, "1s", 1, 0, 1), (1_000, "1s", 1_000, 0, 1), (1, "1m", 1, SECOND / 2, 60)]
    {
        let world = World::addresses(requests, per, burst, 10);
        world.served(&Ask::default(), usize::try_from(burst).unwrap(), START);
        let refusal = world.serve(&Ask::default(), START + late).unwrap_err();
        assert_eq!((refusal.reject, refusal.retry_after), (Reject::TooManyRequests, Some(wait)));
        assert_eq!((&*refusal.detail, &*refusal.policies), ("over limit.address", &["address".into()][..]));
    }
}

#[test]
fn weights_and_exceptions() {
    let world = World::new(
        "[limit.address]\nrequests = 20\nper = \"1h\"\nweights = { slow = 10, search = 4 }\n\
         except = { sources = [\"10.0.0.0/8\"], principals = [\"key:monitor\"], roles = [\"admin\"] }\n",
    );
    for (ask, expect) in [
        (Ask { route: SEARCH, ..Ask::default() }, 5),
        (Ask { route: EXPORT, address: "192.0.2.2", ..Ask::default() }, 2),
        (Ask { address: "192.0.2.3", ..Ask::default() }, 20),
        (Ask { address: "10.1.1.1", ..Ask::default() }, 30),
        (Ask { identity: principal("key:monitor"), ..Ask::default() }, 30),
        (Ask { identity: by("ada", &["user", "admin"], Value::Null, Value::Null), ..Ask::default() }, 30),
        (Ask { identity: by("ada", &["user"], Value::Null, Value::Null), address: "192.0.2.4", ..Ask::default() }, 20),
    ] {
        assert_eq!(world.served(&ask, 30, START), expect, "{} {:?}", ask.address, ask.identity);
    }
    let world = World::new("[limit.a]\nrequests = 1\nweights = { search = 0 }\n");
    assert_eq!(world.served(&Ask { route: SEARCH, ..Ask::default() }, 9, START), 9, "a weight of 0 is not counted");
}

#[test]
fn all_are_judged_and_none_is_charged_if_one_refuses() {
    let world = World::new(
        "[limit.a]\nrequests = 5\nper = \"1h\"\n[limit.b]\nrequests = 2\nper = \"1h\"\nroutes = [\"search\"]\n\
         [limit.c]\nrequests = 4\nper = \"1h\"\nroutes = [\"slow\"]\n[limit.d]\nconcurrent = 1\nroutes = [\"slow\"]\n",
    );
    let search = Ask { route: SEARCH, ..Ask::default() };
    let export = Ask { route: EXPORT, ..Ask::default() };
    assert_eq!(world.served(&search, 3, START), 2);
    assert_eq!((world.sum("b").counts.refused, world.sum("c").counts.admitted), (1, 2));
    assert_eq!(world.served(&export, 5, START), 2, "c has two left, as b's refusal was not charged there");
    let refusal = world.serve(&search, START + SECOND).unwrap_err();
    assert_eq!(&*refusal.detail, "over limit.a", "what arrives is counted before it has a route");
    assert_eq!(world.sum("d").keys, 0, "whoever was refused is not in flight");
    let later = START + 3_600 * SECOND;
    world.served(&search, 2, later);
    world.served(&export, 2, later);
    let refusal = world.serve(&search, later).unwrap_err();
    assert_eq!(&*refusal.detail, "over limit.b, limit.c");
    assert_eq!((&*refusal.policies, refusal.retry_after), (&["b".into(), "c".into()][..], Some(1_800)));
}

#[test]
fn in_shadow_it_counts_and_serves() {
    let world = World::new("[limit.address]\nrequests = 1\nburst = 2\nshadow = true\n");
    let report = || world.limits.would_refuse().next().map(|(_, would)| would);
    for from in [1, 2] {
        assert!((0..10).all(|_| world.addressed(from, START)));
    }
    world.addressed(3, START);
    let source = |number| Source::of(IpAddr::V4(Ipv4Addr::from_bits(number)), 64);
    assert_eq!(report(), Some(ShadowRefusals { requests: 16, sources: vec![source(1), source(2)] }));
    assert_eq!(report(), None);
    world.addressed(1, START);
    assert_eq!(report(), Some(ShadowRefusals { requests: 1, sources: vec![] }), "told of once");
    for number in 10..50_000 {
        (0..3).for_each(|_| assert!(world.addressed(number, START)));
    }
    let would = report().unwrap();
    assert_eq!((would.requests, would.sources.len()), (49_990, MOST_TOLD));
    assert!(world.limits.limits[0].mode.known() <= shadow::MOST_KNOWN);
    assert!(world.serve(&Ask::default(), START).unwrap().told().is_none(), "nobody is told of it");
    world.limits.promote("limit.other");
    assert!(world.addressed(1, START));
    world.limits.promote("limit.address");
    assert!(!world.addressed(1, START), "promoted");
    assert_eq!(world.sum("address").counts.refused, 1);
}

#[test]
fn a_reload_keeps_the_counts() {
    let text = |lines: &str| format!("[limit.address]\n{lines}\n");
    let mut world = World::new(&text("requests = 10\nper = \"1h\""));
    let client = Ask::default();
    assert_eq!(world.served(&client, 4, START), 4);
    for (lines, left) in [
        ("requests = 10\nper = \"1h\"", 6),
        ("requests = 100\nper = \"1h\"", 96),
        ("requests = 5\nper = \"1h\"", 1),
        ("requests = 10\nper = \"1h\"\ncapacity = 5", 6),
        ("requests = 10\nper = \"1h\"\nshadow = true", 6),
        ("requests = 10\nper = \"1h\"\n[limit.other]\nrequests = 10", 6),
        ("requests = 10\nper = \"1h\"\nby = [\"host\"]", 10),
    ] {
        world.reload(&text(lines), START);
        let asked = LimitQuestion::Show(vec![("address".to_owned(), client.address.to_owned())]);
        let rows = report::answer(Some(&world.limits), &asked, START);
        // What is counted by something else is counted anew.
        assert_eq!(rows.first().and_then(|row| row.left).unwrap_or(10), left, "{lines}");
    }
}

#[test]
fn a_promotion_is_over_once_the_configuration_says_so() {
    let text = |shadow| format!("[limit.address]\nrequests = 1\nper = \"1h\"\nshadow = {shadow}\n");
    let mut world = World::new(&text(true));
    world.limits.promote("limit.address");
    world.reload(&text(true), START);
    assert_eq!(world.served(&Ask::default(), 5, START), 1, "promoted");
    world.reload(&text(false), START);
    world.reload(&text(true), START);
    assert_eq!(world.served(&Ask::default(), 5, START), 5, "in shadow again");
}

#[test]
fn plans_have_limits_of_their_own() {
    let world = World::new(
        "[limit.client]\nby = [\"principal\"]\nrequests = 2\nper = \"1h\"\n\
         [plan.gold]\nclaims = { plan = \"gold\" }\nroles = [\"gold\"]\nprincipals = [\"key:deploy\"]\n\
         [plan.gold.limits.client]\nrequests = 5\nper = \"1h\"\n\
         [plan.free]\nrank = 1\nclaims = { plan = \"free\" }\n[plan.free.limits.client]\nrequests = 1\nper = \"1h\"\n",
    );
    let none = Value::Null;
    for (identity, expect) in [
        (principal("ada"), 2),
        (by("bob", &[], none.clone(), json!("gold")), 5),
        (by("eve", &["gold"], none.clone(), none.clone()), 5),
        (principal("key:deploy"), 5),
        // What an operator gave a key counts before what else it is a member of; a plan that is gone was not given.
        (principal("key:deploy").map(|key| key.with_plan("free")), 1),
        (principal("key:acme").map(|key| key.with_plan("gold")), 5),
        (principal("key:acme").map(|key| key.with_plan("former")), 2),
        (by("dan", &["gold"], none.clone(), json!("free")), 1),
        (by("dan", &["gold"], none.clone(), none.clone()), 5),
        (by("kim", &[], none, json!("other")), 2),
        (None, 2),
    ] {
        let ask = Ask { identity, ..Ask::default() };
        assert_eq!(world.served(&ask, 9, START), expect, "{:?}", ask.identity);
    }
}

#[test]
fn requests_wait_for_their_turn() {
    let world = World::new("[limit.address]\nrequests = 20\nburst = 1\ndelay = \"100ms\"\n");
    let wait = |now| world.serve(&Ask::default(), now).map(|mut judged| judged.take_wait());
    let millis = |waits: [u64; 3]| waits.map(|wait| Ok(wait * SECOND / 1_000));
    assert_eq!([START; 3].map(wait), millis([0, 50, 100]));
    let refusal = wait(START).unwrap_err();
    assert_eq!(refusal.retry_after, Some(1));
    assert_eq!([START + SECOND / 20, START + SECOND / 20].map(|now| wait(now).ok()), [Some(SECOND / 10), None]);
    assert_eq!(wait(START + SECOND), Ok(0));
    assert_eq!((world.sum("address").counts.delayed, world.sum("address").counts.admitted), (3, 5));
    let world = World::new("[limit.address]\nrequests = 20\nburst = 1\ndelay = \"100ms\"\nshadow = true\n");
    assert!((0..5).all(|_| world.serve(&Ask::default(), START).unwrap().take_wait() == 0), "in shadow nobody waits");
    assert_eq!(world.sum("address").counts.shadow, 2);
}
