//! Decides how TLS is spoken to clients: 1.3 and 1.2 (RFC 8446, RFC 5246), one certificate per listener, no early data.

use std::{io, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::settings;
use crate::{clock::Now, fault::Fault};

mod validity;

/// What ALPN offers (RFC 7301), the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How long before its end a certificate is warned about, in seconds.
const SOON: i64 = 14 * 86_400;

/// Reads a listener's certificate and key.
///
/// # Errors
/// `certificate` or `private_key`: no PEM, no such thing in it, or a key that is not the certificate's.
pub fn server(settings: &settings::Tls) -> Result<Arc<ServerConfig>, Vec<Fault>> {
    let chain = chain(&settings.certificate.bytes);
    let key = private_key(&settings.private_key.bytes);
    let (chain, key) = match (chain, key) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => return Err([chain.err(), key.err()].into_iter().flatten().collect()),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| {
        vec![match error {
            rustls::Error::InconsistentKeys(_) => Fault::new("private_key", "is not the key of the certificate")
                .hint("the first certificate must be the leaf"),
            error => Fault::new("certificate", format!("cannot be used: {error}")),
        }]
    })?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map(|builder| builder.with_no_client_auth())
        .map_err(|error| vec![Fault::new("certificate", error.to_string())])?;
    let mut config = config.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    // Early data can be replayed (RFC 8446 8): never accepted.
    config.max_early_data_size = 0;
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| vec![Fault::new("certificate", error.to_string())])?;
    Ok(Arc::new(config))
}

/// What is wrong with the certificates at `now`, or will be within [`SOON`]: clients refuse it, we cannot.
#[must_use]
pub(super) fn outdated(listeners: &[settings::Listener], now: Now) -> Vec<Fault> {
    let now = i64::try_from(now.unix_seconds()).unwrap_or(i64::MAX);
    let judge = |(index, listener): (usize, &settings::Listener)| {
        let chain = chain(&listener.tls.as_ref()?.certificate.bytes).ok()?;
        let (first, last) = validity::validity(chain.first()?)?;
        let at = |moment| jiff::Timestamp::from_second(moment).map(|moment| moment.to_string()).unwrap_or_default();
        let message = if now < first {
            format!("is not valid before {}", at(first))
        } else if now > last {
            format!("expired at {}", at(last))
        } else if last - now < SOON {
            format!("expires at {}", at(last))
        } else {
            return None;
        };
        Some(Fault::new(format!("listener[{index}].certificate"), message).hint("renew it, then `gateway reload`"))
    };
    listeners.iter().enumerate().filter_map(judge).collect()
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let fault = |message: String| Fault::new("certificate", message).hint("a PEM file, the server's certificate first");
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| fault(format!("is not PEM: {error}")))?;
    if chain.is_empty() { Err(fault("holds no certificate".into())) } else { Ok(chain) }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Fault> {
    // The parser's own text could quote the file, which is a secret.
    PrivateKeyDer::from_pem_slice(pem).map_err(|_secret| {
        Fault::new("private_key", "holds no private key").hint("a PEM file with PKCS#8, SEC1 or PKCS#1, not encrypted")
    })
}

/// Whether a failed handshake is the client's fault: it spoke something other than TLS, or TLS that breaks the rules or
/// that we do not speak. A client that closes, or that refuses our certificate, does nothing wrong.
#[must_use]
pub fn is_clients_fault(error: &io::Error) -> bool {
    use rustls::Error as E;
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<E>()) else { return false };
    matches!(
        error,
        E::InappropriateMessage { .. }
            | E::InappropriateHandshakeMessage { .. }
            | E::InvalidMessage(_)
            | E::PeerIncompatible(_)
            | E::PeerMisbehaved(_)
            | E::DecryptError
            | E::PeerSentOversizedRecord
            | E::NoApplicationProtocol
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(bytes: &str) -> settings::NamedFile {
        settings::NamedFile { path: "x.pem".into(), bytes: bytes.as_bytes().into() }
    }

    #[track_caller]
    fn check(certificate: &str, private_key: &str, expect: &[&str]) {
        let made = server(&settings::Tls { certificate: named(certificate), private_key: named(private_key) });
        let told: Vec<_> = made.err().unwrap_or_default().iter().map(ToString::to_string).collect();
        assert_eq!(told, expect);
    }

    #[test]
    fn certificates() {
        let one = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let two = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let (certificate, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        check(&certificate, &key, &[]);
        check(&certificate, &two.signing_key.serialize_pem(), &["private_key: is not the key of the certificate"]);
        check("", "", &["certificate: holds no certificate", "private_key: holds no private key"]);
        check(&key, &certificate, &["certificate: holds no certificate", "private_key: holds no private key"]);
    }
}
