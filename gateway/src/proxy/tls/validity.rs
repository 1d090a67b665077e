//! Decides from when until when a certificate is valid (RFC 5280 4.1.2.5). Reads no further: rustls has judged the rest.

/// The first and the last moment, in seconds since the Unix epoch. `None`: it cannot be read.
pub(super) fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let (_, certificate, _) = element(certificate)?;
    let (_, content, _) = element(certificate)?;
    // The version may be left out; serial number, algorithm and issuer come before the times.
    let (tag, _, rest) = element(content)?;
    let mut rest = if tag == 0xa0 { element(rest)?.2 } else { rest };
    for _ in 0..2 {
        rest = element(rest)?.2;
    }
    let (_, times, _) = element(rest)?;
    let (tag, first, rest) = element(times)?;
    let first = time(tag, first)?;
    let (tag, last, _) = element(rest)?;
    Some((first, time(tag, last)?))
}

/// One element of DER: its tag, its content, what follows (X.690 8.1).
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&length, mut rest) = rest.split_first()?;
    let mut length = usize::from(length);
    if length >= 0x80 {
        let (digits, behind) = rest.split_at_checked(length & 0x7f)?;
        if !matches!(digits.len(), 1..=4) {
            return None;
        }
        length = digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit));
        rest = behind;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `UTCTime`, whose years run from 1950 to 2049, or `GeneralizedTime`.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        0x17 => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        0x18 => text.to_owned(),
        _ => return None,
    };
    let (date, clock) = text.split_at_checked(8)?;
    let moment: jiff::Timestamp = format!("{date}T{clock}").parse().ok()?;
    Some(moment.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(first: (i32, u8, u8), last: (i32, u8, u8), expect: (i64, i64)) {
        let mut parameters = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(first.0, first.1, first.2);
        parameters.not_after = rcgen::date_time_ymd(last.0, last.1, last.2);
        let certificate = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        assert_eq!(validity(certificate.der()), Some(expect), "{first:?} {last:?}");
        for length in 0..certificate.der().len().min(200) {
            // Cut off anywhere, it is no certificate and no panic.
            assert_eq!(validity(&certificate.der()[..length]), None);
        }
    }

    #[test]
    fn times_of_both_kinds() {
        check((1970, 1, 1), (1970, 1, 2), (0, 86_400));
        check((2000, 2, 29), (2049, 12, 31), (951_782_400, 2_524_521_600));
        check((2050, 1, 1), (4096, 1, 1), (2_524_608_000, 67_090_118_400));
    }
}
