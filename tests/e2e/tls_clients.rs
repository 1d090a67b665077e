//! Whom a client certificate names, and which are not good.

use std::{fs, io::Write as _, process::Stdio, sync::Arc};

use http_body_util::Full;
use support::{
    authority::{Authority, Issued, Speaks},
    daemon::Daemon,
    http1::{Client, Request, Response, TIMEOUT},
    pki::{HOST, PKI},
    report,
    settings::{Settings, route},
    tokens,
    upstream::Upstream,
    world::{GOOD_V4, World},
};

const PARTNERS: &str = "partners.example.com";
const OPTIONAL: &str = "optional.example.com";

/// Everybody at [`PARTNERS`] shows a certificate, whoever has one at [`OPTIONAL`], and nobody at [`HOST`].
fn settings() -> Settings {
    let more = format!(
        "[client_certificates.partners]\nca = \"partners.pem\"\ncrl = \"partners.crl\"\nhosts = [\"{PARTNERS}\"]\n\
         roles = [\"reader\"]\n\
         [client_certificates.visitors]\nca = \"partners.pem\"\nrequired = false\nhosts = [\"{OPTIONAL}\"]\n\
         [[certificate]]\ncertificate = \"more.crt\"\nprivate_key = \"more.key\"\n"
    );
    let routes = [
        route("/certificate", "[\"GET\"]", "[\"certificate\"]", ""),
        route("/me", "[]", "[\"authenticated\"]", ""),
        route("/items/{id}", "[\"GET\"]", "[\"items:read\"]", ""),
        route("/items", "[\"POST\"]", "[\"items:write\"]", ""),
        route("/health", "[\"GET\"]", "[\"public\"]", ""),
    ];
    Settings { more, routes: routes.concat(), ..Settings::default() }
}

struct Stage {
    world: World,
    partners: Authority,
    strangers: Authority,
}

impl Stage {
    fn new() -> Self {
        let (world, partners, strangers) = (World::new(), Authority::new("partners"), Authority::new("strangers"));
        partners.server(&[PARTNERS, OPTIONAL]).write(&world.folder, "more");
        fs::write(world.folder.join("partners.pem"), partners.pem()).unwrap();
        fs::write(world.folder.join("partners.crl"), partners.crl(&[66], 2040)).unwrap();
        Self { world, partners, strangers }
    }

    fn speaks(&self, shows: Option<&Issued>) -> Arc<rustls::ClientConfig> {
        let pem = self.partners.pem();
        Speaks { trusts: &[&PKI.authority_pem, &pem], shows, ..Speaks::default() }.config()
    }

    /// One request to `host` over a connection to `name`.
    fn ask(
        &self,
        name: &str,
        host: &str,
        path: &str,
        shows: Option<&Issued>,
        token: &str,
    ) -> std::io::Result<Response> {
        let client = Client::new(&self.world, GOOD_V4);
        let mut connection = client.connect_to(name, self.speaks(shows), TIMEOUT)?;
        let request = Request::new("GET", path).host(host);
        connection.exchange(&if token.is_empty() { request } else { request.token(token) })
    }
}

#[test]
fn identities_by_certificate() {
    if !report::may_run("tls_clients::identities") {
        return;
    }
    let stage = Stage::new();
    let _upstream = Upstream::start(&stage.world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&stage.world, &settings());
    let good = stage.partners.client("billing", 7, 2040);
    let token = tokens::good("ada", &["editor"]);

    let response = stage.ask(PARTNERS, PARTNERS, "/me", Some(&good), "").unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    let line = daemon.logged(&response.id());
    assert_eq!(line["principal"], "cert:partners:billing");
    let told = response.json();
    let headers = told["headers"].as_array().unwrap().clone();
    let header = |name: &str| {
        headers.iter().find(|header| header[0] == name).and_then(|header| header[1].as_str()).map(str::to_owned)
    };
    assert_eq!(header("x-authenticated-principal").as_deref(), Some("cert:partners:billing"), "{told}");
    assert_eq!(header("x-client-certificate-serial").as_deref(), Some("07"));
    assert_eq!(header("x-client-certificate-fingerprint").map(|it| it.len()), Some(64));

    for (host, path, shows, token, expect) in [
        (PARTNERS, "/items/1", Some(&good), "", 200),
        (PARTNERS, "/certificate", Some(&good), "", 404),
        // A token is judged where there is one, and is no certificate.
        (PARTNERS, "/items/1", Some(&good), "bad", 401),
        (PARTNERS, "/certificate", Some(&good), "bad", 404),
        (OPTIONAL, "/health", None, "", 200),
        (OPTIONAL, "/me", None, "", 401),
        (OPTIONAL, "/me", Some(&good), "", 200),
        (OPTIONAL, "/items/1", Some(&good), "", 403),
        (OPTIONAL, "/items/1", None, &token, 200),
        (OPTIONAL, "/certificate", None, &token, 401),
        (HOST, "/me", Some(&good), "", 401),
        (HOST, "/me", None, &token, 200),
    ] {
        let response = stage.ask(host, host, path, shows, token).unwrap();
        assert_eq!(response.status, expect, "{host}{path}: {}", response.text());
    }
}

