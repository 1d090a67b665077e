//! The test suite of JSON Schema, for drafts 4 to 2020-12, over the wire: each of its groups is the schema of a route, each
//! of its tests a body, and what the groups refer to are named files. The suite is the one that the gateway's own tests read.

use std::{fs, path::PathBuf};

use serde_json::{Map, Value, json};
use support::{
    daemon::{Daemon, gateway},
    http1::{Client, Connection, Request},
    report,
    settings::{Settings, route},
    upstream::Upstream,
    world::{GOOD_V4, World},
};

/// Where the suite's schemas expect what they refer to.
const ELSEWHERE: &str = "http://localhost:1234/";

/// Groups that are refused when the configuration is read, and why.
const REFUSED: [(&str, &str); 3] = [
    ("draft2019-09/vocabulary.json:", "there is no `$schema` but the drafts'"),
    ("draft2020-12/vocabulary.json:", "there is no `$schema` but the drafts'"),
    ("draft2020-12/optional/format-assertion.json:", "there is no `$schema` but the drafts'"),
];

/// Tests with another verdict than the suite's, and why.
const OTHERWISE: [(&str, &str); 2] = [
    (
        "draft4/optional/bignum.json: integer:",
        "a number over 64 bits is sent as a float, which draft 4 holds for no integer",
    ),
    ("draft2020-12/format.json:", "formats that are known are always checked"),
];

/// The drafts by their folders, and what schemas name them by.
const DRAFTS: [(&str, &str); 5] = [
    ("draft4", "http://json-schema.org/draft-04/schema#"),
    ("draft6", "http://json-schema.org/draft-06/schema#"),
    ("draft7", "http://json-schema.org/draft-07/schema#"),
    ("draft2019-09", "https://json-schema.org/draft/2019-09/schema"),
    ("draft2020-12", "https://json-schema.org/draft/2020-12/schema"),
];

/// How many routes a gateway has.
const PER_GATEWAY: usize = 160;

/// How many requests a connection carries.
const PER_CONNECTION: usize = 500;

/// A schema, and the bodies that it judges.
struct Group {
    title: String,
    schema: Value,
    tests: Vec<Value>,
}

fn read(name: &str) -> Map<String, Value> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../gateway/src/policy/validate/schema/tests/suite");
    serde_json::from_slice(&fs::read(folder.join(name).with_extension("json")).unwrap()).unwrap()
}

fn title_starts(title: &str, starts: &[(&str, &str)]) -> bool {
    starts.iter().any(|(start, _)| title.starts_with(start))
}

/// Writes what the schemas of a draft refer to; the lines of the configuration that name it.
fn remotes(world: &World, draft: &str, here: &str) -> String {
    let suite = Value::Object(read(draft)).to_string();
    let mut names = Vec::new();
    for (name, remote) in read("remotes") {
        let is_of_all = !name.starts_with("draft") && !name.starts_with("v1/");
        let is_named = suite.contains(&format!("{ELSEWHERE}{name}"));
        if !is_of_all && !is_named && !name.starts_with(&format!("{draft}/")) {
            continue;
        }
        let path = world.folder.join("remotes").join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, remote.to_string().replace(ELSEWHERE, here)).unwrap();
        names.push(format!("remotes/{name}"));
    }
    format!("[validate]\nfiles = {}\n", json!(names))
}

/// The groups of a draft's suite, as routes may have them: each says its draft, and is an object.
fn groups(draft: &str, uri: &str, here: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for (file, content) in read(draft) {
        for group in content.as_array().unwrap() {
            let text = group.to_string().replace(ELSEWHERE, here);
            let mut group: Value = serde_json::from_str(&text).unwrap();
            let mut schema = group["schema"].take();
            if schema.is_boolean() {
                schema = json!({ "allOf": [schema] });
            }
            schema.as_object_mut().unwrap().entry("$schema").or_insert_with(|| json!(uri));
            let title = format!("{draft}/{file}: {}", group["description"].as_str().unwrap());
            groups.push(Group { title, schema, tests: group["tests"].as_array().unwrap().clone() });
        }
    }
    groups
}

fn routes(groups: &[Group]) -> String {
    let rules = |number: usize| format!("schema = \"{number}.json\"\nrewrite = \"/echo\"\n");
    (0..groups.len()).map(|number| route(&format!("/{number}"), "[\"POST\"]", "[\"public\"]", &rules(number))).collect()
}

fn write(world: &World, groups: &[Group]) {
    for (number, group) in groups.iter().enumerate() {
        fs::write(world.folder.join(format!("{number}.json")), group.schema.to_string()).unwrap();
    }
}

