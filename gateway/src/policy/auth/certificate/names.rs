//! Whom a client certificate names, and with which roles: by its subject alternative names, its subject, or what they are
//! mapped to.

use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use regex::Regex;

use crate::{
    diagnostic::Diagnostic,
    settings::tls::{CertificateMapping, ClientCertificates, NameKind},
    x509::{self, SubjectAltName},
};

/// How names begin that are a serial number.
const SERIAL: &str = "serial:";

/// The attributes that a subject may begin with.
const ATTRIBUTES: [&str; 9] = ["C", "CN", "DC", "L", "O", "OU", "ST", "STREET", "UID"];

/// The names of the certificates of one `[client_certificates.NAME]`.
#[derive(Debug)]
pub struct CertificateNames {
    /// NAME.
    group: Box<str>,
    /// Which names are the principal, the best first; empty: any.
    kinds: Box<[NameKind]>,
    /// Whose SPIFFE ids count; `None`: anybody's.
    trust_domain: Option<Box<str>>,
    /// What everybody has.
    roles: Box<[Box<str>]>,
    map: Box<[Mapping]>,
    /// Whether who is not mapped is nobody.
    only_mapped: bool,
}

#[derive(Debug)]
struct Mapping {
    kind: NameKind,
    pattern: Regex,
    roles: Box<[Box<str>]>,
    name: Option<Box<str>>,
}

/// Whom a certificate names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// The principal, but for its beginning.
    pub(super) name: String,
    pub(super) roles: Vec<Box<str>>,
}

impl CertificateNames {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// `map[0]`: a pattern is too large.
    pub fn new(settings: &ClientCertificates) -> Result<Self, Diagnostic> {
        let words = |words: &[String]| words.iter().map(|word| word.as_str().into()).collect();
        let mapping = |(index, mapping): (usize, &CertificateMapping)| {
            let pattern = Regex::new(&pattern(mapping.kind, &mapping.pattern));
            let too_large = |_error| Diagnostic::new(format!("map[{index}]"), "is a pattern that is too large");
            let name = mapping.name.as_deref().map(Into::into);
            Ok(Mapping { kind: mapping.kind, pattern: pattern.map_err(too_large)?, roles: words(&mapping.roles), name })
        };
        Ok(Self {
            group: settings.name.as_str().into(),
            kinds: settings.principal.as_slice().into(),
            trust_domain: settings.trust_domain.as_deref().map(Into::into),
            roles: words(&settings.roles),
            map: settings.map.iter().enumerate().map(mapping).collect::<Result<_, _>>()?,
            only_mapped: settings.only_mapped,
        })
    }

    /// Names as they are where the configuration says nothing of them.
    #[cfg(test)]
    pub(in crate::policy::auth) fn of(group: &str, roles: &[&str]) -> Self {
        Self {
            group: group.into(),
            kinds: Box::default(),
            trust_domain: None,
            roles: roles.iter().map(|role| (*role).into()).collect(),
            map: Box::default(),
            only_mapped: false,
        }
    }

    /// How principals of this group begin.
    pub(super) fn group(&self) -> &str {
        &self.group
    }

    /// Whom the certificate names. `None`: nobody.
    pub(super) fn find(&self, certificate: &x509::X509Certificate, der: &[u8]) -> Option<Named> {
        let is_it = |mapping: &&Mapping| {
            let mut names = self.names(mapping.kind, certificate, der).into_iter();
            names.any(|name| mapping.pattern.is_match(&name))
        };
        let found: Vec<&Mapping> = self.map.iter().filter(is_it).collect();
        if found.is_empty() && self.only_mapped {
            return None;
        }
        let name = match found.iter().find_map(|mapping| mapping.name.as_deref()) {
            Some(name) => name.to_owned(),
            None => {
                let own = self.own_name(certificate, der)?;
                // Whoever can choose a name must not choose that of somebody who is mapped to it.
                if self.map.iter().any(|mapping| mapping.name.as_deref() == Some(&own)) {
                    return None;
                }
                own
            }
        };
        let mut roles = self.roles.to_vec();
        for role in found.iter().flat_map(|mapping| &mapping.roles) {
            if !roles.contains(role) {
                roles.push(role.clone());
            }
        }
        Some(Named { name, roles })
    }

