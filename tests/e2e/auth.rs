//! Which tokens open a route, over the wire: one answer for every broken one, and nothing said about why.

use serde_json::{Value, json};
use support::{
    daemon::Daemon,
    http1::{Client, Request, Response},
    report,
    settings::Settings,
    tokens::{self, Algorithm, FOREIGN, ISSUERS, claims, encode, header, now},
    upstream::Upstream,
    world::{GOOD_V4, World},
};

#[test]
fn tokens_over_the_wire() {
    if !report::may_run("auth") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let settings = Settings { rules: String::new(), jwt: "max_lifetime = \"24h\"".to_owned(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);

    for algorithm in Algorithm::ALL {
        let token = ISSUERS.token(algorithm, &claims("ada", &["reader"]));
        for round in ["new", "remembered"] {
            let response = client.get("/items/7", &token).unwrap();
            assert_eq!(response.status, 200, "{algorithm:?}, {round}: {}", response.text());
            let line = daemon.logged(&response.id());
            assert_eq!((&line["principal"], &line["route"]), (&json!("ada"), &json!("/items/{id}")), "{line}");
        }
    }
    let lower =
        Request::new("GET", "/items/7").header("authorization", &format!("bearer {}", tokens::good("a", &["reader"])));
    assert_eq!(client.send(&lower).unwrap().status, 200, "the scheme's case does not matter (RFC 9110 11.1)");
    upstream.forget();
    // J04: nothing is fetched from where a token says, and it is good by the key that is known.
    assert_eq!(client.get("/items/7", &named_key()).unwrap().status, 200);
    upstream.forget();

    let missing = client.send(&Request::new("GET", "/items/7")).unwrap();
    assert_eq!(
        (missing.status, missing.header("www-authenticate")),
        (401, Some("Bearer realm=\"gateway\"")),
        "{}",
        missing.text()
    );
    assert_eq!(daemon.logged(&missing.id())["signal"], "missing_token");

    let mut connection = client.connect().unwrap();
    for (case, token) in broken() {
        let response = connection.exchange(&Request::new("GET", "/items/7").token(&token));
        let response = response.unwrap_or_else(|error| panic!("{case}: {error}"));
        refused(&daemon, case, signal(case), &response);
        if response.header("connection") == Some("close") {
            connection = client.connect().unwrap();
        }
    }

    // J15: more than one place, or a place that is none.
    let good = tokens::good("ada", &["reader"]);
    let get = |target: &str| Request::new("GET", target);
    let authorization = |value: &str| get("/items/7").header("Authorization", value);
    for (case, request, status, signal) in [
        ("two headers", get("/items/7").token(&good).token(&good), 400, "bad_request"),
        ("another scheme", authorization(&format!("Basic {good}")), 401, "unfit_token"),
        ("no scheme", authorization(&good), 401, "unfit_token"),
        ("a tab", authorization(&format!("Bearer\t{good}")), 401, "unfit_token"),
        ("two in one", authorization(&format!("Bearer {good}, Bearer {good}")), 401, "malformed_token"),
        ("in the query", get(&format!("/items/7?access_token={good}")), 401, "missing_token"),
        ("in a cookie", get("/items/7").header("Cookie", &format!("access_token={good}")), 401, "missing_token"),
    ] {
        let response = client.send(&request).unwrap_or_else(|error| panic!("{case}: {error}"));
        let line = daemon.logged(&response.id());
        assert_eq!((response.status, &line["signal"]), (status, &json!(signal)), "J15 {case}: {line}");
    }
    assert_eq!(upstream.received().len(), 0, "a refused request reached the upstream");

    let log = std::fs::read_to_string(world.folder.join("access.log")).unwrap() + &daemon.standard_error();
    assert!(!log.contains(good.rsplit('.').next().unwrap()), "a token is in a log");
    assert_eq!(client.get("/items/7", &good).unwrap().status, 200);
}

#[track_caller]
fn refused(daemon: &Daemon<'_>, case: &str, signal: &str, response: &Response) {
    assert_eq!(response.status, 401, "{case}: {}", response.text());
    let challenge = response.header("www-authenticate").unwrap_or_default();
    assert_eq!(challenge, "Bearer realm=\"gateway\", error=\"invalid_token\"", "{case}");
    assert_eq!(response.header("content-type"), Some("application/problem+json"), "{case}");
    let problem = response.json();
    assert_eq!(problem["type"], "urn:gateway:problem:invalid_token", "{case}: {problem}");
    assert_eq!(problem["request_id"], response.id(), "{case}: {problem}");
    let members: Vec<&String> = problem.as_object().unwrap().keys().collect();
    assert_eq!(members.len(), 4, "{case}: nothing but type, title, status and request_id: {problem}");
    let line = daemon.logged(&response.id());
    assert_eq!((&line["reject"], &line["signal"]), (&json!("invalid_token"), &json!(signal)), "{case}: {line}");
    assert!(line["detail"].is_string() && line["principal"].is_null(), "{case}: {line}");
}

/// What a broken token says about its source: it is forged, unless it could be an issuer's.
fn signal(case: &str) -> &'static str {
    match case {
        "J05 unknown kid" => "unknown_key",
        "J09 no aud" | "J09 another audience" | "J09 audiences without ours" => "wrong_audience",
        "J09 no iss" | "J09 issuer with more" => "wrong_issuer",
        "J16 expired" => "expired_token",
        "J16 not yet" | "issued in the future" => "not_yet_valid",
        "J01 no third part" | "J01 four parts" | "J08 exp without bounds" | "J11 padding" | "J11 standard alphabet" => {
            "malformed_token"
        }
        "J12 duplicate member" | "J13 five parts" | "J14 many dots" => "malformed_token",
        "not base64" | "one word" | "payload no object" | "payload no JSON" => "malformed_token",
        "J09 no exp" | "J09 empty sub" | "lives too long" | "another type" => "unfit_token",
        case if case.starts_with("J08 ") => "unfit_token",
        _ => "forged_token",
    }
}

