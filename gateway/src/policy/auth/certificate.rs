//! Client certificates: whom one names, and until when. The TLS handshake has verified it before.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;

use self::names::Named;
use crate::{
    os::clock::Now,
    policy::auth::{Identity, identity},
    refusal::{Refusal, TokenFault},
    settings::auth::Method,
    x509,
};

mod names;

pub use self::names::CertificateNames;

/// A certificate that a client showed and proved to have the key of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// `None`: it names nobody, and can still be what a token is bound to.
    identity: Option<Arc<Identity>>,
    /// SHA-256 of the certificate, 64 hexadecimal digits.
    pub fingerprint: Box<str>,
    /// The same in bytes.
    pub(super) thumbprint: [u8; 32],
    /// The serial number in hexadecimal digits.
    pub serial: Box<str>,
    /// The last second in which it is valid, since the Unix epoch.
    last: i64,
}

impl ClientCertificate {
    /// Reads the certificate in DER of a client of `[client_certificates.NAME]`.
    ///
    /// The principal is `cert:NAME:` and the name that `names` find.
    ///
    /// `None`: the certificate has names that could be read in two ways (L03), or one that cannot stand for a client.
    #[must_use]
    pub fn read(der: &[u8], names: &CertificateNames) -> Option<Self> {
        let certificate = x509::X509Certificate::read(der)?;
        let expires = u64::try_from(certificate.last).unwrap_or(0).saturating_add(1);
        let identity = match names.find(&certificate, der) {
            Some(Named { name, .. }) if !identity::is_name(&name) => return None,
            Some(Named { name, roles }) => {
                let principal = format!("cert:{}:{name}", names.group()).into();
                Some(Arc::new(Identity::proved_otherwise(Method::Certificate, principal, roles, expires)))
            }
            None => None,
        };
        let thumbprint: [u8; 32] = digest(&SHA256, der).as_ref().try_into().ok()?;
        Some(Self {
            identity,
            fingerprint: HEXLOWER.encode(&thumbprint).into(),
            thumbprint,
            serial: HEXLOWER.encode(&certificate.serial).into(),
            last: certificate.last,
        })
    }

    /// Whom it names.
    ///
    /// # Errors
    /// A refusal where it names nobody, and once it has expired: a connection may outlive it.
    pub fn identity(&self, now: Now) -> Result<Arc<Identity>, Refusal> {
        self.check(now)?;
        let nobody = || Refusal::token(TokenFault::Unfit, "the client certificate names nobody");
        self.identity.as_ref().map(Arc::clone).ok_or_else(nobody)
    }

    /// Whether it is still good.
    ///
    /// # Errors
    /// A refusal once it has expired.
    pub(super) fn check(&self, now: Now) -> Result<(), Refusal> {
        if i64::try_from(now.unix_seconds()).is_ok_and(|now| now <= self.last) {
            return Ok(());
        }
        Err(Refusal::token(TokenFault::Expired, "the client certificate has expired"))
    }
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
        let shown = ClientCertificate::read(der.der(), &CertificateNames::of("partners", &["reader"])).unwrap();
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
        assert_eq!(ClientCertificate::read(b"\x30\x03", &CertificateNames::of("x", &[])), None);
        // A name of one kind is never taken for one of another.
        for (names, common_name) in [
            (vec![], "spiffe://example/billing"),
            (vec![], "serial:01ab"),
            (vec![rcgen::SanType::URI("serial:01ab".try_into().unwrap())], "Billing"),
        ] {
            let mut parameters = rcgen::CertificateParams::default();
            parameters.distinguished_name.push(rcgen::DnType::CommonName, common_name);
            parameters.subject_alt_names = names;
            let der = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            let shown = ClientCertificate::read(der.der(), &CertificateNames::of("partners", &[])).unwrap();
            let at = Now { monotonic: 0, unix_millis: 1_700_000_000_000 };
            assert!(shown.identity(at).is_err(), "{common_name}");
        }
    }

    #[test]
    fn names_that_can_be_misread() {
        for common_name in [" billing", "billing ", "bill\ting", "billing\u{200b}", " "] {
            let mut parameters = rcgen::CertificateParams::default();
            parameters.distinguished_name = rcgen::DistinguishedName::new();
            parameters.distinguished_name.push(rcgen::DnType::CommonName, common_name);
            let der = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            assert_eq!(
                ClientCertificate::read(der.der(), &CertificateNames::of("partners", &[])),
                None,
                "{common_name:?}"
            );
        }
    }
}
