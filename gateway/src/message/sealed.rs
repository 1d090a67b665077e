//! Values handed over as files in memory that nobody can change any more: for what is too large for a message, or holds
//! secrets.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    os::fd::OwnedFd,
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::{Serialize, de::DeserializeOwned};

/// Puts a value into a file in memory. It has no name, and the sender keeps no copy open.
///
/// # Errors
/// Out of descriptors or memory.
pub(crate) fn seal(content: &impl Serialize) -> io::Result<OwnedFd> {
    let bytes = postcard::to_stdvec(content).map_err(io::Error::other)?;
    let memory = memfd_create("gateway-bundle", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(memory);
    file.write_all(&bytes)?;
    let memory = OwnedFd::from(file);
    fcntl_add_seals(&memory, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(memory)
}

/// What the guard put into a file in memory.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub(crate) fn unseal<T: DeserializeOwned>(descriptor: OwnedFd) -> io::Result<T> {
    let mut file = File::from(descriptor);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