/// A good token that names where its key is to be fetched.
fn named_key() -> String {
    let mut header = header(Algorithm::Es256);
    header["jku"] = json!("http://127.0.0.1:9000/jwks");
    ISSUERS.sign(Algorithm::Es256, &header.to_string(), &claims("ada", &["reader"]).to_string())
}

/// Threats J01 to J16: what can be told over the wire.
fn broken() -> Vec<(&'static str, String)> {
    let es = Algorithm::Es256;
    let good = tokens::good("ada", &["reader"]);
    let (input, signature) = good.rsplit_once('.').unwrap();
    let (head, payload) = input.split_once('.').unwrap();
    let with = |name: &str, value: Value| {
        let mut claims = claims("ada", &["reader"]);
        claims[name] = value;
        ISSUERS.token(es, &claims)
    };
    let without = |name: &str| {
        let mut claims = claims("ada", &["reader"]);
        claims.as_object_mut().unwrap().remove(name);
        ISSUERS.token(es, &claims)
    };
    let headed = |name: &str, value: Value| {
        let mut header = header(es);
        header[name] = value;
        ISSUERS.sign(es, &header.to_string(), &claims("ada", &["reader"]).to_string())
    };
    let none =
        |name: &str| format!("{}.{payload}.", encode(json!({"alg": name, "typ": "at+jwt"}).to_string().as_bytes()));
    let written = |claims: &str| ISSUERS.sign(es, &header(es).to_string(), claims);
    let text = claims("ada", &["reader"]).to_string();
    vec![
        ("J01 none", none("none")),
        ("J01 None", none("None")),
        ("J01 nOnE", none("nOnE")),
        ("J01 empty signature", format!("{input}.")),
        ("J01 no third part", input.to_owned()),
        ("J01 four parts", format!("{good}.")),
        ("J02 HMAC with the public key", ISSUERS.confused(&claims("ada", &["reader"]))),
        ("J03 another algorithm than the key's", headed("alg", json!("RS256"))),
        ("J03 another key of the set", headed("kid", json!("rsa-1"))),
        ("J04 jku, and another signature", format!("{}.{signature}", named_key().rsplit_once('.').unwrap().0)),
        ("J05 unknown kid", headed("kid", json!("../../etc/passwd"))),
        ("J05 long kid", headed("kid", json!("k".repeat(4_000)))),
        ("J08 exp as text", with("exp", json!((now() + 60).to_string()))),
        ("J08 exp negative", with("exp", json!(-1))),
        ("J08 exp null", with("exp", Value::Null)),
        ("J08 exp array", with("exp", json!([now() + 60]))),
        ("J08 nbf as text", with("nbf", json!("0"))),
        ("J08 exp without bounds", written(&text.replace("\"exp\":", "\"exp\":1e400,\"was\":"))),
        ("J09 no exp", without("exp")),
        ("J09 no aud", without("aud")),
        ("J09 no iss", without("iss")),
        ("J09 another audience", with("aud", json!("other"))),
        ("J09 audiences without ours", with("aud", json!(["a", "b"]))),
        ("J09 issuer with more", with("iss", json!(format!("{}/", tokens::ISSUER)))),
        ("J09 empty sub", with("sub", json!(""))),
        ("J10 zero signature", format!("{input}.{}", encode(&[0; 64]))),
        ("J10 short signature", format!("{input}.{}", encode(&[1; 63]))),
        ("J11 padding", format!("{good}==")),
        ("J11 standard alphabet", format!("{head}+.{payload}.{signature}")),
        ("J12 duplicate member", written(&text.replacen('{', "{\"sub\":\"root\",", 1))),
        ("J12 crit", headed("crit", json!(["exp"]))),
        ("J12 b64", headed("b64", json!(false))),
        ("J13 five parts", format!("{head}.{payload}.{signature}.x.y")),
        ("J14 many dots", ".".repeat(2_000)),
        ("J16 expired", tokens::expired("ada", &["reader"])),
        ("J16 not yet", with("nbf", json!(now() + 3_600))),
        ("issued in the future", with("iat", json!(now() + 3_600))),
        ("lives too long", with("exp", json!(now() + 90_000))),
        ("another type", headed("typ", json!("JWT"))),
        ("signed by somebody else", tokens::forged("ada", &["reader"])),
        ("signed by somebody else, RSA", FOREIGN.token(Algorithm::Rs256, &claims("ada", &["reader"]))),
        ("signed by somebody else, Ed25519", FOREIGN.token(Algorithm::EdDsa, &claims("ada", &["reader"]))),
        ("not base64", "a.b.c".to_owned()),
        ("one word", "token".to_owned()),
        ("payload no object", written("[]")),
        ("payload no JSON", written("{")),
    ]
}
