//! What an OpenAPI document says besides who may ask what: which limits count an operation, and what responses are.

use std::fs;

use support::{
    admin,
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::{Settings, route},
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

const SHOP: &str = "
openapi: 3.1.0
info: {title: Shop, version: '1'}
security: []
paths:
  /me: {get: {x-gateway-limits: [few], responses: {'200': {description: ok}}}}
  /items/{id}:
    get:
      parameters: [{name: id, in: path, required: true, schema: {type: string}}]
      responses: {2XX: {description: ok, content: {application/json: {schema: {type: object, required: [id]}}}}}
  /items:
    post:
      requestBody: {content: {application/json: {schema: {}}}}
      responses:
        '201':
          description: ok
          content: {application/json: {schema: {type: object, required: [id], properties: {password: {writeOnly: true}}}}}
  /slow: {get: {responses: {'404': {description: none}}}}
";

fn settings(api: &str, more: &str) -> Settings {
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        routes: route("/{*rest}", "[]", "[\"openapi\"]", "api = \"shop\""),
        more: format!("{}[api.shop]\nopenapi = \"shop.yaml\"\n{api}\n{more}", admin::TABLE),
        ..Settings::default()
    }
}

const FEW: &str = "[limit.few]\nby = [\"address\"]\nrequests = 2\nper = \"1h\"\nroutes = []\n";

#[test]
fn operations_name_limits() {
    if !report::may_run("contract_limits") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    fs::write(world.folder.join("shop.yaml"), SHOP).unwrap();
    let daemon = Daemon::start(&world, &settings("", FEW));
    let client = Client::new(&world, GOOD_V4);
    let statuses = |target: &str| [0; 4].map(|_| client.send(&Request::new("GET", target)).unwrap().status);
    assert_eq!(statuses("/items/7"), [200; 4], "no limit is named");
    assert_eq!(statuses("/me"), [200, 200, 429, 429], "one is");
    for (from, to, says) in [
        ("[few]", "[fwe]", "#/paths/~1me/get/x-gateway-limits/0: there is no [limit.fwe]"),
        ("[few]", "few", "limits are an array of strings"),
        ("x-gateway-limits", "x-gateway-limit", "is no field of an operation: operations have x-gateway-limits"),
        ("[few]", "[few]\n    x-gateway-limits: [few]", "is no field of a path item"),
    ] {
        let text = SHOP.replace(
            "{get: {x-gateway-limits: [few], responses: {'200': {description: ok}}}}",
            "\n    get:\n      responses: {}\n      x-gateway-limits: [few]",
        );
        fs::write(world.folder.join("shop.yaml"), text.replace(from, to)).unwrap();
        let told = daemon.cli(&["reload"]);
        assert!(told.code == 1 && told.json.to_string().contains(says), "{says}: {}", told.json);
    }
    fs::write(world.folder.join("shop.yaml"), SHOP).unwrap();
    daemon.edit("routes = []\n", "");
    let told = daemon.cli(&["reload"]);
    assert!(told.json.to_string().contains("counts every request already"), "{}", told.json);
}

#[test]
fn responses_that_break_the_document_are_counted_and_pass() {
    if !report::may_run("contract_responses") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    fs::write(world.folder.join("shop.yaml"), SHOP).unwrap();
    let daemon = Daemon::start(&world, &settings("responses = \"report\"\nunknown_query = \"allow\"", FEW));
    let client = Client::new(&world, GOOD_V4);
    let post = |body: &str| {
        let response = client.send(&Request::new("POST", "/items").body("application/json", body.as_bytes())).unwrap();
        assert_eq!((response.status, response.text().len()), (201, body.len()), "it passes as it is");
    };
    let metrics = || admin::get(&world, "/metrics", "").unwrap().text();
    let count = |row: &str| admin::value(&metrics(), row).unwrap_or_default();
    let violations = |operation: &str| {
        count(&format!("gateway_response_violations_total{{api=\"shop\",operation=\"{operation}\"}}"))
    };
    let is = |operation: &str, expect: f64| until(operation, SOON, || (violations(operation) == expect).then_some(()));
    assert_eq!(client.send(&Request::new("GET", "/items/7")).unwrap().status, 200);
    post(r#"{"id":1}"#);
    post(r#"{"name":"secret-name"}"#);
    is("POST /items", 1.0);
    post(r#"{"id":1,"password":"x"}"#);
    is("POST /items", 2.0);
    // The status, and the type of the body.
    assert_eq!(client.send(&Request::new("GET", "/slow?0")).unwrap().status, 200);
    is("GET /slow", 1.0);
    assert_eq!(client.send(&Request::new("GET", "/me")).unwrap().status, 200);
    is("GET /me", 1.0);
    assert_eq!(violations("GET /items/{id}"), 0.0);
    // What is too long is not judged.
    post(&format!("{{\"name\":\"{}\"}}", "n".repeat(70_000)));
    let unjudged = "gateway_responses_not_judged_total{api=\"shop\"}";
    until("the long body", SOON, || (count(unjudged) == 1.0).then_some(()));
    assert_eq!(violations("POST /items"), 2.0);
    let log = until("one line for each operation", SOON, || {
        Some(daemon.standard_error()).filter(|log| log.matches("breaks the document").count() >= 3)
    });
    assert!(log.contains("required"), "{log}");
    assert!(log.lines().filter(|line| line.contains("breaks the document")).all(|line| line.contains("request_id")));
    assert!(!log.contains("secret-name"), "{log}");
    assert_eq!(log.matches("breaks the document").count(), 3, "one line for each operation: {log}");
}
