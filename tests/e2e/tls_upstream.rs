//! Servers that speak TLS: who is believed, and what is said of those who are not.

use std::fs;

use data_encoding::BASE64;
use rcgen::PublicKeyData as _;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use support::{
    authority::{Authority, Issued},
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
        ("/unknown", Err("it wants a certificate of the gateway")),
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
                assert!(said.contains(detail), "{path}: {said}");
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

/// What nobody signed but itself, as an authority or not: `openssl req -x509` makes an authority.
fn self_signed(name: &str, is_authority: bool, last: i32) -> Issued {
    let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(last, 1, 1);
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("{name} {is_authority} {last}"));
    if is_authority {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }
    let key = rcgen::KeyPair::generate().unwrap();
    Issued { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

/// `sha256:` of a certificate in DER, or `sha256//` of its key.
fn pins(issued: &Issued) -> (String, String) {
    let hash = |bytes: &[u8]| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
    let digits: Vec<_> = hash(&certificate).as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let key = rcgen::KeyPair::from_pem(&issued.key).unwrap().subject_public_key_info();
    (format!("sha256:{}", digits.join(":")), format!("sha256//{}", BASE64.encode(hash(&key).as_ref())))
}

#[test]
fn servers_are_named_by_their_own_certificates_and_by_fingerprints() {
    if !report::may_run("tls_upstream::own") {
        return;
    }
    let world = World::new();
    let inside = Authority::new("inside");
    fs::write(world.folder.join("inside.pem"), inside.pem()).unwrap();
    let own = [
        ("leaf", self_signed("127.0.0.1", false, 2040)),
        ("authority", self_signed("127.0.0.1", true, 2040)),
        ("named", self_signed("items.internal", true, 2040)),
        ("over", self_signed("127.0.0.1", true, 2020)),
        ("signed", inside.server(&["127.0.0.1"])),
    ];
    let (mut settings, mut cases, mut serving) = (Settings::default(), Vec::new(), Vec::new());
    let mut add = |name: String, server: &str, tls: &str, expect: Result<(), String>| {
        settings.more.push_str(&format!("[upstream.{name}]\nservers = [\"{server}\"]\ntls = {tls}\n"));
        let route = route(&format!("/{name}"), "[]", "[\"public\"]", "");
        settings.routes.push_str(&route.replace("\"items\"", &format!("{name:?}")));
        cases.push((format!("/{name}"), expect));
    };
    let wrong = |what: &str| Err(what.to_owned());
    let other = pins(&self_signed("127.0.0.1", false, 2040));
    for (index, (name, issued)) in own.iter().enumerate() {
        let server = format!("127.0.0.1:{}", 9_600 + index);
        serving.push(TlsUpstream::start(&world.gate, &server, issued, None));
        issued.write(&world.folder, name);
        // By itself: name and dates count, as for any other.
        let expect = match *name {
            "named" => wrong("is for another name: "),
            "over" => wrong("has expired at 2020-01-01T00:00:00Z"),
            _ => Ok(()),
        };
        add(format!("ca-{name}"), &server, &format!("{{ ca = \"{name}.crt\" }}"), expect);
        // By another, and by its fingerprints alone.
        let stranger = if *name == "leaf" { "authority" } else { "leaf" };
        let by_stranger = format!("{{ ca = \"{stranger}.crt\", server_name = \"127.0.0.1\" }}");
        let unknown = match *name {
            "leaf" | "signed" => "is of an unknown authority",
            "over" => "has expired at",
            _ => "is an authority's own, and none that",
        };
        add(format!("other-{name}"), &server, &by_stranger, wrong(unknown));
        let (certificate, key) = pins(issued);
        for (kind, pins, expect) in [
            ("certificate", format!("[{certificate:?}]"), Ok(())),
            ("key", format!("[{key:?}]"), Ok(())),
            ("second", format!("[{:?}, {key:?}]", other.0), Ok(())),
            ("none", format!("[{:?}, {:?}]", other.0, other.1), wrong(" is none of its pins")),
        ] {
            add(format!("{kind}-{name}"), &server, &format!("{{ pins = {pins} }}"), expect);
        }
        let both = format!("{{ ca = \"inside.pem\", pins = [{certificate:?}] }}");
        let expect = if *name == "signed" { Ok(()) } else { wrong(unknown) };
        add(format!("both-{name}"), &server, &both, expect);
    }
    let only_ca = format!("{{ ca = \"inside.pem\", pins = [{:?}] }}", other.0);
    add("unpinned".to_owned(), "127.0.0.1:9604", &only_ca, wrong(" is none of its pins"));
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    for (path, expect) in cases {
        let response = client.get(&path, "").unwrap();
        let line = daemon.logged(&response.id());
        match expect {
            Ok(()) => assert_eq!(response.status, 200, "{path}: {line}"),
            Err(detail) => {
                assert_eq!(response.status, 502, "{path}: {line}");
                let said = line["detail"].as_str().unwrap();
                assert!(said.contains("its certificate ") && said.contains(&detail), "{path}: {said}");
            }
        }
    }
    // What is told of one that is not pinned is what a pin takes.
    let said = until("its line in the access log", SOON, || {
        daemon.access_log().into_iter().find(|line| line["path"] == "/none-leaf")
    });
    let pinned = pins(&own[0].1).0.replace(':', "").replace("sha256", "sha256:").to_lowercase();
    assert!(said["detail"].as_str().unwrap().contains(&pinned), "{pinned}: {said}");
}

#[test]
fn lookups_that_fail_are_told() {
    if !report::may_run("tls_upstream::lookups") {
        return;
    }
    let world = World::new();
    let upstream = "servers = [\"no-such-name.invalid:9000\"]".to_owned();
    let daemon = Daemon::start(&world, &Settings { upstream, ..Settings::default() });
    let response = Client::new(&world, GOOD_V4).get("/health", "").unwrap();
    let line = daemon.logged(&response.id());
    let said = line["detail"].as_str().unwrap();
    // A name server that does not answer takes longer than connecting may.
    let late = response.status == 504 && said.contains("resolving its name took too long");
    assert!(late || response.status == 502 && said.contains("its name cannot be resolved: "), "{line}");
}
