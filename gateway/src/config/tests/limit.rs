//! `[limit.NAME]` and `[plan.NAME]`: what is wrong with them, and what they come to.

use super::{BASE, load, spoiled, wrong};
use crate::settings::limit::{Allowance, KeyPart};

mod priority;

/// The place of `[limit.address]` in [`BASE`].
const TABLE: &str = "[limit.address]\nrequests = 100\n";
const LINE: usize = 36;

/// A configuration with these limits, whose faulty line is `line` lines below the first.
#[track_caller]
fn limits(text: &str, line: usize, key: &str, message: &str, hint: &str) {
    wrong(TABLE, &format!("{text}\n"), LINE + line, key, message, hint);
}

/// As [`limits`], of `[limit.a]` with these lines.
#[track_caller]
fn limit(lines: &str, line: usize, key: &str, message: &str, hint: &str) {
    limits(&format!("[limit.a]\n{lines}"), line, &format!("limit.a{key}"), message, hint);
}

#[test]
fn wrong_keys() {
    let by = |parts: &str| format!("requests = 1\nby = [{parts}]");
    for (parts, key, message, hint) in [
        ("", ".by", "is empty", "[\"address\"]"),
        ("\"adress\"", ".by[0]", "nothing that requests are counted by", "did you mean \"address\"?"),
        ("\"address/200\"", ".by[0]", "nothing that", "from 16 to 128"),
        ("\"claim:\"", ".by[0]", "nothing that", "claim:tenant"),
        ("\"header:a b\"", ".by[0]", "not a header name", "x-version"),
        ("\"route\", \"route\"", ".by", "listed twice", ""),
        ("\"path:nr\"", ".by", "no route of this limit has a path parameter \"nr\"", "{id}"),
        ("\"asn\"", ".by", "no database to look it up in", "address/48"),
        ("\"cookie\"", ".by[0]", "nothing that", "\"principal\""),
    ] {
        limit(&by(parts), 2, key, message, hint);
    }
}

#[test]
fn a_fingerprint_that_nobody_computes() {
    let text = spoiled(TABLE, "[limit.a]\nrequests = 1\nby = [\"ja4\"]\n");
    let text = text.replace("private_key = \"server.key\"\n", "private_key = \"server.key\"\nja4 = false\n");
    let fault = load(&text).expect_err("nobody computes it").to_string();
    assert!(fault.contains("no listener computes JA4") && fault.contains("ja4 = true"), "{fault}");
}

/// Who chooses the counter is bounded by a limit by address of the same routes, and by none of others.
#[test]
fn counters_that_clients_choose() {
    const CHOICE: &str = "[limit.choice]\nrequests = 1\nby = [\"header:x-tenant\"]\n";
    const FIRM: &str = "[limit.firm]\nrequests = 1\nby = [\"address\"]\n";
    for (choice, firm, expect) in [
        ("", None, Some("limit")),
        ("", Some(""), None),
        ("routes = [\"items\"]\n", Some(""), None),
        ("", Some("routes = [\"items\"]\n"), Some("limit.choice")),
        ("", Some("routes = [\"both\"]\n"), None),
        ("routes = [\"items\"]\n", Some("routes = [\"items\"]\n"), None),
        ("routes = [\"items\"]\n", Some("routes = [\"both\"]\n"), None),
        ("routes = [\"items\"]\n", Some("routes = [\"others\"]\n"), Some("limit.choice")),
        ("routes = [\"both\"]\n", Some("routes = [\"others\"]\n"), Some("limit.choice")),
        ("routes = [\"items\", \"others\"]\n", Some("routes = [\"both\"]\n"), None),
        ("routes = [\"items\"]\n", None, Some("limit")),
    ] {
        let firm = firm.map(|routes| format!("{FIRM}{routes}")).unwrap_or_default();
        let others = "[[route]]\nname = \"others\"\ntags = [\"both\"]\npath = \"/others\"\nmethods = [\"GET\"]\n\
                      require = [\"items:read\"]\nupstream = \"items\"\n";
        let named = format!("{others}\n[[route]]\nname = \"items\"\ntags = [\"both\"]\nhost = ");
        let text = spoiled(TABLE, &format!("{CHOICE}{choice}{firm}")).replace("[[route]]\nhost = ", &named);
        let warnings = load(&text).unwrap_or_else(|errors| panic!("{errors}")).warnings;
        let found: Vec<&str> =
            warnings.iter().filter(|it| it.message.contains("clients choose")).map(|it| it.key.as_str()).collect();
        assert_eq!(found, expect.into_iter().collect::<Vec<_>>(), "{text}");
    }
}

