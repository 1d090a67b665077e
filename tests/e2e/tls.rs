//! Which certificate a client is shown, what it may speak, and what its browser is told.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustls::{ClientConfig, HandshakeKind, NamedGroup};
use support::{
    authority::{Authority, Speaks},
    daemon::Daemon,
    http1::{Client, Connection, Request, TIMEOUT},
    pki::{HOST, PKI},
    report,
    settings::Settings,
    tokens,
    upstream::Upstream,
    wait::{SOON, until},
    world::{GOOD_V4, World, bystander},
};

/// TLS beside plain HTTP that sends everybody to it.
fn settings(more: &str, listener: &str) -> Settings {
    let tls = format!("certificate = \"server.crt\"\nprivate_key = \"server.key\"\n{listener}\n");
    Settings {
        listeners: format!(
            "[[listener]]\naddress = \"10.0.0.1:443\"\n{tls}\n\
             [[listener]]\naddress = \"10.0.0.1:80\"\nredirect = 443\n\
             [[listener]]\naddress = \"10.0.0.1:8080\"\n"
        ),
        more: more.to_owned(),
        ..Settings::default()
    }
}

fn names_of(connection: &Connection) -> Vec<String> {
    let shown = connection.session().and_then(|session| session.peer_certificates()).unwrap();
    gateway::x509::X509Certificate::read(&shown[0]).unwrap().hosts().collect()
}

#[test]
fn certificates_by_name() {
    if !report::may_run("tls::certificates_by_name") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let authority = Authority::new("second authority");
    authority.server(&["shop.example", "*.apps.example"]).write(&world.folder, "shop");
    authority.server(&["own.apps.example"]).write(&world.folder, "own");
    let more = "[[certificate]]\ncertificate = \"shop.crt\"\nprivate_key = \"shop.key\"\n\
                [[certificate]]\ncertificate = \"own.crt\"\nprivate_key = \"own.key\"\n";
    let _daemon = Daemon::start(
        &world,
        &settings(more, "[listener.hsts]\nmax_age = \"365d\"\nhosts = [\"api.example.com\", \"*.apps.example\"]\n"),
    );
    let client = Client::new(&world, GOOD_V4);
    let pem = authority.pem();
    let trusting = Speaks { trusts: &[&PKI.authority_pem, &pem], ..Speaks::default() }.config();
    let hsts = Some("max-age=31536000");
    for (asked, shown, hsts) in [
        (HOST, HOST, hsts),
        ("SHOP.example", "shop.example", None),
        ("x.apps.example", "shop.example", hsts),
        ("own.apps.example", "own.apps.example", hsts),
        // Nobody asks by a name: the listener's own.
        ("10.0.0.1", HOST, None),
    ] {
        let mut connection = client.connect_to(asked, Arc::clone(&trusting), TIMEOUT).unwrap();
        assert_eq!(names_of(&connection)[0], shown, "{asked}");
        let response = connection.exchange(&Request::new("GET", "/health").host(asked)).unwrap();
        assert_eq!(response.status, 200, "{asked}: {}", response.text());
        assert_eq!(response.header("strict-transport-security"), hsts, "{asked}");
    }
    // A refusal says it too; plain HTTP never does (RFC 6797 7.2).
    let mut connection = client.connect().unwrap();
    let refused = connection.exchange(&Request::new("GET", "/none")).unwrap();
    assert_eq!((refused.status, refused.header("strict-transport-security")), (404, hsts));
    let plain = world.outside.connect(GOOD_V4, "10.0.0.1:8080".parse().unwrap(), TIMEOUT).unwrap();
    let plain = Connection::plain(plain).exchange(&Request::new("GET", "/health")).unwrap();
    assert_eq!((plain.status, plain.header("strict-transport-security")), (200, None));

    // From plain HTTP to the same host, and to none that is not ours.
    for (host, target, expect) in [
        (HOST, "/items/1?a=b", (308, Some("https://api.example.com/items/1?a=b"))),
        ("shop.example", "/x/../y", (400, None)),
        ("shop.example", "/%7Ex", (308, Some("https://shop.example/~x"))),
        ("shop.example:80", "/", (308, Some("https://shop.example/"))),
        ("evil.example", "/", (421, None)),
        ("api.example.com.evil.example", "/", (421, None)),
    ] {
        let stream = world.outside.connect(GOOD_V4, "10.0.0.1:80".parse().unwrap(), TIMEOUT).unwrap();
        let response = Connection::plain(stream).exchange(&Request::new("GET", target).host(host)).unwrap();
        assert_eq!((response.status, response.header("location")), expect, "{host}{target}");
    }
}