    /// The name of the first kind that the certificate has one of. `None`: it has none, or one that could be taken for
    /// somebody else's.
    fn own_name(&self, certificate: &x509::X509Certificate, der: &[u8]) -> Option<String> {
        let first = |kind: &NameKind| Some((*kind, self.names(*kind, certificate, der).into_iter().next()?));
        if !self.kinds.is_empty() {
            let (kind, name) = self.kinds.iter().find_map(first)?;
            return (!passes_for_another(kind, &name, &self.kinds)).then_some(name);
        }
        let any = || {
            certificate.names.first().map(|name| match name {
                SubjectAltName::Dns(name) => (NameKind::Dns, name.clone()),
                SubjectAltName::Email(name) => (NameKind::Email, name.clone()),
                SubjectAltName::Ip(address) => (NameKind::Ip, address.to_string()),
                SubjectAltName::Uri(name) => (NameKind::Uri, name.clone()),
            })
        };
        // An authority that verifies alternative names may leave this one to its clients.
        let common_name = || Some((NameKind::CommonName, certificate.common_name.clone()?));
        let Some((kind, name)) = first(&NameKind::Uri).or_else(any).or_else(common_name) else {
            return Some(format!("{SERIAL}{}", HEXLOWER.encode(&certificate.serial)));
        };
        let others = [NameKind::Email, NameKind::Ip, NameKind::Uri];
        let is_ambiguous = name.is_empty() || name.starts_with(SERIAL) || passes_for_another(kind, &name, &others);
        (!is_ambiguous).then_some(name)
    }

    /// Every name of one kind.
    fn names(&self, kind: NameKind, certificate: &x509::X509Certificate, der: &[u8]) -> Vec<String> {
        let of = |pick: fn(&SubjectAltName) -> Option<String>| certificate.names.iter().filter_map(pick).collect();
        match kind {
            NameKind::CommonName => certificate.common_name.iter().cloned().collect(),
            NameKind::Dns => of(|name| if let SubjectAltName::Dns(name) = name { Some(name.clone()) } else { None }),
            NameKind::Email => {
                of(|name| if let SubjectAltName::Email(name) = name { Some(name.clone()) } else { None })
            }
            NameKind::Fingerprint => vec![HEXLOWER.encode(digest(&SHA256, der).as_ref())],
            NameKind::Ip => of(|name| if let SubjectAltName::Ip(it) = name { Some(it.to_string()) } else { None }),
            NameKind::Serial => vec![HEXLOWER.encode(&certificate.serial)],
            NameKind::Spiffe => spiffe_id(certificate, self.trust_domain.as_deref()).into_iter().collect(),
            NameKind::Subject => certificate.subject.iter().cloned().collect(),
            NameKind::Uri => of(|name| if let SubjectAltName::Uri(name) = name { Some(name.clone()) } else { None }),
        }
    }
}

/// Whether a name is written like those of another of these kinds. The principal does not tell the kind, so whoever may
/// choose a name of one kind could pass for somebody who has a name of another.
fn passes_for_another(kind: NameKind, name: &str, kinds: &[NameKind]) -> bool {
    // Whoever asks for a certificate may write anything into these.
    let is_free = matches!(kind, NameKind::CommonName | NameKind::Dns | NameKind::Email | NameKind::Uri);
    is_free && kinds.iter().any(|other| *other != kind && is_written_like(*other, name))
}

/// Whether a name is written like those of a kind. Common names have no form of their own, and whoever lists them beside
/// `dns` has certificates that name their host nowhere else.
fn is_written_like(kind: NameKind, name: &str) -> bool {
    let is_hex = || name.bytes().all(|byte| byte.is_ascii_hexdigit());
    match kind {
        NameKind::CommonName | NameKind::Dns => false,
        NameKind::Email => name.contains('@') && scheme(name).is_none(),
        NameKind::Fingerprint => name.len() == 64 && is_hex(),
        NameKind::Ip => name.parse::<IpAddr>().is_ok(),
        NameKind::Serial => name.len().is_multiple_of(2) && is_hex(),
        NameKind::Spiffe => scheme(name).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe")),
        NameKind::Subject => name.split_once('=').is_some_and(|(first, _)| ATTRIBUTES.contains(&first)),
        NameKind::Uri => name.contains("://") || scheme(name).is_some() && !name.contains(' ') && !is_hardware(name),
    }
}

