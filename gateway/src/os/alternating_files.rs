//! Keeps what outlives the observer in two files by turns: one of them is whole whatever happens while the other is
//! written. The guard opens them, looks whether they are whole, and gives them to the observer.
//!
//! *Invariant:* the observer opens no file. A full disk leaves what was written before.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::FileExt as _},
};

use serde::{Serialize, de::DeserializeOwned};

/// What each file begins with.
const MAGIC: &[u8; 8] = b"gwkeep01";

/// Magic, number, length, checksum.
const HEAD: usize = 8 + 8 + 8 + 4;

/// The most that is kept, in bytes.
const MOST: usize = 16 << 20;

/// Two files.
#[derive(Debug)]
pub(crate) struct AlternatingFiles {
    files: [File; 2],
    /// Of what is in the newer one.
    number: u64,
}

impl AlternatingFiles {
    /// Takes two files, and reads what is kept there. `None`: nothing, or nothing that this program understands.
    pub(crate) fn open<T: DeserializeOwned>(files: [OwnedFd; 2]) -> (Self, Option<T>) {
        let files = files.map(File::from);
        let mut found: Vec<(u64, Vec<u8>)> = files.iter().filter_map(read).collect();
        found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        let number = found.first().map_or(0, |(number, _)| *number);
        let kept = found.iter().find_map(|(_, content)| serde_json::from_slice(content).ok());
        if kept.is_none() && !found.is_empty() {
            tracing::error!("what was kept on the disk is not understood: another version of the program wrote it");
        }
        (Self { files, number }, kept)
    }

    /// Writes something in the place of what is older. Waits for the disk.
    ///
    /// # Errors
    /// The disk is full, or has a fault: what was written before is there still.
    pub(crate) fn write(&mut self, content: &impl Serialize) -> io::Result<()> {
        let content = serde_json::to_vec(content)?;
        if content.len() > MOST {
            return Err(io::Error::other("there is too much to be kept"));
        }
        let number = self.number + 1;
        let mut bytes = Vec::with_capacity(HEAD + content.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&u64::try_from(content.len()).unwrap_or(u64::MAX).to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&content).to_le_bytes());
        bytes.extend_from_slice(&content);
        let [even, odd] = &self.files;
        let file = if number.is_multiple_of(2) { even } else { odd };
        file.write_all_at(&bytes, 0)?;
        file.sync_data()?;
        self.number = number;
        Ok(())
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AlternatingState {
    /// Made, and never written.
    New,
    /// As it was written.
    Whole,
    /// Something else: cut off, or overwritten in part or by others.
    Damaged,
}

/// Marks a file that was just made: what is empty later was cut off.
///
/// # Errors
/// The disk is full, or has a fault.
pub(crate) fn mark(file: &File) -> io::Result<()> {
    file.write_all_at(MAGIC, 0)
}

/// Looks at a file that nobody writes.
///
/// # Errors
/// The disk has a fault.
pub(crate) fn look(file: &File) -> io::Result<AlternatingState> {
    if read(file).is_some() {
        return Ok(AlternatingState::Whole);
    }
    let mut start = [0; MAGIC.len() + 1];
    let is_new = file.read_at(&mut start, 0)? == MAGIC.len() && start.starts_with(MAGIC);
    Ok(if is_new { AlternatingState::New } else { AlternatingState::Damaged })
}

fn read(file: &File) -> Option<(u64, Vec<u8>)> {
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, 0).ok()?;
    let (magic, rest) = head.split_first_chunk::<8>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (length, sum) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok().filter(|length| *length <= MOST)?;
    if magic != MAGIC {
        return None;
    }
    let mut content = vec![0; length];
    file.read_exact_at(&mut content, u64::try_from(HEAD).ok()?).ok()?;
    (crc32fast::hash(&content).to_le_bytes() == *sum).then(|| (u64::from_le_bytes(*number), content))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two files in memory.
    fn files() -> [File; 2] {
        ["a", "b"].map(|name| File::from(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap()))
    }

    fn copies(files: &[File; 2]) -> [OwnedFd; 2] {
        files.each_ref().map(|file| file.try_clone().unwrap().into())
    }

    #[test]
    fn the_newest_that_is_whole_is_read() {
        let files = files();
        assert_eq!(look(&files[0]).unwrap(), AlternatingState::Damaged, "it is empty");
        files.iter().for_each(|file| mark(file).unwrap());
        assert_eq!(look(&files[0]).unwrap(), AlternatingState::New);
        let (mut saved_files, kept) = AlternatingFiles::open::<String>(copies(&files));
        assert_eq!(kept, None);
        for text in ["one", "two is longer", "three"] {
            saved_files.write(&text).unwrap();
            assert_eq!(AlternatingFiles::open::<String>(copies(&files)).1.as_deref(), Some(text));
        }
        // The newest is damaged: the one before is there. A shorter one behind a longer one is whole.
        files[1].write_all_at(b"x", u64::try_from(HEAD).unwrap() + 1).unwrap();
        assert_eq!(
            files.each_ref().map(|file| look(file).unwrap()),
            [AlternatingState::Whole, AlternatingState::Damaged]
        );
        let (mut saved_files, kept) = AlternatingFiles::open::<String>(copies(&files));
        assert_eq!(kept.as_deref(), Some("two is longer"));
        saved_files.write(&"four").unwrap();
        assert_eq!(AlternatingFiles::open::<String>(copies(&files)).1.as_deref(), Some("four"));
        for file in &files {
            file.set_len(5).unwrap();
        }
        assert_eq!(AlternatingFiles::open::<String>(copies(&files)).1, None);
    }
}