#[test]
fn wrong_allowances() {
    limit("", 0, ".requests", "missing", "requests = 100");
    limit("requests = 1\nconcurrent = 2", 2, ".concurrent", "cannot be beside `requests`", "of its own");
    limit("concurrent = 2\nper = \"1s\"", 2, ".per", "no effect", "leave it out");
    limit("units = 5", 1, ".units", "no other units", "`requests`");
    limit("requests = 5\ncost = \"request_bytes\"", 1, ".requests", "does not count requests", "`units`");
    limit("units = 5\ncost = \"bytes\"", 2, ".cost", "nothing that is counted", "request_bytes");
    limit("requests = 1\nper = \"1d\"\nburst = 1000", 3, ".burst", "over a year", "smaller");
    limit("concurrent = 1\ndelay = \"1s\"", 2, ".delay", "rates of requests alone", "leave it out");
    limit("requests = 1\ndelay = \"2m\"", 2, ".delay", "out of range", "to \"1m\"");
    limit("requests = 1\nper = \"2d\"", 2, ".per", "out of range", "to \"1d\"");
    limit("requests = 1\nrequest = 2", 2, ".request", "unknown", "did you mean `requests`?");
}

#[test]
fn wrong_routes() {
    limit("requests = 1\nroutes = [\"items\"]", 2, ".routes", "no route has the name or tag \"items\"", "`tags`");
    limit("requests = 1\nweights = { items = 2 }", 2, ".weights.items", "no route has", "`name`");
    let named = |lines: &str| BASE.replace("path = \"/items/{id}\"\n", &format!("path = \"/items/{{id}}\"\n{lines}"));
    let fault = |text: &str| load(text).expect_err(text).to_string();
    let text = named("name = \"items\"\n").replace(TABLE, "[limit.a]\nrequests = 5\nweights = { items = 6 }\n");
    assert!(fault(&text).contains("is more than is ever let through"), "{}", fault(&text));
    for (lines, message) in [
        ("name = \"a b\"\n", "not a name"),
        ("name = \"a\"\ntags = [\"a\"]\n", "a tag of this one"),
        ("name = \"a\"\n[[route]]\nname = \"a\"\npath = \"/b\"\n", "an earlier route"),
        ("name = \"a\"\n[[route]]\ntags = [\"a\"]\npath = \"/b\"\n", "name of an earlier route"),
    ] {
        // The rest of the first route becomes that of the last.
        let text = named(lines);
        assert!(fault(&text).contains(message), "{lines}: {}", fault(&text));
    }
}

#[test]
fn wrong_plans() {
    let plan = |lines: &str| format!("[limit.a]\nrequests = 1\n[plan.gold]\n{lines}");
    limits(&plan("rank = 1"), 2, "plan.gold", "has no members", "claims");
    limits(&plan("roles = [\"raeder\"]"), 3, "plan.gold.roles[0]", "no role \"raeder\"", "\"reader\"");
    let member = "principals = [\"ada\"]\n";
    let own = |lines: &str| plan(&format!("{member}[plan.gold.limits.{lines}"));
    limits(&own("b]\nrequests = 5"), 4, "plan.gold.limits.b", "there is no limit \"b\"", "[limit.b]");
    limits(&own("a]\nconcurrent = 5"), 4, "plan.gold.limits.a", "of another kind", "rate");
    let weighed = "[limit.a]\nrequests = 9\nweights = { items = 5 }\n[plan.gold]\n";
    let named = |text: &str| spoiled(TABLE, text).replacen("[[route]]\n", "[[route]]\nname = \"items\"\n", 1);
    let text = named(&format!("{weighed}{member}[plan.gold.limits.a]\nrequests = 4\n"));
    let fault = load(&text).expect_err("no request ever gets through").to_string();
    assert!(fault.contains("plan.gold.limits.a") && fault.contains("which counts 5"), "{fault}");
    limits(&own("a]"), 4, "plan.gold.limits.a.requests", "missing", "requests = 100");
}