/// L02: a connection that was not asked for a host's certificates never speaks of that host, by whatever version.
#[test]
fn l02_no_way_around() {
    if !report::may_run("tls_clients::l02") {
        return;
    }
    let stage = Stage::new();
    let _upstream = Upstream::start(&stage.world.gate, "127.0.0.1:9000");
    let mut settings = settings();
    settings.listeners.push_str("[[listener]]\naddress = \"10.0.0.1:8080\"\n");
    let _daemon = Daemon::start(&stage.world, &settings);
    let good = stage.partners.client("billing", 7, 2040);
    for (name, host, shows, expect) in [
        (HOST, PARTNERS, Some(&good), 421),
        (HOST, OPTIONAL, Some(&good), 421),
        (OPTIONAL, PARTNERS, Some(&good), 421),
        (OPTIONAL, PARTNERS, None, 421),
        ("10.0.0.1", PARTNERS, Some(&good), 421),
        (PARTNERS, PARTNERS, Some(&good), 200),
        (PARTNERS, &PARTNERS.to_ascii_uppercase(), Some(&good), 200),
        // Into a host that wants less; the certificate says nothing there.
        (PARTNERS, HOST, Some(&good), 200),
    ] {
        let response = stage.ask(name, host, "/health", shows, "").unwrap();
        assert_eq!(response.status, expect, "{name} {host}: {}", response.text());
    }
    assert_eq!(stage.ask(PARTNERS, HOST, "/me", Some(&good), "").unwrap().status, 401);
    // A browser that finds both names in one certificate sends both over one connection (RFC 9113 9.1.1).
    let to = |host: &str| http::Request::get(format!("https://{host}/health")).body(Full::default()).unwrap();
    let client = Client::new(&stage.world, GOOD_V4);
    let answers = client.send_http2(vec![to(HOST), to(PARTNERS), to(OPTIONAL), to(HOST)]).unwrap();
    let answers: Vec<u16> = answers.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
    assert_eq!(answers, [200, 421, 421, 200]);
    for (host, expect) in [(PARTNERS, 421), (OPTIONAL, 200), (HOST, 200)] {
        let stream = stage.world.outside.connect(GOOD_V4, "10.0.0.1:8080".parse().unwrap(), TIMEOUT).unwrap();
        let mut plain = support::http1::Connection::plain(stream);
        assert_eq!(plain.exchange(&Request::new("GET", "/health").host(host)).unwrap().status, expect, "{host}");
    }

    // Nobody comes back by a ticket: the certificate is shown and judged each time.
    for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]] {
        let pem = stage.partners.pem();
        let config = Speaks { trusts: &[&pem], shows: Some(&good), versions, ..Speaks::default() }.config();
        for _ in 0..3 {
            let client = Client::new(&stage.world, GOOD_V4);
            let mut connection = client.connect_to(PARTNERS, Arc::clone(&config), TIMEOUT).unwrap();
            let response = connection.exchange(&Request::new("GET", "/me").host(PARTNERS)).unwrap();
            assert_eq!(response.status, 200);
            let kind = connection.session().unwrap().handshake_kind();
            assert_ne!(kind, Some(rustls::HandshakeKind::Resumed));
            assert_eq!(connection.session().unwrap().tls13_tickets_received(), 0);
        }
    }
}

