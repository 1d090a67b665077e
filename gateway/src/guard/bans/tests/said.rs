//! What is said of a block, beside what is in force.

use super::*;

#[test]
fn what_is_said_of_a_block_is_what_is_in_force() {
    let mut world = World::new("said");
    let add = |world: &mut World, source: &str, seconds: u64| {
        let now = world.now;
        let request = ControlRequest::BlockAdd {
            source: source.parse().unwrap(),
            seconds: Some(seconds),
            reason: "tests".into(),
            shadow: false,
            confirm: None,
            force: false,
        };
        match world.guard().handle(request, &OPERATOR, now) {
            ControlAnswer::Done { message, .. } | ControlAnswer::Refused { message, .. } => message,
            other => panic!("{other:?}"),
        }
    };
    for (source, seconds, says, never) in [
        ("192.0.2.7", 3_600, "is blocked for 1h, ban 1", "shorter"),
        ("192.0.2.7", 60, "shorter than before: it was blocked for another 1h", "only this"),
        ("192.0.2.7", 7_200, "is blocked for 2h", "shorter"),
        ("192.0.2.7", 0, "until it is removed", "shorter"),
        ("192.0.2.7", 60, "it was blocked until it was removed", "only this"),
        ("2001:db8:1::7", 60, "`gateway block add 2001:db8:1::/64` blocks", "shorter"),
        ("192.0.2.0/24", 7_200, "is blocked for 2h", "only this"),
        ("192.0.2.9", 99_999_999 * 86_400, "lasts 3650d at most", "ban"),
        ("192.0.2.9", 60, "is blocked for 1m", "shorter"),
    ] {
        let said = add(&mut world, source, seconds);
        assert!(said.contains(says) && !said.contains(never), "{source} for {seconds}: {said}");
    }
    let next = world.why("192.0.2.9").next;
    assert!(next.contains("then it is still blocked, by ban") && next.contains("192.0.2.0/24"), "{next}");
    let next = world.why("192.0.2.8").next;
    assert!(next.contains("then it is served again"), "{next}");
    let now = world.now;
    let del = ControlRequest::BlockDel { source: "192.0.2.9".parse().unwrap() };
    let ControlAnswer::Done { message, .. } = world.guard().handle(del, &OPERATOR, now) else { panic!("refused") };
    assert!(message.contains("still blocked as part of 192.0.2.0/24"), "{message}");
    let mut allow = |del, source: &str| {
        let source = source.parse().unwrap();
        let add = ControlRequest::AllowAdd { source, reason: "us".into(), yes: false };
        match world.guard().handle(if del { ControlRequest::AllowDel { source } } else { add }, &OPERATOR, now) {
            ControlAnswer::Done { message, .. } | ControlAnswer::Refused { message, .. } => message,
            other => panic!("{other:?}"),
        }
    };
    for (del, source, says) in [
        (false, "198.51.100.0/24", "is always let through"),
        (false, "198.51.100.7", "is always let through"),
        (false, "10.0.0.9", "is always let through"),
        (true, "198.51.100.7", "is removed, and it is still allowed as part of 198.51.100.0/24, by operator"),
        (true, "198.51.100.7", "no allowance of its own, and it is allowed as part of 198.51.100.0/24"),
        (true, "10.0.0.9", "is removed, and it is still allowed as part of 10.0.0.0/8 in guard.allow; blocks"),
        (true, "10.0.0.0/8", "is in guard.allow: remove it there"),
        (true, "198.51.100.0/24", "is no longer always let through; blocks that it lifted stay lifted"),
        (true, "198.51.100.7", "198.51.100.7 is not allowed"),
    ] {
        let said = allow(del, source);
        assert!(said.contains(says), "{source}: {said}");
    }
    let allow = |yes| ControlRequest::AllowAdd { source: "0.0.0.0/0".parse().unwrap(), reason: "all".into(), yes };
    assert_eq!(world.handle(allow(false)), "too_wide");
    assert!(world.handle(allow(true)).starts_with("done"));
}
