//! Verifies a server's certificate: by authorities, by being listed itself, or by a fingerprint.
//!
//! *Invariant:* the key of the certificate signed the handshake, whatever else is believed.

use std::{error, fmt, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{settings::tls::Pin, x509};

/// Who is believed to be the server.
#[derive(Debug)]
pub(super) struct CertificateVerifier {
    provider: Arc<CryptoProvider>,
    authorities: Option<Authorities>,
    /// One of which the certificate must be; empty: any.
    pins: Vec<Pin>,
}

#[derive(Debug)]
struct Authorities {
    verifier: Arc<WebPkiServerVerifier>,
    /// What was named: such a certificate may be the server's own (`openssl req -x509` makes one that says that it is
    /// an authority).
    named: Vec<CertificateDer<'static>>,
}

impl CertificateVerifier {
    /// Believes `authorities`, if they are given, and `pins`, if there are any; both, if there are both. With neither,
    /// anybody.
    ///
    /// # Errors
    /// Authorities of which no verifier can be made.
    pub(super) fn new(
        provider: &Arc<CryptoProvider>,
        authorities: Option<(RootCertStore, Vec<CertificateDer<'static>>)>,
        pins: &[Pin],
    ) -> Result<Self, String> {
        let authorities = authorities.map(|(roots, named)| {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            let verifier = builder.build().map_err(|error| error.to_string())?;
            Ok::<_, String>(Authorities { verifier, named })
        });
        Ok(Self { provider: Arc::clone(provider), authorities: authorities.transpose()?, pins: pins.to_vec() })
    }
}

impl Authorities {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<(), Error> {
        let judged = self.verifier.verify_server_cert(leaf, chain, name, ocsp, now);
        match judged {
            // It need not be signed by anybody: it is what was named.
            Err(Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature | CertificateError::Other(_),
            )) if self.named.iter().any(|named| named.as_ref() == leaf.as_ref()) => {
                let read = x509::X509Certificate::read(leaf).ok_or(CertificateError::BadEncoding)?;
                let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
                let moment = |seconds: i64| {
                    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds.max(0).unsigned_abs()))
                };
                if seconds < read.first {
                    let not_before = moment(read.first);
                    return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
                }
                if seconds > read.last {
                    let not_after = moment(read.last);
                    return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
                }
                verify_server_name(&ParsedCertificate::try_from(leaf)?, name)
            }
            judged => judged.map(drop),
        }
    }
}

impl ServerCertVerifier for CertificateVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(authorities) = &self.authorities {
            authorities.judge(leaf, chain, name, ocsp, now)?;
        }
        if !self.pins.is_empty() {
            let certificate = sha256(leaf);
            let public_key = x509::public_key(leaf).map(sha256);
            let is_pinned = self.pins.iter().any(|pin| match pin {
                Pin::Certificate(pinned) => *pinned == certificate,
                Pin::PublicKey(pinned) => Some(*pinned) == public_key,
            });
            if !is_pinned {
                return Err(CertificateError::Other(OtherError(Arc::new(NotPinned(certificate)))).into());
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// A certificate that no fingerprint is of.
#[derive(Debug)]
pub(super) struct NotPinned([u8; 32]);

impl fmt::Display for NotPinned {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sha256:{} is none of its pins", HEXLOWER.encode(&self.0))
    }
}

impl error::Error for NotPinned {}
