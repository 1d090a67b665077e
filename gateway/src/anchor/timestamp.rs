//! Time stamps (RFC 3161): the request for one, and what a response says. Pure.
//!
//! *Invariant:* a response is hostile input: nothing of it is believed but what the request asked for. Whether its
//! signature is that of a trusted authority is for whoever verifies later, with `openssl ts -verify`.

use aws_lc_rs::digest;

use super::signed_text;
use crate::x509::Der;

/// A response is no longer: it holds a token with a chain of certificates.
pub const LONGEST: usize = 64 * 1024;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;

/// `id-sha256`, with its parameters.
const SHA256: [u8; 13] = [0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00];
/// `id-sha256` alone.
const SHA256_OID: [u8; 9] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// `id-signedData`.
const SIGNED_DATA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// `id-ct-TSTInfo`.
const TST_INFO: [u8; 11] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];

/// What is stamped of a checkpoint: SHA-256 of what it signs.
#[must_use]
pub fn imprint(seq: u64, hash: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, &signed_text(seq, hash)).as_ref().to_vec()
}

/// A request for a time stamp of `imprint`. The response has to have the same `nonce`.
#[must_use]
pub fn request(imprint: &[u8], nonce: u64) -> Vec<u8> {
    let hashed = [element(SEQUENCE, &SHA256), element(OCTETS, imprint)].concat();
    // The certificate of the authority is asked for, so that the response can be verified for itself.
    let parts =
        [element(INTEGER, &[1]), element(SEQUENCE, &hashed), element(INTEGER, &integer(nonce)), element(0x01, &[0xff])];
    element(SEQUENCE, &parts.concat())
}

/// What a response says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// What was stamped.
    pub imprint: Vec<u8>,
    /// The nonce of the request, if it had one.
    pub nonce: Option<u64>,
    /// When: RFC 3339, UTC.
    pub time: String,
}

impl Stamp {
    /// Reads a response.
    ///
    /// # Errors
    /// It is none, or the authority has refused; for people.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        if der.len() > LONGEST {
            return Err(format!("the response is longer than {LONGEST} bytes"));
        }
        let mut response = Der(Der(der).expect(SEQUENCE).ok_or("it is no time-stamp response")?);
        let mut status = Der(response.expect(SEQUENCE).ok_or("it is no time-stamp response")?);
        let code = status.expect(INTEGER).ok_or("it is no time-stamp response")?;
        // 0: granted, 1: granted with changes.
        if !matches!(code, [0 | 1]) {
            return Err(format!("the authority refused: status {}", code.last().copied().unwrap_or(u8::MAX)));
        }
        let token = response.expect(SEQUENCE).ok_or("the response holds no token")?;
        info(token).and_then(read_info).ok_or_else(|| "the token cannot be read".to_owned())
    }

    /// Whether it answers a request for `imprint` with this nonce.
    ///
    /// # Errors
    /// What does not fit, for people.
    pub fn answers(&self, imprint: &[u8], nonce: u64) -> Result<(), String> {
        if self.imprint != imprint {
            return Err("the response stamps something else than was asked for".to_owned());
        }
        if self.nonce != Some(nonce) {
            return Err("the response answers another request: its nonce is another".to_owned());
        }
        Ok(())
    }
}

/// The signed content of a token (RFC 5652).
fn info(token: &[u8]) -> Option<&[u8]> {
    let mut content = Der(token);
    (content.expect(OID)? == SIGNED_DATA).then_some(())?;
    let mut signed = Der(Der(content.expect(0xa0)?).expect(SEQUENCE)?);
    signed.expect(INTEGER)?;
    signed.expect(SET)?;
    let mut encapsulated = Der(signed.expect(SEQUENCE)?);
    (encapsulated.expect(OID)? == TST_INFO).then_some(())?;
    let octets = Der(encapsulated.expect(0xa0)?).expect(OCTETS)?;
    Der(octets).expect(SEQUENCE)
}

fn read_info(info: &[u8]) -> Option<Stamp> {
    let mut info = Der(info);
    info.expect(INTEGER)?;
    info.expect(OID)?;
    let mut hashed = Der(info.expect(SEQUENCE)?);
    let algorithm = Der(hashed.expect(SEQUENCE)?).expect(OID)?;
    (algorithm == SHA256_OID).then_some(())?;
    let imprint = hashed.expect(OCTETS)?.to_vec();
    info.expect(INTEGER)?;
    let seconds = info.time()?;
    // Accuracy, ordering.
    info.optional(SEQUENCE)?;
    info.optional(0x01)?;
    let nonce = match info.optional(INTEGER)? {
        None => None,
        Some(digits) => Some(number(digits)?),
    };
    let time = crate::os::clock::rfc3339(u64::try_from(seconds).ok()?.saturating_mul(1_000));
    Some(Stamp { imprint, nonce, time })
}

/// A positive integer as DER has it: the fewest bytes, the first bit zero.
fn integer(number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let mut bytes: &[u8] = &bytes;
    while let [0, rest @ ..] = bytes
        && !rest.is_empty()
    {
        bytes = rest;
    }
    let sign: &[u8] = if bytes.first().is_some_and(|first| first & 0x80 != 0) { &[0] } else { &[] };
    [sign, bytes].concat()
}

fn number(digits: &[u8]) -> Option<u64> {
    let digits = digits.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(digits);
    (digits.len() <= 8).then(|| digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit)))
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    // What is written here is short.
    let length = u8::try_from(content.len()).unwrap_or(0);
    let head: Vec<u8> = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
    [&head, content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for (value, expect) in [
            (0, &[0][..]),
            (1, &[1]),
            (127, &[127]),
            (128, &[0, 128]),
            (u64::MAX, &[0, 255, 255, 255, 255, 255, 255, 255, 255]),
        ] {
            assert_eq!(integer(value), expect);
            assert_eq!(number(expect), Some(value));
        }
    }

    #[test]
    fn nothing_hostile_is_read_as_a_stamp() {
        let of = |status: u8| element(SEQUENCE, &element(SEQUENCE, &element(INTEGER, &[status])));
        for (response, part) in [
            (Vec::new(), "no time-stamp response"),
            (b"<html>".to_vec(), "no time-stamp response"),
            (vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff], "no time-stamp response"),
            (of(2), "status 2"),
            (of(0), "holds no token"),
            (vec![0; LONGEST + 1], "longer than"),
            (
                element(SEQUENCE, &[element(SEQUENCE, &element(INTEGER, &[0])), element(SEQUENCE, &[1, 2])].concat()),
                "cannot be read",
            ),
        ] {
            let told = Stamp::read(&response).unwrap_err();
            assert!(told.contains(part), "{response:?}: {told}");
        }
    }
}