/// L02: a session with one host is none with a host that asks for certificates, whatever the client claims.
#[test]
fn l02_sessions_of_other_hosts() {
    if !report::may_run("tls_clients::l02_sessions") {
        return;
    }
    let stage = Stage::new();
    let _upstream = Upstream::start(&stage.world.gate, "127.0.0.1:9000");
    let _daemon = Daemon::start(&stage.world, &settings());
    let session = stage.world.folder.join("session");
    let visit = |version: &str, name: &str, with: &str| {
        let mut command = stage.world.outside.command("openssl".as_ref());
        command.args(["s_client", "-connect", "10.0.0.1:443", "-ign_eof", version, "-servername", name, with]);
        let mut child =
            command.arg(&session).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // The answer comes after the tickets, and ends the connection.
        let request = format!("GET /health HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("HTTP/1.1 200"), "{name}: {said}");
        said.contains("Reused, TLSv1")
    };
    for version in ["-tls1_2", "-tls1_3"] {
        assert!(!visit(version, HOST, "-sess_out"));
        assert!(visit(version, HOST, "-sess_in"), "{version}: the host's own session");
        assert!(!visit(version, OPTIONAL, "-sess_in"), "{version}: another host's session");
    }
}

/// L03: certificates that are not good.
#[test]
fn l03_bad_certificates() {
    if !report::may_run("tls_clients::l03") {
        return;
    }
    let stage = Stage::new();
    let _upstream = Upstream::start(&stage.world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&stage.world, &settings());
    let mut for_servers = rcgen::CertificateParams::new([PARTNERS.to_owned()]).unwrap();
    for_servers.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let mut future = rcgen::CertificateParams::default();
    future.not_before = rcgen::date_time_ymd(2039, 1, 1);
    let cases = [
        (None, "no client certificate", "missing_token"),
        (Some(stage.partners.client("x", 66, 2040)), "client certificate revoked", "bad_handshake"),
        (Some(stage.partners.client("x", 8, 2020)), "client certificate expired", "bad_handshake"),
        (Some(stage.strangers.client("x", 7, 2040)), "client certificate of an unknown authority", "bad_handshake"),
        (Some(stage.partners.issue(for_servers)), "client certificate for another purpose", "bad_handshake"),
        (Some(stage.partners.issue(future)), "client certificate not valid yet", "bad_handshake"),
    ];
    let client = Client::new(&stage.world, GOOD_V4);
    for (shows, detail, signal) in cases {
        let refused = stage.ask(PARTNERS, PARTNERS, "/health", shows.as_ref(), "");
        assert!(refused.is_err(), "{detail}: {refused:?}");
        // Whoever sends a lot at once is told why all the same.
        let mut sending = client.connect_to(PARTNERS, stage.speaks(shows.as_ref()), TIMEOUT).unwrap();
        sending.write(&vec![b'x'; 1 << 20]).unwrap_or_else(|error| panic!("{detail}: {error}"));
        let told = sending.begins().unwrap_err().to_string();
        assert!(told.contains("alert"), "{detail}: {told}");
        support::wait::until(detail, support::wait::SOON, || {
            let log = daemon.access_log();
            log.iter().any(|line| line["detail"] == detail && line["signal"] == signal).then_some(())
        });
    }
    assert_eq!(stage.ask(HOST, HOST, "/health", None, "").unwrap().status, 200);
}

#[test]
fn handshakes_that_fail_are_told_with_their_reason() {
    const LEFT: &str = "the client left within its TLS hello";
    if !report::may_run("tls_clients::reasons") {
        return;
    }
    let world = World::new();
    let daemon = Daemon::start(&world, &Settings { rules: String::new(), ..Settings::default() });
    let client = Client::new(&world, GOOD_V4);
    let shake = |config| drop(client.connect_to("api.example.com", config, support::wait::SOON));
    let plain = |bytes: &[u8]| {
        let mut socket = client.tcp(support::wait::SOON).unwrap();
        std::io::Write::write_all(&mut socket, bytes).unwrap();
        drop(std::io::Read::read_to_end(&mut socket, &mut Vec::new()));
    };
    shake(Speaks::default().config());
    // One that speaks only protocols that nobody speaks here is told so, and has done nothing wrong.
    let other = PKI.client(rustls::ALL_VERSIONS, &[b"smtp", b"h3"]);
    let refused = client.connect_to("api.example.com", other, TIMEOUT).map(drop).unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    // The only name that some clients of HTTP/1.0 have.
    let old = client.connect_to("api.example.com", PKI.client(rustls::ALL_VERSIONS, &[b"http/1.0"]), TIMEOUT);
    assert_eq!(old.unwrap().session().and_then(|session| session.alpn_protocol()), Some(&b"http/1.0"[..]));
    plain(b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n");
    // A hello of TLS 1.0.
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    plain(&hello);
    // Clients that leave by FIN and by reset: without a word, of which nothing is said, and with a part of a hello.
    for (sent, resets) in [(&hello[..0], false), (&hello[..0], true), (&hello[..20], false), (&hello[..20], true)] {
        let mut socket = client.tcp(support::wait::SOON).unwrap();
        std::io::Write::write_all(&mut socket, sent).unwrap();
        if resets {
            socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        }
    }
    for (detail, reject, signal) in [
        (LEFT, "failed_handshake", None),
        ("the client refuses the TLS handshake: UnknownCA", "failed_handshake", None),
        ("TLS handshake failed: no common protocol (ALPN)", "failed_handshake", None),
        ("TLS handshake failed, or no TLS: InvalidContentType", "bad_handshake", Some("bad_handshake")),
        ("TLS handshake failed: SignatureAlgorithmsExtensionRequired", "bad_handshake", Some("bad_handshake")),
    ] {
        support::wait::until(detail, support::wait::SOON, || {
            let log = daemon.access_log();
            let told = |line: &&serde_json::Value| {
                line["detail"] == detail && line["reject"] == reject && line["signal"].as_str() == signal
            };
            log.iter().find(told).map(drop)
        });
    }
    let left = || daemon.access_log().iter().filter(|line| line["detail"] == LEFT).count();
    support::wait::until("both that left with a part of a hello", support::wait::SOON, || (left() == 2).then_some(()));
    let failed = daemon.access_log().iter().filter(|line| line["reject"] == "failed_handshake").count();
    assert_eq!(failed, 4, "a client that says nothing is told of");
}
