//! Where clients are: by lists in files and by databases of countries and autonomous systems, which are watched.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use support::{
    daemon::Daemon,
    http1::Client,
    report,
    settings::{Settings, route},
    upstream::Upstream,
    wait::{SOON, until},
    world::{ATTACKER_V4, GOOD_V4, GOOD_V6, World, bystander},
};

/// 10.0.0.2 and the network of the good client: DE, AS64500. 10.0.0.66: FR, AS64501. 10.0.0.100: DE alone. 10.0.0.120:
/// AS64502 alone. Others: nothing.
const DATABASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/geo/geo.mmdb");

fn public(path: &str, more: &str) -> String {
    route(path, "[\"GET\"]", "[\"public\"]", more)
}

/// Replaces a file as operators are told to.
fn put(world: &World, name: &str, content: &[u8]) {
    let beside: PathBuf = world.folder.join("next");
    fs::write(&beside, content).unwrap();
    fs::rename(beside, world.folder.join(name)).unwrap();
}

fn status(world: &World, from: std::net::IpAddr, path: &str) -> u16 {
    Client::new(world, from).get(path, "").unwrap().status
}

#[test]
fn countries_and_systems() {
    if !report::may_run("places: databases") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let database = fs::read(DATABASE).unwrap();
    put(&world, "geo.mmdb", &database);
    let routes = [
        public("/open/german", "sources = [\"country:DE\"]"),
        public("/open/system", "sources = [\"asn:64501\", \"asn:64502\"]"),
        public("/open/either", "sources = [\"country:FR\", \"asn:64502\", \"10.0.0.131\"]"),
        public("/open/counted", "name = \"counted\""),
    ];
    let more = "[geo]\ndatabase = \"geo.mmdb\"\n[limit.system]\nby = [\"asn\"]\nroutes = [\"counted\"]\nrequests = 3\nper = \"1h\"\n";
    let settings =
        Settings { routes: routes.concat(), more: more.to_owned(), rules: String::new(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    for (from, german, system, either) in [
        (GOOD_V4, 200, 403, 403),
        (GOOD_V6, 200, 403, 403),
        (ATTACKER_V4, 403, 200, 200),
        (bystander(0), 200, 403, 403),
        (bystander(20), 403, 200, 200),
        // Nothing is known of these.
        (bystander(30), 403, 403, 403),
        (bystander(31), 403, 403, 200),
    ] {
        let found = ["/open/german", "/open/system", "/open/either"].map(|path| status(&world, from, path));
        assert_eq!(found, [german, system, either], "{from}");
    }
    // The log and `why` say it; of whom nothing is known, they say nothing.
    for (from, country, asn) in [
        (GOOD_V4, json!("DE"), json!(64_500)),
        (bystander(20), Value::Null, json!(64_502)),
        (bystander(30), Value::Null, Value::Null),
    ] {
        let response = Client::new(&world, from).get("/open/german", "").unwrap();
        let line = daemon.logged(&response.id());
        assert_eq!((&line["country"], &line["asn"]), (&country, &asn), "{line}");
        let why = daemon.done(&["why", &from.to_string()]);
        assert_eq!((&why["country"], &why["asn"]), (&country, &asn), "{why}");
    }
    // One counter for a system, whatever its addresses; one of their own for those of whom nothing is known.
    let counted = |from| status(&world, from, "/open/counted");
    assert_eq!([GOOD_V4, GOOD_V6, GOOD_V4, GOOD_V6, ATTACKER_V4].map(counted), [200, 200, 200, 429, 200]);
    assert_eq!(
        [bystander(28), bystander(28), bystander(28), bystander(28), bystander(29)].map(counted),
        [200, 200, 200, 429, 200]
    );

    // A torn file changes nothing.
    put(&world, "geo.mmdb", &database[..database.len() / 2]);
    until("a warning", SOON, || daemon.status()["warnings"].to_string().contains("no whole database").then_some(()));
    assert_eq!(status(&world, GOOD_V4, "/open/german"), 200);
    put(&world, "geo.mmdb", &database);
    until("the end of the warning", SOON, || {
        (!daemon.status()["warnings"].to_string().contains("no whole database")).then_some(())
    });
    // Another one is taken: whoever was in Germany is in France.
    let moved: Vec<u8> = {
        let mut bytes = database;
        for at in 0..bytes.len() - 1 {
            if bytes[at..].starts_with(b"DE") {
                bytes[at..at + 2].copy_from_slice(b"FR");
            }
        }
        bytes
    };
    put(&world, "geo.mmdb", &moved);
    until("the other database", SOON, || (status(&world, GOOD_V4, "/open/german") == 403).then_some(()));
    assert_eq!(status(&world, GOOD_V4, "/open/either"), 200);
}

#[test]
fn lists_in_files() {
    if !report::may_run("places: lists") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    put(&world, "office.txt", b"# who may\n10.0.0.2\n10.0.0.100/31\n");
    put(&world, "partners.txt", b"10.0.0.120 # a partner\n");
    let routes = [
        public("/open/office", "sources = [\"office\"]"),
        public("/open/partners", "sources = [\"partners\", \"10.0.0.131\"]"),
    ];
    let more = "[sources]\noffice = { file = \"office.txt\" }\n[[feed]]\nname = \"partners\"\npath = \"partners.txt\"\nshadow = true\n";
    let settings =
        Settings { routes: routes.concat(), more: more.to_owned(), rules: String::new(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    for (from, office, partners) in [
        (GOOD_V4, 200, 403),
        (ATTACKER_V4, 403, 403),
        (bystander(1), 200, 403),
        (bystander(2), 403, 403),
        (bystander(20), 403, 200),
        (bystander(31), 403, 200),
    ] {
        assert_eq!(
            ["/open/office", "/open/partners"].map(|path| status(&world, from, path)),
            [office, partners],
            "{from}"
        );
    }
    // What changes in the files changes who may.
    put(&world, "office.txt", b"10.0.0.66\nnobody\n");
    until("the other list", SOON, || (status(&world, ATTACKER_V4, "/open/office") == 200).then_some(()));
    assert_eq!(status(&world, GOOD_V4, "/open/office"), 403);
    put(&world, "partners.txt", b"10.0.0.2\n");
    until("the other feed", SOON, || (status(&world, GOOD_V4, "/open/partners") == 200).then_some(()));
    assert_eq!(status(&world, bystander(20), "/open/partners"), 403);
    // A list with nobody in it cannot be meant.
    put(&world, "office.txt", b"# nobody\n");
    until("a warning", SOON, || daemon.status()["warnings"].to_string().contains("nobody is in it").then_some(()));
    assert_eq!(status(&world, ATTACKER_V4, "/open/office"), 200);
}
