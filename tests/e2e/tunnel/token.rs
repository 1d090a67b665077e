//! Tokens of WebSockets where browsers can put them: J15, W02.

use data_encoding::BASE64URL_NOPAD;
use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::{Settings, route},
    tokens,
    world::{GOOD_V4, World},
};

use super::{greets, open, serve, settings, upgrade};

const PAGE: &str = "https://app.example";

#[test]
fn j15_w02_tokens_of_browsers() {
    if !report::may_run("tunnel: tokens") {
        return;
    }
    let world = World::new();
    let heads = serve(&world.gate, 9001);
    let may =
        |sources: &str| format!("upgrade = [\"websocket\"]\norigins = [\"{PAGE}\"]\nwebsocket_token = [{sources}]");
    let routes = [
        route("/both/{name}", "[\"GET\"]", "[\"items:read\"]", &may("\"protocol\", \"cookie:__Host-s\"")),
        route("/protocol/{name}", "[\"GET\"]", "[\"items:read\"]", &may("\"protocol\"")),
        route("/neither/{name}", "[\"GET\"]", "[\"items:read\"]", "upgrade = [\"websocket\"]"),
    ];
    let daemon = Daemon::start(&world, &Settings { routes: routes.concat(), ..settings("") });
    let client = Client::new(&world, GOOD_V4);
    let good = tokens::good("ada", &["reader"]);
    let plain = format!("authorization.bearer.{good}");
    let encoded = format!("base64url.bearer.authorization.k8s.io.{}", BASE64URL_NOPAD.encode(good.as_bytes()));
    let forged = format!("authorization.bearer.{}", tokens::forged("eve", &["reader"]));
    let nobody = format!("authorization.bearer.{}", tokens::good("bob", &["nobody"]));
    let cookie = format!("a=b; __Host-s={good}; c=d");

    let from = |request: Request| request.header("Origin", PAGE);
    let offer = |path: &str, protocols: &str| from(upgrade(path).header("Sec-WebSocket-Protocol", protocols));
    for (request, agreed) in [
        (offer("/both/echo", &format!("chat.v1, {plain}")), Some("chat.v1")),
        (offer("/both/echo", &format!("{plain},chat.v2 , chat.v1")), Some("chat.v2")),
        (offer("/protocol/echo", &format!("{encoded}, chat.v1")), Some("chat.v1")),
        (offer("/protocol/echo", &plain).header("Sec-WebSocket-Protocol", "chat.v1"), Some("chat.v1")),
        (from(upgrade("/both/echo").header("Cookie", &cookie)), None),
        (offer("/both/echo", "chat.v1").header("Cookie", &cookie), Some("chat.v1")),
        (offer("/both/echo", "chat.v1").token(&good), Some("chat.v1")),
        (offer("/protocol/echo", &format!("chat.v1, {plain}")).header("Cookie", &cookie), Some("chat.v1")),
    ] {
        let (mut connection, head) = open(&client, &request);
        assert_eq!((head.status, head.header("sec-websocket-protocol")), (101, agreed), "{request:?}");
        greets(&mut connection);
        let reached = heads.lock().unwrap().last().cloned().unwrap_or_default();
        assert!(reached.contains("x-authenticated-principal: ada\r\n"), "{reached}");
        assert!(!reached.contains("bearer."), "the upstream is offered a token: {reached}");
    }

    heads.lock().unwrap().clear();
    for (case, request, status, signal) in [
        ("alone: no browser would take the answer", offer("/both/echo", &plain), 400, "bad_request"),
        ("two", offer("/both/echo", &format!("{plain}, {encoded}, chat.v1")), 400, "bad_request"),
        (
            "and a cookie",
            offer("/both/echo", &format!("{plain}, chat.v1")).header("Cookie", &cookie),
            400,
            "bad_request",
        ),
        ("and a header", offer("/both/echo", &format!("{plain}, chat.v1")).token(&good), 400, "bad_request"),
        ("cookie and header", from(upgrade("/both/echo").header("Cookie", &cookie)).token(&good), 400, "bad_request"),
        (
            "two cookies",
            from(upgrade("/both/echo").header("Cookie", &format!("{cookie}; __Host-s=x"))),
            400,
            "bad_request",
        ),
        ("forged", offer("/both/echo", &format!("{forged}, chat.v1")), 401, "forged_token"),
        ("padded", offer("/both/echo", &format!("{encoded}=, chat.v1")), 401, "malformed_token"),
        ("empty", offer("/both/echo", "authorization.bearer., chat.v1"), 401, "malformed_token"),
        ("no role", offer("/both/echo", &format!("{nobody}, chat.v1")), 403, "forbidden"),
        ("no page", upgrade("/both/echo").header("Cookie", &cookie), 403, ""),
        ("foreign", upgrade("/both/echo").header("Cookie", &cookie).header("Origin", "https://evil.example"), 403, ""),
        ("foreign", upgrade("/both/echo").header("Cookie", &cookie).header("Origin", "null"), 403, ""),
        ("not named: a cookie", from(upgrade("/protocol/echo").header("Cookie", &cookie)), 401, "missing_token"),
        ("not named: a protocol", offer("/neither/echo", &format!("{plain}, chat.v1")), 401, "missing_token"),
        ("never by query", from(upgrade(&format!("/both/echo?access_token={good}"))), 401, "missing_token"),
        ("no WebSocket", from(Request::new("GET", "/both/echo").header("Cookie", &cookie)), 401, "missing_token"),
        (
            "no WebSocket",
            Request::new("GET", "/both/echo").header("Sec-WebSocket-Protocol", &format!("{plain}, chat.v1")),
            401,
            "missing_token",
        ),
    ] {
        let response = client.send(&request).unwrap();
        assert_eq!(response.status, status, "{case}: {}", response.text());
        let line = daemon.logged(&response.id());
        assert_eq!(line["signal"].as_str().unwrap_or_default(), signal, "{case}: {line}");
        let line = line.to_string();
        assert!(!line.contains(&good), "{case}: {line}");
    }
    assert!(heads.lock().unwrap().is_empty(), "what was refused reached the upstream");
    assert!(!daemon.standard_error().contains(&good), "a token is in the log");

    // A token in the header does not hide one among the protocols from being taken out.
    let request = Request::new("GET", "/both/http").token(&good).header("Sec-WebSocket-Protocol", &plain);
    assert_eq!(client.send(&request).unwrap().status, 200);
    assert!(!heads.lock().unwrap().concat().contains("bearer."), "{:?}", heads.lock().unwrap());
}
