//! Quotas among limits: who has which, what clients and operators are told, and that a reload keeps the counts.

use super::*;
use crate::{os::clock::Now, policy::limit::quotas::QuotaReport};

const DAY: u64 = 86_400 * SECOND;

/// Noon of a day in March, at [`START`].
const NOON: u64 = 1_773_144_000;

/// The clocks, so long after noon.
fn at(nanos: u64) -> Now {
    Now { monotonic: START + nanos, unix_millis: NOON * 1_000 + nanos / 1_000_000 }
}

fn world(text: &str) -> World {
    let world = World::new(text);
    world.limits.tick(at(0));
    world
}

const CLIENT: &str = "[quota.client]\nby = [\"principal\"]\nrequests = 5\nper = \"day\"\n";

fn ask(principal: &str) -> Ask<'static> {
    Ask { identity: by(principal, &[], Value::Null, Value::Null), ..Ask::default() }
}

#[test]
fn d05_missing_key() {
    let world = world(CLIENT);
    assert_eq!(world.served(&ask("ada"), 9, START), 5);
    assert_eq!(world.served(&ask("bob"), 9, START), 5);
    // Nobody is asked for: the address stands in.
    assert_eq!(world.served(&Ask::default(), 9, START), 5);
    assert_eq!(world.served(&Ask { address: "192.0.2.9", ..Ask::default() }, 9, START), 5);
}

#[test]
fn clients_are_told_of_quotas() {
    let world = world(&format!(
        "{CLIENT}quota_headers = {{ limit = \"X-Quota-Limit\", remaining = \"X-Quota-Remaining\", reset = \"X-Quota-Reset\" }}\n\
         [limit.client-rate]\nby = [\"principal\"]\nrequests = 3\nper = \"1h\"\n"
    ));
    assert!(world.limits.reads_responses(), "they take the place of the upstream's");
    let headers = |judged: &LimitResult| {
        let mut headers = HeaderMap::new();
        world.limits.tell(&judged.told().unwrap(), &mut headers);
        ["ratelimit", "x-quota-limit", "x-quota-remaining", "x-quota-reset"]
            .map(|name| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default())
    };
    let midnight = (NOON + 43_200).to_string();
    let judged = world.serve(&ask("ada"), START).unwrap();
    assert_eq!(headers(&judged), ["\"client-rate\";r=2;t=1200", "5", "4", &midnight]);
    assert_eq!(world.served(&ask("ada"), 9, START), 2);
    // The rate refuses: nothing of the quota is used up.
    assert_eq!(world.served(&ask("ada"), 9, START + 3_600 * SECOND), 2);
    let refusal = world.serve(&ask("ada"), START + 3_600 * SECOND).unwrap_err();
    assert_eq!(&*refusal.detail, "over quota.client");
    assert_eq!(refusal.retry_after, Some(11 * 3_600), "until midnight");
    let mut judged = LimitResult::default();
    let refused = LimitFacts { identity: None, ..facts() };
    assert!((0..9).any(|_| world.limits.judge(When::Authorized, &refused, START, &mut judged).is_err()));
    assert_eq!(headers(&judged)[1..], ["5", "2", &midnight], "as the request before was told");
}

fn facts() -> LimitFacts<'static> {
    LimitFacts {
        source: Source::of("192.0.2.1".parse().unwrap(), 64),
        address: "192.0.2.1".parse().unwrap(),
        ja4: None,
        headers: &NO_HEADERS,
        target: Some(("a.example", "/items/7")),
        route: ITEM,
        identity: None,
        plan: None,
    }
}

/// Whoever gets another plan goes on with what it has used up.
#[test]
fn plans_have_quotas_of_their_own_and_one_count() {
    let world = world(&format!(
        "{CLIENT}[plan.gold]\nclaims = {{ plan = \"gold\" }}\n[plan.gold.quotas.client]\nrequests = 12\n"
    ));
    let gold = Ask { identity: by("ada", &[], Value::Null, json!("gold")), ..Ask::default() };
    assert_eq!(world.served(&ask("ada"), 20, START), 5);
    assert_eq!(world.served(&gold, 20, START), 7);
    assert_eq!(world.served(&ask("ada"), 20, START), 0);
    // What all of them count together is told once.
    let sum = world.sum("client");
    assert_eq!((sum.counts.admitted, sum.counts.refused, sum.keys), (12, 48, 1));
    assert!(sum.capacity <= u64::try_from(world.settings.limits[0].capacity).unwrap(), "{}", sum.capacity);
    let rows = report::answer(Some(&world.limits), &LimitQuestion::Quotas, START);
    let told: Vec<_> = rows.iter().map(|row| (row.plan.as_deref(), row.quota, row.admitted)).collect();
    assert_eq!(told, [(None, Some(5), Some(12)), (Some("gold"), Some(12), None)]);
    world.limits.tick(at(DAY));
    assert_eq!(world.served(&gold, 20, START + DAY), 12);
}

