//! A disk that gets full: a small file system of its own, and a file that takes whatever is left of it.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::wait::{SOON, until};

/// A file system in memory; gone when dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts `bytes` at `path`, which is made.
    ///
    /// # Panics
    /// Without the right to.
    #[must_use]
    pub fn mount(path: &Path, bytes: usize) -> Self {
        fs::create_dir_all(path).unwrap();
        let options = format!("size={bytes},mode=0750");
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).expect("mounting a tmpfs");
        Self(path.to_owned())
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Takes all the space that is left.
    ///
    /// # Panics
    /// If there seems to be no end to it.
    pub fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        for _ in 0..1_000_000 {
            if file.write_all(&[0; 4_096]).is_err() {
                return;
            }
        }
        panic!("4 GB, and the disk is not full");
    }

    /// Lets nobody write there, or everybody again, once nobody has files open for writing: the processes of a gateway
    /// whose launcher was killed end a moment after it.
    ///
    /// # Panics
    /// If somebody has for long.
    pub fn protect(&self, protect: bool) {
        let flags = if protect { MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY } else { MsFlags::MS_REMOUNT };
        until("files to be closed and the disk to be mounted again", SOON, || {
            mount(None::<&str>, &self.0, None::<&str>, flags, None::<&str>).ok()
        });
    }

    /// Gives the space back.
    ///
    /// # Panics
    /// If it was not taken.
    pub fn clear(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The gateway may still have files open there.
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap_or_default();
    }
}

/// Unmounts what a killed test left mounted below `folder`.
pub(crate) fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for path in mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new) {
        if path.starts_with(folder) {
            umount2(path, MntFlags::MNT_DETACH).unwrap_or_default();
        }
    }
}
