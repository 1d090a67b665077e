//! `gateway can` and `gateway token inspect`: what they explain, and that they agree with what the gateway does.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use support::{
    daemon::{Daemon, binary},
    fake_issuer::FakeIssuer,
    http1::{Client, Request},
    report,
    settings::{Settings, route},
    tokens::{self, Algorithm, FOREIGN, ISSUERS},
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

fn settings() -> Settings {
    let own = "allow_if = ['''{id} == claim.sub or 'admin' in roles''']";
    let routes = [
        route("/users/{id}", "[\"GET\"]", "[\"authenticated\"]", own),
        route("/items/{id}", "[\"GET\"]", "[\"items:read\"]", "scopes = [\"items\"]\nauthenticate = [\"jwt\"]"),
        route("/echo", "[\"GET\"]", "[\"authenticated\"]", "sources = [\"10.0.0.0/8\"]\nclaims = { verified = true }"),
        route("/health", "[\"GET\"]", "[\"public\"]", ""),
        route("/both", "[\"GET\"]", "[\"items:read\"]", "authenticate = { all = [\"jwt\", \"api_key\"] }"),
    ];
    let more = "[api_keys]\n".to_owned();
    Settings { rules: String::new(), routes: routes.concat(), more, ..Settings::default() }
}

fn token(more: &Value) -> String {
    let mut claims = tokens::claims("ada", &["reader"]);
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ISSUERS.token(Algorithm::Es256, &claims)
}