#[test]
fn names_without_a_certificate() {
    if !report::may_run("tls::names_without_a_certificate") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut settings = settings("[[certificate]]\ncertificate = \"server.crt\"\nprivate_key = \"server.key\"\n", "");
    settings.listeners =
        "[[listener]]\naddress = \"10.0.0.1:443\"\ntls = true\nmin_tls = \"1.3\"\nja4 = false\n".to_owned();
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let response = client.get("/health", "").unwrap();
    assert_eq!(response.status, 200);
    assert!(daemon.logged(&response.id()).get("ja4").is_none());
    for name in ["none.example", "192.0.2.1"] {
        let refused = client.connect_to(name, support::http1::tls(), TIMEOUT).map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("UnrecognisedName"), "{name}: {refused}");
    }
    let old = Speaks { trusts: &[&PKI.authority_pem], versions: &[&rustls::version::TLS12], ..Speaks::default() };
    let refused = client.connect_with(old.config(), TIMEOUT).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("ProtocolVersion"), "{refused}");
}

/// L01, L04: what is refused, tried with a client that would do it.
#[test]
fn l01_old_and_weak_handshakes() {
    if !report::may_run("tls::l01") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings("", ""));
    // It is told to leave once it has ended by itself, or has said this.
    let openssl = |arguments: &[&str], input: &str, says: &str| {
        let mut command = world.outside.command("openssl".as_ref());
        command.args(["s_client", "-connect", "10.0.0.1:443", "-servername", HOST]).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let pipes: [Box<dyn io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        let readers = pipes.map(|mut pipe| {
            let said = Arc::clone(&said);
            thread::spawn(move || {
                let mut piece = [0; 4_096];
                while let Ok(read @ 1..) = pipe.read(&mut piece) {
                    said.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..read]));
                }
            })
        });
        until(says, SOON, || {
            (said.lock().unwrap().contains(says) || child.try_wait().unwrap().is_some()).then_some(())
        });
        drop(stdin);
        child.wait().unwrap();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        said.lock().unwrap().clone()
    };
    const DONE: &str = "Verify return code";
    let weak = "DEFAULT:@SECLEVEL=0";
    for arguments in [
        &["-tls1", "-cipher", weak][..],
        &["-tls1_1", "-cipher", weak],
        &["-tls1_2", "-cipher", "AES128-SHA:AES256-SHA:AES128-GCM-SHA256"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES128-SHA"],
        &["-tls1_2", "-cipher", "NULL:aNULL:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "DHE"],
        &["-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"],
    ] {
        let said = openssl(arguments, "", DONE);
        assert!(
            said.contains("alert")
                && !said.contains("Verify return code: 21 (unable to verify the first certificate)\n---\nread"),
            "{arguments:?}: {said}"
        );
        assert!(said.contains("Cipher is (NONE)") || said.contains("no cipher match"), "{arguments:?}: {said}");
    }
    let good = openssl(&["-tls1_2"], "", DONE);
    assert!(good.contains("Cipher is ECDHE-ECDSA-") && good.contains("Compression: NONE"), "{good}");
    // `R` asks for renegotiation.
    let renegotiated = openssl(&["-tls1_2"], "R\n", "no renegotiation");
    assert!(renegotiated.contains("RENEGOTIATING") && renegotiated.contains("no renegotiation"), "{renegotiated}");
    let early = openssl(&["-tls1_3"], "", "Max Early Data");
    assert!(early.contains("Max Early Data: 0") && !early.contains("Max Early Data: 1"), "L04: {early}");
    assert!(early.contains("TLSv1.3"), "L04: {early}");
    until("the offences", SOON, || {
        let log = daemon.access_log();
        (log.iter().filter(|line| line["signal"] == "bad_handshake").count() >= 5).then_some(())
    });
    let log = daemon.access_log();
    let mut offences = log.iter().filter(|line| line["signal"] == "bad_handshake");
    assert!(offences.all(|line| line["ja4"].as_str().is_some_and(|ja4| ja4.starts_with("t1"))), "whose? {log:?}");
    // Post-quantum first.
    let mut connection = Client::new(&world, GOOD_V4).connect().unwrap();
    assert_eq!(connection.exchange(&Request::new("GET", "/health")).unwrap().status, 200);
    let group = connection.session().and_then(|session| session.negotiated_key_exchange_group());
    assert_eq!(group.map(|group| group.name()), Some(NamedGroup::X25519MLKEM768));
}

/// Tickets come back to any worker, whichever generation of the proxy gave them.
#[test]
fn sessions_are_resumed() {
    if !report::may_run("tls::sessions_are_resumed") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings("", ""));
    let client = Client::new(&world, GOOD_V4);
    let visit = |config: &Arc<ClientConfig>| {
        let mut connection = client.connect_with(Arc::clone(config), TIMEOUT).unwrap();
        let response = connection.exchange(&Request::new("GET", "/health")).unwrap();
        assert_eq!(response.status, 200);
        connection.session().unwrap().handshake_kind()
    };
    let versions: [&[_]; 2] = [&[&rustls::version::TLS13], &[&rustls::version::TLS12]];
    let clients =
        versions.map(|versions| Speaks { trusts: &[&PKI.authority_pem], versions, ..Speaks::default() }.config());
    for config in &clients {
        assert_ne!(visit(config), Some(HandshakeKind::Resumed));
        for round in 0..6 {
            assert_eq!(visit(config), Some(HandshakeKind::Resumed), "round {round}");
        }
    }
    let old = daemon.proxy_pid();
    daemon.done(&["reload"]);
    for config in &clients {
        assert_eq!(visit(config), Some(HandshakeKind::Resumed), "after a reload");
    }
    support::daemon::send(old, nix::sys::signal::Signal::SIGKILL);
    daemon.proxy_pid_other_than(old);
    for config in &clients {
        assert_eq!(visit(config), Some(HandshakeKind::Resumed), "after a crash");
    }
}

