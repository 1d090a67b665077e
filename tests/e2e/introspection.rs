//! Opaque tokens of a real identity provider: it is asked about them, once for many requests, and never by a flood.

use std::{fs, thread, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{
    daemon::{Daemon, send},
    http1::{Client, Request, Response},
    pki::PKI,
    provider::{Kind, Provider},
    report,
    settings::{Settings, route},
    tokens,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{ATTACKER_V4, GOOD_V4, World},
};

const ISSUER: &str = "http://127.0.0.1:9200";
/// What has to be encoded before it is put together (RFC 6749 2.3.1).
const CLIENT: (&str, &str) = ("gate:way", "s e:c%r+et");

/// A gateway that asks the provider, by these lines of its table.
fn settings(issuer: &str, lines: &str) -> Settings {
    let more = format!(
        "[introspection.corp]\nissuer = \"{issuer}\"\naudience = \"api\"\nsubject_claim = \"client_id\"\n\
         roles = [\"reader\"]\nleeway = \"0s\"\n{lines}\n"
    );
    let routes = [
        route("/items/{id}", "[\"GET\"]", "[\"items:read\"]", ""),
        route("/me", "[\"GET\"]", "[\"authenticated\"]", "authenticate = [\"jwt\"]"),
    ];
    let jwt = "roles = [\"reader\"]".to_owned();
    Settings { jwt, more, routes: routes.concat(), rules: String::new(), ..Settings::default() }
}

fn secret() -> String {
    format!("client_id = \"{}\"\nclient_secret = \"gateway.secret\"\n", CLIENT.0)
}

const FETCH: &str = "fetch = { allow_http = true, timeout = \"3s\" }\n";

fn provider(world: &World) -> Provider {
    let provider = Provider::start(world, Kind::OidcProvider, ISSUER, 9200, None);
    provider.add_client(&json!({"client_id": CLIENT.0, "client_secret": CLIENT.1}));
    fs::write(world.folder.join("gateway.secret"), CLIENT.1).unwrap();
    provider
}

/// The status of a request with this token, and its line in the log.
fn ask(daemon: &Daemon<'_>, client: &Client<'_>, token: &str) -> (u16, Value, Response) {
    let response = client.send(&Request::new("GET", "/items/7").token(token)).unwrap();
    (response.status, daemon.logged(&response.id()), response)
}

#[test]
fn a_provider_says_which_tokens_are_good() {
    if !report::may_run("introspection") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let provider = provider(&world);
    let lines = format!(
        "{}{FETCH}cache_for = \"5s\"\ncache_inactive_for = \"1s\"\nbreaker = {{ failures = 3, open_for = \"1s\" }}",
        secret()
    );
    let daemon = Daemon::start(&world, &settings(ISSUER, &lines));
    let client = Client::new(&world, GOOD_V4);

    let token = provider.opaque_token(600, None);
    let (status, line, _) = ask(&daemon, &client, &token);
    assert_eq!((status, &line["principal"]), (200, &json!("corp:ada")), "{line} {}", daemon.standard_error());
    assert_eq!(provider.questions(), 1);
    assert_eq!(client.get("/items/7", &tokens::good("ada", &["reader"])).unwrap().status, 200, "a JWT");

    // Many requests at once, one question.
    let shared = provider.opaque_token(600, None);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| client.get("/items/7", &shared).unwrap().status)).collect();
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), 200));
    });
    assert_eq!(provider.questions(), 2, "one question for all");

    // What nobody is asked about.
    for (path, token, signal) in [
        ("/items/7", provider.token("ada"), "wrong_issuer"),
        ("/items/7", "not a token".to_owned(), "malformed_token"),
        ("/me", token.clone(), "malformed_token"),
    ] {
        let response = client.send(&Request::new("GET", path).token(&token)).unwrap();
        let line = daemon.logged(&response.id());
        assert_eq!((response.status, &line["signal"]), (401, &json!(signal)), "{path}: {line}");
    }
    assert_eq!(provider.questions(), 2);

    let (status, line, response) = ask(&daemon, &client, "made-up");
    assert_eq!((status, &line["signal"]), (401, &json!("inactive_token")), "{line}");
    assert!(response.header("www-authenticate").unwrap().contains("invalid_token"), "{}", response.text());
    assert!(!response.text().contains("active"), "nothing of why is told to the client: {}", response.text());

    // Once it is revoked, or its time is over, it is good no more.
    provider.revoke(&token);
    until("the revocation", SOON, || (ask(&daemon, &client, &token).0 == 401).then_some(()));
    let short = provider.opaque_token(6, None);
    assert_eq!(ask(&daemon, &client, &short).0, 200);
    until("the end of the token", SOON, || (ask(&daemon, &client, &short).0 == 401).then_some(()));

    // O01: it hangs. That is no fault of the client.
    let waiting: Vec<String> = (0..3).map(|_| provider.opaque_token(600, None)).collect();
    send(provider.pid(), Signal::SIGSTOP);
    for token in &waiting {
        let (status, line, response) = ask(&daemon, &client, token);
        assert_eq!((status, &line["signal"]), (503, &Value::Null), "{line}");
        assert!(response.header("retry-after").is_some(), "{}", response.text());
    }
    until("that it is told", SOON, || daemon.standard_error().contains("cannot be asked about").then_some(()));
    send(provider.pid(), Signal::SIGCONT);
    until("it is back", SOON, || (ask(&daemon, &client, &waiting[0]).0 == 200).then_some(()));
    until("that it is told", SOON, || daemon.standard_error().contains("can be asked about again").then_some(()));

    // It is gone.
    drop(provider);
    let (status, line, _) = ask(&daemon, &client, "another");
    assert_eq!((status, &line["signal"]), (503, &Value::Null), "{line}");
    let log = fs::read_to_string(world.folder.join("access.log")).unwrap() + &daemon.standard_error();
    assert!(!log.contains(&shared) && !log.contains("s e:c"), "a token or secret is in a log");
}

