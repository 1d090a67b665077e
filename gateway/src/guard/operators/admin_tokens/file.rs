//! The file of the tokens in the state folder: their hashes, in JSON, for the guard's user alone.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::settings::operators::Roles;

/// The file's name.
pub(super) const NAME: &str = "admin-tokens.json";

/// More than all tokens take.
const LONGEST: u64 = 1 << 20;

/// A token, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    pub(super) name: String,
    /// SHA-256 of the token.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub(super) hash: [u8; 32],
    pub(super) roles: Roles,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// Seconds since 1970.
    pub(super) expires: u64,
    /// Who made it.
    pub(super) by: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    tokens: Vec<Stored>,
}

/// Reads all tokens.
///
/// # Errors
/// There is no file, or it cannot be used.
pub(super) fn read(path: &Path) -> io::Result<Vec<Stored>> {
    // Nothing that lies there instead is waited for.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    if file.take(LONGEST + 1).read_to_end(&mut bytes)? > usize::try_from(LONGEST).unwrap_or(usize::MAX) {
        return Err(io::Error::other("it is too long"));
    }
    let content: Content = serde_json::from_slice(&bytes)?;
    if content.version != 1 {
        return Err(io::Error::other(format!("it has version {} and not 1", content.version)));
    }
    Ok(content.tokens)
}

/// Writes all tokens, in the place of what there was.
///
/// # Errors
/// The disk refuses: what there was stays.
pub(super) fn write(path: &Path, tokens: &[Stored]) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(&Content { version: 1, tokens: tokens.to_vec() })?;
    bytes.push(b'\n');
    let new = path.with_extension("json.new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn to_hex<S: Serializer>(hash: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&HEXLOWER.encode(hash))
}

fn from_hex<'from, D: Deserializer<'from>>(from: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(from)?;
    let bytes = HEXLOWER.decode(text.as_bytes()).map_err(D::Error::custom)?;
    bytes.try_into().map_err(|_length| D::Error::custom("a hash has 32 bytes"))
}
