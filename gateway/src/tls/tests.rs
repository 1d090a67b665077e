//! What certificates and keys are refused, and for which name which is shown.

use std::{io, path::Path, sync::LazyLock};

use super::*;
use crate::{config, os::file::NamedFile, settings::listener::Listener as Listening};

/// A certificate for `names`, and its key.
fn pair(names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

static ONE: LazyLock<(String, String)> = LazyLock::new(|| pair(&["a.example"]));
static TWO: LazyLock<(String, String)> = LazyLock::new(|| pair(&["a.example", "*.b.example"]));
static NAMELESS: LazyLock<(String, String)> = LazyLock::new(|| pair(&[]));

fn named(bytes: &str) -> NamedFile {
    NamedFile { path: "x.pem".into(), bytes: bytes.as_bytes().into() }
}

fn certificate(certificate: &str, private_key: &str) -> settings::tls::Certificate {
    settings::tls::Certificate { certificate: named(certificate), private_key: named(private_key), ocsp: None }
}

fn all(default: Option<settings::tls::Certificate>, more: Vec<settings::tls::Certificate>) -> proxy::Settings {
    let tls = settings::tls::ListenerTls {
        default,
        protocols: vec![settings::tls::AlpnProtocol::Http2],
        only_tls13: false,
        client_certificates: None,
        hsts: Some(settings::tls::Hsts {
            max_age: std::time::Duration::from_secs(60),
            include_subdomains: true,
            hosts: Vec::new(),
        }),
        ja4: true,
    };
    let listener = Listening {
        health: None,
        address: "127.0.0.1:1".parse().unwrap(),
        access_log: true,
        proxy_protocol: false,
        tls: Some(tls),
        hsts: None,
        redirect: None,
    };
    proxy::Settings { listeners: vec![listener], certificates: more, ..plain() }
}

/// A configuration without TLS.
fn plain() -> proxy::Settings {
    struct Text;
    impl config::Files for Text {
        fn read(&self, _path: &Path) -> io::Result<Arc<[u8]>> {
            let text = "[[listener]]\naddress = \"127.0.0.1:1\"\n[upstream.items]\nservers = [\"127.0.0.1:2\"]\n";
            Ok(text.as_bytes().into())
        }
    }
    config::Config::load(Path::new("/gateway.toml"), &Text).unwrap().proxy
}

fn tickets() -> Arc<Tickets> {
    Arc::new(Chain::new(Now::read()).and_then(Tickets::new).unwrap())
}

#[track_caller]
fn check(default: Option<(&str, &str)>, more: &[(&str, &str)], expect: &[&str]) {
    let default = default.map(|(pem, key)| certificate(pem, key));
    let more = more.iter().map(|(pem, key)| certificate(pem, key)).collect();
    let made = Tls::new(&all(default, more), &tickets(), Now::read());
    let told: Vec<_> = made.err().unwrap_or_default().iter().map(ToString::to_string).collect();
    assert_eq!(told, expect);
}

#[test]
fn certificates() {
    let ((pem, key), (other, other_key)) = (&*ONE, &*TWO);
    check(Some((pem, key)), &[], &[]);
    check(None, &[(pem, key)], &[]);
    check(Some((pem, key)), &[(pem, key)], &[]);
    check(Some((pem, other_key)), &[], &["listener[0].private_key: is not the key of the certificate"]);
    let none = ["listener[0].certificate: holds no certificate", "listener[0].private_key: holds no private key"];
    check(Some(("", "")), &[], &none);
    check(Some((key, pem)), &[], &none);
    check(None, &[(pem, key), (other, key)], &["certificate[1].private_key: is not the key of the certificate"]);
    let twice = "certificate[1].certificate: is for \"a.example\", and so is certificate[0]";
    check(None, &[(pem, key), (other, other_key)], &[twice]);
    let nameless = "certificate[0].certificate: names no host, so nobody is ever shown it";
    check(None, &[(&NAMELESS.0, &NAMELESS.1)], &[nameless]);
    check(Some((&NAMELESS.0, &NAMELESS.1)), &[], &[]);
    let mut broken = certificate(pem, key);
    broken.ocsp = Some(named("x"));
    let made = Tls::new(&all(Some(broken), Vec::new()), &tickets(), Now::read());
    assert_eq!(made.err().unwrap()[0].to_string(), "listener[0].ocsp: is no OCSP response in DER");
}

#[test]
fn names() {
    let (one, two) = (pair(&["a.example"]), pair(&["*.b.example"]));
    let more = vec![certificate(&two.0, &two.1)];
    let tls = Tls::new(&all(Some(certificate(&one.0, &one.1)), more), &tickets(), Now::read()).ok().unwrap();
    for (host, expect) in [("a.example", true), ("x.b.example", true), ("b.example", false), ("evil.example", false)] {
        assert_eq!(tls.names(host), expect, "{host}");
    }
}

/// RFC 7301 6, and the registry of ALPN.
#[test]
fn what_alpn_offers() {
    use settings::tls::AlpnProtocol::{Http1, Http2};
    for (protocols, expect) in [
        (&[Http2, Http1][..], &["h2", "http/1.1", "http/1.0"][..]),
        (&[Http1], &["http/1.1", "http/1.0"]),
        (&[Http2], &["h2"]),
    ] {
        let mut settings = all(Some(certificate(&ONE.0, &ONE.1)), Vec::new());
        settings.listeners.iter_mut().filter_map(|it| it.tls.as_mut()).for_each(|it| it.protocols = protocols.to_vec());
        let tls = Tls::new(&settings, &tickets(), Now::read()).ok().unwrap();
        let config = tls.listener(0).and_then(|listener| listener.config(None)).unwrap();
        let offered: Vec<_> = config.alpn_protocols.iter().map(|name| std::str::from_utf8(name).unwrap()).collect();
        assert_eq!(offered, expect);
    }
}

#[test]
fn ends() {
    let mut parameters = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    parameters.not_before = rcgen::date_time_ymd(2026, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2026, 4, 1);
    let pem = parameters.self_signed(&key).unwrap().pem();
    let mut settings = all(Some(certificate(&pem, &key.serialize_pem())), Vec::new());
    let own = settings::tls::UpstreamTls {
        ca: named(&pem),
        server_name: None,
        certificate: Some((named(&pem), named(&key.serialize_pem()))),
        accepts_any: false,
        pins: Vec::new(),
    };
    settings.upstreams.iter_mut().for_each(|upstream| upstream.tls = Some(own.clone()));
    for (now, expect) in [
        ("2025-12-31T00:00:00Z", "is not valid before 2026-01-01T00:00:00Z"),
        ("2026-03-10T00:00:00Z", ""),
        ("2026-03-11T12:00:00Z", "expires in 20 days, at 2026-04-01T00:00:00Z"),
        ("2026-03-30T12:00:00Z", "expires in 1 day, at 2026-04-01T00:00:00Z"),
        ("2026-04-02T00:00:00Z", "expired at 2026-04-01T00:00:00Z"),
    ] {
        let moment: jiff::Timestamp = now.parse().unwrap();
        let now = Now { monotonic: 0, unix_millis: u64::try_from(moment.as_millisecond()).unwrap() };
        let told: Vec<_> = outdated(&settings, now).iter().map(ToString::to_string).collect();
        let keys = ["listener[0].certificate", "upstream.items.tls.certificate"];
        let expect = keys.map(|key| (!expect.is_empty()).then(|| format!("{key}: {expect}")));
        assert_eq!(told, expect.into_iter().flatten().collect::<Vec<_>>());
    }
}

#[test]
fn hsts_headers() {
    let max_age = std::time::Duration::from_secs(31_536_000);
    let told = |include_subdomains, hosts: &[&str], host| {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        let hsts = HstsHosts::new(&settings::tls::Hsts { max_age, include_subdomains, hosts }).unwrap();
        hsts.of(host).map(|value| value.to_str().unwrap().to_owned())
    };
    let (plain, below) = ("max-age=31536000", "max-age=31536000; includeSubDomains");
    for (include_subdomains, hosts, host, expect) in [
        (false, &[][..], Some("a.example"), Some(plain)),
        (true, &[], None, Some(below)),
        (false, &["a.example", "*.b.example"], Some("a.example"), Some(plain)),
        (false, &["a.example", "*.b.example"], Some("x.b.example"), Some(plain)),
        (false, &["a.example"], Some("b.example"), None),
        (false, &["a.example"], None, None),
    ] {
        assert_eq!(told(include_subdomains, hosts, host).as_deref(), expect, "{hosts:?} {host:?}");
    }
}

/// One key for all: what takes long is making them.
#[test]
fn thousands_of_certificates() {
    let key = rcgen::KeyPair::generate().unwrap();
    let private = key.serialize_pem();
    let one = |number: usize| {
        let names = [format!("host{number}.example"), format!("*.apps{number}.example")];
        let pem = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem();
        certificate(&pem, &private)
    };
    let settings = all(None, (0..2_000).map(one).collect());
    let tls = Tls::new(&settings, &tickets(), Now::read()).ok().unwrap();
    for (host, expect) in [("host0.example", true), ("x.apps1999.example", true), ("host2000.example", false)] {
        assert_eq!(tls.names(host), expect, "{host}");
    }
    let changed = vec![(PathBuf::from("another.pem"), b"x".to_vec())];
    assert!(tls.with(changed, &tickets(), Now::read()).is_ok_and(|(_, others)| !others));
}