#[test]
fn limits_have_names() {
    limits("[[limit]]\nrequests = 1", 0, "limit[0].name", "missing", "per-tenant");
    limits("[[limit]]\nname = \"a b\"\nrequests = 1", 0, "limit[0]", "not a name", "letters");
    limits("[limit.a]\nname = \"b\"\nrequests = 1", 1, "limit.a.name", "named already", "leave it out");
    let twice = "[[limit]]\nname = \"a\"\nrequests = 1\n[[limit]]\nname = \"a\"\nrequests = 1";
    limits(twice, 4, "limit[1].name", "an earlier limit", "of its own");
    let listed = load(&spoiled(TABLE, "[[limit]]\nname = \"a\"\nrequests = 1\n")).unwrap().proxy.limits;
    let named = load(&spoiled(TABLE, "[limit.a]\nrequests = 1\n")).unwrap().proxy.limits;
    assert_eq!(listed, named);
}

#[test]
fn what_they_come_to() {
    let text = "[limit.a]\nby = [\"address/48\", \"claim:org.id\", \"path:id\"]\nunits = \"1MiB\"\nper = \"1m\"\n\
                cost = \"response_bytes\"\n[limit.address]\nrequests = 5\n[limit.b]\nconcurrent = 7\nshadow = true\n\
                [plan.gold]\nroles = [\"reader\"]\n[plan.gold.limits.b]\nconcurrent = 9\n";
    let config = load(&spoiled(TABLE, text)).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let limits = &config.proxy.limits;
    let names: Vec<_> = limits.limits.iter().map(|limit| limit.name.as_str()).collect();
    assert_eq!(names, ["a", "address", "b"]);
    assert_eq!(limits.limits[1].by, [KeyPart::Address(None)]);
    assert_eq!(limits.plans[0].limits, [("b".to_owned(), Allowance::Concurrent(9))]);
    assert_eq!(config.guard.shadow_limits, ["limit.b"]);
    assert!(config.proxy.auth.kept.iter().any(|path| path.to_string() == "org.id"));
    let choice = load(&spoiled(TABLE, "[limit.a]\nby = [\"header:x-app\"]\nrequests = 1\n")).unwrap();
    assert!(choice.warnings.iter().any(|warning| warning.key == "limit"), "{:?}", choice.warnings);
}

/// What `gateway check` shows is a configuration with the same limits.
#[test]
fn what_is_shown_can_be_read() {
    let text = "[limit.a]\nby = [\"principal\"]\nunits = \"1MiB\"\nper = \"90s\"\nburst = 7\ncost = \"header:x-cost\"\n\
                except = { sources = [\"10.0.0.0/8\"] }\n[limit.b]\nconcurrent = 7\nheaders = false\n\
                [plan.gold]\nclaims = { plan = [\"gold\", \"platinum\"] }\nrank = 3\n[plan.gold.limits.a]\nunits = 5\n";
    let limits = load(&spoiled(TABLE, text)).unwrap().proxy.limits;
    let shown = load(&spoiled(TABLE, text)).unwrap().effective();
    let only = |name: &str| toml::to_string(&serde_json::json!({ name: shown[name] })).unwrap();
    let again = format!("{}\n{}\n", only("limit"), only("plan"));
    assert_eq!(load(&spoiled(TABLE, &again)).unwrap_or_else(|errors| panic!("{errors}\n{again}")).proxy.limits, limits);
}

/// As [`limit`], of `[quota.a]` with these lines.
#[track_caller]
fn quota(lines: &str, line: usize, key: &str, message: &str, hint: &str) {
    limits(
        &format!("[limit.address]\nrequests = 1\n[quota.a]\n{lines}"),
        line + 2,
        &format!("quota.a{key}"),
        message,
        hint,
    );
}