#[test]
fn what_is_explained_is_what_happens() {
    if !report::may_run("can") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let client = Client::new(&world, GOOD_V4);
    let file = world.folder.join("token.jwt");
    for (path, token, status, reject, failing) in [
        ("/users/ada", token(&json!({})), 200, "", ""),
        ("/users/bob", token(&json!({})), 403, "forbidden", "allow_if[0]"),
        ("/users/bob", token(&json!({"roles": ["admin"]})), 200, "", ""),
        ("/items/7", token(&json!({"scope": "items"})), 200, "", ""),
        ("/items/7", token(&json!({})), 403, "forbidden", "scopes"),
        ("/items/7", token(&json!({"roles": [], "scope": "items"})), 403, "forbidden", "require"),
        ("/echo", token(&json!({"verified": true})), 200, "", ""),
        ("/echo", token(&json!({"verified": false})), 403, "forbidden", "claims"),
        ("/health", String::new(), 200, "", ""),
        ("/echo", String::new(), 401, "missing_token", "authenticate"),
        ("/echo", tokens::forged("ada", &[]), 401, "invalid_token", "authenticate"),
        ("/echo", tokens::expired("ada", &[]), 401, "invalid_token", "authenticate"),
        ("/nowhere", token(&json!({})), 404, "not_found", ""),
    ] {
        let mut request = Request::new("GET", path);
        if !token.is_empty() {
            request = request.token(&token);
        }
        assert_eq!(client.send(&request).unwrap().status, status, "{path}");
        fs::write(&file, format!("{token}\n")).unwrap();
        let url = format!("https://api.example.com{path}");
        let mut arguments = vec!["can", "-", "GET", &url, "--from", "10.0.0.2"];
        if !token.is_empty() {
            arguments.extend(["--token", file.to_str().unwrap()]);
        }
        let told = daemon.cli(&arguments);
        assert_eq!(told.code, i32::from(status != 200), "{path}: {}", told.json);
        assert_eq!(told.json["allowed"], status == 200, "{path}: {}", told.json);
        assert_eq!(told.json["by"], "daemon", "{path}: {}", told.json);
        // The file says the same.
        let offline = daemon.cli(&[&arguments[..], &["--offline"]].concat());
        assert_eq!((offline.code, &offline.json["by"]), (told.code, &json!("file")), "{path}: {}", offline.json);
        assert_eq!(offline.json["steps"], told.json["steps"], "{path}");
        assert_eq!(told.json["reject"].as_str().unwrap_or_default(), reject, "{path}: {}", told.json);
        let steps = told.json["steps"].as_array().unwrap();
        let first = steps.iter().find(|step| step["ok"] == false).map(|step| step["step"].as_str().unwrap());
        assert_eq!(first.unwrap_or_default(), failing, "{path}: {}", told.json);
        let secret = token.rsplit('.').next().unwrap();
        assert!(secret.is_empty() || !told.json.to_string().contains(secret), "the token is printed");
    }

    // Without a token: what would be if somebody were this.
    for (line, code, failing) in [
        ("can ada GET https://x/users/ada --claim sub=ada", 0, ""),
        ("can ada GET https://x/users/bob --claim sub=ada", 1, "allow_if[0]"),
        ("can ada GET https://x/users/bob", 1, "allow_if[0]"),
        ("can ada GET https://x/users/bob --role admin", 0, ""),
        ("can ada GET https://x/items/7 --role reader --scope items", 0, ""),
        ("can key:build GET https://x/items/7 --role reader", 1, "authenticate"),
        ("can ada GET https://x/echo --claim verified=true --from 10.1.2.3", 0, ""),
        ("can ada GET https://x/echo --claim verified=true --from 192.0.2.7", 1, "sources"),
        ("can ada GET https://x/echo --claim verified=true", 5, ""),
        ("can - GET https://x/echo --from 10.0.0.2", 1, "authenticate"),
        // The first of all methods says who the client is.
        ("can ada GET https://x/both --role reader", 0, ""),
        ("can key:build GET https://x/both --role reader", 1, "authenticate"),
    ] {
        let told = daemon.cli(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(told.code, code, "{line}: {} {}", told.json, told.errors);
        let steps = told.json["steps"].as_array().unwrap();
        let first = steps.iter().find(|step| step["ok"] == false).map(|step| step["step"].as_str().unwrap());
        assert_eq!(first.unwrap_or_default(), failing, "{line}: {}", told.json);
    }
    let url = "https://x/users/ada";
    fs::write(&file, token(&json!({}))).unwrap();
    let named = file.to_str().unwrap();
    // A good token is not all that the route asks for, and the rest cannot be shown here.
    for more in [&[][..], &["--offline"]] {
        let told = daemon.cli(&[&["can", "-", "GET", "https://x/both", "--token", named], more].concat());
        assert_eq!((told.code, &told.json["verdict"]), (5, &json!("unknown")), "{}", told.json);
    }
    assert_eq!(daemon.cli(&["can", "bob", "GET", url, "--token", named]).code, 2, "the token is another's");
    assert_eq!(daemon.cli(&["can", "ada", "GET", url, "--token", named]).code, 0);
    assert_eq!(daemon.cli(&["can", "ada", "GET", url, "--token", "/nonexistent"]).code, 2);
    let told = daemon.cli(&["can", "ada", "GET", url, "--token", &token(&json!({}))]);
    assert_eq!(told.code, 2);
    assert!(told.json["message"].as_str().unwrap().contains("known to others"), "{}", told.json);
    assert!(!told.json.to_string().contains("eyJ"), "{}", told.json);
}

#[test]
fn tokens_are_explained() {
    if !report::may_run("token inspect") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings());
    let file = world.folder.join("token.jwt");
    let named = file.to_str().unwrap();
    for (text, code, checks, detail) in [
        (tokens::good("ada", &["reader"]), 0, "", ""),
        (format!("Bearer {}\r\n", tokens::good("ada", &["reader"])), 0, "", ""),
        (tokens::expired("ada", &["reader"]), 1, "expires", "it has expired"),
        (tokens::forged("ada", &["reader"]), 1, "signature", "its signature is not its key's"),
        (token(&json!({"aud": "other"})), 1, "audience", "its aud holds no"),
        (token(&json!({"iss": "https://other.example"})), 1, "issuer", "its iss is no configured issuer"),
        (token(&json!({"nbf": tokens::now() + 600})), 1, "not before", "it is not valid yet"),
        // As the gateway does it: with the leeway, and no audience among what is no string.
        (token(&json!({"iat": tokens::now() - 60, "exp": tokens::now() - 1})), 0, "", ""),
        (token(&json!({"nbf": tokens::now() + 29})), 0, "", ""),
        (token(&json!({"aud": ["api", 1]})), 1, "audience", "its aud holds no"),
        (token(&json!({"exp": "soon"})), 1, "expires", "its exp, nbf or iat is no moment"),
        ("opaque".to_owned(), 1, "form", "it is not three parts"),
    ] {
        fs::write(&file, &text).unwrap();
        let told = daemon.cli(&["token", "inspect", named]);
        assert_eq!(told.code, code, "{text}: {} {}", told.json, told.errors);
        let failed = told.json["checks"].as_array().unwrap().iter().filter(|check| check["ok"] == false);
        let failed: Vec<&str> = failed.map(|check| check["check"].as_str().unwrap()).collect();
        assert_eq!(failed.join(", "), checks, "{text}: {}", told.json);
        assert!(told.json["detail"].as_str().unwrap_or_default().starts_with(detail), "{text}: {}", told.json);
        if code == 0 {
            assert_eq!(told.json["permissions"], json!(["items:read"]), "{}", told.json);
            assert_eq!((&told.json["principal"], &told.json["header"]["alg"]), (&json!("ada"), &json!("ES256")));
        }
        let secret = text.trim().rsplit('.').next().unwrap();
        assert!(code == 1 && text == "opaque" || !told.json.to_string().contains(secret), "the signature is printed");
    }
    // From standard input, for people, and with what would obey a terminal made visible.
    let hostile = token(&json!({"name": "\u{1b}[2J\u{202e}x"}));
    let mut child = Command::new(binary())
        .args(["--config", daemon.config.to_str().unwrap(), "token", "inspect"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(hostile.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.starts_with("valid\n"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text:?}");
    assert!(text.contains("signature   ok"), "{text}");
}

/// What has to be fetched cannot be told by the file; the running gateway tells it, and `check --online` tries it out.
#[test]
fn what_is_fetched_is_told_by_the_running_gateway() {
    if !report::may_run("can: fetched keys") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let issuer = FakeIssuer::start(&world.gate, 9100);
    issuer.publish(&[("a", &ISSUERS)]);
    let more = format!(
        "[issuer.idp]\nissuer = \"{}\"\naudience = \"api\"\ndiscovery = true\nroles = [\"reader\"]\n\
         fetch = {{ allow_http = true, timeout = \"10s\" }}\n\
         [issuer.gone]\nissuer = \"http://127.0.0.1:9101\"\naudience = \"api\"\nroles = []\n\
         jwks_url = \"http://127.0.0.1:9101/keys\"\nfetch = {{ allow_http = true, timeout = \"1s\" }}\n",
        issuer.issuer
    );
    let base = settings();
    let routes = base.routes.clone();
    let more = format!("{}{more}", base.more);
    let mut daemon = Daemon::start(&world, &Settings { more, routes, jwt: "roles = [\"reader\"]".to_owned(), ..base });
    let file = world.folder.join("token.jwt");
    let named = file.to_str().unwrap();
    let url = "https://x/users/7";
    let check = |token: &str, offline: bool, code: i32, verdict: &str| {
        fs::write(&file, token).unwrap();
        let more = if offline { &["--offline"][..] } else { &[] };
        let told = daemon.cli(&[&["can", "-", "GET", url, "--token", named], more].concat());
        assert_eq!((told.code, &told.json["verdict"]), (code, &json!(verdict)), "{} {}", told.json, told.errors);
        let told = daemon.cli(&[&["token", "inspect", named], more].concat());
        told.json["valid"].clone()
    };
    let good = issuer.token("7", "a", &ISSUERS);
    until("the keys", SOON, || {
        (daemon
            .cli(&["token", "inspect", {
                fs::write(&file, &good).unwrap();
                named
            }])
            .code
            == 0)
            .then_some(())
    });
    assert_eq!(check(&good, false, 0, "allowed"), json!(true));
    assert_eq!(check(&good, true, 5, "unknown"), Value::Null);
    assert_eq!(check(&issuer.token("7", "a", &FOREIGN), false, 1, "denied"), json!(false));
    let online = |daemon: &Daemon<'_>| {
        let mut command = world.gate.command(binary().as_ref());
        let output =
            command.args(["--config", daemon.config.to_str().unwrap(), "--json", "check", "--online"]).output();
        let output = output.unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), told)
    };
    let (code, told) = online(&daemon);
    let of = |key: &str| told["online"].as_array().unwrap().iter().find(|one| one["key"] == key).unwrap().clone();
    assert_eq!((code, &of("issuer.idp")["ok"], &of("issuer.gone")["ok"]), (5, &json!(true), &json!(false)), "{told}");
    assert!(of("issuer.gone")["hint"].as_str().unwrap().contains("firewall"), "{told}");
    assert!(of("issuer.idp")["told"].as_str().unwrap().starts_with("1 key"), "{told}");
    assert_eq!(daemon.done(&["check"])["online"], Value::Null, "nothing is asked unless it is wanted");

    // Nobody runs: the file says what it can.
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.ended();
    let told = daemon.cli(&["can", "-", "GET", url, "--token", named]);
    assert_eq!((told.code, &told.json["by"]), (5, &json!("file")), "{} {}", told.json, told.errors);
}
