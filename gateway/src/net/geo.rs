//! Where addresses are: country and autonomous system, by databases in the MMDB format.
//!
//! *Invariant:* what a database does not say is unknown. Nobody is let in by what is unknown.

use std::{fmt, net::IpAddr, sync::Arc};

use maxminddb::{LookupResult, PathElement, Reader};

use crate::{os::file::NamedFile, text::digits::decimal};

/// The databases of one configuration, in their order: the first that knows something of an address says it. None at all
/// where nothing is configured.
#[derive(Clone, Default)]
pub struct Geo(Arc<[Database]>, bool);

struct Database {
    file: NamedFile,
    reader: Reader<Arc<[u8]>>,
}

/// Where an address is, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its country.
    pub country: Option<Country>,
    /// The number of its autonomous system.
    pub asn: Option<u32>,
}

/// A country by its two letters (ISO 3166-1 alpha-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// The country of these two capital letters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let letters: [u8; 2] = text.as_bytes().try_into().ok()?;
        letters.iter().all(u8::is_ascii_uppercase).then_some(Self(letters))
    }

    /// Its two letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only letters of ASCII are taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Where countries are, by who makes the database.
const COUNTRY: [&[PathElement<'static>]; 3] = [
    &[PathElement::Key("country"), PathElement::Key("iso_code")],
    &[PathElement::Key("country_code")],
    &[PathElement::Key("country")],
];

/// The same of autonomous systems: a number, or a text such as `AS64500`.
const ASN: [&[PathElement<'static>]; 2] = [&[PathElement::Key("autonomous_system_number")], &[PathElement::Key("asn")]];

impl Geo {
    /// Reads these files.
    ///
    /// # Errors
    /// The place of the file that is no whole database, and why.
    pub fn new(files: Vec<NamedFile>) -> Result<Self, (usize, String)> {
        let is_empty = files.is_empty();
        let read = |(at, file): (usize, NamedFile)| {
            let reader = Reader::from_source(Arc::clone(&file.bytes)).map_err(|error| (at, error.to_string()))?;
            // A file that was written in its place may have parts of two.
            reader.verify().map_err(|error| (at, error.to_string()))?;
            Ok(Database { file, reader })
        };
        files.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>().map(|all| Self(all.into(), !is_empty))
    }

    /// What stands for files that cannot be read, so that nobody who asks them is told that none is named.
    #[must_use]
    pub fn unreadable() -> Self {
        Self(Arc::default(), true)
    }

    /// Whether a database is named.
    #[must_use]
    pub const fn is_configured(&self) -> bool {
        self.1
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = &NamedFile> {
        self.0.iter().map(|database| &database.file)
    }

    /// Where an address is.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Place {
        Place { country: self.country(address), asn: self.asn(address) }
    }

    /// The country of an address.
    #[must_use]
    pub fn country(&self, address: IpAddr) -> Option<Country> {
        self.look(address, |found| {
            COUNTRY.iter().find_map(|path| found.decode_path::<&str>(path).ok().flatten().and_then(Country::parse))
        })
    }

    /// The number of the autonomous system of an address.
    #[must_use]
    pub fn asn(&self, address: IpAddr) -> Option<u32> {
        self.look(address, |found| {
            ASN.iter().find_map(|path| {
                let number = found.decode_path::<u32>(path).ok().flatten();
                number.or_else(|| asn(found.decode_path::<&str>(path).ok().flatten()?))
            })
        })
    }

    fn look<T>(&self, address: IpAddr, read: impl Fn(&LookupResult<'_, Arc<[u8]>>) -> Option<T>) -> Option<T> {
        let address = address.to_canonical();
        // A database without IPv6 knows nothing of its addresses.
        self.0.iter().find_map(|database| read(&database.reader.lookup(address).ok()?))
    }
}

/// The number of `AS64500` or `64500`.
#[must_use]
pub fn asn(text: &str) -> Option<u32> {
    decimal::<u32>(text.strip_prefix("AS").unwrap_or(text)).filter(|number| *number > 0)
}

impl PartialEq for Geo {
    fn eq(&self, other: &Self) -> bool {
        self.files().eq(other.files())
    }
}

impl Eq for Geo {}

impl fmt::Debug for Geo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.files()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> NamedFile {
        NamedFile { path: "geo.mmdb".into(), bytes: bytes.into() }
    }

    const DATABASE: &[u8] = include_bytes!("../../../tests/fixtures/geo/geo.mmdb");

    #[test]
    fn where_addresses_are() {
        let geo = Geo::new(vec![file(DATABASE)]).unwrap();
        for (address, country, asn) in [
            ("10.0.0.2", Some("DE"), Some(64_500)),
            ("::ffff:10.0.0.2", Some("DE"), Some(64_500)),
            ("10.0.0.66", Some("FR"), Some(64_501)),
            ("10.0.0.100", Some("DE"), None),
            ("10.0.0.120", None, Some(64_502)),
            ("fd00:0:0:1::2", Some("DE"), Some(64_500)),
            ("192.0.2.1", None, None),
            ("2001:db8::1", None, None),
        ] {
            let place = geo.find(address.parse().unwrap());
            assert_eq!((place.country.as_ref().map(Country::as_str), place.asn), (country, asn), "{address}");
        }
        assert_eq!(Geo::default().find("10.0.0.2".parse().unwrap()), Place::default());
    }

    #[test]
    fn what_is_no_whole_database() {
        for bytes in [&b""[..], b"no database", &DATABASE[..DATABASE.len() / 2], &DATABASE[DATABASE.len() / 2..]] {
            assert!(Geo::new(vec![file(bytes)]).is_err(), "{} bytes", bytes.len());
        }
        // Whatever is wrong with a part of it: it is refused, or its addresses are found or unknown.
        for at in (0..DATABASE.len()).step_by(3) {
            let mut bytes = DATABASE.to_vec();
            bytes[at] ^= 0x5a;
            if let Ok(geo) = Geo::new(vec![file(&bytes)]) {
                for address in ["10.0.0.2", "10.0.0.66", "fd00:0:0:1::2"] {
                    std::hint::black_box(geo.find(address.parse().unwrap()));
                }
            }
        }
    }

    #[test]
    fn names() {
        for (text, expect) in [("DE", true), ("de", false), ("D", false), ("DEU", false), ("É", false)] {
            assert_eq!(Country::parse(text).is_some(), expect, "{text}");
        }
        for (text, expect) in [("AS64500", Some(64_500)), ("64500", Some(64_500)), ("AS0", None), ("AS+1", None)] {
            assert_eq!(asn(text), expect, "{text}");
        }
    }
}