#[test]
fn wrong_quotas() {
    quota("per = \"day\"", 0, ".requests", "missing", "requests = 100000");
    quota("requests = 1", 0, ".per", "missing", "per = \"month\"");
    quota("requests = 1\nper = \"1h\"", 2, ".per", "unknown", "hour, day, week, month");
    quota("requests = 1\nper = \"day\"\nunits = 1", 3, ".units", "cannot be beside `requests`", "of its own");
    quota("units = 1\nper = \"day\"", 1, ".units", "no other units", "`requests`");
    quota(
        "requests = 1\nper = \"day\"\ncost = \"request_bytes\"",
        1,
        ".requests",
        "does not count requests",
        "`units`",
    );
    let zone = |name: &str| format!("requests = 1\nper = \"day\"\ntime_zone = \"{name}\"");
    quota(&zone("Europe/Berln"), 3, ".time_zone", "no time zone", "did you mean \"Europe/Berlin\"?");
    quota(&zone("+02:00"), 3, ".time_zone", "no time zone", "IANA");
    quota("requests = 1\nper = \"day\"\nwarn_at = [0]", 3, ".warn_at[0]", "out of range", "from 1 to 100");
    quota("requests = 1\nper = \"day\"\nwarn_at = [1, 2, 3, 4, 5]", 3, ".warn_at", "5 percents", "at most 4");
    quota("requests = 1\nper = \"day\"\nwhen_full = \"serve\"", 3, ".when_full", "unknown", "refuse, share");
    quota("requests = 1\nper = \"day\"\nshared = true", 3, ".shared", "nobody to share it with", "[cluster]");
    let header = |name: &str| format!("requests = 1\nper = \"day\"\nquota_headers.limit = \"{name}\"");
    quota(&header("content-length"), 3, ".quota_headers.limit", "something else", "X-Quota-Remaining");
    quota(&header("X-Request-Id"), 3, ".quota_headers.limit", "something else", "X-Quota-Remaining");
    quota("requests = 1\nper = \"day\"\nburst = 2", 3, ".burst", "unknown", "");
    let plan = "[quota.a]\nrequests = 9\nper = \"day\"\n[plan.gold]\nroles = [\"reader\"]\n[plan.gold.quotas.b]\nrequests = 1\n";
    limits(
        &format!("[limit.address]\nrequests = 1\n{plan}"),
        7,
        "plan.gold.quotas.b",
        "there is no quota \"b\"",
        "[quota.b]",
    );
    let same = "[limit.a]\nrequests = 1\n[quota.a]\nrequests = 9\nper = \"day\"";
    limits(same, 2, "quota.a", "has the name of [limit.a]", "a name of its own");
}

#[test]
fn what_a_quota_comes_to() {
    use crate::settings::limit::quota::{Period, WhenFull};
    let text = "[limit.address]\nrequests = 1\n[quota.a]\nrequests = 9\nper = \"month\"\ntime_zone = \"Europe/Berlin\"\n\
                when_full = \"refuse\"\nquota_headers.remaining = \"X-Quota-Remaining\"\n\
                [plan.gold]\nroles = [\"reader\"]\n[plan.gold.quotas.a]\nrequests = 99\n";
    let limits = load(&spoiled(TABLE, text)).unwrap().proxy.limits;
    let quota = limits.limits.iter().find(|limit| limit.name == "a").unwrap();
    assert_eq!((quota.allowance, quota.table()), (Allowance::Quota(9), "quota"));
    let own = quota.quota.as_ref().unwrap();
    assert_eq!((own.period, own.when_full, &*own.warn_at), (Period::Month, WhenFull::Refuse, &[80][..]));
    assert_eq!(quota.counts().as_deref(), Some("requests of address per month in Europe/Berlin"));
    assert!(own.headers.limit.is_none() && own.headers.remaining.is_some());
    assert_eq!(limits.plans[0].limits, [("a".to_owned(), Allowance::Quota(99))]);
}
