//! Follows a log file as it grows: over every rotation, also those that came faster than anybody looked.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufReader, Read, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::Path,
    thread,
    time::Duration,
};

use flate2::read::MultiGzDecoder;

use super::lines::next_line;
use crate::log::rotated::{Rotated, list};

/// How often a file that is followed is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// The file that is followed, as far as it was read.
struct Followed {
    file: File,
    /// How many bytes of whole lines were read.
    end: u64,
    /// What had been rotated when it was opened, by its moment.
    before: BTreeSet<u64>,
}

impl Followed {
    fn new(path: &Path, file: File, end: u64) -> io::Result<Self> {
        let own = place(&file)?;
        // It may be rotated already.
        let before = list(path)?.into_iter().filter(|rotated| !is_at(rotated, own)).map(|rotated| rotated.at);
        Ok(Self { before: before.collect(), file, end })
    }

    /// Hands over what was written since the last call.
    fn read(&mut self, show: &mut impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
        if self.file.metadata()?.len() < self.end {
            // It was cut.
            self.end = 0;
        }
        self.file.seek(SeekFrom::Start(self.end))?;
        self.end += read_all(&mut self.file, show)?;
        Ok(())
    }
}

/// Hands over each line behind the first `end` bytes of the file at `path`, and then each that is written, until an error.
pub(super) fn follow(
    path: &Path,
    current: Option<File>,
    end: u64,
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<()> {
    let mut current = current.map(|file| Followed::new(path, file, end)).transpose()?;
    loop {
        if let Some(followed) = &mut current {
            followed.read(&mut show)?;
        }
        thread::sleep(LOOK);
        let Ok(named) = fs::metadata(path) else { continue };
        let own = current.as_ref().map(|followed| place(&followed.file)).transpose()?;
        if own == Some((named.dev(), named.ino())) {
            continue;
        }
        let Ok(file) = File::open(path) else { continue };
        let next = Followed::new(path, file, 0)?;
        if let Some(followed) = &mut current {
            // What the proxy wrote before it went on with the new file is read first.
            thread::sleep(LOOK);
            followed.read(&mut show)?;
            // The oldest is the one that was followed; those after it came and went since the last look.
            let between = list(path)?.into_iter().filter(|rotated| !followed.before.contains(&rotated.at));
            for rotated in between.skip(1).filter(|rotated| next.before.contains(&rotated.at)) {
                // It may be removed or compressed in this moment.
                let Ok(mut file) = File::open(&rotated.path) else { continue };
                let read = match rotated.is_compressed {
                    true => read_all(&mut MultiGzDecoder::new(file), &mut show),
                    false => read_all(&mut file, &mut show),
                };
                // Of one that is damaged was shown what can be read.
                if let Err(error) = read
                    && !is_of_data(&error)
                {
                    return Err(error);
                }
            }
        }
        current = Some(next);
    }
}

/// Hands over whole lines; how many bytes they had.
fn read_all(file: &mut impl Read, show: &mut impl FnMut(&str) -> io::Result<()>) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let mut bytes = 0;
    while let Some((line, length)) = next_line(&mut reader)? {
        bytes += length;
        show(&line)?;
    }
    Ok(bytes)
}

/// Whether a file cannot be unpacked.
fn is_of_data(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof)
}

fn place(file: &File) -> io::Result<(u64, u64)> {
    let found = file.metadata()?;
    Ok((found.dev(), found.ino()))
}

fn is_at(rotated: &Rotated, place: (u64, u64)) -> bool {
    fs::metadata(&rotated.path).is_ok_and(|found| (found.dev(), found.ino()) == place)
}
