//! API keys and revocations as the guard hands them to a proxy: all of them as a file in memory, read piece by piece, as
//! there may be millions; later what has changed.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    os::{fd::OwnedFd, unix::fs::FileExt as _},
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::policy::auth::{api_key::record::KeyRecord, revocation::Revoked};

/// How many changes are one piece.
const PIECE: usize = 1_024;

/// The longest piece, in bytes.
const LONGEST: u32 = 64 << 20;

/// The most changes that a message has in itself, and the most bytes that they take together.
const INLINE: usize = 64;
const INLINE_BYTES: usize = 32 * 1_024;

/// What begins the file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialsHead {
    /// By what keys are hashed, or why it is not known which keys there are.
    pub pepper: Result<Vec<u8>, String>,
    /// All keys and revocations follow; else those that are known stay.
    pub is_complete: bool,
    /// The file of revocations was not read yet: it may revoke more.
    pub awaits_file: bool,
    /// Keys were lost: one that is not known may have been good.
    pub lost_keys: bool,
}

impl std::fmt::Debug for CredentialsHead {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Opening({:?})", self.pepper.as_ref().map(Vec::len))
    }
}

/// A key or a revocation that is new, other than before, or gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialChange {
    /// There is this key.
    Key(KeyRecord),
    /// There is no key of this id.
    KeyGone(u64),
    /// This is revoked.
    Revoked(Revoked),
    /// This is not revoked any more.
    Lifted(Revoked),
}

/// Writes all keys and revocations, or many changes, into a file in memory that nobody can change any more.
pub struct CredentialWriter {
    file: BufWriter<File>,
    piece: Vec<CredentialChange>,
}

impl CredentialWriter {
    /// Begins.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn begin(opening: &CredentialsHead) -> io::Result<Self> {
        let memory = memfd_create("gateway-credentials", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut writer = Self { file: BufWriter::new(File::from(memory)), piece: Vec::new() };
        writer.write(opening)?;
        Ok(writer)
    }

    /// One more.
    ///
    /// # Errors
    /// Out of memory.
    pub fn add(&mut self, change: CredentialChange) -> io::Result<()> {
        self.piece.push(change);
        if self.piece.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    /// The file.
    ///
    /// # Errors
    /// Out of memory.
    pub fn finish(mut self) -> io::Result<OwnedFd> {
        self.flush()?;
        let memory = OwnedFd::from(self.file.into_inner().map_err(io::IntoInnerError::into_error)?);
        fcntl_add_seals(&memory, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
        Ok(memory)
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        if piece.is_empty() { Ok(()) } else { self.write(&piece) }
    }

    fn write(&mut self, value: &impl Serialize) -> io::Result<()> {
        let bytes = postcard::to_stdvec(value).map_err(io::Error::other)?;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(&bytes)
    }
}

/// Reads what [`CredentialWriter`] has written. Others may read the same file at the same time.
pub struct CredentialReader {
    file: File,
    at: u64,
    /// What it begins with.
    pub opening: CredentialsHead,
}

impl CredentialReader {
    /// Begins.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn begin(descriptor: OwnedFd) -> io::Result<Self> {
        let pepper = Err(String::new());
        let opening = CredentialsHead { pepper, is_complete: false, awaits_file: false, lost_keys: false };
        let mut reader = Self { file: File::from(descriptor), at: 0, opening };
        reader.opening = reader.read()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(reader)
    }

    /// The next piece; `None`: there is no more.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn piece(&mut self) -> io::Result<Option<Vec<CredentialChange>>> {
        self.read()
    }

    fn read<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut length = [0; 4];
        if self.file.read_at(&mut length, self.at)? == 0 {
            return Ok(None);
        }
        self.file.read_exact_at(&mut length, self.at)?;
        let length = u32::from_le_bytes(length);
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, self.at.saturating_add(4))?;
        self.at = self.at.saturating_add(4).saturating_add(length.into());
        postcard::from_bytes(&bytes).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// Whether changes fit into a message.
#[must_use]
pub fn fit_a_message(changes: &[CredentialChange]) -> bool {
    changes.len() <= INLINE && postcard::to_stdvec(changes).is_ok_and(|bytes| bytes.len() <= INLINE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::auth::api_key::record::Profile;

    fn key(id: u64) -> CredentialChange {
        let profile = Profile { roles: vec!["reader".to_owned()], ..Profile::default() };
        let name = format!("key-{id}");
        let (tag, expires, is_revoked, is_replaced, is_foreign) = ([7; 32], Some(id), false, true, false);
        CredentialChange::Key(KeyRecord { id, tag, name, profile, expires, is_revoked, is_replaced, is_foreign })
    }

    #[test]
    fn what_is_written_is_read_by_several() {
        let pepper = Ok(vec![1; 32]);
        let head = CredentialsHead { pepper, is_complete: true, awaits_file: false, lost_keys: false };
        let mut writer = CredentialWriter::begin(&head).unwrap();
        let all: Vec<_> = (0..3_000).map(key).collect();
        all.iter().for_each(|change| writer.add(change.clone()).unwrap());
        let file = writer.finish().unwrap();
        let mut readers = [0; 2].map(|_| CredentialReader::begin(file.try_clone().unwrap()).unwrap());
        let mut found = [Vec::new(), Vec::new()];
        for _ in 0..4 {
            for (reader, found) in readers.iter_mut().zip(&mut found) {
                assert_eq!(reader.opening.pepper, Ok(vec![1; 32]));
                found.extend(reader.piece().unwrap().into_iter().flatten());
            }
        }
        assert!(found[0] == all && found[1] == all);
        assert!(io::Write::write(&mut File::from(file), b"x").is_err(), "it is sealed");
    }

    #[test]
    fn what_fits_a_message() {
        assert!(fit_a_message(&[]) && fit_a_message(&[key(1)]));
        assert!(!fit_a_message(&vec![key(1); INLINE + 1]));
        let long = Revoked::Token { issuer: String::new(), id: "a".repeat(INLINE_BYTES) };
        assert!(!fit_a_message(&[CredentialChange::Revoked(long)]));
    }
}
