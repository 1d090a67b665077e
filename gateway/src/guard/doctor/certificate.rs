//! Decides when a certificate ends: reads that one field of X.509 (RFC 5280, 4.1.2.5) and judges nothing else.

use jiff::{Timestamp, civil, tz};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

/// When the first certificate of a PEM file ends.
pub(super) fn end(pem: &[u8]) -> Result<Timestamp, String> {
    let certificate = CertificateDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
    not_after(&certificate).ok_or_else(|| "it is no X.509 certificate".to_owned())
}

fn not_after(der: &[u8]) -> Option<Timestamp> {
    let (_, certificate, _) = element(der)?;
    let (_, fields, _) = element(certificate)?;
    let (tag, _, after) = element(fields)?;
    // The version is left out of a version 1 certificate.
    let rest = if tag == 0xa0 { element(after)?.2 } else { after };
    let (_, _algorithm, rest) = element(rest)?;
    let (_, _issuer, rest) = element(rest)?;
    let (_, validity, _) = element(rest)?;
    let (_, _not_before, rest) = element(validity)?;
    let (tag, text, _) = element(rest)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// A DER element: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        ..=0x7f => (usize::from(*first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// `UTCTime` (tag 23) or `GeneralizedTime` (24), which must end with `Z`.
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = match tag {
        23 => {
            let year: i16 = digits.get(..2)?.parse().ok()?;
            (if year < 50 { 2_000 + year } else { 1_900 + year }, digits.get(2..)?)
        }
        24 => (digits.get(..4)?.parse().ok()?, digits.get(4..)?),
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    let date = civil::DateTime::new(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?, 0).ok()?;
    tz::TimeZone::UTC.to_timestamp(date).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        let mut parameters = rcgen::CertificateParams::new(vec!["example.com".to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        for (year, month) in [(2031, 2), (2055, 12), (1999, 1)] {
            parameters.not_before = rcgen::date_time_ymd(1998, 1, 1);
            parameters.not_after = rcgen::date_time_ymd(year, month, 3);
            let pem = parameters.self_signed(&key).unwrap().pem();
            assert_eq!(end(pem.as_bytes()).unwrap().to_string(), format!("{year}-{month:02}-03T00:00:00Z"));
        }
        assert!(end(b"nothing").is_err());
        for der in [&b""[..], b"\x30", b"\x30\x84\x01", b"\x30\x03\x30\x01\x02", b"\x30\x80\x00\x00"] {
            assert_eq!(not_after(der), None, "{der:?}");
        }
    }
}
