//! Servers that speak TLS: who is believed, and what is said of those who are not.

use std::fs;

use support::{
    authority::Authority,
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::{Settings, route},
    tls_upstream::{Seen, TlsUpstream},
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World},
};

#[test]
fn servers_are_verified() {
    if !report::may_run("tls_upstream::servers") {
        return;
    }
    let world = World::new();
    let _plain = Upstream::start(&world.gate, "127.0.0.1:9000");
    let (inside, strangers) = (Authority::new("inside"), Authority::new("strangers"));
    fs::write(world.folder.join("inside.pem"), inside.pem()).unwrap();
    fs::write(world.folder.join("strangers.pem"), strangers.pem()).unwrap();
    inside.client("gateway", 5, 2040).write(&world.folder, "gateway");
    let mut old = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let serve = |port: u16, issued: &_, clients: Option<&str>| {
        TlsUpstream::start(&world.gate, &format!("127.0.0.1:{port}"), issued, clients)
    };
    let by_address = serve(9_443, &inside.server(&["127.0.0.1"]), None);
    let by_name = serve(9_444, &inside.server(&["items.internal"]), Some(&inside.pem()));
    let _expired = serve(9_445, &inside.issue(old), None);

    let upstreams = [
        ("address", "127.0.0.1:9443", "{ ca = \"inside.pem\" }"),
        (
            "name",
            "127.0.0.1:9444",
            "{ ca = \"inside.pem\", server_name = \"items.internal\", certificate = \"gateway.crt\", private_key = \"gateway.key\" }",
        ),
        ("system", "127.0.0.1:9443", "true"),
        ("stranger", "127.0.0.1:9443", "{ ca = \"strangers.pem\" }"),
        ("another", "127.0.0.1:9443", "{ ca = \"inside.pem\", server_name = \"other.internal\" }"),
        ("unknown", "127.0.0.1:9444", "{ ca = \"inside.pem\", server_name = \"items.internal\" }"),
        ("expired", "127.0.0.1:9445", "{ ca = \"inside.pem\" }"),
        ("plain", "127.0.0.1:9000", "{ ca = \"inside.pem\" }"),
        ("any", "127.0.0.1:9443", "{ dangerous_accept_any_certificate = true }"),
    ];
    let mut settings = Settings::default();
    for (name, server, tls) in upstreams {
        settings.more.push_str(&format!("[upstream.{name}]\nservers = [\"{server}\"]\ntls = {tls}\n"));
        settings
            .routes
            .push_str(&route(&format!("/{name}"), "[]", "[\"public\"]", "").replace("\"items\"", &format!("{name:?}")));
    }
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    for (path, expect) in [
        ("/address", Ok(200)),
        ("/name", Ok(200)),
        ("/any", Ok(200)),
        ("/system", Err("its certificate is of an unknown authority")),
        ("/stranger", Err("its certificate is of an unknown authority")),
        ("/another", Err("its certificate is for another name")),
        ("/unknown", Err("CertificateRequired")),
        ("/expired", Err("its certificate has expired")),
        ("/plain", Err("it does not speak TLS")),
    ] {
        let response = client.get(path, "").unwrap();
        match expect {
            Ok(status) => {
                assert_eq!(response.status, status, "{path}: {}", response.text());
                assert_eq!(response.body.len(), 40_000, "{path}");
            }
            Err(detail) => {
                assert_eq!(response.status, 502, "{path}");
                assert!(!response.text().contains("certificate"), "{path}: {}", response.text());
                let line = daemon.logged(&response.id());
                let said = line["detail"].as_str().unwrap();
                // In TLS 1.3 a server refuses a client after the client thinks that all is well.
                let late = path == "/unknown" && said.contains("connection broke off");
                assert!(said.contains(detail) || late, "{path}: {said}");
            }
        }
    }
    let named = Seen { name: None, protocol: Some("http/1.1".to_owned()), certificate: false, requests: 1 };
    assert_eq!(by_address.seen()[0], named, "an address is not a name to ask for (RFC 6066 3)");
    let named = Seen { name: Some("items.internal".to_owned()), certificate: true, ..named };
    assert_eq!(by_name.seen()[0], named);
    let status = daemon.status();
    assert!(status["warnings"].to_string().contains("upstream.any.tls.dangerous_accept_any_certificate"), "{status}");

    // Kept connections carry many requests, and bodies go the other way.
    let mut connection = client.connect().unwrap();
    for _ in 0..20 {
        assert_eq!(connection.exchange(&Request::new("GET", "/address")).unwrap().status, 200);
    }
    assert!(by_address.seen().iter().any(|seen| seen.requests >= 10), "{:?}", by_address.seen());

    // Another authority is believed once its file says so.
    fs::write(world.folder.join("strangers.pem"), inside.pem()).unwrap();
    until("the new authority", SOON, || (client.get("/stranger", "").unwrap().status == 200).then_some(()));
}
