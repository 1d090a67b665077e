//! `sources` and `allow_if` of routes, and `[sources]`.

use super::*;

const REQUIRE: &str = "require = [\"items:read\"]";

/// BASE with `line` in its route, where it is line 44.
#[track_caller]
fn route(line: &str, key: &str, message: &str, hint: &str) {
    wrong(REQUIRE, &format!("{REQUIRE}\n{line}"), 44, key, message, hint);
}

/// One condition.
#[track_caller]
fn condition(text: &str, message: &str, hint: &str) {
    route(&format!("allow_if = ['''{text}''']"), "route[0].allow_if[0]", message, hint);
}

#[test]
fn wrong_conditions() {
    condition("{id == claim.sub", "at character 1: a `{` has no name", "{id}");
    condition("{name} == claim.sub", "names {name}, which `path` has not", "`path` has {id}");
    condition("claim.sub == {name}", "at character 14: names {name}", "`path` has {id}");
    condition("{id} = claim.sub", "at character 6: '=' means nothing here", "`==`");
    condition("{id} == sub", "there is no `sub`", "'sub'");
    condition("{id} == clam.sub", "there is no `clam`", "mean `claim`?");
    condition("{id} == 7", "{id} is a text, and 7 is a number", "write '7'");
    condition("claim.level >= '3'", "only numbers have an order", "== or !=");
    condition("claim.level > 3 and claim.level == 'x'", "with a text here, and with a number before", "one type");
    condition("claim.level > 3 and claim.level < 2", "cannot be this and also > 3", "or");
    condition("method == 'PUT'", "the route takes no PUT", "GET, HEAD");
    condition("method == 'get'", "is not a method", "'GET'");
    condition("source in home", "there is no \"home\" in [sources]", "[sources]");
    condition("source in 10.0.0.1/8", "bits are set beyond", "10.0.0.0/8");
    condition("'a' == 'b'", "two constants", "{parameter}");
    condition("claim.x ==", "a value is missing at the end", "claim.NAME");
    condition("(claim.x == 1", "`)` is missing", "close");
    route("allow_if = [\"\"]", "route[0].allow_if[0]", "empty", "");
    route("allow_if = \"{id} == claim.sub\"", "route[0].allow_if", "expected an array", "brackets");
    route(
        "allow_if = [\"claim.x == 1\", \"claim.x == 2\"]",
        "route[0].allow_if[1]",
        "claim.x cannot be this and also == 1",
        "or",
    );
    route("sources = []", "route[0].sources", "nobody could be let in", "192.0.2.0/24");
    let neither = "there is no \"offise\" in [sources], and no [[feed]] has that name";
    route("sources = [\"offise\"]", "route[0].sources[0]", neither, "prefixes");
    route("sources = [\"10.0.0.1/8\"]", "route[0].sources[0]", "bits are set beyond", "192.0.2.0/24");
    let public = "require = [\"public\"]\nallow_if = [\"{id} == claim.sub\"]";
    wrong(REQUIRE, public, 44, "route[0].allow_if[0]", "asks for no identity", "authenticated");
    let named = |line: &str| format!("[sources]\n{line}\n[limit.address]\n");
    let limit = "[limit.address]\n";
    wrong(limit, &named("office = \"10.0.0.0/8\""), 37, "sources.office", "expected an array", "192.0.2.0/24");
    wrong(limit, &named("office = []"), 37, "sources.office", "is empty", "192.0.2.0/24");
    wrong(limit, &named("office = [\"ten\"]"), 37, "sources.office", "not an IP address", "192.0.2.0/24");
    wrong(limit, &named("\"10.0.0.1\" = [\"10.0.0.1\"]"), 37, "sources.\"10.0.0.1\"", "not a name", "letters");
}

#[test]
fn the_place_of_a_fault_is_within_its_text() {
    for (text, column) in
        [("allow_if = ['{id} == 7 ']", 13), ("allow_if = [\"claim.x == 1\", \"{id} == nothing\"]", 37)]
    {
        let errors = load(&spoiled(REQUIRE, &format!("{REQUIRE}\n{text}"))).unwrap_err();
        assert_eq!(errors.shown().next().unwrap().column, Some(column + 1), "{errors}");
    }
    let escaped = "allow_if = [\"claim.x == \\\"a\\\" and {id} == nothing\"]";
    let errors = load(&spoiled(REQUIRE, &format!("{REQUIRE}\n{escaped}"))).unwrap_err();
    assert_eq!(errors.shown().next().unwrap().column, Some(13), "the whole text: {errors}");
}

#[test]
fn what_is_warned_of() {
    let check = |from: &str, to: &str, expect: &str| {
        let config = load(&spoiled(from, to)).unwrap_or_else(|errors| panic!("{errors}"));
        let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.join("; "), expect, "{to}");
    };
    let with = |line: &str| format!("{REQUIRE}\n{line}");
    check(REQUIRE, &with("allow_if = [\"{id} == claim.sub\", \"source in 10.0.0.0/8\"]"), "");
    let named = "[sources]\noffice = [\"192.0.2.0/24\"]\n[limit.address]\n";
    check("[limit.address]\n", named, "sources.office: is not used by any route");
    let proxies = "max_body = \"1MiB\"\ntrusted_proxies = [\"10.0.0.2\"]";
    let text = spoiled("max_body = \"1MiB\"", proxies).replace(REQUIRE, &with("sources = [\"10.0.0.0/8\"]"));
    let config = load(&text).unwrap_or_else(|errors| panic!("{errors}"));
    let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings.iter().any(|it| it.starts_with("route[0].sources: overlaps with the trusted proxy 10.0.0.2")),
        "{warnings:?}"
    );
    let second = "[issuer.b]\nissuer = \"https://b.example\"\naudience = \"api\"\njwks = \"jwks.json\"\nroles = [\"reader\"]\n\n[roles]\n";
    let jwt = "jwks = \"jwks.json\"\n\n[roles]\n";
    let first = format!("jwks = \"jwks.json\"\nroles = [\"reader\"]\n\n{second}");
    for (condition, is_warned) in [
        ("{id} == claim.sub", true),
        ("{id} == claim.sub and claim.iss == 'https://b.example'", false),
        ("{id} == principal", false),
        ("claim.level > 3", false),
    ] {
        let text = spoiled(jwt, &first).replace(REQUIRE, &with(&format!("allow_if = [\"{condition}\"]")));
        let config = load(&text).unwrap_or_else(|errors| panic!("{errors}"));
        let warned = config.warnings.iter().any(|warning| warning.message.contains("name different clients alike"));
        assert_eq!(warned, is_warned, "{condition}: {:?}", config.warnings);
    }
}

#[test]
fn conditions_are_shown_as_they_are_written() {
    let lines = format!("{REQUIRE}\nsources = [\"office\", \"10.0.0.0/8\"]\nallow_if = [\"{{id}} == claim.sub\"]");
    let text = spoiled("[limit.address]\n", "[sources]\noffice = [\"192.0.2.0/24\"]\n[limit.address]\n")
        .replace(REQUIRE, &lines);
    let config = load(&text).unwrap_or_else(|errors| panic!("{errors}"));
    let shown = config.effective();
    assert_eq!(shown["sources"], serde_json::json!({"office": ["192.0.2.0/24"]}));
    assert_eq!(shown["route"][0]["sources"], serde_json::json!(["office", "10.0.0.0/8"]));
    assert_eq!(shown["route"][0]["allow_if"], serde_json::json!(["{id} == claim.sub"]));
    assert_eq!(config.proxy.auth.kept.len(), 1);
}
