//! Reads lists of sources: their format, and which of their lines can be read.
//!
//! Lists come from strangers. Every reader here is bounded in the file's size, a line's length, the number of entries
//! and the number of reasons; a line that cannot be read is told by its number, and the rest is loaded.

use line::{Each, text};

use crate::settings::feed::ListFormat;

mod crowdsec_csv;
mod crowdsec_json;
mod crowdsec_stream;
mod ipset;
mod json;
mod line;
mod plain;
mod range;
mod spamhaus;

pub use crowdsec_stream::{DecisionStream, stream};
pub use line::{LineError, Listed, Unreadable};

/// The largest list that is read, in bytes.
pub const MAX_BYTES: usize = 256 << 20;

/// The most entries of one list: the largest `guard.max_bans`.
pub const MAX_ENTRIES: usize = 16_777_216;

/// What compressed files begin with.
const PACKED: [(&[u8], &str); 5] = [
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
];

impl ListFormat {
    /// What the first lines look like. What looks like nothing else is a plain list.
    #[must_use]
    pub fn detect(bytes: &[u8]) -> Self {
        let start = bytes.get(..bytes.len().min(64 * 1_024)).unwrap_or_default();
        for line in start.split(|byte| *byte == b'\n') {
            let line = line.trim_ascii();
            if line.starts_with(b"; Spamhaus") {
                return Self::Spamhaus;
            }
            if line.is_empty() || line.starts_with(b"#") || line.starts_with(b";") {
                continue;
            }
            let has = |word: &[u8]| start.windows(word.len()).any(|part| part == word);
            return match line {
                [b'[' | b'{', ..] if has(b"\"decisions\"") || (has(b"\"scope\"") && !has(b"\"prefixes\"")) => {
                    Self::CrowdsecJson
                }
                b"null" | b"[]" => Self::CrowdsecJson,
                [b'{', ..] if has(b"\"cidr\"") || has(b"\"asn\"") => Self::Spamhaus,
                [b'[' | b'{', ..] => Self::Json,
                _ if line.starts_with(b"create ") || line.starts_with(b"add ") || line.starts_with(b"-exist ") => {
                    Self::Ipset
                }
                _ if crowdsec_csv::is_heading(line) => Self::CrowdsecCsv,
                _ => Self::Plain,
            };
        }
        Self::Plain
    }
}

/// Reads a list, entry by entry; which format it had.
///
/// # Errors
/// It is too large, has too many entries, or is a JSON document that cannot be read.
pub fn read(
    bytes: &[u8],
    format: Option<ListFormat>,
    each: impl FnMut(u32, Result<Listed, String>),
) -> Result<ListFormat, Unreadable> {
    read_services(bytes, format, &[], each)
}

/// The same, of a JSON list only the entries of these services; without services, of everything.
///
/// # Errors
/// As for [`read`], or it is no list that names services.
pub fn read_services(
    bytes: &[u8],
    format: Option<ListFormat>,
    services: &[String],
    mut each: impl FnMut(u32, Result<Listed, String>),
) -> Result<ListFormat, Unreadable> {
    if bytes.len() > MAX_BYTES {
        return Err(Unreadable(format!("is larger than {} MiB", MAX_BYTES >> 20)));
    }
    if let Some((_, how)) = PACKED.into_iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Err(Unreadable(format!("is compressed ({how}): unpack it first")));
    }
    let wide = utf16(bytes);
    let bytes = wide.as_deref().unwrap_or(bytes);
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if let Some(what) = FOREIGN.into_iter().find(|(start, _)| first_word(bytes).starts_with(start)) {
        return Err(Unreadable(what.1.to_owned()));
    }
    let format = format.unwrap_or_else(|| ListFormat::detect(bytes));
    if !services.is_empty() && format != ListFormat::Json {
        return Err(Unreadable("is no JSON list whose entries name a service, as `services` asks for".to_owned()));
    }
    let mut entries = 0_usize;
    let mut counted = |line, read: Result<Listed, String>| {
        entries += usize::from(read.is_ok());
        if entries <= MAX_ENTRIES {
            each(line, read);
        }
    };
    match format {
        ListFormat::CrowdsecJson => crowdsec_json::read(bytes, &mut counted)?,
        ListFormat::CrowdsecCsv => crowdsec_csv::read(bytes, &mut counted)?,
        ListFormat::Plain => lines(bytes, &mut counted, plain::line),
        ListFormat::Ipset => ipset::read(bytes, &mut counted)?,
        ListFormat::Json => json::read(bytes, services, &mut counted)?,
        ListFormat::Spamhaus => lines(bytes, &mut counted, spamhaus::line),
    }
    if entries > MAX_ENTRIES {
        return Err(Unreadable(format!("has more than {MAX_ENTRIES} entries")));
    }
    Ok(format)
}

/// What other programs write for people or for themselves, by how it begins.
const FOREIGN: [(&[u8], &str); 6] = [
    (b"<", "is a page of a web site, not a list"),
    (b"table ", "is a listing of nftables: write its elements one a line"),
    (b"set ", "is a listing of nftables: write its elements one a line"),
    (b"Name: ", "is what `ipset list` says: use `ipset save`"),
    (b"*filter", "is what `iptables-save` says: write the addresses one a line"),
    (b"access-list ", "is a list of rules that permit and deny: write the addresses to be blocked one a line"),
];

fn first_word(bytes: &[u8]) -> &[u8] {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.find(|line| !line.is_empty() && !line.starts_with(b"#")).unwrap_or_default()
}

/// UTF-16 with a mark of its bytes' order, as UTF-8; `None`: it is something else.
fn utf16(bytes: &[u8]) -> Option<Vec<u8>> {
    let (pair, rest) = bytes.split_first_chunk::<2>()?;
    let read: fn([u8; 2]) -> u16 = match pair {
        [0xff, 0xfe] => u16::from_le_bytes,
        [0xfe, 0xff] => u16::from_be_bytes,
        _ => return None,
    };
    let units = rest.chunks_exact(2).filter_map(|pair| pair.first_chunk().copied()).map(read);
    let text: String = char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    Some(text.into_bytes())
}

/// Reads line by line: `read` is given each line that is not empty.
fn lines(bytes: &[u8], each: &mut Each<'_>, read: impl Fn(&str, &mut dyn FnMut(Listed)) -> Result<(), String>) {
    for (number, line) in (1_u32..).zip(bytes.split(|byte| *byte == b'\n')) {
        match text(line) {
            Ok("") => {}
            Ok(line) => {
                if let Err(message) = read(line, &mut |listed| each(number, Ok(listed))) {
                    each(number, Err(message));
                }
            }
            Err(message) => each(number, Err(message)),
        }
    }
}

#[cfg(any(test, fuzzing))]
#[path = "lists/tests/reading.rs"]
pub mod reading;
#[cfg(test)]
mod tests;
