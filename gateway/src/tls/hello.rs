//! Computes the JA4 fingerprint of a client's hello: which TLS, suites, extensions and algorithms it offers, in 36
//! letters that are the same for the same software. (JA4 itself, of FoxIO, BSD-3-Clause.)
//!
//! *Invariant:* reads bytes that nobody has judged; whatever they are, there is a fingerprint or there is none.

use aws_lc_rs::digest::{SHA256, digest};

/// A fingerprint: `t13d1516h2_8daaf6152771_e5627efa2ab1`.
pub(crate) type Ja4 = [u8; 36];

const SERVER_NAME: u16 = 0;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

/// What is read of a hello (RFC 8446 4.1.2), without GREASE (RFC 8701).
#[derive(Default)]
struct ClientHello {
    version: u16,
    suites: Vec<u16>,
    extensions: Vec<u16>,
    algorithms: Vec<u16>,
    /// The first and the last byte of the first protocol.
    protocol: Option<(u8, u8)>,
}

/// The fingerprint of a hello as it came over TCP, in one record or many. `None`: it is none.
pub(crate) fn ja4(received: &[u8]) -> Option<Ja4> {
    let message = message(received)?;
    Some(ClientHello::read(&message)?.ja4())
}

/// The first handshake message of a stream of records, without its head.
fn message(received: &[u8]) -> Option<Vec<u8>> {
    let mut records = Cursor(received);
    let mut bytes = Vec::with_capacity(received.len());
    loop {
        if let Some((&[1, a, b, c], body)) = bytes.split_first_chunk::<4>() {
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if let Some(body) = body.get(..length) {
                return Some(body.to_vec());
            }
        } else if bytes.len() >= 4 {
            return None;
        }
        if records.byte()? != 22 {
            return None;
        }
        let _version = records.two()?;
        let length = records.two()?;
        bytes.extend_from_slice(records.take(usize::from(length))?);
    }
}

impl ClientHello {
    fn read(message: &[u8]) -> Option<Self> {
        let mut body = Cursor(message);
        let mut hello = Self { version: body.two()?, ..Self::default() };
        let _random = body.take(32)?;
        let length = body.byte()?;
        let _session = body.take(usize::from(length))?;
        hello.suites = body.within()?.twos();
        let length = body.byte()?;
        let _compression = body.take(usize::from(length))?;
        if body.0.is_empty() {
            return Some(hello);
        }
        let mut extensions = body.within()?;
        while !extensions.0.is_empty() {
            let kind = extensions.two()?;
            let content = extensions.within()?;
            if !is_grease(kind) {
                hello.extensions.push(kind);
                hello.extension(kind, content)?;
            }
        }
        Some(hello)
    }

    fn extension(&mut self, kind: u16, mut content: Cursor<'_>) -> Option<()> {
        match kind {
            SIGNATURE_ALGORITHMS => self.algorithms = content.within()?.twos(),
            SUPPORTED_VERSIONS => {
                let length = content.byte()?;
                let versions = Cursor(content.take(usize::from(length))?).twos();
                self.version = versions.into_iter().max().unwrap_or(self.version);
            }
            ALPN => {
                let mut names = content.within()?;
                let length = names.byte()?;
                let name = names.take(usize::from(length))?;
                self.protocol = name.first().copied().zip(name.last().copied());
            }
            _ => {}
        }
        Some(())
    }

    fn ja4(mut self) -> Ja4 {
        let version = match self.version {
            0x0304 => b"13",
            0x0303 => b"12",
            0x0302 => b"11",
            0x0301 => b"10",
            0x0300 => b"s3",
            0x0002 => b"s2",
            _ => b"00",
        };
        let named = if self.extensions.contains(&SERVER_NAME) { b'd' } else { b'i' };
        let protocol = match self.protocol {
            Some((first, last)) if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() => [first, last],
            Some((first, last)) => [hexadecimal(first >> 4), hexadecimal(last & 15)],
            None => *b"00",
        };
        let (suites, extensions) = (count(self.suites.len()), count(self.extensions.len()));
        self.suites.sort_unstable();
        let all = std::mem::take(&mut self.extensions);
        self.extensions = all.iter().copied().filter(|kind| !matches!(*kind, SERVER_NAME | ALPN)).collect();
        self.extensions.sort_unstable();
        let mut rest = Vec::new();
        list(&self.extensions, &mut rest);
        if !self.algorithms.is_empty() {
            rest.push(b'_');
            list(&self.algorithms, &mut rest);
        }
        let mut offered = Vec::new();
        list(&self.suites, &mut offered);
        let parts: [&[u8]; 10] = [
            b"t",
            version,
            &[named],
            &suites,
            &extensions,
            &protocol,
            b"_",
            &hash(&offered, self.suites.is_empty()),
            b"_",
            &hash(&rest, all.is_empty()),
        ];
        let mut made = [0; 36];
        made.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        made
    }
}

/// RFC 8701: `0x0a0a`, `0x1a1a`, ... `0xfafa`.
const fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

/// Two digits; 99 and more are 99.
fn count(number: usize) -> [u8; 2] {
    let number = u8::try_from(number.min(99)).unwrap_or(99);
    [b'0' + number / 10, b'0' + number % 10]
}

const fn hexadecimal(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

/// Numbers as four letters each, with commas between.
fn list(numbers: &[u16], out: &mut Vec<u8>) {
    for (place, number) in numbers.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        let [high, low] = number.to_be_bytes();
        out.extend([high >> 4, high & 15, low >> 4, low & 15].map(hexadecimal));
    }
}

/// The first 12 letters of the hash; zeros of nothing.
fn hash(text: &[u8], is_nothing: bool) -> [u8; 12] {
    let mut letters = [b'0'; 12];
    if !is_nothing {
        let hash = digest(&SHA256, text);
        let nibbles = hash.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
        letters.iter_mut().zip(nibbles).for_each(|(letter, nibble)| *letter = hexadecimal(nibble));
    }
    letters
}

/// What is left to be read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn two(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    /// What the next two bytes are the length of.
    fn within(&mut self) -> Option<Self> {
        let length = self.two()?;
        self.take(usize::from(length)).map(Self)
    }

    /// All that is left as numbers, without GREASE.
    fn twos(self) -> Vec<u16> {
        let numbers = self.0.chunks_exact(2).filter_map(|two| Some(u16::from_be_bytes(*two.first_chunk()?)));
        numbers.filter(|number| !is_grease(*number)).collect()
    }
}

#[cfg(test)]
mod tests;
