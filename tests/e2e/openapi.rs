//! Which requests keep the contract of an OpenAPI document, over the wire.

use std::fs;

use support::{
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
        more: format!("[api.shop]\nopenapi = \"shop.yaml\"\n{more}\n[validate]\nfiles = [\"common.yaml\"]\n"),
        ..Settings::default()
    }
}

#[test]
fn b07_requests_keep_the_contract() {
    if !report::may_run("openapi") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    fs::write(world.folder.join("shop.yaml"), SHOP).unwrap();
    fs::write(world.folder.join("common.yaml"), COMMON).unwrap();
    let daemon = Daemon::start(&world, &settings(""));
    let client = Client::new(&world, GOOD_V4);
    let (editor, reader) = (tokens::good("ada", &["editor"]), tokens::good("bob", &["reader"]));
    let json = "application/json";
    let long = format!(r#"{{"name":"{}","tags":["toolongtag",7]}}"#, "n".repeat(60));
    // What the sample upstream says of paths that it does not know.
    let passed = 404;
    for (case, method, target, token, header, body, status, reject) in [
        ("public", "GET", "/shop/items?limit=5", "", None, None, passed, None),
        ("a path that is not declared", "GET", "/shop/orders", "", None, None, 404, Some("not_found")),
        ("a method that is not declared", "PUT", "/shop/items", "", None, None, 405, Some("method_not_allowed")),
        ("a parameter out of range", "GET", "/shop/items?limit=500", "", None, None, 400, Some("invalid_parameter")),
        (
            "a parameter of another type",
            "GET",
            "/shop/items?limit=a%22b",
            "",
            None,
            None,
            400,
            Some("invalid_parameter"),
        ),
        ("a parameter twice", "GET", "/shop/items?limit=5&limit=6", "", None, None, 400, Some("invalid_parameter")),
        (
            "a parameter that is not declared",
            "GET",
            "/shop/items?debug=1",
            "",
            None,
            None,
            400,
            Some("invalid_parameter"),
        ),
        ("a header", "GET", "/shop/items", "", Some(("X-Trace", "beef")), None, passed, None),
        ("a wrong header", "GET", "/shop/items", "", Some(("X-Trace", "no")), None, 400, Some("invalid_parameter")),
        (
            "a wrong cookie",
            "GET",
            "/shop/items",
            "",
            Some(("Cookie", "theme=blue")),
            None,
            400,
            Some("invalid_parameter"),
        ),
        (
            "a body that is not declared",
            "GET",
            "/shop/items",
            "",
            None,
            Some((json, "{}")),
            415,
            Some("unsupported_media_type"),
        ),
        (
            "without a token",
            "POST",
            "/shop/items",
            "",
            None,
            Some((json, r#"{"name":"a"}"#)),
            401,
            Some("missing_token"),
        ),
        ("with one", "POST", "/shop/items", &reader, None, Some((json, r#"{"name":"a"}"#)), passed, None),
        (
            "read-only",
            "POST",
            "/shop/items",
            &reader,
            None,
            Some((json, r#"{"name":"a","id":"1"}"#)),
            422,
            Some("invalid_body"),
        ),
        ("all that is wrong", "POST", "/shop/items", &reader, None, Some((json, &long)), 422, Some("invalid_body")),
        ("no JSON", "POST", "/shop/items", &reader, None, Some((json, "{")), 400, Some("bad_request")),
        (
            "another type",
            "POST",
            "/shop/items",
            &reader,
            None,
            Some(("text/plain", "a")),
            415,
            Some("unsupported_media_type"),
        ),
        ("no body", "POST", "/shop/items", &reader, None, None, 422, Some("invalid_body")),
        ("with the permission", "DELETE", "/shop/items/7", &editor, None, None, passed, None),
        ("without the permission", "DELETE", "/shop/items/7", &reader, None, None, 403, Some("forbidden")),
        ("a wrong path parameter", "DELETE", "/shop/items/x", &editor, None, None, 400, Some("invalid_parameter")),
        ("a route without a document", "GET", "/plain/7?limit=5", "", Some(("X-Mode", "a")), None, passed, None),
        ("its path", "GET", "/plain/x", "", None, None, 400, Some("invalid_parameter")),
        ("its query", "GET", "/plain/7?limit=500", "", None, None, 400, Some("invalid_parameter")),
        ("what it does not name", "GET", "/plain/7?debug=1", "", None, None, 400, Some("invalid_parameter")),
        ("its header", "GET", "/plain/7", "", Some(("X-Mode", "c")), None, 400, Some("invalid_parameter")),
        ("without the scope", "GET", "/shop/internal", &editor, None, None, 403, Some("forbidden")),
    ] {
        upstream.forget();
        let mut request = Request::new(method, target);
        if !token.is_empty() {
            request = request.token(token);
        }
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        if let Some((media_type, body)) = body {
            request = request.body(media_type, body.as_bytes());
        }
        let response = client.send(&request).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(response.status, status, "{case}: {}", response.text());
        assert_eq!(upstream.received().len(), usize::from(reject.is_none()), "{case}: what reached the upstream");
        if let Some(reject) = reject {
            assert_eq!(daemon.logged(&response.id())["reject"], reject, "{case}");
        }
    }

    // Every place and what is expected there, and no value.
    let request = Request::new("POST", "/shop/items").token(&reader).body(json, long.as_bytes());
    let problem = client.send(&request).unwrap().json();
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
    let problem = client.send(&Request::new("GET", "/shop/items?limit=999&x=1")).unwrap().json();
    assert_eq!(problem["errors"][0]["name"], "limit", "{problem}");
    assert_eq!(problem["errors"][0]["in"], "query", "{problem}");
    assert_eq!(problem["errors"][0]["detail"], "must be at most 100", "{problem}");
    assert_eq!(problem["errors"][1]["name"], "x", "{problem}");

    // The document changes, and with it what passes.
    fs::write(world.folder.join("shop.yaml"), SHOP.replace("maximum: 100", "maximum: 1000")).unwrap();
    let wider = Request::new("GET", "/shop/items?limit=999");
    until("the changed document", std::time::Duration::from_secs(30), || {
        (client.send(&wider).unwrap().status == passed).then_some(())
    });
    // Clients may be told less.
    daemon.edit("files = [", "details = \"none\"\nfiles = [");
    assert_eq!(daemon.cli(&["reload"]).code, 0);
    let problem = client.send(&Request::new("GET", "/shop/items?limit=9999")).unwrap().json();
    assert_eq!((problem["status"].as_u64(), &problem["errors"]), (Some(400), &serde_json::Value::Null), "{problem}");
    // What only reports lets everything pass, and logs it.
    daemon.edit("openapi = \"shop.yaml\"", "openapi = \"shop.yaml\"\nreport_only = true");
    assert_eq!(daemon.cli(&["reload"]).code, 0);
    let response = client.send(&Request::new("GET", "/shop/items?limit=9999&debug=1")).unwrap();
    assert_eq!(response.status, passed);
    // A body that is encoded cannot be judged: it passes as it came.
    let encoded = Request::new("POST", "/shop/items").token(&reader).header("Content-Encoding", "gzip");
    let response = client.send(&encoded.body(json, b"\x1f\x8b\x08")).unwrap();
    assert_eq!(response.status, passed, "{}", response.text());
    assert_eq!(daemon.logged(&response.id())["detail"], "Content-Encoding");
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
