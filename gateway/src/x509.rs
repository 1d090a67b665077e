//! Reads X.509 certificates (RFC 5280): names, serial number, validity, public key. It verifies nothing: rustls does
//! that.
//!
//! *Invariant:* a name that could be read in two ways (NUL, control characters, beyond ASCII) makes the certificate
//! unreadable as a whole (L03).

use std::net::IpAddr;

#[cfg(test)]
mod tests;

/// What is read of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct X509Certificate {
    /// The serial number, big-endian, as DER has it.
    pub serial: Box<[u8]>,
    /// The last common name of the subject.
    pub common_name: Option<String>,
    /// The whole subject, as RFC 4514 writes it; `None`: it is empty, or has text of a form that nobody uses any more.
    pub subject: Option<String>,
    /// The subject alternative names of the kinds known here, in their order.
    pub names: Vec<SubjectAltName>,
    /// The first second in which it is valid, since the Unix epoch.
    pub first: i64,
    /// The last second.
    pub last: i64,
}

/// A subject alternative name (RFC 5280 4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectAltName {
    /// A host name in lower case; its first label may be `*`.
    Dns(String),
    /// A mail address.
    Email(String),
    /// An address.
    Ip(IpAddr),
    /// Anything with a scheme: `spiffe://...`.
    Uri(String),
}

const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

impl X509Certificate {
    /// Reads a certificate in DER. `None`: it cannot be read, in part or whole.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let mut certificate = Der(Der(der).expect(SEQUENCE)?);
        let mut fields = Der(certificate.expect(SEQUENCE)?);
        // The version is left out of a version 1 certificate.
        fields.optional(0xa0)?;
        let serial = fields.expect(0x02)?.into();
        let _algorithm = fields.expect(SEQUENCE)?;
        let _issuer = fields.expect(SEQUENCE)?;
        let mut validity = Der(fields.expect(SEQUENCE)?);
        let (first, last) = (validity.time()?, validity.time()?);
        let subject = fields.expect(SEQUENCE)?;
        let common_name = common_name(subject)?;
        let subject = distinguished_name(subject)?;
        let _key = fields.expect(SEQUENCE)?;
        let mut names = Vec::new();
        while let Some((tag, content)) = fields.next() {
            if tag == 0xa3 {
                let mut extensions = Der(Der(content).expect(SEQUENCE)?);
                while !extensions.0.is_empty() {
                    extension(extensions.expect(SEQUENCE)?, &mut names)?;
                }
            }
        }
        Some(Self { serial, common_name, subject, names, first, last })
    }

    /// The names that clients may ask for in a handshake or a URL: hosts and addresses.
    pub fn hosts(&self) -> impl Iterator<Item = String> {
        self.names.iter().filter_map(|name| match name {
            SubjectAltName::Dns(name) => Some(name.clone()),
            SubjectAltName::Ip(IpAddr::V4(address)) => Some(address.to_string()),
            SubjectAltName::Ip(IpAddr::V6(address)) => Some(format!("[{address}]")),
            SubjectAltName::Email(_) | SubjectAltName::Uri(_) => None,
        })
    }

    /// Whole days from `now`, in seconds since the Unix epoch, until it ends; below zero: it has ended.
    #[must_use]
    pub const fn days_left(&self, now: i64) -> i64 {
        self.last.saturating_sub(now).div_euclid(86_400)
    }
}

/// The key of a certificate in DER, as `SubjectPublicKeyInfo` (RFC 5280 4.1.2.7), whole.
#[must_use]
pub fn public_key(der: &[u8]) -> Option<&[u8]> {
    let mut certificate = Der(Der(der).expect(SEQUENCE)?);
    let mut fields = Der(certificate.expect(SEQUENCE)?);
    fields.optional(0xa0)?;
    fields.expect(0x02)?;
    // Algorithm, issuer, validity, subject.
    for _ in 0..4 {
        fields.expect(SEQUENCE)?;
    }
    let before = fields.0;
    fields.expect(SEQUENCE)?;
    before.get(..before.len().checked_sub(fields.0.len())?)
}

