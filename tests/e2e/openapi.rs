//! Which requests keep the contract of an OpenAPI document, over the wire.

use std::{fs, time::Duration};

use serde_json::Value;
use support::{
    admin,
    daemon::{Daemon, gateway},
    http1::{Client, Request},
    report,
    settings::{Settings, route},
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

/// An API whose schemas stand in another file.
const SHOP: &str = r##"
openapi: 3.1.0
info: {title: Shop, version: '1'}
servers: [{url: 'https://shop.example/shop'}]
security: [{bearer: []}]
paths:
  /items:
    get:
      security: []
      parameters:
        - {name: limit, in: query, schema: {type: integer, minimum: 1, maximum: 100}}
        - {name: X-Trace, in: header, schema: {type: string, pattern: '^[a-f0-9]{4}$'}}
        - {name: theme, in: cookie, schema: {enum: [dark, light]}}
      responses: {'200': {description: ok}}
    post:
      requestBody:
        required: true
        content: {application/json: {schema: {$ref: 'common.yaml#/Item'}}}
      responses: {'201': {description: ok}}
  /items/{id}:
    delete:
      x-gateway-permissions: [items:write]
      parameters: [{name: id, in: path, required: true, schema: {type: integer}}]
      responses: {'200': {description: ok}}
  /internal: {get: {security: [{bearer: [admin]}], responses: {'200': {description: ok}}}}
components: {securitySchemes: {bearer: {type: http, scheme: bearer}}}
"##;

const COMMON: &str = "
Item:
  type: object
  required: [name, id]
  additionalProperties: false
  properties:
    id: {type: string, readOnly: true}
    name: {type: string, minLength: 1, maxLength: 40}
    tags: {type: array, maxItems: 3, items: {type: string, maxLength: 8}}
";

/// Rules of a route without a document.
const PLAIN: &str = "unknown_query = \"refuse\"\npath_parameter.id = { type = \"integer\" }\n\
                     query.limit = { type = \"integer\", minimum = 1, maximum = 100 }\nheader.x-mode = { enum = [\"a\", \"b\"] }";

fn settings(more: &str) -> Settings {
    Settings {
        interfaces: Vec::new(),
        rules: String::new(),
        routes: [
            route("/health", "[\"GET\"]", "[\"public\"]", ""),
            route("/shop/{*rest}", "[]", "[\"openapi\"]", "api = \"shop\""),
            route("/plain/{id}", "[\"GET\"]", "[\"public\"]", PLAIN),
        ]
        .concat(),
        more: format!(
            "{}[api.shop]\nopenapi = \"shop.yaml\"\n{more}\n[validate]\nfiles = [\"common.yaml\"]\n",
            admin::TABLE
        ),
        ..Settings::default()
    }
}

/// What becomes of a request: it is forwarded, or refused by this status and reason.
type Expected = Result<(), (u16, &'static str)>;

const FORWARDED: Expected = Ok(());
const FORBIDDEN: Expected = Err((403, "forbidden"));
const WRONG_BODY: Expected = Err((422, "invalid_body"));
const WRONG_PARAMETER: Expected = Err((400, "invalid_parameter"));
const WRONG_TYPE: Expected = Err((415, "unsupported_media_type"));

/// What the sample upstream says of paths that it does not know.
const UNKNOWN: u16 = 404;

const JSON: &str = "application/json";

fn get(target: &str) -> Request {
    Request::new("GET", target)
}

fn post(token: &str, media_type: &str, body: &[u8]) -> Request {
    Request::new("POST", "/shop/items").token(token).body(media_type, body)
}

fn delete(target: &str, token: &str) -> Request {
    Request::new("DELETE", target).token(token)
}

/// A body with three faults.
fn faulty_body() -> Vec<u8> {
    format!(r#"{{"name":"{}","tags":["toolongtag",7]}}"#, "n".repeat(60)).into_bytes()
}

/// A running gateway that serves the shop.
struct Shop<'a> {
    daemon: &'a Daemon<'a>,
    upstream: &'a Upstream,
    client: Client<'a>,
    editor: String,
    reader: String,
}

impl<'a> Shop<'a> {
    fn start(world: &World) -> (Daemon<'_>, Upstream) {
        let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
        fs::write(world.folder.join("shop.yaml"), SHOP).unwrap();
        fs::write(world.folder.join("common.yaml"), COMMON).unwrap();
        (Daemon::start(world, &settings("")), upstream)
    }

    fn new(world: &'a World, (daemon, upstream): &'a (Daemon<'a>, Upstream)) -> Self {
        let (editor, reader) = (tokens::good("ada", &["editor"]), tokens::good("bob", &["reader"]));
        Self { daemon, upstream, client: Client::new(world, GOOD_V4), editor, reader }
    }

    /// Sends each request, and looks at what reaches the upstream and at the log.
    #[track_caller]
    fn check(&self, cases: Vec<(&str, Request, Expected)>) {
        for (case, request, expected) in cases {
            self.upstream.forget();
            let response = self.client.send(&request).unwrap_or_else(|error| panic!("{case}: {error}"));
            let status = expected.map_or_else(|(status, _)| status, |()| UNKNOWN);
            assert_eq!(response.status, status, "{case}: {}", response.text());
            let forwarded = self.upstream.received().len();
            assert_eq!(forwarded, usize::from(expected.is_ok()), "{case}: what reached the upstream");
            if let Err((_, reject)) = expected {
                assert_eq!(self.daemon.logged(&response.id())["reject"], reject, "{case}");
            }
        }
    }

    /// Changes the configuration, and reloads it.
    #[track_caller]
    fn reload(&self, from: &str, to: &str) {
        self.daemon.edit(from, to);
        assert_eq!(self.daemon.cli(&["reload"]).code, 0);
    }

    #[track_caller]
    fn problem(&self, request: &Request) -> Value {
        self.client.send(request).unwrap().json()
    }
}

#[test]
fn b07_requests_keep_the_contract() {
    if !report::may_run("openapi") {
        return;
    }
    let world = World::new();
    let started = Shop::start(&world);
    let shop = Shop::new(&world, &started);
    let (editor, reader) = (shop.editor.as_str(), shop.reader.as_str());
    let not_declared = Request::new("PUT", "/shop/items");
    let no_token = Request::new("POST", "/shop/items").body(JSON, br#"{"name":"a"}"#);
    shop.check(vec![
        ("public", get("/shop/items?limit=5"), FORWARDED),
        ("a path that is not declared", get("/shop/orders"), Err((404, "not_found"))),
        ("a method that is not declared", not_declared, Err((405, "method_not_allowed"))),
        ("without a token", no_token, Err((401, "missing_token"))),
        ("with the permission", delete("/shop/items/7", editor), FORWARDED),
        ("without the permission", delete("/shop/items/7", reader), FORBIDDEN),
        ("without the scope", get("/shop/internal").token(editor), FORBIDDEN),
    ]);
    shop.check(vec![
        ("a parameter out of range", get("/shop/items?limit=500"), WRONG_PARAMETER),
        ("a parameter of another type", get("/shop/items?limit=a%22b"), WRONG_PARAMETER),
        ("a parameter twice", get("/shop/items?limit=5&limit=6"), WRONG_PARAMETER),
        ("a parameter that is not declared", get("/shop/items?debug=1"), WRONG_PARAMETER),
        ("a header", get("/shop/items").header("X-Trace", "beef"), FORWARDED),
        ("a wrong header", get("/shop/items").header("X-Trace", "no"), WRONG_PARAMETER),
        ("a wrong cookie", get("/shop/items").header("Cookie", "theme=blue"), WRONG_PARAMETER),
        ("a wrong path parameter", delete("/shop/items/x", editor), WRONG_PARAMETER),
    ]);
    shop.check(vec![
        ("a body that is not declared", get("/shop/items").body(JSON, b"{}"), WRONG_TYPE),
        ("a body", post(reader, JSON, br#"{"name":"a"}"#), FORWARDED),
        ("read-only", post(reader, JSON, br#"{"name":"a","id":"1"}"#), WRONG_BODY),
        ("all that is wrong", post(reader, JSON, &faulty_body()), WRONG_BODY),
        ("no JSON", post(reader, JSON, b"{"), Err((400, "bad_request"))),
        ("another type", post(reader, "text/plain", b"a"), WRONG_TYPE),
        ("no body", Request::new("POST", "/shop/items").token(reader), WRONG_BODY),
    ]);
    // A route without a document has rules of its own.
    shop.check(vec![
        ("what it allows", get("/plain/7?limit=5").header("X-Mode", "a"), FORWARDED),
        ("its path", get("/plain/x"), WRONG_PARAMETER),
        ("its query", get("/plain/7?limit=500"), WRONG_PARAMETER),
        ("what it does not name", get("/plain/7?debug=1"), WRONG_PARAMETER),
        ("its header", get("/plain/7").header("X-Mode", "c"), WRONG_PARAMETER),
    ]);
}

#[test]
fn b07_clients_are_told_what_the_contract_demands_as_far_as_is_configured() {
    if !report::may_run("openapi_told") {
        return;
    }
    let world = World::new();
    let started = Shop::start(&world);
    let shop = Shop::new(&world, &started);
    every_fault_is_named(&shop);

    // The document changes, and with it what passes.
    fs::write(world.folder.join("shop.yaml"), SHOP.replace("maximum: 100", "maximum: 1000")).unwrap();
    let wider = get("/shop/items?limit=999");
    until("the changed document", Duration::from_secs(30), || {
        (shop.client.send(&wider).unwrap().status == UNKNOWN).then_some(())
    });
    // Clients may be told less.
    shop.reload("files = [", "details = \"none\"\nfiles = [");
    let problem = shop.problem(&get("/shop/items?limit=9999"));
    assert_eq!((problem["status"].as_u64(), &problem["errors"]), (Some(400), &Value::Null), "{problem}");
    // What only reports lets everything pass, counts it and logs it, whatever else has no line.
    shop.reload("openapi = \"shop.yaml\"", "openapi = \"shop.yaml\"\nreport_only = true");
    shop.reload("[validate]\n", "[access_log]\nonly_refused = true\n\n[validate]\n");
    let response = shop.client.send(&get("/shop/items?limit=9999&debug=1")).unwrap();
    assert_eq!(response.status, UNKNOWN);
    let line = shop.daemon.logged(&response.id());
    assert_eq!(line["detail"], "query limit: maximum, query debug: unknown", "{line}");
    assert_eq!(line["would_deny"], "api", "{line}");
    until("the count", SOON, || {
        let page = admin::get(shop.client.world, "/metrics", "").unwrap().text();
        page.contains("gateway_request_violations_total{api=\"shop\",rule=\"unknown\"} 1\n").then_some(())
    });
    // A body that is encoded cannot be judged: it passes as it came.
    let encoded = post(&shop.reader, JSON, b"\x1f\x8b\x08").header("Content-Encoding", "gzip");
    let response = shop.client.send(&encoded).unwrap();
    assert_eq!(response.status, UNKNOWN, "{}", response.text());
    assert_eq!(shop.daemon.logged(&response.id())["detail"], "Content-Encoding");
}

/// Every place and what is expected there, and no value.
#[track_caller]
fn every_fault_is_named(shop: &Shop<'_>) {
    let problem = shop.problem(&post(&shop.reader, JSON, &faulty_body()));
    let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("{problem}"));
    let told: Vec<(&str, &str)> =
        errors.iter().map(|error| (error["pointer"].as_str().unwrap(), error["detail"].as_str().unwrap())).collect();
    for expect in [
        ("/name", "must have at most 40 characters"),
        ("/tags/0", "must have at most 8 characters"),
        ("/tags/1", "must be a string"),
    ] {
        assert!(told.contains(&expect), "{problem}");
    }
    assert!(!problem.to_string().contains("toolongtag"), "{problem}");
    let problem = shop.problem(&get("/shop/items?limit=999&x=1"));
    assert_eq!(problem["errors"][0]["name"], "limit", "{problem}");
    assert_eq!(problem["errors"][0]["in"], "query", "{problem}");
    assert_eq!(problem["errors"][0]["detail"], "must be at most 100", "{problem}");
    assert_eq!(problem["errors"][1]["name"], "x", "{problem}");
}

#[test]
fn documents_are_refused_by_place_and_tried_by_the_command() {
    let folder = std::env::temp_dir().join(format!("gateway-openapi-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    fs::write(path("shop.yaml"), SHOP).unwrap();
    fs::write(path("common.yaml"), COMMON).unwrap();
    fs::write(path("bad.yaml"), SHOP.replace("in: cookie", "in: cookies")).unwrap();
    fs::write(path("item.json"), r#"{"name":""}"#).unwrap();
    let (shop, common, bad, item) = (path("shop.yaml"), path("common.yaml"), path("bad.yaml"), path("item.json"));
    let with =
        |command: &str| vec!["api".to_owned(), command.to_owned(), shop.clone(), "--with".to_owned(), common.clone()];
    let run = |arguments: Vec<String>| gateway(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let json = |mut arguments: Vec<String>, more: &[&str]| {
        arguments.extend(more.iter().map(|word| (*word).to_owned()));
        run(arguments)
    };
    let told = json(with("lint"), &[]);
    assert_eq!((told.code, told.json["operations"].as_u64()), (0, Some(4)), "{}", told.json);
    let told = json(with("routes"), &[]);
    assert_eq!(told.json["operations"][1]["operation"], "GET /items", "{}", told.json);
    let told = json(with("test"), &["GET", "/shop/items?limit=5"]);
    assert_eq!((told.code, told.json["operation"].as_str()), (0, Some("GET /items")), "{}", told.json);
    let header = "content-type: application/json";
    let told = json(with("test"), &["POST", "/shop/items", "--header", header, "--body", &item]);
    assert_eq!((told.code, told.json["status"].as_u64()), (1, Some(422)), "{}", told.json);
    let told = json(vec!["api".to_owned(), "lint".to_owned(), bad], &["--with", &common]);
    assert_eq!(told.code, 1, "{}", told.json);
    assert!(
        told.json["message"].as_str().unwrap().contains("bad.yaml#/paths/~1items/get/parameters/2"),
        "{}",
        told.json
    );
    // A file that nobody names is not read.
    let told = run(vec!["api".to_owned(), "lint".to_owned(), shop.clone()]);
    assert!(told.json["message"].as_str().unwrap().contains("common.yaml"), "{}", told.json);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_document_that_protects_less_waits_for_a_reload() {
    if !report::may_run("openapi_losses") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    // Replaced as a whole, as it should be.
    let put = |name: &str, content: &str| {
        fs::write(world.folder.join("next"), content).unwrap();
        fs::rename(world.folder.join("next"), world.folder.join(name)).unwrap();
    };
    put("shop.yaml", SHOP);
    put("common.yaml", COMMON);
    put("users", "");
    let daemon = Daemon::start(&world, &settings("[basic]\nusers = \"users\"\n"));
    let client = Client::new(&world, GOOD_V4);
    let status = |method: &str, target: &str| client.send(&Request::new(method, target)).unwrap().status;
    let warned = |what: &str| daemon.status()["warnings"].to_string().contains(what);
    assert_eq!(status("DELETE", "/shop/items/7"), 401);
    let public = SHOP.replace("    post:\n", "    post:\n      security: []\n");
    let internal = "  /internal: {get: {security: [{bearer: [admin]}], responses: {'200': {description: ok}}}}\n";
    for (document, what) in [
        (public.clone(), "POST /items is public now"),
        (
            SHOP.replace("      x-gateway-permissions: [items:write]\n", ""),
            "DELETE /items/{id} asks for fewer permissions",
        ),
        (
            SHOP.replace("[{bearer: [admin]}]", "[{bearer: []}]"),
            "GET /internal asks for other or fewer schemes or scopes",
        ),
        (SHOP.replace(internal, ""), "GET /internal is not declared any more"),
        (SHOP.replace("schema: {$ref: 'common.yaml#/Item'}", ""), "POST /items: not judged any more: bodies"),
    ] {
        put("shop.yaml", &document);
        until(what, SOON, || warned(what).then_some(()));
        assert!(warned("shop.yaml") && warned("gateway reload"), "{}", daemon.status()["warnings"]);
        assert_eq!(status("DELETE", "/shop/items/7"), 401, "{what}");
        assert_eq!(status("GET", "/shop/internal"), 401, "{what}");
        put("shop.yaml", SHOP);
        until("no warning", SOON, || (!warned("not in force")).then_some(()));
    }
    // Another file that changes with it is not held up.
    put("shop.yaml", &public);
    put("users", "bob:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n");
    let chain = || fs::read_to_string(world.folder.join("state/audit.jsonl")).unwrap();
    let took = |file: &str| chain().lines().any(|line| line.contains("\"event\":\"files\"") && line.contains(file));
    until("the users", SOON, || took("users").then_some(()));
    until("the warning", SOON, || warned("POST /items is public now").then_some(()));
    assert!(!took("shop.yaml"), "{}", chain());
    assert_eq!(status("POST", "/shop/items"), 401);
    let log = daemon.standard_error();
    assert!(log.contains("is public now") && chain().contains("asks_for_less"), "{log}");
    // What an operator reloads is meant, and told all the same.
    let told = daemon.cli(&["reload"]);
    assert_eq!(told.code, 0);
    assert!(told.json["message"].as_str().unwrap().contains("POST /items is public now"), "{}", told.json);
    assert_eq!(status("POST", "/shop/items"), 422);
    assert!(!warned("not in force"));
}
