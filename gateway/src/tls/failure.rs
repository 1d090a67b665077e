//! Why a TLS handshake with a server failed, in plain words.

use std::{borrow::Cow, io};

use rustls::{AlertDescription, CertificateError, Error};
use rustls_pki_types::UnixTime;

/// How much of the names of a certificate is logged, in bytes.
const MAX_NAMES: usize = 200;

/// Why a connection could not be opened, for the log.
pub(crate) fn describe(error: &io::Error) -> Cow<'static, str> {
    let Some(inner) = error.get_ref() else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => "it closed the connection during the TLS handshake".into(),
            _ => error.to_string().into(),
        };
    };
    let Some(tls) = inner.downcast_ref::<Error>() else { return error.to_string().into() };
    Cow::Borrowed(match tls {
        Error::InvalidCertificate(error) => return format!("its certificate {}", certificate(error)).into(),
        Error::AlertReceived(AlertDescription::CertificateRequired) => "it wants a certificate of the gateway",
        Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "it does not agree to the version of HTTP that it is to speak (ALPN)"
        }
        Error::AlertReceived(alert) => return format!("it refuses the TLS handshake: {alert:?}").into(),
        Error::InvalidMessage(_) => "it does not speak TLS",
        Error::PeerIncompatible(why) => return format!("it speaks no TLS that is safe: {why:?}").into(),
        error => return format!("the TLS handshake failed: {error}").into(),
    })
}

/// What is wrong with a certificate.
fn certificate(error: &CertificateError) -> Cow<'static, str> {
    use CertificateError as C;
    let at = |moment: UnixTime| {
        let moment = jiff::Timestamp::from_second(i64::try_from(moment.as_secs()).unwrap_or(i64::MAX));
        moment.map(|moment| moment.to_string()).unwrap_or_default()
    };
    Cow::Borrowed(match error {
        C::Expired => "has expired",
        C::ExpiredContext { not_after, .. } => return format!("has expired at {}", at(*not_after)).into(),
        C::NotValidYet => "is not valid yet",
        C::NotValidYetContext { not_before, .. } => {
            return format!("is not valid yet, before {}", at(*not_before)).into();
        }
        C::UnknownIssuer => "is of an unknown authority",
        C::NotValidForName => "is for another name",
        C::NotValidForNameContext { expected, presented } => {
            let mut names = presented.join(", ");
            names.truncate(names.floor_char_boundary(MAX_NAMES));
            return format!("is for another name: {names}; not for {}", expected.to_str()).into();
        }
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => "is for another purpose",
        C::BadSignature => "has a bad signature",
        C::BadEncoding => "cannot be read",
        C::Revoked => "is revoked",
        C::Other(other) if other.0.to_string() == "CaUsedAsEndEntity" => {
            "is an authority's own, and none that `ca` names"
        }
        C::Other(other) => return format!("is not good: {}", other.0).into(),
        error => return format!("is not good: {error:?}").into(),
    })
}
