//! A quota that machines count together through a real store: nothing is counted twice, and nobody gets it twice, also
//! while the store is away, after it has lost everything, and after a machine was killed.

use std::time::Duration;

use serde_json::Value;
use support::{
    daemon::Daemon,
    report,
    store::Store,
    upstream::Upstream,
    wait::{SOON, until},
    world::GOOD_V4,
};

use super::cluster::{Machines, worlds};

/// A month, so that no test runs over the edge of one but once in a blue moon.
fn quota(requests: u64) -> String {
    format!("[quota.address]\nby = [\"address\"]\nrequests = {requests}\nper = \"month\"\nshared = true\n")
}

/// What one machine knows.
fn shown(daemon: &Daemon<'_>) -> Value {
    daemon.done(&["quota", "show", &GOOD_V4.to_string()])["rows"][0].clone()
}

fn number(shown: &Value, name: &str) -> u64 {
    shown[name].as_u64().unwrap_or(0)
}

#[test]
fn d05_machines_share_a_quota() {
    if !report::may_run("cluster: shared quota") {
        return;
    }
    let worlds = worlds(3);
    let store = Store::start(&worlds[0]);
    let _upstreams: Vec<_> = worlds.iter().map(|world| Upstream::start(&world.gate, "127.0.0.1:9000")).collect();
    let machines = Machines::start(&worlds, &store, &quota(300));
    machines.see(true);
    let admitted = machines.spend(&[0, 1, 2], 300);
    // As docs/cluster.md states it: 2 machines' portions each, and half of what a second lets through.
    let bound = 300 + 2 * 3 * 8 + admitted / 2;
    assert!(admitted <= bound, "{admitted} of {bound}");
    let row = until("all machines to be known", SOON, || {
        let row = shown(&machines.daemons[1]);
        (number(&row, "used") + number(&row, "elsewhere") == admitted).then_some(row)
    });
    assert_eq!((&row["left"], &row["machines"]), (&0.into(), &3.into()), "{row}");
    let status = machines.daemons[1].done(&["cluster", "status"]);
    let shared = &status["quotas"][0];
    assert_eq!((number(shared, "portion"), number(shared, "error")), (8, 48), "{status}");
    let refused =
        support::http1::Client::new(&worlds[2], GOOD_V4).send(&support::http1::Request::new("GET", "/health"));
    let wait: u64 = refused.unwrap().header("retry-after").unwrap().parse().unwrap();
    assert!(wait > 1, "until the next month");
    machines.daemons[0].done(&["quota", "reset", &GOOD_V4.to_string()]);
    until("it to begin anew", SOON, || (machines.offer(&[2], Duration::from_millis(50)) > 0).then_some(()));
    let admitted = machines.spend(&[0, 1, 2], 101);
    assert!(admitted > 100, "{admitted}");
}

/// Without the store each machine has its share; once it is there, all of it counts, once. A machine that was killed goes
/// on, and so does the quota after the store has lost all.
#[test]
fn d05_quotas_without_the_store() {
    if !report::may_run("cluster: quotas without the store") {
        return;
    }
    let worlds = worlds(2);
    let mut store = Store::start(&worlds[0]);
    let _upstreams: Vec<_> = worlds.iter().map(|world| Upstream::start(&world.gate, "127.0.0.1:9000")).collect();
    let mut machines = Machines::start(&worlds, &store, &quota(400));
    machines.see(true);
    store.kill();
    machines.see(false);
    let alone: Vec<u64> = [0, 1].iter().map(|at| machines.spend(&[*at], 200)).collect();
    assert_eq!(alone, [200, 200], "its share each");
    store.start_again();
    machines.see(true);
    let knows = |machines: &Machines<'_>, at: usize, used: u64, elsewhere: u64| {
        until("the sums to be known", SOON, || {
            // A key that nobody uses is told of as well.
            let row = shown(&machines.daemons[at]);
            (number(&row, "used") == used && number(&row, "elsewhere") == elsewhere).then_some(())
        });
    };
    (0..2).for_each(|at| knows(&machines, at, 200, 200));
    assert_eq!(machines.offer(&[0, 1], Duration::from_millis(500)), 0, "it is used up");
    machines.daemons[0].kill();
    machines.daemons[0].start_again();
    machines.see(true);
    knows(&machines, 0, 200, 200);
    // All is lost again, and an operator has said something meanwhile.
    store.kill();
    machines.see(false);
    machines.daemons[1].done(&["quota", "set", "--used", "390", &GOOD_V4.to_string()]);
    store.start_again();
    machines.see(true);
    knows(&machines, 1, 390, 0);
    until("the other to know", SOON, || {
        let row = shown(&machines.daemons[0]);
        (number(&row, "elsewhere") == 390).then_some(())
    });
    let admitted = machines.offer(&[0, 1], Duration::from_secs(1));
    assert!((10..=10 + 2 * 2 * 10 + admitted / 2).contains(&admitted), "{admitted}");
}
