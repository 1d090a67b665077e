//! Certificates as they are, cut off, and made to be misread.

use super::*;

fn certificate(names: &[rcgen::SanType], common_name: &str, last: (i32, u8, u8)) -> Vec<u8> {
    let mut parameters = rcgen::CertificateParams::default();
    parameters.subject_alt_names = names.to_vec();
    parameters.distinguished_name.push(rcgen::DnType::OrganizationName, "Example");
    parameters.distinguished_name.push(rcgen::DnType::CommonName, common_name);
    parameters.not_before = rcgen::date_time_ymd(1970, 1, 2);
    parameters.not_after = rcgen::date_time_ymd(last.0, last.1, last.2);
    parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn dns(name: &str) -> rcgen::SanType {
    rcgen::SanType::DnsName(name.try_into().unwrap())
}

#[test]
fn names_and_times() {
    let names = [
        dns("A.Example"),
        dns("*.b.example"),
        rcgen::SanType::URI("spiffe://example/x".try_into().unwrap()),
        rcgen::SanType::Rfc822Name("me@example".try_into().unwrap()),
        rcgen::SanType::IpAddress("192.0.2.1".parse().unwrap()),
        rcgen::SanType::IpAddress("2001:db8::1".parse().unwrap()),
    ];
    let der = certificate(&names, "Jos\u{e9}", (2049, 12, 31));
    let read = X509Certificate::read(&der).unwrap();
    assert_eq!((read.first, read.last), (86_400, 2_524_521_600));
    assert_eq!(read.common_name.as_deref(), Some("Jos\u{e9}"));
    assert_eq!(
        read.names[2..4],
        [SubjectAltName::Uri("spiffe://example/x".into()), SubjectAltName::Email("me@example".into())]
    );
    assert_eq!(read.subject.as_deref(), Some("O=Example,CN=Jos\u{e9}"));
    let hosts: Vec<_> = read.hosts().collect();
    assert_eq!(hosts, ["a.example", "*.b.example", "192.0.2.1", "[2001:db8::1]"]);
    assert!(!read.serial.is_empty());
    assert_eq!((read.days_left(2_524_521_600), read.days_left(2_524_521_601)), (0, -1));
    let late = X509Certificate::read(&certificate(&[], "x", (4096, 1, 1))).unwrap();
    assert_eq!((late.last, late.names.len()), (67_090_118_400, 0));
    for length in 0..der.len() {
        assert_eq!(
            X509Certificate::read(&der[..length]),
            None,
            "cut off at {length}, it is no certificate and no panic"
        );
    }
}

/// L03: a name that ends early for whoever reads C strings, or that hides a line, is nobody's name.
#[test]
fn l03_names_that_can_be_misread() {
    for bad in ["a.example\0.evil.example", "a.example\n", "a example", ""] {
        let good = "x".repeat(bad.len().max(1));
        let mut der = certificate(&[dns(&good)], "n", (2049, 12, 31));
        let at = der.windows(good.len() + 2).position(|window| {
            window[0] == 0x82 && usize::from(window[1]) == good.len() && window[2..] == *good.as_bytes()
        });
        let at = at.unwrap() + 2;
        if bad.is_empty() {
            // A length that reaches beyond what is there.
            der[at - 1] = 0x7f;
        } else {
            der[at..at + bad.len()].copy_from_slice(bad.as_bytes());
        }
        assert_eq!(X509Certificate::read(&der), None, "{bad:?}");
    }
}

#[test]
fn hostile_lengths() {
    for der in [
        &b""[..],
        b"\x30",
        b"\x30\x84\x01",
        b"\x30\x85\x01\x01\x01\x01\x01",
        b"\x30\x03\x30\x01\x02",
        b"\x30\x80\x00\x00",
    ] {
        assert_eq!(X509Certificate::read(der), None, "{der:?}");
    }
}

#[test]
fn subjects_as_rfc_4514_writes_them() {
    let subject = |parts: &[(rcgen::DnType, &str)]| {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            parameters.distinguished_name.push(kind.clone(), *value);
        }
        let der = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        X509Certificate::read(der.der()).unwrap().subject
    };
    use rcgen::DnType::{CommonName, CountryName, OrganizationName, OrganizationalUnitName};
    assert_eq!(subject(&[]), None);
    let all =
        [(CountryName, "DE"), (OrganizationName, "Acme"), (OrganizationalUnitName, "api"), (CommonName, "billing")];
    assert_eq!(subject(&all).as_deref(), Some("CN=billing,OU=api,O=Acme,C=DE"));
    for (value, expect) in [
        ("a,O=Evil", r"CN=a\,O\=Evil"),
        (r"a\", r"CN=a\\"),
        (" a b ", r"CN=\ a b\ "),
        ("#a#", r"CN=\#a#"),
        ("a+b;c<d>e\"f", r#"CN=a\+b\;c\<d\>e\"f"#),
    ] {
        assert_eq!(subject(&[(CommonName, value)]).as_deref(), Some(expect), "{value:?}");
    }
    let other = rcgen::DnType::CustomDnType(vec![2, 5, 4, 5]);
    assert_eq!(subject(&[(CommonName, "a"), (other, "7")]), None);
}