/// The names of a certificate request's or certificate's extension, if it is the one with names.
fn extension(content: &[u8], names: &mut Vec<SubjectAltName>) -> Option<()> {
    let mut parts = Der(content);
    if parts.expect(OID)? != SUBJECT_ALT_NAME {
        return Some(());
    }
    parts.optional(0x01)?;
    let mut all = Der(Der(parts.expect(OCTETS)?).expect(SEQUENCE)?);
    while !all.0.is_empty() {
        let (tag, value) = all.next()?;
        names.extend(match tag {
            0x81 => Some(SubjectAltName::Email(graphic(value)?)),
            0x82 => Some(SubjectAltName::Dns(graphic(value)?.to_ascii_lowercase())),
            0x86 => Some(SubjectAltName::Uri(graphic(value)?)),
            0x87 => Some(SubjectAltName::Ip(address(value)?)),
            _ => None,
        });
    }
    Some(())
}

fn address(value: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(value).map(IpAddr::from);
    four.or_else(|_not_four| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok()
}

/// Text without blanks and control characters, which is what names are made of.
fn graphic(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.to_owned())
}

fn common_name(subject: &[u8]) -> Option<Option<String>> {
    let mut sets = Der(subject);
    let mut found = None;
    while !sets.0.is_empty() {
        let mut set = Der(sets.expect(0x31)?);
        while !set.0.is_empty() {
            let mut pair = Der(set.expect(SEQUENCE)?);
            if pair.expect(OID)? != COMMON_NAME {
                continue;
            }
            let (tag, value) = pair.next()?;
            // UTF8String, PrintableString, IA5String; others are seen nowhere any more.
            if matches!(tag, 0x0c | 0x13 | 0x16) {
                let text = std::str::from_utf8(value).ok()?;
                if text.chars().any(char::is_control) {
                    return None;
                }
                found = Some(text.to_owned());
            }
        }
    }
    Some(found)
}

/// The short names of attributes, by their object identifiers (RFC 4514 3).
const ATTRIBUTES: [(&[u8], &str); 9] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
];

/// A name as RFC 4514 writes it, the last part first. The outer `None`: it cannot be read.
fn distinguished_name(name: &[u8]) -> Option<Option<String>> {
    let mut sets = Der(name);
    let mut parts = Vec::new();
    while !sets.0.is_empty() {
        let mut set = Der(sets.expect(0x31)?);
        let mut pairs = Vec::new();
        while !set.0.is_empty() {
            let mut pair = Der(set.expect(SEQUENCE)?);
            let kind = pair.expect(OID)?;
            let (tag, value) = pair.next()?;
            // Attributes without a short name would need their numbers written out: nobody maps by those.
            let Some((_, kind)) = ATTRIBUTES.iter().find(|(known, _)| *known == kind) else { return Some(None) };
            if !matches!(tag, 0x0c | 0x13 | 0x16) {
                return Some(None);
            }
            let Ok(text) = std::str::from_utf8(value) else { return Some(None) };
            if text.chars().any(char::is_control) {
                return None;
            }
            pairs.push(format!("{kind}={}", escaped(text)));
        }
        parts.push(pairs.join("+"));
    }
    parts.reverse();
    Some((!parts.is_empty()).then(|| parts.join(",")))
}

/// A value with what would end it escaped (RFC 4514 2.4).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, letter) in text.chars().enumerate() {
        let at_an_end = letter == ' ' && (at == 0 || at == last) || letter == '#' && at == 0;
        if at_an_end || matches!(letter, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=') {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

/// What is left of a piece of DER (X.690).
pub(crate) struct Der<'a>(pub(crate) &'a [u8]);

impl<'a> Der<'a> {
    /// The next element: its tag and its content.
    pub(crate) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
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
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// The content of the next element if it has this tag, which it need not. `None`: what comes is no element.
    pub(crate) fn optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        if self.0.first() == Some(&tag) { self.expect(tag).map(Some) } else { Some(None) }
    }

    /// The next element as a moment, in seconds since the Unix epoch: `UTCTime`, whose years run from 1950 to 2049, or
    /// `GeneralizedTime`.
    pub(crate) fn time(&mut self) -> Option<i64> {
        let (tag, text) = self.next()?;
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
}