/// The fingerprint that openssl's hello has by other tools, too.
#[test]
fn fingerprints() {
    if !report::may_run("tls::fingerprints") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &settings("", ""));
    let client = Client::new(&world, GOOD_V4);
    let ja4 = |config: Arc<ClientConfig>| {
        let mut connection = client.connect_with(config, TIMEOUT).unwrap();
        let response = connection.exchange(&Request::new("GET", "/health")).unwrap();
        daemon.logged(&response.id())["ja4"].as_str().unwrap().to_owned()
    };
    let speaks =
        |versions: &[&'static _]| Speaks { trusts: &[&PKI.authority_pem], versions, ..Speaks::default() }.config();
    let (new, old) = (ja4(speaks(&[])), ja4(speaks(&[&rustls::version::TLS12])));
    assert!(new.starts_with("t13d") && new.len() == 36, "{new}");
    assert!(old.starts_with("t12d") && old[10..] != new[10..], "{old}");
    assert_eq!(ja4(speaks(&[])), new, "the same software, the same letters");
}

/// D02: hellos that never end, come in crumbs, or are something else.
#[test]
fn d02_hostile_hellos() {
    if !report::may_run("tls::d02") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut settings = settings("", "");
    settings.timeouts = "handshake = \"8s\"\n".to_owned();
    let daemon = Daemon::start(&world, &settings);
    let record = |kind: u8, content: &[u8]| {
        [&[kind, 3, 1][..], &u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
    };
    // 65,535 bytes of hello, in whole records; a hello in records of one byte, without end; alerts; empty records.
    let giant = [&[1, 0, 255, 255][..], &[3; 16_000]].concat();
    let giant: Vec<u8> = [record(22, &giant), record(22, &[3; 16_000])].concat();
    let crumbs: Vec<u8> = [1, 0, 255, 255].iter().chain(&[3; 9_000]).flat_map(|byte| record(22, &[*byte])).collect();
    let alerts: Vec<u8> = (0..3_000).flat_map(|_| record(21, &[1, 90])).collect();
    let empty: Vec<u8> = (0..3_000).flat_map(|_| record(22, &[])).collect();
    let cases: [(&str, Vec<u8>, bool); 10] = [
        ("giant", giant, true),
        ("crumbs", crumbs, true),
        ("alerts", alerts, true),
        ("empty records", empty, true),
        ("application data", record(23, b"GET / HTTP/1.1\r\n\r\n"), true),
        ("plain HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), true),
        ("SSLv2", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec(), true),
        ("heartbeat", record(24, &[1, 0x40, 0]), true),
        ("half a record", b"\x16\x03\x01\x40\x00\x01\x00".to_vec(), false),
        ("nothing", Vec::new(), false),
    ];
    thread::scope(|scope| {
        for (number, (name, bytes, at_once)) in (0..).zip(&cases) {
            let world = &world;
            scope.spawn(move || {
                let client = Client::new(world, bystander(number));
                let mut stream = client.tcp(TIMEOUT).unwrap();
                stream.set_read_timeout(Some(SOON)).unwrap();
                let start = std::time::Instant::now();
                // It may have hung up before everything is sent.
                stream.write_all(bytes).unwrap_or_default();
                let mut answer = Vec::new();
                let ended = stream.read_to_end(&mut answer);
                assert!(
                    !matches!(&ended, Err(error) if error.kind() == io::ErrorKind::WouldBlock),
                    "{name}: {ended:?}"
                );
                assert!(answer.len() <= 7 && answer.first().is_none_or(|kind| *kind == 21), "{name}: {answer:?}");
                let quick = start.elapsed() < Duration::from_secs(7);
                assert_eq!(quick, *at_once, "{name}: {:?}", start.elapsed());
            });
        }
        // A good hello in single bytes, a moment apart, is a good hello.
        let world = &world;
        scope.spawn(move || {
            let mut tcp = Client::new(world, GOOD_V4).tcp(TIMEOUT).unwrap();
            let name = rustls_pki_types::ServerName::try_from(HOST).unwrap();
            let mut tls = rustls::ClientConnection::new(support::http1::tls(), name).unwrap();
            let mut hello = Vec::new();
            tls.write_tls(&mut hello).unwrap();
            for byte in hello {
                tcp.write_all(&[byte]).unwrap();
            }
            while tls.is_handshaking() {
                tls.complete_io(&mut tcp).unwrap();
            }
        });
    });
    for (number, (name, _, at_once)) in (0..).zip(&cases) {
        let client = bystander(number).to_string();
        let signal = if *at_once { "bad_handshake" } else { "slow_client" };
        until(name, SOON, || {
            let log = daemon.access_log();
            log.iter().any(|line| line["client"] == client.as_str() && line["signal"] == signal).then_some(())
        });
    }
    assert_eq!(Client::new(&world, GOOD_V4).get("/items/1", &tokens::good("ada", &["reader"])).unwrap().status, 200);
}

/// What the authority says of a certificate comes with it.
#[test]
fn staples() {
    if !report::may_run("tls::staples") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let authority = Authority::new("stapling authority");
    let mut params = rcgen::CertificateParams::new(["shop.example".to_owned()]).unwrap();
    params.serial_number = Some(vec![0x42].into());
    authority.issue(params).write(&world.folder, "shop");
    for (name, content) in [
        ("authority.crt", authority.pem()),
        ("authority.key", authority.key()),
        ("index.txt", "V\t400101000000Z\t\t42\tunknown\t/CN=shop.example\n".to_owned()),
    ] {
        fs::write(world.folder.join(name), content).unwrap();
    }
    let respond = |days: &str| {
        let status = Command::new("openssl")
            .args("ocsp -index index.txt -CA authority.crt -rsigner authority.crt -rkey authority.key".split(' '))
            .args("-issuer authority.crt -cert shop.crt -noverify -respout shop.new -ndays".split(' '))
            .arg(days)
            .current_dir(&world.folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "openssl ocsp");
        fs::rename(world.folder.join("shop.new"), world.folder.join("shop.ocsp")).unwrap();
    };
    respond("7");
    let more = "[[certificate]]\ncertificate = \"shop.crt\"\nprivate_key = \"shop.key\"\nocsp = \"shop.ocsp\"\n";
    let _daemon = Daemon::start(&world, &settings(more, ""));
    let staple = |name: &str| {
        let mut command = world.outside.command("openssl".as_ref());
        command.args(["s_client", "-connect", "10.0.0.1:443", "-status", "-servername", name]).stdin(Stdio::null());
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = staple("shop.example");
    assert!(said.contains("OCSP Response Status: successful") && said.contains("Cert Status: good"), "{said}");
    let said = staple(HOST);
    assert!(said.contains("OCSP response: no response sent"), "{said}");
}

/// D02: after the handshake, too, messages that only cost work are bounded: new keys without end, by a client that
/// reads nothing.
#[test]
fn d02_floods_after_the_handshake() {
    if !report::may_run("tls::d02_after") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let mut settings = settings("", "");
    settings.timeouts = "headers = \"2s\"\n".to_owned();
    let daemon = Daemon::start(&world, &settings);
    let proxy = daemon.proxy_pid();
    let memory = || {
        let text = fs::read_to_string(format!("/proc/{proxy}/status")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let before = memory();
    let mut tcp = Client::new(&world, bystander(1)).tcp(TIMEOUT).unwrap();
    let config = Speaks { trusts: &[&PKI.authority_pem], versions: &[&rustls::version::TLS13], ..Speaks::default() };
    let name = rustls_pki_types::ServerName::try_from(HOST).unwrap();
    let mut tls = rustls::ClientConnection::new(config.config(), name).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp).unwrap();
    }
    let mut sent = 0;
    while sent < 100_000 {
        tls.refresh_traffic_keys().unwrap();
        let mut written = Ok(0);
        while tls.wants_write() && written.is_ok() {
            written = tls.write_tls(&mut tcp);
        }
        if written.is_err() {
            break;
        }
        sent += 1;
    }
    report::note(&format!("tls: let go after {sent} new keys"));
    tcp.set_read_timeout(Some(SOON)).unwrap();
    let mut rest = Vec::new();
    let ended = tcp.read_to_end(&mut rest);
    assert!(!matches!(&ended, Err(error) if error.kind() == io::ErrorKind::WouldBlock), "{ended:?}");
    assert!(memory() < before + 16_384, "{before} kB, then {} kB", memory());
    assert_eq!(Client::new(&world, GOOD_V4).get("/health", "").unwrap().status, 200);
    assert_eq!(daemon.proxy_pid(), proxy);
}
