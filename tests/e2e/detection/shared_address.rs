//! Many good clients and one attacker behind one address (N01).

use serde_json::json;
use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report, tokens,
    wait::{SOON, until},
    world::{ATTACKER_V4, World, bystander},
};

use super::{ENFORCE, GOOD, Good, go_on, send, settings, stuff, upstream};

/// N01: the address is not banned, so the stuffer is stopped by a limit on the route that takes passwords.
#[test]
fn n01_a_stuffer_behind_a_shared_address_is_stopped_and_its_neighbours_are_served() {
    /// How many guesses an address has in an hour.
    const GUESSES: usize = 10;
    if !report::may_run("detection::shared") {
        return;
    }
    let world = World::new();
    let (_upstream, _status) = upstream(&world);
    let limit = format!("[limit.logins]\nroutes = [\"login\"]\nrequests = {GUESSES}\nper = \"1h\"\n");
    let daemon = Daemon::start(&world, &settings(&world, &format!("{ENFORCE}{limit}")));
    let why = || daemon.done(&["why", &ATTACKER_V4.to_string()]);
    let shared = Good { address: |_| ATTACKER_V4, ..Good::new(&world) };
    // All of them must be served, each time.
    let served = shared.beside(|served| {
        until("good principals to be established", SOON, || {
            (why()["standing"]["good_principals"].as_u64() >= Some(5)).then_some(())
        });
        let mut stuffer = Client::new(&world, ATTACKER_V4).connect().unwrap();
        let answers: Vec<_> = (0..200).map(|nth| stuffer.exchange(&stuff(nth)).unwrap()).collect();
        let judged = answers.iter().take_while(|answer| answer.status == 401).count();
        assert_eq!(judged, GUESSES, "so many guesses were compared with a password");
        assert!(answers.iter().skip(GUESSES).all(|answer| answer.status == 429), "it is stopped from then on");
        let line = daemon.logged(&answers.last().unwrap().id());
        assert_eq!((&line["limit"], &line["signal"]), (&json!("logins"), &json!("over_limit")), "{line}");
        go_on(served, 20 * u32::from(GOOD));
    });
    assert!(served > 20 * u32::from(GOOD), "{served}");
    let why = why();
    assert_eq!(why["verdict"], "passed", "{why}");
    assert!(why["shields"].as_array().is_some_and(|shields| !shields.is_empty()), "{why}");
}

/// N01: whoever shares an address with an attacker is served as before.
#[test]
fn n01_neighbours_of_a_stuffer_keep_their_service() {
    if !report::may_run("detection::neighbours") {
        return;
    }
    let world = World::new();
    let (_upstream, _status) = upstream(&world);
    let daemon = Daemon::start(&world, &settings(&world, ENFORCE));
    let shared = Client::new(&world, ATTACKER_V4);
    let good = |number: u8| {
        let token = tokens::good(&format!("good-{number}"), &["reader"]);
        shared.get("/items/1", &token).unwrap().status
    };
    assert!((0..GOOD).all(|number| good(number) == 200));
    until("good principals to be established", SOON, || {
        (daemon.done(&["why", "10.0.0.66"])["standing"]["good_principals"].as_u64() >= Some(5)).then_some(())
    });
    for nth in 0..60 {
        assert_eq!(shared.send(&stuff(nth)).unwrap().status, 401);
        // Seldom enough for the guesses to be most of what the address asks for.
        if nth % 4 == 0 {
            assert_eq!(good(u8::try_from(nth).unwrap() % GOOD), 200);
        }
    }
    assert!((0..GOOD).all(|number| good(number) == 200));
    let why = daemon.done(&["why", "10.0.0.66"]);
    assert_eq!(why["verdict"], "passed", "{why}");
    assert!(why["shields"].to_string().contains("share"), "{why}");
}

/// N01: a burst of wrong passwords is compared with what others at the address were served before. Public pages do not count.
#[test]
fn n01_an_office_is_not_banned_for_a_burst_of_wrong_passwords() {
    if !report::may_run("detection::burst") {
        return;
    }
    let world = World::new();
    let (_upstream, _status) = upstream(&world);
    let daemon = Daemon::start(&world, &settings(&world, ENFORCE));
    let (office, guesser) = (Client::new(&world, ATTACKER_V4), Client::new(&world, bystander(7)));
    let token = tokens::good("good-1", &["reader"]);
    for _ in 0..30 {
        assert_eq!(office.get("/items/1", &token).unwrap().status, 200);
        assert_eq!(guesser.send(&Request::new("GET", "/open/1")).unwrap().status, 200);
    }
    (0..15).for_each(|nth| send(&office, &stuff(nth)));
    (0..15).for_each(|nth| send(&guesser, &stuff(nth)));
    until("whoever guesses to be banned", SOON, || {
        (daemon.done(&["why", &bystander(7).to_string()])["verdict"] != "passed").then_some(())
    });
    assert_eq!(daemon.done(&["why", &ATTACKER_V4.to_string()])["verdict"], "passed");
    assert_eq!(office.get("/items/1", &token).unwrap().status, 200);
}
