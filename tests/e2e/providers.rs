//! Keys of real identity providers, found by their metadata: under load their keys rotate, they stop, answer badly, and come
//! back.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use support::{
    daemon::{Daemon, send},
    http1::{Client, Request},
    link::{Link, Quality},
    provider::{Kind, Provider},
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{GOOD_V4, World, bystander},
};

fn settings(issuer: &str, fetch: &str) -> Settings {
    let more = format!(
        "[issuer.idp]\nissuer = \"{issuer}\"\naudience = \"api\"\ndiscovery = true\nroles = [\"reader\"]\n\
         [issuer.idp.fetch]\ntimeout = \"1s\"\nwait = \"3s\"\ncooldown = \"1s\"\n{fetch}\n\
         [[rule]]\nname = \"bad-tokens\"\nsignals = [\"unknown_key\", \"forged_token\"]\ncount = 5\nwithin = \"60s\"\nban = \"10m\"\n"
    );
    Settings { jwt: "roles = [\"reader\", \"editor\"]".to_owned(), more, rules: String::new(), ..Settings::default() }
}

/// J08 for one of them: its `exp` has a fraction.
fn check(kind: Kind, secure: bool) {
    if !report::may_run("providers") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    support::pki::PKI.write(&world.folder);
    let (certificate, key) = (world.folder.join("server.crt"), world.folder.join("server.key"));
    let tls: Option<(&Path, &Path)> = secure.then_some((&certificate, &key));
    let (issuer, fetch) = if secure {
        ("https://localhost:9100", "ca = \"ca.crt\"\nallow_private = true")
    } else {
        ("http://127.0.0.1:9100", "allow_http = true")
    };
    let provider = Provider::start(&world, kind, issuer, 9100, tls);
    let mut daemon = Daemon::start(&world, &settings(issuer, fetch));
    let first = Client::new(&world, GOOD_V4).get("/items/7", &provider.token("ada")).unwrap();
    assert_eq!(first.status, 200, "{}", daemon.logged(&first.id()));
    let began = Instant::now();
    let (over, served) = (AtomicBool::new(false), AtomicU64::new(0));
    let refused = thread::scope(|scope| {
        let (world, provider, over, served) = (&world, &provider, &over, &served);
        let clients: Vec<_> = (0..4_u8)
            .map(|number| {
                scope.spawn(move || {
                    let client = Client::new(world, bystander(number));
                    let (mut connection, mut refused) = (client.connect().unwrap(), Vec::new());
                    while !over.load(Ordering::Relaxed) {
                        let token = provider.token("ada");
                        let response = connection.exchange(&Request::new("GET", "/items/7").token(&token)).unwrap();
                        match response.status {
                            200 => drop(served.fetch_add(1, Ordering::Relaxed)),
                            503 => pause(Duration::from_millis(100)),
                            other => refused.push((other, response.id())),
                        }
                    }
                    refused
                })
            })
            .collect();
        for (kid, forget) in [("k2", false), ("k3", false), ("k4", true)] {
            pause(Duration::from_millis(1_300));
            provider.rotate(kid, forget);
            let before = served.load(Ordering::Relaxed);
            until("tokens by the new key", SOON, || (served.load(Ordering::Relaxed) > before + 20).then_some(()));
        }
        over.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let refused: Vec<_> =
        refused.iter().map(|(status, id)| (*status, daemon.logged(id)["detail"].to_string())).collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert!(provider.fetches() <= began.elapsed().as_secs() + 2, "one fetch a cool-down at most");
    assert_eq!(daemon.done(&["block", "list"])["entries"].as_array().map_or(0, Vec::len), 0);

    // It hangs: what it signed before is served, by the next process, too.
    let token = provider.token("ada");
    send(provider.pid(), Signal::SIGSTOP);
    let client = Client::new(&world, GOOD_V4);
    assert_eq!(client.get("/items/7", &token).unwrap().status, 200);
    until("kept keys", SOON, || world.folder.join("state/keys.json").exists().then_some(()));
    pause(Duration::from_secs(1));
    daemon.signal(Signal::SIGTERM);
    daemon.ended();
    daemon.start_again();
    assert_eq!(client.get("/items/7", &token).unwrap().status, 200, "with the provider down");
    send(provider.pid(), Signal::SIGCONT);
    provider.rotate("k5", false);
    let token = provider.token("ada");
    until("it is back", SOON, || (client.get("/items/7", &token).unwrap().status == 200).then_some(()));
}

#[test]
fn oidc_provider() {
    check(Kind::OidcProvider, false);
}

#[test]
fn oidc_provider_by_tls() {
    check(Kind::OidcProvider, true);
}

#[test]
fn j08_oauth2_mock_server_with_fractions() {
    check(Kind::OAuth2MockServer, false);
}

/// Under load a real provider rotates its keys while it is slow, breaks its answers, or is gone: nobody is told that a good
/// token is not valid, and what is known goes on being served.
#[test]
fn a_provider_that_answers_badly_while_its_keys_rotate() {
    if !report::may_run("providers: bad answers") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let issuer = "http://127.0.0.1:9100";
    let link = Link::start(&world.gate, 9100, 9102);
    let provider = Provider::start(&world, Kind::OidcProvider, issuer, 9102, None);
    let daemon = Daemon::start(&world, &settings(issuer, "allow_http = true"));
    let first = Client::new(&world, GOOD_V4).get("/items/7", &provider.token("ada")).unwrap();
    assert_eq!(first.status, 200, "{}", daemon.logged(&first.id()));
    let (began, before) = (Instant::now(), provider.fetches());
    let over = AtomicBool::new(false);
    let [by_new, by_old, later] = [(); 3].map(|()| AtomicU64::new(0));
    let refused = thread::scope(|scope| {
        let (world, provider, over, by_new, by_old, later) = (&world, &provider, &over, &by_new, &by_old, &later);
        let clients: Vec<_> = (0..4_u8)
            .map(|number| {
                scope.spawn(move || {
                    let client = Client::new(world, bystander(number));
                    let (mut connection, mut refused, old) =
                        (client.connect().unwrap(), Vec::new(), provider.token("ada"));
                    while !over.load(Ordering::Relaxed) {
                        let known = connection.exchange(&Request::new("GET", "/items/7").token(&old)).unwrap();
                        match known.status {
                            200 => drop(by_old.fetch_add(1, Ordering::Relaxed)),
                            other => refused.push((other, known.id())),
                        }
                        let token = provider.token("ada");
                        let response = connection.exchange(&Request::new("GET", "/items/7").token(&token)).unwrap();
                        match response.status {
                            200 => drop(by_new.fetch_add(1, Ordering::Relaxed)),
                            503 => {
                                later.fetch_add(1, Ordering::Relaxed);
                                pause(Duration::from_millis(100));
                            }
                            other => refused.push((other, response.id())),
                        }
                    }
                    refused
                })
            })
            .collect();
        let grows = |count: &AtomicU64, what: &str| {
            let before = count.load(Ordering::Relaxed);
            until(what, SOON, || (count.load(Ordering::Relaxed) > before + 8).then_some(()));
        };
        for quality in [Quality::Slow, Quality::Cut, Quality::Garbled, Quality::Gone] {
            grows(by_new, &format!("tokens by the key before {quality:?}"));
            link.set(quality);
            provider.rotate(&format!("{quality:?}"), false);
            grows(later, &format!("tokens whose key cannot be fetched: {quality:?}"));
            grows(by_old, &format!("tokens by known keys: {quality:?}"));
            link.set(Quality::Good);
            grows(by_new, &format!("tokens by the new key after {quality:?}"));
        }
        over.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let refused: Vec<_> =
        refused.iter().map(|(status, id)| (*status, daemon.logged(id)["detail"].to_string())).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let (fetches, most) = (provider.fetches() - before, began.elapsed().as_secs() + 2);
    assert!(fetches <= most, "{fetches} fetches within {most} s: one a cool-down at most");
    assert_eq!(daemon.done(&["block", "list"])["entries"].as_array().map_or(0, Vec::len), 0);
    report::note(&format!(
        "providers: {} served by the newest key, {} by an older one, {} answered 503 while answers were bad; {fetches} fetches",
        by_new.into_inner(),
        by_old.into_inner(),
        later.into_inner()
    ));
}

/// Keys that only those may fetch who show a certificate.
#[test]
fn keys_behind_mutual_tls() {
    if !report::may_run("providers: mutual TLS") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    support::pki::PKI.write(&world.folder);
    for name in ["client", "stranger"] {
        let pair = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::new(["gateway".to_owned()]).unwrap().self_signed(&pair).unwrap();
        fs::write(world.folder.join(format!("{name}.key")), pair.serialize_pem()).unwrap();
        fs::write(world.folder.join(format!("{name}.crt")), own.pem()).unwrap();
    }
    let [certificate, key, clients] = ["server.crt", "server.key", "client.crt"].map(|name| world.folder.join(name));
    let issuer = "https://localhost:9100";
    let provider = Provider::start_for(&world, Kind::OidcProvider, issuer, 9100, [&certificate, &key, &clients]);
    let fetch = "ca = \"ca.crt\"\nallow_private = true";
    let daemon = Daemon::start(&world, &settings(issuer, fetch));
    let client = Client::new(&world, GOOD_V4);
    let ask = || {
        let response = client.get("/items/7", &provider.token("ada")).unwrap();
        (response.status, daemon.logged(&response.id())["signal"].clone())
    };
    let unavailable = (503, serde_json::Value::Null);
    assert_eq!(ask(), unavailable, "without a certificate");
    let shows = |name: &str| format!("{fetch}\ncertificate = \"{name}.crt\"\nprivate_key = \"{name}.key\"");
    daemon.edit(fetch, &shows("stranger"));
    daemon.done(&["reload"]);
    assert_eq!(ask(), unavailable, "with a certificate of somebody else");
    assert_eq!(provider.fetches(), 0);
    daemon.edit(&shows("stranger"), &shows("client"));
    daemon.done(&["reload"]);
    until("the keys", SOON, || (ask().0 == 200).then_some(()));
    assert!(provider.fetches() > 0);
}