/// Sends every test of every group; those with another verdict than the suite's, and how many there are in all.
fn send(client: &Client<'_>, groups: &[Group]) -> (Vec<String>, usize) {
    let (mut otherwise, mut count) = (Vec::new(), 0);
    let mut connection: Option<Connection> = None;
    for (number, group) in groups.iter().enumerate() {
        for test in &group.tests {
            if count % PER_CONNECTION == 0 {
                connection = Some(client.connect().unwrap());
            }
            count += 1;
            let body = test["data"].to_string();
            let request = Request::new("POST", &format!("/{number}")).body("application/json", body.as_bytes());
            let response = connection.as_mut().unwrap().exchange(&request).unwrap();
            let (is_valid, status) = (test["valid"].as_bool().unwrap(), response.status);
            if status == 200 {
                assert_eq!(response.text(), body, "{}: it passes as it came", group.title);
            }
            let expected = if is_valid { 200 } else { 422 };
            if status != expected {
                let description = &test["description"];
                otherwise.push(format!("{}: {description}: {status} {}", group.title, response.text()));
            }
        }
    }
    (otherwise, count)
}

/// Each group that is refused is refused by itself, with its file's name.
fn check_refused(world: &World, settings: &Settings, refused: &[Group]) {
    for group in refused {
        write(world, std::slice::from_ref(group));
        let settings = Settings { routes: routes(std::slice::from_ref(group)), ..settings.clone() };
        let config = world.folder.join("refused.toml");
        fs::write(&config, settings.text(&world.folder, &world.folder)).unwrap();
        let told = gateway(&["--config", config.to_str().unwrap(), "check"]);
        assert!(told.code == 1 && told.json.to_string().contains("0.json"), "{}: {}", group.title, told.json);
    }
}

/// What came of a part of a suite.
#[derive(Default)]
struct Outcome {
    count: usize,
    otherwise: Vec<String>,
    refused: Vec<String>,
}

/// Has a gateway judge the tests of as many groups as one takes, from this one on. `None`: there are none.
fn judge(draft: &str, uri: &str, from: usize) -> Option<Outcome> {
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let here = format!("file://{}/remotes/", world.folder.display());
    let part: Vec<Group> = groups(draft, uri, &here).into_iter().skip(from).take(PER_GATEWAY).collect();
    if part.is_empty() {
        return None;
    }
    let (refused, good): (Vec<_>, Vec<_>) = part.into_iter().partition(|group| title_starts(&group.title, &REFUSED));
    write(&world, &good);
    let settings = Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        routes: routes(&good),
        more: remotes(&world, draft, &here),
        ..Settings::default()
    };
    let daemon = Daemon::start(&world, &settings);
    let (otherwise, count) = send(&Client::new(&world, GOOD_V4), &good);
    drop(daemon);
    check_refused(&world, &settings, &refused);
    Some(Outcome { count, otherwise, refused: refused.into_iter().map(|group| group.title).collect() })
}

/// Runs the suite of one draft, of which there are at least so many tests.
#[track_caller]
fn check(draft: &str, least: usize) {
    if !report::may_run(draft) {
        return;
    }
    let (_, uri) = DRAFTS.iter().find(|(known, _)| *known == draft).unwrap();
    let mut all = Outcome::default();
    for from in (0..).step_by(PER_GATEWAY) {
        let Some(part) = judge(draft, uri, from) else { break };
        all.count += part.count;
        all.otherwise.extend(part.otherwise);
        all.refused.extend(part.refused);
    }
    assert!(all.count >= least, "{}", all.count);
    let faults: Vec<_> = all.otherwise.iter().filter(|fault| !title_starts(fault, &OTHERWISE)).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    for (list, found) in [(&OTHERWISE[..], &all.otherwise), (&REFUSED[..], &all.refused)] {
        for (start, why) in list.iter().filter(|(start, _)| start.starts_with(&format!("{draft}/"))) {
            assert!(found.iter().any(|title| title.starts_with(start)), "no more: {start} {why}");
        }
    }
}

#[test]
fn requests_are_judged_as_the_suite_of_draft_4_has_it() {
    check("draft4", 800);
}

#[test]
fn requests_are_judged_as_the_suite_of_draft_6_has_it() {
    check("draft6", 1_000);
}

#[test]
fn requests_are_judged_as_the_suite_of_draft_7_has_it() {
    check("draft7", 1_000);
}

#[test]
fn requests_are_judged_as_the_suite_of_draft_2019_09_has_it() {
    check("draft2019-09", 2_000);
}

#[test]
fn requests_are_judged_as_the_suite_of_draft_2020_12_has_it() {
    check("draft2020-12", 2_000);
}
