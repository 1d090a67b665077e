//! Client certificates: whom one names, and until when. The TLS handshake has verified it before.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;

use crate::{
    auth::{Identity, identity},
    clock::Now,
    refusal::{Refusal, TokenFault},
    x509::{self, SubjectAltName},
};

/// A certificate that a client showed and proved to have the key of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    identity: Arc<Identity>,
    /// SHA-256 of the certificate, 64 hexadecimal digits.
    pub fingerprint: Box<str>,
    /// The serial number in hexadecimal digits.
    pub serial: Box<str>,
    /// The last second in which it is valid, since the Unix epoch.
    last: i64,
}

impl ClientCertificate {
    /// Reads the certificate in DER of a client of `[client_certificates.NAME]`, who has `roles`.
    ///
    /// The principal is `cert:NAME:` and the first URI among the certificate's subject alternative names, else the first
    /// DNS name, mail address or address, else its common name, else its serial number.
    ///
    /// `None`: the certificate has names that could be read in two ways (L03), or one that cannot stand for a client.
    #[must_use]
    pub fn read(der: &[u8], name: &str, roles: &[String]) -> Option<Self> {
        let certificate = x509::Certificate::read(der)?;
        let serial = HEXLOWER.encode(&certificate.serial);
        let subject = subject(&certificate).unwrap_or_else(|| format!("serial:{serial}"));
        if !identity::is_name(&subject) {
            return None;
        }
        let principal = format!("cert:{name}:{subject}");
        let roles = roles.iter().map(|role| role.as_str().into()).collect();
        let expires = u64::try_from(certificate.last).unwrap_or(0).saturating_add(1);
        Some(Self {
            identity: Arc::new(Identity::proved_otherwise(principal.into(), roles, expires)),
            fingerprint: HEXLOWER.encode(digest(&SHA256, der).as_ref()).into(),
            serial: serial.into(),
            last: certificate.last,
        })
    }

    /// Whom it names.
    ///
    /// # Errors
    /// A refusal once it has expired: a connection may outlive it.
    pub fn identity(&self, now: Now) -> Result<Arc<Identity>, Refusal> {
        if i64::try_from(now.unix_seconds()).is_ok_and(|now| now <= self.last) {
            return Ok(Arc::clone(&self.identity));
        }
        Err(Refusal::token(TokenFault::Expired, "the client certificate has expired"))
    }
}

fn subject(certificate: &x509::Certificate) -> Option<String> {
    let uri = certificate.names.iter().find_map(|name| match name {
        SubjectAltName::Uri(uri) => Some(uri.clone()),
        _ => None,
    });
    let any = || {
        certificate.names.first().map(|name| match name {
            SubjectAltName::Dns(name) | SubjectAltName::Email(name) | SubjectAltName::Uri(name) => name.clone(),
            SubjectAltName::Ip(address) => address.to_string(),
        })
    };
    uri.or_else(any).or_else(|| certificate.common_name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Reject;

    #[track_caller]
    fn check(names: &[rcgen::SanType], common_name: Option<&str>, expect: &str) {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(common_name) = common_name {
            parameters.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        }
        parameters.subject_alt_names = names.to_vec();
        parameters.serial_number = Some(vec![1, 0xab].into());
        parameters.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let der = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let shown = ClientCertificate::read(der.der(), "partners", &["reader".to_owned()]).unwrap();
        let at = |seconds: u64| Now { monotonic: 0, unix_millis: seconds * 1_000 };
        let identity = shown.identity(at(1_893_456_000)).unwrap();
        assert_eq!((identity.principal(), identity.roles().collect::<Vec<_>>()), (expect, vec!["reader"]));
        assert_eq!((&*shown.serial, shown.fingerprint.len()), ("01ab", 64));
        assert_eq!(shown.identity(at(1_893_456_001)).unwrap_err().reject, Reject::InvalidToken);
    }

    #[test]
    fn principals() {
        let uri = || rcgen::SanType::URI("spiffe://example/billing".try_into().unwrap());
        let dns = || rcgen::SanType::DnsName("b.example".try_into().unwrap());
        check(&[dns(), uri()], Some("Billing"), "cert:partners:spiffe://example/billing");
        check(&[dns()], Some("Billing"), "cert:partners:b.example");
        check(&[], Some("Billing"), "cert:partners:Billing");
        check(&[], None, "cert:partners:serial:01ab");
        assert_eq!(ClientCertificate::read(b"\x30\x03", "x", &[]), None);
    }

    #[test]
    fn names_that_can_be_misread() {
        for common_name in [" billing", "billing ", "bill\ting", "billing\u{200b}", " "] {
            let mut parameters = rcgen::CertificateParams::default();
            parameters.distinguished_name = rcgen::DistinguishedName::new();
            parameters.distinguished_name.push(rcgen::DnType::CommonName, common_name);
            let der = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            assert_eq!(ClientCertificate::read(der.der(), "partners", &[]), None, "{common_name:?}");
        }
    }
}
