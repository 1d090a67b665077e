//! Which requests share a counter, by what a limit counts by.

use super::*;
use crate::policy::limit::budget::Budgets;

/// Whether two requests share a counter: one may come, so the second is refused if they do.
#[track_caller]
fn check(parts: &str, one: &Ask<'_>, other: &Ask<'_>, share: bool) {
    let world = World::new(&format!("[limit.a]\nby = [{parts}]\nrequests = 1\nper = \"1h\"\n"));
    assert_eq!((world.served(one, 1, START), world.served(other, 1, START)), (1, usize::from(!share)), "{parts}");
}

#[test]
fn d05_one_counter_however_a_client_spells_itself() {
    let from = |address| Ask { address, ..Ask::default() };
    for (parts, one, other, share) in [
        (r#""address""#, "192.0.2.1", "::ffff:192.0.2.1", true),
        (r#""address""#, "192.0.2.1", "192.0.2.2", false),
        (r#""address""#, "2001:db8::1", "2001:db8:0:0:1:2:3:4", true),
        (r#""address""#, "2001:db8::1", "2001:db8:0:1::1", false),
        (r#""address/56""#, "2001:db8::1", "2001:db8:0:ff::1", true),
        (r#""address/56""#, "2001:db8::1", "2001:db8:0:100::1", false),
        (r#""address/48""#, "2001:db8::1", "2001:db8:0:ffff::1", true),
        (r#""address/48""#, "2001:db8::1", "2001:db8:1::1", false),
        (r#""address/48""#, "192.0.2.1", "192.0.2.2", false),
    ] {
        check(parts, &from(one), &from(other), share);
    }
}

#[test]
fn each_width_has_a_counter_of_its_own() {
    let world = World::new(
        "[limit.w64]\nrequests = 2\nper = \"1h\"\n[limit.w56]\nby = [\"address/56\"]\nrequests = 4\nper = \"1h\"\n\
         [limit.w48]\nby = [\"address/48\"]\nrequests = 6\nper = \"1h\"\n",
    );
    let served = |address| world.served(&Ask { address, ..Ask::default() }, 9, START);
    assert_eq!(served("2001:db8:0:1::1"), 2);
    assert_eq!((served("2001:db8:0:2::1"), served("2001:db8:0:3::1")), (2, 0), "the /56 is spent");
    assert_eq!((served("2001:db8:0:100::1"), served("2001:db8:0:200::1")), (2, 0), "the /48 is spent");
    assert_eq!(served("2001:db8:1::1"), 2);
}

#[test]
fn what_requests_have_in_common() {
    let other_address = "192.0.2.9";
    let ask = Ask { identity: by("ada", &["x", "y"], json!("acme"), json!("gold")), ..Ask::default() };
    let far = Ask { address: other_address, ..ask.clone() };
    let alike = |identity: Option<Identity>| Ask { identity, ..far.clone() };
    let text = |tenant: Value| alike(by("bob", &[], tenant, Value::Null));
    for (parts, other, share) in [
        (r#""principal""#, far.clone(), true),
        (r#""principal""#, alike(principal("bob")), false),
        (r#""roles""#, alike(by("bob", &["y", "x"], Value::Null, Value::Null)), true),
        (r#""roles""#, alike(by("bob", &["x"], Value::Null, Value::Null)), false),
        (r#""claim:tenant""#, text(json!("acme")), true),
        (r#""claim:tenant""#, text(json!("other")), false),
        (r#""claim:tenant""#, text(json!(["acme"])), false),
        (r#""principal", "route""#, Ask { route: EXPORT, path: "/export", ..far.clone() }, false),
        (r#""principal", "route""#, Ask { path: "/items/8", ..far.clone() }, true),
        (r#""principal", "path:id""#, Ask { path: "/items/8", ..far.clone() }, false),
        (r#""path:id""#, far.clone(), true),
        (r#""host""#, far.clone(), true),
        (r#""host""#, Ask { host: "b.example", ..ask.clone() }, false),
        (r#""principal", "address""#, far.clone(), false),
    ] {
        check(parts, &ask, &other, share);
    }
    let key = |name, address| Ask { identity: principal(name), address, ..Ask::default() };
    check(r#""api_key""#, &key("key:a", "192.0.2.1"), &key("key:a", other_address), true);
    check(r#""api_key""#, &key("key:a", "192.0.2.1"), &key("key:b", "192.0.2.1"), false);
    let header = |address, headers| Ask { address, headers, ..Ask::default() };
    for (one, other, share) in [
        (&[("x-app", "1")][..], &[("x-app", "1")][..], true),
        (&[("x-app", "1")], &[("x-app", "2")], false),
        (&[("x-app", "1")], &[("x-app", "1"), ("x-app", "2")], false),
    ] {
        check(r#""header:x-app""#, &header("192.0.2.1", one), &header(other_address, other), share);
    }
}

/// What a request lacks is replaced by its address: nobody is without a counter, and nobody gets into another's.
#[test]
fn d05_a_missing_key_is_the_address() {
    let none = |address| Ask { address, ..Ask::default() };
    for part in ["principal", "api_key", "roles", "plan", "claim:tenant", "header:x-app"] {
        let part = format!("{part:?}");
        check(&part, &none("192.0.2.1"), &none("192.0.2.1"), true);
        check(&part, &none("192.0.2.1"), &none("192.0.2.2"), false);
        check(&part, &none("2001:db8::1"), &none("2001:db8::2"), true);
    }
    // A principal that calls itself as an address is written.
    let named = Ask { identity: principal("192.0.2.1"), ..none("192.0.2.9") };
    check(r#""principal""#, &none("192.0.2.1"), &named, false);
    // An ordinary principal is no API key.
    let user = Ask { identity: principal("ada"), ..none("192.0.2.1") };
    check(r#""api_key""#, &user, &none("192.0.2.1"), true);
    let twice = Ask { headers: &[("x-app", "1"), ("x-app", "1")], ..none("192.0.2.1") };
    check(r#""header:x-app""#, &twice, &none("192.0.2.1"), true);
    let other_route = Ask { route: SEARCH, path: "/search", ..none("192.0.2.1") };
    let world = World::new("[limit.a]\nby = [\"path:id\"]\nrequests = 1\nper = \"1h\"\n");
    assert_eq!(world.served(&other_route, 5, START), 1);
}

#[test]
fn a_key_is_of_its_part() {
    let world = World::new(
        "[limit.a]\nby = [\"principal\"]\nrequests = 1\nper = \"1h\"\n[limit.b]\nby = [\"claim:tenant\"]\nrequests = 1\n\
         per = \"1h\"\n",
    );
    let ask = Ask { identity: by("acme", &[], json!("acme"), Value::Null), ..Ask::default() };
    assert_eq!(world.served(&ask, 3, START), 1);
    let keys = |at: usize| {
        let mut keys = Vec::new();
        if let Budgets::Rate(counter, _) = &world.limits.limits[at].allowed[0].budgets {
            counter.each_arrival(|key, _| keys.push(key));
        }
        keys
    };
    assert!(keys(0) != keys(1) && keys(0).len() == 1, "{:?} {:?}", keys(0), keys(1));
}