/// Another provider, of another maker: its times have fractions, and its tokens have no subject.
#[test]
fn another_provider_says_which_tokens_are_good() {
    if !report::may_run("introspection: canaille") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let issuer = "http://127.0.0.1:9300";
    // It takes the secret as it stands in the header, which RFC 6749 encodes once more: one that is the same either way.
    let secret = "a-secret-of-the-gateway";
    let provider = Provider::start_canaille(&world, issuer, 9300, secret);
    fs::write(world.folder.join("gateway.secret"), secret).unwrap();
    let lines = "client_id = \"gateway\"\nclient_secret = \"gateway.secret\"\nfetch = { allow_http = true, timeout = \"5s\" }\ncache_for = \"5s\"\ncache_inactive_for = \"1s\"";
    let settings = settings(issuer, lines);
    let more = settings
        .more
        .replace("audience = \"api\"", "audience = \"gateway\"\nrole_map = { \"scope:items:read\" = [\"reader\"] }");
    let daemon = Daemon::start(&world, &Settings { more, ..settings });
    let client = Client::new(&world, GOOD_V4);

    let token = provider.opaque_token(600, None);
    let (status, line, _) = ask(&daemon, &client, &token);
    assert_eq!((status, &line["principal"]), (200, &json!("corp:ada")), "{line} {}", daemon.standard_error());
    assert_eq!(ask(&daemon, &client, &token).0, 200);
    assert_eq!(provider.questions(), 1, "it is remembered");
    let (status, line, _) = ask(&daemon, &client, "made-up");
    assert_eq!((status, &line["signal"]), (401, &json!("inactive_token")), "{line}");
    provider.revoke(&token);
    until("the revocation", SOON, || (ask(&daemon, &client, &token).0 == 401).then_some(()));
    send(provider.pid(), Signal::SIGSTOP);
    let (status, line, _) = ask(&daemon, &client, "another");
    assert_eq!((status, &line["signal"]), (503, &Value::Null), "{line}");
    send(provider.pid(), Signal::SIGCONT);
}

#[test]
fn a_wrong_secret_is_the_operators_fault() {
    if !report::may_run("introspection: secret") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let provider = provider(&world);
    fs::write(world.folder.join("gateway.secret"), "wrong").unwrap();
    let daemon = Daemon::start(&world, &settings(ISSUER, &format!("{}{FETCH}breaker = {{ failures = 2 }}", secret())));
    let client = Client::new(&world, GOOD_V4);
    for _ in 0..2 {
        let (status, line, _) = ask(&daemon, &client, &provider.opaque_token(600, None));
        let detail = "the server does not accept the gateway's own credentials: status 401";
        assert_eq!((status, &line["detail"], &line["signal"]), (503, &json!(detail), &Value::Null), "{line}");
    }
    until("that it is told", SOON, || daemon.standard_error().contains("own credentials").then_some(()));
    let asked = provider.questions();
    assert_eq!(ask(&daemon, &client, "another").0, 503);
    assert_eq!(provider.questions(), asked, "it is left alone for a while");
}

#[test]
fn a_flood_of_tokens_does_not_reach_the_provider() {
    if !report::may_run("introspection: flood") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let provider = provider(&world);
    let daemon = Daemon::start(&world, &settings(ISSUER, &format!("{}{FETCH}inactive_per_source = 5", secret())));
    let attacker = Client::new(&world, ATTACKER_V4);
    let mut connection = attacker.connect().unwrap();
    let mut statuses = Vec::new();
    for number in 0..50 {
        let request = Request::new("GET", "/items/7").token(&format!("guess-{number}"));
        let response = connection.exchange(&request).unwrap();
        if response.header("connection") == Some("close") {
            connection = attacker.connect().unwrap();
        }
        statuses.push(response.status);
    }
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert!(statuses[..5].iter().all(|status| *status == 401) && refused >= 43, "{statuses:?}");
    assert!(provider.questions() <= 7, "{} questions", provider.questions());
    let (status, line, _) = ask(&daemon, &Client::new(&world, GOOD_V4), &provider.opaque_token(600, None));
    assert_eq!(status, 200, "{line}");
}

