//! Values handed over as files in memory that nobody can change any more: for what is too large for a message, or holds
//! secrets.

use std::{
    fs::File,
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::fs::FileExt as _},
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

/// What was put into a file in memory. Where others read the same file at the same time, none moves the place where another
/// one reads.
///
/// # Errors
/// The file cannot be read, or holds something else.
pub(crate) fn unseal<T: DeserializeOwned>(descriptor: OwnedFd) -> io::Result<T> {
    let file = File::from(descriptor);
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    postcard::from_bytes(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn many_read_one_file_at_once() {
        let content: Vec<u32> = (0..200_000).collect();
        let sealed = seal(&content).unwrap();
        thread::scope(|scope| {
            for _ in 0..8 {
                let copy = sealed.try_clone().unwrap();
                scope.spawn(|| assert!(unseal::<Vec<u32>>(copy).unwrap() == content));
            }
        });
        // What is no file in memory is not waited for.
        let (pipe, _end) = nix::unistd::pipe().unwrap();
        assert!(unseal::<u64>(pipe).is_err());
    }
}