/// What one answer has no room for is counted.
#[test]
fn rows_that_are_left_out_are_counted() {
    let rows = |count| report::first(vec![report::LimitRow::default(); count]);
    for (count, expect) in [(0, (0, 0)), (100, (100, 0)), (101, (100, 1)), (4_000, (100, 3_900))] {
        let (first, more) = rows(count);
        assert_eq!((first.len(), more), expect, "{count}");
    }
}

/// However much there is to tell, no call takes more than a guard hears without delay, and nothing is lost.
#[test]
fn what_is_told_comes_in_pieces() {
    let quota = |name: &str| CLIENT.replace("client", name).replace("= 5", "= 5\ncapacity = 30_000");
    let world = world(&format!("{}{}", quota("one"), quota("two")));
    for number in 0..12_000 {
        assert_eq!(world.served(&ask(&format!("p{number}")), 1, START), 1);
    }
    for time in 0..2 {
        let (mut calls, mut units) = (0, [0, 0]);
        loop {
            let untold = world.limits.untold(START);
            if untold.is_empty() {
                break;
            }
            assert!(untold.len() <= 60, "{time}: {} messages at once", untold.len());
            for report in untold {
                let told: i64 = report.rows.iter().map(|row| row.units).sum();
                units[usize::from(report.quota == "two")] += told;
            }
            calls += 1;
        }
        assert_eq!(units, [12_000, 12_000], "{time}");
        assert!(calls > 2, "{time}: {calls}");
        // Another guard is told all of it again.
        world.limits.retell();
    }
}

#[test]
fn costs_weights_exceptions_and_shadow() {
    let world = world(
        "[quota.bytes]\nunits = 1000\nper = \"day\"\ncost = \"response_bytes\"\n\
         [quota.slow]\nrequests = 20\nper = \"day\"\nweights = { search = 10 }\nexcept = { sources = [\"10.0.0.0/8\"] }\n\
         [quota.hidden]\nrequests = 1\nper = \"day\"\nshadow = true\n",
    );
    let search = Ask { route: SEARCH, ..Ask::default() };
    assert_eq!(world.served(&search, 9, START), 2);
    assert_eq!(world.served(&Ask { address: "10.0.0.1", ..search.clone() }, 9, START), 9);
    assert_eq!(
        world.limits.would_refuse().next().map(|(name, would)| (name.to_string(), would.requests > 0)),
        Some(("hidden".to_owned(), true))
    );
    let other = Ask { address: "192.0.2.7", ..Ask::default() };
    let mut judged = world.serve(&other, START).unwrap();
    world.limits.settle(&mut judged, &RequestUsage { response_bytes: 1_500, ..RequestUsage::default() }, START);
    assert_eq!(world.served(&other, 3, START), 0, "what was not known before");
    world.limits.promote("limit.hidden");
    world.limits.promote("quota.hidden");
    let third = Ask { address: "192.0.2.8", ..Ask::default() };
    assert_eq!(world.served(&third, 3, START), 1, "it is enforced");
}

#[test]
fn d07_reload() {
    let mut world = world(CLIENT);
    assert_eq!(world.served(&ask("ada"), 4, START), 4);
    for (text, left) in [
        (CLIENT.to_owned(), 1),
        (CLIENT.replace("= 5", "= 50"), 46),
        (CLIENT.replace("= 5", "= 3"), 0),
        (format!("{CLIENT}capacity = 7\n"), 1),
        (format!("{CLIENT}shadow = true\n"), 1),
        (format!("{CLIENT}[limit.address]\nrequests = 9\n"), 1),
        // What is counted otherwise is counted anew.
        (CLIENT.replace("day", "week"), 5),
    ] {
        world.reload(&text, START);
        world.limits.tick(at(0));
        let parts = vec![("principal".to_owned(), "ada".to_owned())];
        let rows = report::answer(Some(&world.limits), &LimitQuestion::ShowQuota(parts), START);
        assert_eq!(rows.first().map_or(5, |row| row.left.unwrap()), left, "{text}");
    }
}

