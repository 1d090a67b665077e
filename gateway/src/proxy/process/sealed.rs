//! Files in memory that the guard fills, seals and hands over.

use std::{
    fs::File,
    io::{Read as _, Seek as _},
    os::fd::OwnedFd,
};

use serde::de::DeserializeOwned;

/// What the guard put into a file in memory.
pub(in crate::proxy) fn unseal<T: DeserializeOwned>(descriptor: OwnedFd) -> anyhow::Result<T> {
    let mut file = File::from(descriptor);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(postcard::from_bytes(&bytes)?)
}
