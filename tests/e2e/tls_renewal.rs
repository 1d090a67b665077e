//! Certificates, keys and lists that change while connections go on.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use support::{
    admin,
    authority::{Authority, Issued, Speaks},
    daemon::Daemon,
    http1::{Client, Request, TIMEOUT},
    pki::{HOST, PKI},
    report,
    settings::Settings,
    upstream::Upstream,
    wait::{SOON, pause, until},
    world::{GOOD_V4, World},
};

use super::alerts;

/// The serial number of what is shown to who asks for [`HOST`].
fn shown(client: &Client<'_>, authority: &str) -> Vec<u8> {
    let config = Speaks { trusts: &[authority, &PKI.authority_pem], ..Speaks::default() }.config();
    let mut connection = client.connect_with(config, TIMEOUT).unwrap();
    assert_eq!(connection.exchange(&Request::new("GET", "/health")).unwrap().status, 200);
    let chain = connection.session().and_then(|session| session.peer_certificates()).unwrap();
    gateway::x509::X509Certificate::read(&chain[0]).unwrap().serial.into()
}

fn warned(daemon: &Daemon<'_>, text: &str) -> bool {
    let status = daemon.status();
    let warnings = status["warnings"].as_array().cloned().unwrap_or_default();
    warnings.iter().any(|warning| warning.as_str().is_some_and(|warning| warning.contains(text)))
}

fn issue(authority: &Authority, serial: u8, last: i32) -> Issued {
    let mut params = rcgen::CertificateParams::new([HOST.to_owned()]).unwrap();
    params.serial_number = Some(vec![serial].into());
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(last, 1, 1);
    authority.issue(params)
}

/// M02: a swap under load fails no request and ends no connection; what cannot be used changes nothing.
#[test]
fn m02_certificates_are_swapped() {
    if !report::may_run("tls_renewal::m02") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let daemon = Daemon::start(&world, &Settings::default());
    let client = Client::new(&world, GOOD_V4);
    let authority = Authority::new("renewing authority");
    let pem = authority.pem();
    let proxy = daemon.proxy_pid();
    let mut held = client.connect().unwrap();
    assert_eq!(held.exchange(&Request::new("GET", "/health")).unwrap().status, 200);

    let over = AtomicBool::new(false);
    let config = Speaks { trusts: &[&pem, &PKI.authority_pem], ..Speaks::default() }.config();
    thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let mut served = 0;
            while !over.load(Ordering::Relaxed) {
                let mut connection = client.connect_with(Arc::clone(&config), TIMEOUT).unwrap();
                assert_eq!(connection.exchange(&Request::new("GET", "/health")).unwrap().status, 200);
                served += 1;
                pause(Duration::from_millis(5));
            }
            served
        });
        let swaps = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for serial in [1, 2, 3] {
                issue(&authority, serial, 2040).write(&world.folder, "server");
                until("the new certificate", SOON, || (shown(&client, &pem) == [serial]).then_some(()));
            }
        }));
        over.store(true, Ordering::Relaxed);
        let served: u32 = requests.join().unwrap();
        swaps.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        report::note(&format!("tls: {served} connections during three swaps, none failed"));
    });
    assert_eq!(held.exchange(&Request::new("GET", "/health")).unwrap().status, 200, "the old connection goes on");

    // A key of another certificate, a certificate that is over, no certificate at all, and no file.
    let key = world.folder.join("server.key");
    let good_key = fs::read(&key).unwrap();
    fs::write(&key, issue(&authority, 9, 2040).key).unwrap();
    until("the warning", SOON, || warned(&daemon, "private_key: is not the key of the certificate").then_some(()));
    assert_eq!(shown(&client, &pem), [3]);
    fs::write(&key, good_key).unwrap();
    until("no warning", SOON, || (!warned(&daemon, "not in force")).then_some(()));
    issue(&authority, 4, 2020).write(&world.folder, "server");
    until("the warning", SOON, || warned(&daemon, "expired at 2020-01-01").then_some(()));
    assert_eq!(shown(&client, &pem), [3]);
    fs::write(world.folder.join("server.crt"), "nothing").unwrap();
    until("the warning", SOON, || warned(&daemon, "holds no certificate").then_some(()));
    fs::remove_file(world.folder.join("server.crt")).unwrap();
    until("the warning", SOON, || warned(&daemon, "server.crt: No such file").then_some(()));
    assert_eq!(shown(&client, &pem), [3]);

    // A proxy that is started now has what is in force, not what the files hold.
    support::daemon::send(proxy, nix::sys::signal::Signal::SIGKILL);
    daemon.proxy_pid_other_than(proxy);
    assert_eq!(shown(&client, &pem), [3]);

    // The certificate first, its key later: as a whole or not at all.
    let next = issue(&authority, 5, 2040);
    fs::write(world.folder.join("server.crt"), &next.certificate).unwrap();
    until("the warning", SOON, || warned(&daemon, "not the key").then_some(()));
    fs::write(&key, &next.key).unwrap();
    until("the new certificate", SOON, || (shown(&client, &pem) == [5]).then_some(()));
    until("no warning", SOON, || (!warned(&daemon, "not in force")).then_some(()));
    assert_eq!(daemon.cli(&["audit", "verify"]).code, 0);
}

