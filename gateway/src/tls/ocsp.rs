//! Reads an OCSP response (RFC 6960 4.2.1): its certificate, its status, its end. Clients verify its signature.

use crate::x509::Der;

/// The first answer of a response.
pub(super) struct Staple {
    serial: Box<[u8]>,
    is_good: bool,
    /// When there is a newer one, in seconds since the Unix epoch; `None`: at any time.
    next_update: Option<i64>,
}

impl Staple {
    /// Reads a response in DER.
    pub(super) fn read(der: &[u8]) -> Result<Self, &'static str> {
        const NONE: &str = "is no OCSP response in DER";
        let mut response = Der(Der(der).expect(0x30).ok_or(NONE)?);
        if response.expect(0x0a).ok_or(NONE)? != [0] {
            return Err("says that the authority's responder failed");
        }
        answer(&mut response).ok_or(NONE)
    }

    /// The staple, if it is for the certificate with this serial number, and speaks well of it.
    pub(super) fn of(self, serial: &[u8]) -> Result<Self, &'static str> {
        if *self.serial != *serial {
            return Err("is about another certificate");
        }
        if !self.is_good {
            return Err("says that the certificate is revoked or unknown");
        }
        Ok(self)
    }

    /// Whether it is still what the authority says.
    pub(super) fn is_current(&self, now: i64) -> bool {
        self.next_update.is_none_or(|next| now < next)
    }
}

fn answer(response: &mut Der<'_>) -> Option<Staple> {
    let mut bytes = Der(Der(response.expect(0xa0)?).expect(0x30)?);
    let _kind = bytes.expect(0x06)?;
    let mut basic = Der(Der(bytes.expect(0x04)?).expect(0x30)?);
    let mut data = Der(basic.expect(0x30)?);
    data.optional(0xa0)?;
    let _responder = data.next()?;
    let _produced = data.time()?;
    let mut single = Der(Der(data.expect(0x30)?).expect(0x30)?);
    let mut id = Der(single.expect(0x30)?);
    let (_algorithm, _name, _key) = (id.expect(0x30)?, id.expect(0x04)?, id.expect(0x04)?);
    let serial = id.expect(0x02)?.into();
    let (status, _) = single.next()?;
    let _this_update = single.time()?;
    let next_update = match single.optional(0xa0)? {
        Some(next) => Some(Der(next).time()?),
        None => None,
    };
    Some(Staple { serial, is_good: status == 0x80, next_update })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u8::try_from(content.len()).unwrap();
        let head = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
        [head, content].concat()
    }

    pub(crate) fn response(serial: &[u8], status: u8, next: Option<&str>) -> Vec<u8> {
        let id = der(0x30, &[&der(0x30, &[]), &der(4, &[b"name"]), &der(4, &[b"key"]), &der(2, &[serial])]);
        let next = next.map(|next| der(0xa0, &[&der(0x18, &[next.as_bytes()])])).unwrap_or_default();
        let single = der(0x30, &[&id, &der(status, &[]), &der(0x18, &[b"20260101000000Z"]), &next]);
        let data = [der(0xa2, &[b"who"]), der(0x18, &[b"20260101000000Z"]), der(0x30, &[&single])];
        let basic = der(0x30, &[&der(0x30, &[&data.concat()]), &der(0x30, &[])]);
        let bytes = der(0x30, &[&der(6, &[b"\x2b"]), &der(4, &[&basic])]);
        der(0x30, &[&der(0x0a, &[&[0]]), &der(0xa0, &[&bytes])])
    }

    #[test]
    fn responses() {
        let good = response(b"\x07", 0x80, Some("20300101000000Z"));
        let staple = Staple::read(&good).and_then(|staple| staple.of(b"\x07")).ok().unwrap();
        assert!(staple.is_current(1_893_455_999) && !staple.is_current(1_893_456_000));
        assert!(Staple::read(&response(b"\x07", 0x80, None)).ok().unwrap().is_current(i64::MAX));
        for (der, expect) in [
            (response(b"\x08", 0x80, None), "is about another certificate"),
            (response(b"\x07", 0xa1, None), "says that the certificate is revoked or unknown"),
            (b"\x30\x03\x0a\x01\x06".to_vec(), "says that the authority's responder failed"),
            (b"-----BEGIN".to_vec(), "is no OCSP response in DER"),
        ] {
            let told = Staple::read(&der).and_then(|staple| staple.of(b"\x07")).err();
            assert_eq!(told, Some(expect));
        }
        for length in 0..good.len() {
            assert!(Staple::read(&good[..length]).is_err(), "cut off at {length}");
        }
    }
}