/// Each way to prove who the gateway is, and answers that are signed; all by TLS.
#[test]
fn every_way_to_ask() {
    if !report::may_run("introspection: clients") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    PKI.write(&world.folder);
    let (certificate, key) = (world.folder.join("server.crt"), world.folder.join("server.key"));
    let issuer = "https://localhost:9201";
    let provider = Provider::start(&world, Kind::OidcProvider, issuer, 9201, Some((&certificate, &key)));
    let pair = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(["gateway".to_owned()]).unwrap().self_signed(&pair).unwrap();
    fs::write(world.folder.join("client.key"), pair.serialize_pem()).unwrap();
    fs::write(world.folder.join("client.crt"), own.pem()).unwrap();
    fs::write(world.folder.join("gateway.secret"), CLIENT.1).unwrap();
    let point = pair.public_key_raw();
    let mut jwk = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "g",
        "x": tokens::encode(&point[1..33]), "y": tokens::encode(&point[33..])});
    provider.add_client(&json!({"client_id": CLIENT.0, "client_secret": CLIENT.1}));
    provider.add_client(&json!({"client_id": "post", "client_secret": CLIENT.1,
        "token_endpoint_auth_method": "client_secret_post"}));
    provider.add_client(&json!({"client_id": "key", "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_signing_alg": "ES256", "jwks": {"keys": [jwk]}}));
    jwk["x5c"] = json!([data_encoding::BASE64.encode(own.der())]);
    provider.add_client(&json!({"client_id": "tls", "token_endpoint_auth_method": "self_signed_tls_client_auth",
        "jwks": {"keys": [jwk]}}));
    let id = |id: &str, auth: &str| format!("client_id = \"{id}\"\nclient_auth = \"{auth}\"\n");
    let (secret, key) =
        ("client_secret = \"gateway.secret\"\n", "client_key = \"client.key\"\nclient_key_id = \"g\"\n");
    let fetch = |more: &str| format!("fetch = {{ ca = \"ca.crt\", allow_private = true{more} }}\n");
    let daemon = Daemon::start(
        &world,
        &settings(issuer, &format!("{}{secret}{}", id(CLIENT.0, "client_secret_basic"), fetch(""))),
    );
    let first = fs::read_to_string(&daemon.config).unwrap();
    let (start, end) = (first.find("client_id = ").unwrap(), first.len());
    let shown = ", certificate = \"client.crt\", private_key = \"client.key\"";
    let signed = format!(
        "signed = true\n[issuer.idp]\nissuer = \"{issuer}\"\naudience = \"api\"\ndiscovery = true\nroles = []\n\
         [issuer.idp.fetch]\nca = \"ca.crt\"\nallow_private = true\ncooldown = \"1s\"\n"
    );
    for (case, lines) in [
        ("basic", format!("{}{secret}{}", id(CLIENT.0, "client_secret_basic"), fetch(""))),
        ("post", format!("{}{secret}{}", id("post", "client_secret_post"), fetch(""))),
        ("key", format!("{}{key}{}", id("key", "private_key_jwt"), fetch(""))),
        ("certificate", format!("{}{}", id("tls", "tls_client_auth"), fetch(shown))),
        ("signed", format!("{}{secret}{}{signed}", id(CLIENT.0, "client_secret_basic"), fetch(""))),
    ] {
        let mut text = first.clone();
        text.replace_range(start..end, &lines);
        fs::write(&daemon.config, text).unwrap();
        daemon.done(&["reload"]);
        let client = Client::new(&world, GOOD_V4);
        let token = provider.opaque_token(600, None);
        let line = until("an answer", SOON, || {
            let (status, line, _) = ask(&daemon, &client, &token);
            // Keys are fetched in the background.
            (case != "signed" || status != 503).then_some((status, line))
        });
        assert_eq!(
            (line.0, &line.1["principal"]),
            (200, &json!("corp:ada")),
            "{case}: {} {}",
            line.1,
            daemon.standard_error()
        );
        assert_eq!(ask(&daemon, &client, "made-up").0, 401, "{case}");
    }
    // The issuer signs its answers by another key: it is fetched once, for all who ask, and nobody is refused.
    pause(Duration::from_millis(1_200));
    let fetched = provider.fetches();
    provider.rotate("k2", true);
    let tokens: Vec<String> = (0..4).map(|_| provider.opaque_token(600, None)).collect();
    thread::scope(|scope| {
        let one = |token| ask(&daemon, &Client::new(&world, GOOD_V4), token);
        let threads: Vec<_> = tokens.iter().map(|token| scope.spawn(move || one(token))).collect();
        for thread in threads {
            let (status, line, _) = thread.join().unwrap();
            assert_eq!((status, &line["principal"]), (200, &json!("corp:ada")), "{line} {}", daemon.standard_error());
        }
    });
    assert_eq!(provider.fetches(), fetched + 1, "one fetch for all");
}