/// L03: a client that is revoked while it is connected is let go, and does not come back.
#[test]
fn l03_revoked_meanwhile() {
    if !report::may_run("tls_renewal::l03") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let partners = Authority::new("partners");
    fs::write(world.folder.join("partners.pem"), partners.pem()).unwrap();
    fs::write(world.folder.join("partners.crl"), partners.crl(&[], 2040)).unwrap();
    let tls = "certificate = \"server.crt\"\nprivate_key = \"server.key\"\n";
    let settings = Settings {
        listeners: format!("[[listener]]\naddress = \"10.0.0.1:443\"\n{tls}client_certificates = \"partners\"\n"),
        more: "[client_certificates.partners]\nca = \"partners.pem\"\ncrl = \"partners.crl\"\n".to_owned(),
        ..Settings::default()
    };
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let (billing, other) = (partners.client("billing", 7, 2040), partners.client("other", 8, 2040));
    let connect = |shows: &Issued| {
        let config = Speaks { trusts: &[&PKI.authority_pem], shows: Some(shows), ..Speaks::default() }.config();
        client.connect_with(config, TIMEOUT)
    };
    let ask = |shows: &Issued| connect(shows).and_then(|mut it| it.exchange(&Request::new("GET", "/me")));
    let mut held = connect(&billing).unwrap();
    let response = held.exchange(&Request::new("GET", "/me")).unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(daemon.logged(&response.id())["principal"], "cert:partners:billing");

    fs::write(world.folder.join("partners.crl"), partners.crl(&[7], 2040)).unwrap();
    held.set_timeout(SOON).unwrap();
    assert!(held.ends(), "the connection of who is revoked goes on");
    assert!(ask(&billing).is_err());
    assert_eq!(ask(&other).unwrap().status, 200);

    // A list that is over lets nobody in, and is warned of.
    fs::write(world.folder.join("partners.crl"), partners.crl(&[], 2026)).unwrap();
    until("the warning", SOON, || warned(&daemon, "client_certificates.partners.crl: expired at").then_some(()));
    until("nobody", SOON, || ask(&other).is_err().then_some(()));
}

#[test]
fn ends_are_warned_of() {
    if !report::may_run("tls_renewal::ends") {
        return;
    }
    let world = World::new();
    let _upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let more = format!("{}{}", admin::TABLE, alerts::NEVER);
    let daemon = Daemon::start(&world, &Settings { more, ..Settings::default() });
    assert!(!warned(&daemon, "listener[0].certificate"));
    let mut params = rcgen::CertificateParams::new([HOST.to_owned()]).unwrap();
    let now = std::time::SystemTime::now();
    params.not_before = (now - Duration::from_secs(80 * 86_400)).into();
    params.not_after = (now + Duration::from_secs(10 * 86_400 + 3_600)).into();
    Authority::new("another").issue(params).write(&world.folder, "server");
    until("the warning", SOON, || warned(&daemon, "listener[0].certificate: expires in 10 days").then_some(()));
    assert!(daemon.standard_error().contains("expires in 10 days"));
    until("the alert", SOON, || {
        let certificates = alerts::firing(&daemon, "certificate_ends", "certificate");
        certificates.iter().any(|certificate| certificate.starts_with("listener[0]")).then_some(())
    });
    assert!(alerts::firing(&daemon, "certificate_ends_now", "certificate").is_empty());
    let doctor = daemon.cli(&["doctor"]);
    assert!(doctor.json.to_string().contains("ends in 10 days"), "{}", doctor.json);
}
