//! Whatever is changed in the kernel behind the guard's back is put right, told, and recorded.

use std::fs;

use gateway_common::maps::{NEVER, Rule};
use support::{
    daemon::Daemon,
    kernel_view::{blocked, tamper},
    report,
    settings::Settings,
    wait::{SOON, until},
    world::World,
};

#[test]
fn rules_are_repaired() {
    if !report::may_run("drift") {
        return;
    }
    let world = World::new();
    let daemon = Daemon::start(&world, &Settings::default());
    daemon.done(&["block", "add", "198.51.100.0/24", "--for", "1h"]);
    daemon.done(&["block", "add", "203.0.113.0/24", "--for", "1h"]);
    let right = blocked(&world);
    assert_eq!(right.prefixes.len(), 2, "{right:?}");
    for (what, prefix, rule) in [
        ("a missing rule", "198.51.100.0/24", None),
        ("a rule that nobody asked for", "192.0.2.0/24", Some(Rule::new(Rule::DENY, 0, NEVER))),
        ("a block that became an allowance", "203.0.113.0/24", Some(Rule::new(Rule::ALLOW, 0, NEVER))),
    ] {
        tamper(&world, prefix, rule);
        until(what, SOON, || (blocked(&world) == right).then_some(()));
    }
    // The kernel is put right first, and that is told then.
    let warns = || daemon.status()["warnings"].to_string().contains("3 entries in the kernel had to be repaired");
    until("the repairs to be told", SOON, || warns().then_some(()));
    let records = until("the repairs to be recorded", SOON, || {
        let records = fs::read_to_string(world.folder.join("state/audit.jsonl")).ok()?;
        (records.matches("\"repair\"").count() >= 3).then_some(records)
    });
    assert_eq!(records.matches("\"repair\"").count(), 3, "{records}");
}