/// What is counted on this machine does not depend on whether there is a cluster, nor on its secret.
#[test]
fn d07_a_cluster_comes_and_goes() {
    let limited = format!("{CLIENT}[limit.rate]\nby = [\"principal\"]\nrequests = 6\nper = \"1h\"\n");
    let cluster = |secret: &str| {
        let key = data_encoding::BASE64.encode(&[1; 32]);
        format!(
            "{limited}[cluster]\nnode = \"n0\"\nkey_file = \"a.key\"\nsecret_file = \"{secret}.secret\"\n\
             store.servers = [\"127.0.0.1:6379\"]\n[cluster.nodes]\nn0 = \"ed25519:{key}\"\n"
        )
    };
    let mut world = world(&limited);
    assert_eq!(world.served(&ask("ada"), 4, START), 4);
    for text in [cluster("a"), cluster("b"), limited.clone(), cluster("b")] {
        world.reload(&text, START);
        world.limits.tick(at(0));
        let parts = vec![("principal".to_owned(), "ada".to_owned())];
        let rows = report::answer(Some(&world.limits), &LimitQuestion::Show(parts), START);
        let left: Vec<_> = rows.iter().map(|row| (&*row.limit, row.left)).collect();
        assert_eq!(left, [("rate", Some(2)), ("client", Some(1))], "{text}");
    }
    assert_eq!(world.served(&ask("ada"), 4, START), 1);
}

#[test]
fn operators_ask_and_change() {
    let world = world(&format!("{CLIENT}[limit.other]\nby = [\"principal\"]\nrequests = 9\nper = \"1h\"\n"));
    assert_eq!(world.served(&ask("ada"), 9, START), 5);
    let rows = |question: LimitQuestion| report::answer(Some(&world.limits), &question, START + SECOND);
    let parts = || vec![("principal".to_owned(), "ada".to_owned())];
    let list = rows(LimitQuestion::Quotas);
    let counted =
        |row: &report::LimitRow| (row.limit.clone(), row.per.clone(), row.quota, row.admitted, row.refused, row.resets);
    let midnight = Some(NOON + 43_200);
    assert_eq!(
        list.iter().map(counted).collect::<Vec<_>>(),
        [("client".to_owned(), Some("day".to_owned()), Some(5), Some(5), Some(4), midnight)]
    );
    let show = rows(LimitQuestion::ShowQuota(parts()));
    assert_eq!((show.len(), show[0].used, show[0].left, show[0].full_in_seconds), (1, Some(5), Some(0), Some(43_199)));
    assert_eq!(rows(LimitQuestion::Show(parts())).len(), 2, "`limit show` tells of both");
    assert_eq!(rows(LimitQuestion::Reset(parts())).len(), 1, "`limit reset` leaves quotas alone");
    assert_eq!(world.served(&ask("ada"), 9, START), 0);
    for (quota, used, left) in [(None, 0, 5), (Some("client"), 3, 2), (None, 9, 0)] {
        let set = LimitQuestion::SetQuota { quota: quota.map(str::to_owned), key: parts(), used };
        assert_eq!(rows(set).iter().map(|row| row.used).collect::<Vec<_>>(), [Some(used)]);
        assert_eq!(world.served(&ask("ada"), 9, START), left);
    }
    let set = LimitQuestion::SetQuota { quota: Some("other".to_owned()), key: parts(), used: 0 };
    assert!(rows(set).is_empty(), "a limit is no quota");
}

/// Two processes with the same secret count as one, by what they tell each other.
#[test]
fn processes_with_one_secret_know_each_other_s_keys() {
    let one = |seed: [u8; 16]| {
        let proxy = config(CLIENT).proxy;
        let settings = limit::Settings { seed: Some(limit::KeySeed(seed)), ..proxy.limits };
        let limits = Limits::new(&settings, &proxy.routes, &kept(), proxy.ipv6_prefix, None).unwrap();
        limits.tick(at(0));
        World { settings, limits }
    };
    let (first, second, stranger) = (one([7; 16]), one([7; 16]), one([8; 16]));
    assert_eq!(first.served(&ask("ada"), 4, START), 4);
    let reports = first.limits.untold(START);
    assert_eq!(reports.len(), 1);
    let row = &reports[0].rows[0];
    assert_eq!((row.units, row.name.as_deref()), (4, Some("principal=ada")));
    for (world, left) in [(&second, 1), (&stranger, 5)] {
        world.limits.take(&reports[0], START);
        assert_eq!(world.served(&ask("ada"), 9, START), left);
    }
    let other = QuotaReport { counts: "requests of host per day in UTC".to_owned(), ..reports[0].clone() };
    second.limits.take(&other, START);
}
