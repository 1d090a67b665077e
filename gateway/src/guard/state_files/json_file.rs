//! Files of the state folder that a guard can do without: JSON, written as a whole.

use std::{fs, io, path::Path};

use serde::{Serialize, de::DeserializeOwned};

/// Reads such a file, which has at most `most` bytes.
///
/// # Errors
/// There is none, or what is there was not written here.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, most: u64) -> io::Result<T> {
    let found = fs::metadata(path)?;
    if !found.is_file() || found.len() > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no file of a size that was written here"));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Writes it: as a whole, or not at all.
///
/// # Errors
/// The disk refuses: what there was stays.
pub(crate) fn write(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let next = path.with_extension("json.new");
    fs::write(&next, serde_json::to_vec(content)?)?;
    fs::rename(&next, path)
}
