//! The files of the access log: opened for the proxy, rotated, compressed, and removed when they are too many or too old.
//!
//! *Invariant:* a crash at any step loses no line. A file is compressed once nobody holds it open for writing: whoever
//! opens it holds a shared lock, which lasts as long as any copy of that descriptor, in a proxy that is stopped too.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::{
    log::rotated::{self, COMPRESSED, PARTIAL, Rotated, list, with},
    settings::access_log::{LogFile, Rotate},
};

/// Opens a log file for appending.
///
/// # Errors
/// It cannot be opened.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    open_by(path, OpenOptions::new().create(true), 0)
}

/// The same for a file that is rotated. A symbolic link to one is refused: its name can be renamed, the file behind it
/// cannot. Links to pipes and devices are followed, since those are never rotated.
///
/// # Errors
/// It cannot be opened, or is a symbolic link to a file.
pub(crate) fn open_rotated(path: &Path) -> io::Result<File> {
    let opened = open_by(path, OpenOptions::new().create(true), libc::O_NOFOLLOW);
    if !opened.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ELOOP)) {
        return opened;
    }
    if let Ok(file) = open_by(path, &mut OpenOptions::new(), 0)
        && !file.metadata()?.is_file()
    {
        return Ok(file);
    }
    let hint = "write the path of the file that it leads to, or `rotate = false`";
    Err(io::Error::other(format!("it is a symbolic link, which is not rotated: {hint}")))
}

/// A pipe that nobody reads is an error: whoever opens it would wait for a reader.
fn open_by(path: &Path, options: &mut OpenOptions, flags: i32) -> io::Result<File> {
    let opened = options.append(true).mode(0o640).custom_flags(flags | libc::O_NONBLOCK).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => io::Error::other("it is a pipe that nobody reads, or a socket: start the reader first"),
        _ => error,
    })?;
    // Whoever writes to it may wait: that is a thread of its own.
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    // Without the lock, on a file system that has none, the file is not compressed while it may be written to.
    file.try_lock_shared().unwrap_or_default();
    Ok(file)
}

/// Whether the file is to be rotated. `opened`: the file that is being written.
pub(crate) fn is_due(rotate: &Rotate, opened: &File, unix_millis: u64) -> bool {
    let Ok(found) = opened.metadata() else { return false };
    // There is nothing to rotate, and pipes and devices are not rotated.
    if !found.is_file() || found.len() == 0 {
        return false;
    }
    let born = found.created().ok().and_then(|born| born.duration_since(std::time::UNIX_EPOCH).ok());
    let age = born.and_then(|born| Duration::from_millis(unix_millis).checked_sub(born));
    found.len() >= rotate.size || rotate.every.zip(age).is_some_and(|(every, age)| age >= every)
}

/// Renames the file that is being written, and opens another in its place.
///
/// # Errors
/// It cannot be renamed, or no other can be opened; then it has its name again.
pub(crate) fn rotate(path: &Path, opened: &File, unix_millis: u64) -> io::Result<File> {
    let (named, found) = (fs::symlink_metadata(path), opened.metadata()?);
    // Somebody else has renamed it already: theirs is left alone.
    if !named.is_ok_and(|named| (named.dev(), named.ino()) == (found.dev(), found.ino())) {
        return open_rotated(path);
    }
    let free = (unix_millis..).map(|millis| rotated::name(path, millis)).find(|name| !exists(name));
    let aside = free.ok_or(io::ErrorKind::AlreadyExists)?;
    fs::rename(path, &aside)?;
    // What somebody else has put there meanwhile, a link for example, is not written to.
    open_by(path, OpenOptions::new().create_new(true), 0).inspect_err(|_error| {
        fs::rename(&aside, path).unwrap_or_default();
    })
}

fn exists(name: &Path) -> bool {
    [name.to_owned(), with(name, COMPRESSED)].iter().any(|path| fs::symlink_metadata(path).is_ok())
}

/// Compresses rotated files that nobody writes to any more, and removes those that are too many or too old. Returns what
/// could not be done.
pub(crate) fn tidy(file: &LogFile, unix_millis: u64) -> Vec<String> {
    let Some(rotate) = &file.rotate else { return Vec::new() };
    let mut faults = Vec::new();
    let mut note = |what: &Path, error: io::Error| faults.push(format!("{}: {error}", what.display()));
    let mut left = match list(&file.path) {
        Ok(found) => found,
        Err(error) => {
            note(&file.path, error);
            return faults;
        }
    };
    let is_old = |rotated: &Rotated| {
        let age = Duration::from_millis(unix_millis.saturating_sub(rotated.at));
        rotate.keep_for.is_some_and(|keep| age > keep)
    };
    let over = left.len().saturating_sub(rotate.keep_files);
    let mut place = 0;
    left.retain(|rotated| {
        place += 1;
        if place > over && !is_old(rotated) {
            return true;
        }
        let both = [rotated.path.clone(), with(&rotated.path, COMPRESSED)];
        for path in both.iter().filter(|path| fs::symlink_metadata(path).is_ok()) {
            fs::remove_file(path).unwrap_or_else(|error| note(path, error));
        }
        false
    });
    if rotate.compress {
        for rotated in left.iter().filter(|rotated| !rotated.is_compressed) {
            compress(&rotated.path).unwrap_or_else(|error| note(&rotated.path, error));
        }
    }
    faults
}

/// Compresses a file, unless somebody still writes to it: into a file beside it, which gets its name once it is whole and
/// on the disk. Links are not followed: whoever may write to the folder would have the guard read any file.
///
/// # Errors
/// The disk fails, or it is no regular file: then it stays as it is.
pub(crate) fn compress(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file, and is not compressed"));
    }
    if file.try_lock().is_err() {
        return Ok(());
    }
    let (partial, whole) = (with(path, PARTIAL), with(path, COMPRESSED));
    let written = write_compressed(&file, &partial);
    if let Err(error) = written {
        fs::remove_file(&partial).unwrap_or_default();
        return Err(error);
    }
    fs::rename(&partial, &whole)?;
    if let Some(folder) = path.parent() {
        // The new name is on the disk before the old one goes.
        File::open(folder).and_then(|folder| folder.sync_all()).unwrap_or_default();
    }
    fs::remove_file(path)
}

fn write_compressed(from: &File, to: &Path) -> io::Result<()> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        // A crash has left it behind.
        _ => {}
    }
    let out = OpenOptions::new().create_new(true).write(true).mode(0o640).open(to)?;
    let mut encoder = GzEncoder::new(BufWriter::new(out), Compression::new(4));
    io::copy(&mut BufReader::with_capacity(64 << 10, from), &mut encoder)?;
    let out = encoder.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    out.sync_all()
}

#[cfg(test)]
mod tests;