/// Whether it is a hardware address, as devices have one for a name: pairs of hexadecimal digits between colons.
fn is_hardware(name: &str) -> bool {
    let is_pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    matches!(name.len(), 17 | 23) && name.split(':').all(is_pair)
}

/// The scheme of what is written as a URI (RFC 3986 3.1).
fn scheme(name: &str) -> Option<&str> {
    let (scheme, _) = name.split_once(':')?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    (scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(fits)).then_some(scheme)
}

/// The SPIFFE id of an X.509-SVID: its only URI, of a trust domain and a path, and of nothing else (SPIFFE-ID 2, X509-SVID
/// 2).
fn spiffe_id(certificate: &x509::X509Certificate, trust_domain: Option<&str>) -> Option<String> {
    let mut uris = certificate.names.iter().filter_map(|name| match name {
        SubjectAltName::Uri(uri) => Some(uri),
        _ => None,
    });
    let (Some(uri), None) = (uris.next(), uris.next()) else { return None };
    let (domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
    let in_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    let in_path = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_segment = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(in_path);
    let fine = uri.len() <= 2_048
        && (1..=255).contains(&domain.len())
        && domain.bytes().all(in_domain)
        && path.split('/').all(is_segment)
        && trust_domain.is_none_or(|wanted| wanted == domain);
    fine.then(|| uri.clone())
}

/// A pattern of names as a regular expression: a `*` stands for anything within a part of the name, `**` for anything.
fn pattern(kind: NameKind, text: &str) -> String {
    let within = match kind {
        NameKind::Dns => "[^.]+",
        NameKind::Email => "[^@]+",
        // What is escaped is no end of a part.
        NameKind::Subject => r"[^,+\\]+",
        NameKind::Spiffe | NameKind::Uri => "[^/]+",
        NameKind::CommonName | NameKind::Fingerprint | NameKind::Ip | NameKind::Serial => ".+",
    };
    let parts = text.split("**").map(|part| part.split('*').map(regex::escape).collect::<Vec<_>>().join(within));
    format!("^(?s:{})$", parts.collect::<Vec<_>>().join(".+"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::file::NamedFile;

    fn settings(principal: &[NameKind], map: &[(NameKind, &str, &[&str], Option<&str>)]) -> ClientCertificates {
        let mapping = |(kind, pattern, roles, name): &(NameKind, &str, &[&str], Option<&str>)| CertificateMapping {
            kind: *kind,
            pattern: (*pattern).to_owned(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            name: name.map(ToOwned::to_owned),
        };
        ClientCertificates {
            name: "partners".to_owned(),
            ca: NamedFile { path: "ca.pem".into(), bytes: [].into() },
            crl: None,
            required: true,
            hosts: Vec::new(),
            roles: vec!["all".to_owned()],
            principal: principal.to_vec(),
            trust_domain: None,
            map: map.iter().map(mapping).collect(),
            only_mapped: false,
        }
    }

    fn certificate(names: &[SubjectAltName], subject: &str) -> x509::X509Certificate {
        x509::X509Certificate {
            serial: [1, 0xab].into(),
            common_name: subject.strip_prefix("CN=").and_then(|rest| rest.split(',').next()).map(ToOwned::to_owned),
            subject: Some(subject.to_owned()),
            names: names.to_vec(),
            first: 0,
            last: 0,
        }
    }

    fn uri(text: &str) -> SubjectAltName {
        SubjectAltName::Uri(text.to_owned())
    }

    fn found(settings: &ClientCertificates, certificate: &x509::X509Certificate) -> Option<String> {
        let named = CertificateNames::new(settings).unwrap().find(certificate, b"der")?;
        let roles: Vec<&str> = named.roles.iter().map(|role| &**role).collect();
        Some(format!("{} {}", named.name, roles.join(" ")))
    }

    #[test]
    fn which_name_is_the_principal() {
        let names = [
            SubjectAltName::Dns("b.example".to_owned()),
            SubjectAltName::Email("a@b.example".to_owned()),
            SubjectAltName::Ip([192, 0, 2, 1].into()),
            uri("spiffe://example.org/billing"),
        ];
        let all = certificate(&names, "CN=Billing,O=Acme");
        let none = certificate(&[], "O=Acme");
        for (kinds, expect, of_none) in [
            (&[][..], Some("spiffe://example.org/billing all"), Some("serial:01ab all")),
            (&[NameKind::Dns], Some("b.example all"), None),
            (&[NameKind::Email], Some("a@b.example all"), None),
            (&[NameKind::Ip], Some("192.0.2.1 all"), None),
            (&[NameKind::CommonName], Some("Billing all"), None),
            (&[NameKind::Serial], Some("01ab all"), Some("01ab all")),
            (&[NameKind::Subject], Some("CN=Billing,O=Acme all"), Some("O=Acme all")),
            (&[NameKind::Spiffe], Some("spiffe://example.org/billing all"), None),
            (&[NameKind::Spiffe, NameKind::Serial], Some("spiffe://example.org/billing all"), Some("01ab all")),
        ] {
            let settings = settings(kinds, &[]);
            assert_eq!(found(&settings, &all).as_deref(), expect, "{kinds:?}");
            assert_eq!(found(&settings, &none).as_deref(), of_none, "{kinds:?}");
        }
    }

    /// The principal does not tell which kind of name it is.
    #[test]
    fn no_name_passes_for_one_of_another_kind() {
        use NameKind::{CommonName, Dns, Email, Fingerprint, Ip, Serial, Spiffe, Subject, Uri};
        let common = |name: &str| certificate(&[], &format!("CN={name}"));
        let alternative = |name: SubjectAltName| certificate(&[name], "O=Acme");
        let dns = |text: &str| SubjectAltName::Dns(text.to_owned());
        let id = "spiffe://example.org/ns/prod/sa/other";
        for (kinds, certificate, is_somebody) in [
            (&[Spiffe, CommonName][..], common("app"), true),
            (&[Spiffe, CommonName], common(id), false),
            (&[CommonName, Spiffe], common(id), false),
            (&[CommonName], common(id), true),
            (&[], common("AA:BB:CC:DD:EE:FF"), true),
            (&[], common("Acme: Billing"), true),
            (&[], alternative(uri("sip:ann@example.com")), true),
            (&[Spiffe, Dns], alternative(dns(id)), false),
            (&[Spiffe, Uri], alternative(uri("https://example.org/a")), true),
            // No SPIFFE ID, and written like one.
            (&[Spiffe, Uri], alternative(uri("SPIFFE://example.org/a")), false),
            (&[Spiffe, Uri], alternative(uri(id)), true),
            (&[Uri, CommonName], common("urn:example:a"), false),
            (&[Email, CommonName], common("a@b.example"), false),
            (&[Ip, CommonName], common("192.0.2.1"), false),
            (&[Ip, CommonName], common("2001:db8::1"), false),
            (&[Uri, Ip], alternative(SubjectAltName::Ip("fe80::1".parse().unwrap())), true),
            (&[Dns, CommonName], common("b.example"), true),
            (&[Dns, CommonName], common("Billing of Acme"), true),
            (&[CommonName, Serial], common("01ab"), false),
            (&[CommonName, Serial], common("ada"), true),
            (&[CommonName, Fingerprint], common(&"0a".repeat(32)), false),
            (&[CommonName, Fingerprint], common("0a"), true),
            (&[Subject, CommonName], certificate(&[], "CN=app,O=Acme"), true),
            (&[CommonName, Subject], common("O=Acme"), false),
            // Any name counts: the kinds that names can be mistaken for.
            (&[], common("app"), true),
            (&[], common("b.example"), true),
            (&[], common("urn:example:a"), false),
            (&[], common("a@b.example"), false),
            (&[], common("192.0.2.1"), false),
            (&[], alternative(dns(id)), false),
            (&[], alternative(dns("serial:01ab")), false),
            (&[], alternative(uri(id)), true),
        ] {
            let found = found(&settings(kinds, &[]), &certificate);
            assert_eq!(found.is_some(), is_somebody, "{kinds:?} {certificate:?}: {found:?}");
        }
    }

    #[test]
    fn spiffe_ids() {
        let check = |uris: &[&str], trust_domain: Option<&str>, expect: bool| {
            let names: Vec<_> = uris.iter().map(|text| uri(text)).collect();
            let settings = ClientCertificates {
                trust_domain: trust_domain.map(ToOwned::to_owned),
                ..settings(&[NameKind::Spiffe], &[])
            };
            assert_eq!(found(&settings, &certificate(&names, "CN=a")).is_some(), expect, "{uris:?} {trust_domain:?}");
        };
        check(&["spiffe://example.org/ns/prod/sa/billing"], None, true);
        check(&["spiffe://example.org/ns/prod/sa/billing"], Some("example.org"), true);
        for wrong in [
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe:///billing",
            "spiffe://example.org/a//b",
            "spiffe://example.org/a/",
            "spiffe://example.org/../b",
            "spiffe://example.org/./b",
            "spiffe://Example.org/a",
            "spiffe://example.org:443/a",
            "spiffe://user@example.org/a",
            "spiffe://example.org/a?b",
            "spiffe://example.org/a#b",
            "spiffe://example.org/a%20b",
            "SPIFFE://example.org/a",
            "https://example.org/a",
        ] {
            check(&[wrong], None, false);
        }
        check(&["spiffe://example.org/a"], Some("other.org"), false);
        check(&["spiffe://example.org.evil/a"], Some("example.org"), false);
        check(&["spiffe://example.org/a", "spiffe://example.org/b"], None, false);
        check(&["spiffe://example.org/a", "https://x"], None, false);
    }

    #[test]
    fn what_names_are_mapped_to() {
        let map = [
            (NameKind::Uri, "spiffe://example.org/ns/*/sa/billing", &["billing"][..], Some("billing")),
            (NameKind::Uri, "spiffe://example.org/**", &["inside"], None),
            (NameKind::Dns, "*.partners.example", &["partner", "billing"], None),
            (NameKind::Subject, "CN=*,O=Acme", &["acme"], None),
        ];
        let check = |names: &[SubjectAltName], subject: &str, expect: Option<&str>| {
            let found = found(&settings(&[], &map), &certificate(names, subject));
            assert_eq!(found.as_deref(), expect, "{names:?} {subject}");
        };
        let dns = |text: &str| SubjectAltName::Dns(text.to_owned());
        check(&[uri("spiffe://example.org/ns/prod/sa/billing")], "", Some("billing all billing inside"));
        check(
            &[uri("spiffe://example.org/ns/a/b/sa/billing")],
            "",
            Some("spiffe://example.org/ns/a/b/sa/billing all inside"),
        );
        check(&[uri("spiffe://example.org.evil/ns/x")], "", Some("spiffe://example.org.evil/ns/x all"));
        check(&[uri("xspiffe://example.org/ns/x")], "", Some("xspiffe://example.org/ns/x all"));
        check(&[dns("a.partners.example")], "", Some("a.partners.example all partner billing"));
        check(&[dns("a.b.partners.example")], "", Some("a.b.partners.example all"));
        check(&[dns("partners.example")], "", Some("partners.example all"));
        check(&[dns("axpartners.example")], "", Some("axpartners.example all"));
        check(&[], "CN=app,O=Acme", Some("app all acme"));
        // A comma within the common name begins no organisation.
        check(&[], r"CN=app\,O=Acme", Some(r"app\ all"));
        check(&[], "CN=app,O=Acme,O=Evil", Some("app all"));
        // Nobody takes a name that others are mapped to.
        check(&[], "CN=billing,O=Other", None);
        let only = ClientCertificates { only_mapped: true, ..settings(&[], &map) };
        assert_eq!(found(&only, &certificate(&[], "CN=app,O=Other")), None);
        assert_eq!(found(&only, &certificate(&[], "CN=app,O=Acme")).as_deref(), Some("app all acme"));
    }
}
