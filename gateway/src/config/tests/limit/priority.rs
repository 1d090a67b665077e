//! `concurrency`, `[priority.NAME]`, `[overload]` and `[connection_limit.NAME]`: what is wrong with them, and what they
//! come to.

use std::time::Duration;

use super::super::{BASE, load, spoiled, wrong};
use crate::settings::{limit::Allowance, upstream::Concurrency};

const SERVERS: &str = "servers = [\"127.0.0.1:9000\"]";

/// The place of `[limit.address]`.
const TABLE: &str = "[limit.address]\nrequests = 100\n";
const LINE: usize = 36;

#[track_caller]
fn concurrency(value: &str, key: &str, message: &str, hint: &str) {
    let text = format!("{SERVERS}\nconcurrency = {value}");
    wrong(SERVERS, &text, 27, &format!("upstream.items.concurrency{key}"), message, hint);
}

#[track_caller]
fn table(text: &str, line: usize, key: &str, message: &str, hint: &str) {
    wrong(TABLE, &format!("{text}\n"), LINE + line, key, message, hint);
}

#[test]
fn wrong_concurrency() {
    concurrency("{ min = 0 }", ".min", "out of range", "");
    concurrency("{ min = 9, max = 8 }", ".max", "less than `min`", "at least as much");
    concurrency("{ limit = 9, max = 8 }", ".max", "no effect beside `limit`", "");
    concurrency("{ wait = \"2m\" }", ".wait", "out of range", "");
    concurrency("{ waits = \"2s\" }", ".waits", "unknown", "did you mean `wait`?");
}

#[test]
fn what_concurrency_comes_to() {
    for (value, expect) in [
        ("false", None),
        ("true", Some((5, 1_000, None, 500))),
        ("{ limit = 7, queue = 3 }", Some((7, 7, Some(3), 500))),
        ("{ min = 2_000 }", Some((2_000, 2_000, None, 500))),
        ("{ max = 50, wait = \"0s\" }", Some((5, 50, Some(0), 0))),
    ] {
        let config = load(&spoiled(SERVERS, &format!("{SERVERS}\nconcurrency = {value}"))).unwrap();
        let expect = expect.map(|(min, max, queue, wait)| {
            let wait = Duration::from_millis(wait);
            Concurrency { min, max, queue, wait }
        });
        assert_eq!(config.proxy.upstreams[0].concurrency, expect, "{value}");
    }
}

#[test]
fn wrong_classes() {
    table("[priority.a]\nrank = 1", 0, "priority.a", "has no requests", "`plans`");
    table("[priority.unknown]\nroles = [\"reader\"]", 0, "priority.unknown", "in no other", "another name");
    table("[priority.a]\nroles = [\"raeder\"]", 1, "priority.a.roles[0]", "no role", "did you mean \"reader\"?");
    table("[priority.a]\nplans = [\"gold\"]", 1, "priority.a.plans[0]", "no plan \"gold\"", "[plan.gold]");
    table("[priority.a]\nroutes = [\"search\"]", 1, "priority.a.routes[0]", "no route has", "`name`");
    table("[overload]\ndelay = \"1ms\"", 1, "overload.delay", "out of range", "");
}

#[test]
fn classes_stand_in_the_order_of_their_ranks() {
    let text = "[priority.a]\nroles = [\"reader\"]\nrank = -5\n[priority.b]\nprincipals = [\"x\"]\n[overload]\n";
    let config = load(&spoiled(TABLE, text)).unwrap();
    let names: Vec<_> = config.proxy.priority.classes.iter().map(|class| (&*class.name, class.rank)).collect();
    assert_eq!(names, [("b", 1), ("a", -5)]);
    assert_eq!(config.proxy.priority.overload.unwrap().delay, Duration::from_millis(25));
    assert!(load(BASE).unwrap().proxy.priority.overload.is_none());
}

#[test]
fn wrong_connection_limits() {
    let wrong = |lines: &str, line, key: &str, message: &str, hint: &str| {
        table(&format!("[connection_limit.a]\n{lines}"), line, &format!("connection_limit.a{key}"), message, hint);
    };
    wrong("", 0, ".concurrent", "missing", "concurrent = 100");
    wrong("connections = 1\nhandshakes = 2", 2, ".handshakes", "cannot be beside `connections`", "of its own");
    wrong("concurrent = 1\nper = \"1s\"", 2, ".per", "no effect", "");
    wrong("concurrent = 1\nby = \"principal\"", 2, ".by", "nothing that connections are counted by", "address/48");
    wrong("concurrent = 1\nby = \"address/4\"", 2, ".by", "nothing that connections", "from 16 to 128");
    wrong("connections = 9\nper = \"1d\"\nburst = 9_000", 1, ".connections", "over a year", "write less");
}

#[test]
fn what_connection_limits_come_to() {
    let text = "[connection_limit.a]\nconcurrent = 5\nby = \"address/48\"\n[connection_limit.b]\nhandshakes = 7\n\
                [connection_limit.c]\nconnections = 9\nburst = 20\n";
    let limits = load(&spoiled(TABLE, text)).unwrap().proxy.connection_limits;
    let accepted: Vec<_> = limits.accepted.limits.iter().map(|limit| (&*limit.name, limit.allowance.most())).collect();
    assert_eq!(accepted, [("a", 5), ("c", 20)]);
    assert!(matches!(limits.handshake.limits[0].allowance, Allowance::Rate(rate) if rate.units == 7));
}
