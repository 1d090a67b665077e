//! Fetches kernels, qemu and busybox from Debian's archive, through an apt with state of its own. Nothing is
//! installed, and the machine's lists of packages stay as they are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};

use super::distribution::Kernel;
use crate::{
    setup::ARCHIVE_KEYS as KEYRING,
    step::{find, need, step},
};

/// The releases whose kernels are tried, and the parts of the archive that have them.
const SOURCES: [&str; 4] = [
    "http://deb.debian.org/debian bookworm main",
    "http://deb.debian.org/debian-security bookworm-security main",
    "http://deb.debian.org/debian trixie main",
    "http://deb.debian.org/debian-security trixie-security main",
];

/// For so long the lists of packages are good.
const FRESH: Duration = Duration::from_secs(24 * 3_600);

/// Debian's archive, and what was taken from it.
pub(super) struct Archive {
    folder: PathBuf,
}

/// How qemu is started.
pub(super) struct Qemu {
    words: Vec<String>,
}

impl Archive {
    /// Makes `folder` ready and reads the lists of packages, unless that was done today.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        need("apt-get", "apt")?;
        need("dpkg-deb", "dpkg")?;
        if !Path::new(KEYRING).exists() {
            bail!("{KEYRING} is missing: install the package debian-archive-keyring (`cargo xtask setup --all` does)");
        }
        for below in ["lists/partial", "cache/archives/partial", "packages"] {
            fs::create_dir_all(folder.join(below))?;
        }
        let sources: String = SOURCES.iter().map(|source| format!("deb [signed-by={KEYRING}] {source}\n")).collect();
        fs::write(folder.join("sources.list"), sources)?;
        let own = folder.display();
        let configuration = format!(
            "Dir::Etc::sourcelist \"{own}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
             Dir::State::lists \"{own}/lists\";\nDir::State::status \"/dev/null\";\nDir::Cache \"{own}/cache\";\n\
             APT::Sandbox::User \"root\";\nAPT::Architecture \"amd64\";\nDebug::NoLocking \"1\";\n"
        );
        fs::write(folder.join("apt.conf"), configuration)?;
        let archive = Self { folder: folder.to_owned() };
        let read = folder.join("lists-read");
        let age = fs::metadata(&read).and_then(|marker| marker.modified()).ok();
        let age = age.and_then(|then| SystemTime::now().duration_since(then).ok());
        if age.is_none_or(|age| age > FRESH) {
            match step("lists of kernels", archive.apt("apt-get").args(["-qq", "update"])) {
                Ok(()) => fs::write(&read, "")?,
                Err(error) if age.is_none() => return Err(error),
                Err(error) => eprintln!("== lists of kernels: those from before are used: {error:#}"),
            }
        }
        Ok(archive)
    }

    /// Where everything is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.folder.join("apt.conf")).env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// The newest kernel of its kind, unpacked.
    pub(super) fn kernel(&self, kernel: &Kernel) -> anyhow::Result<PathBuf> {
        let pattern = format!("^linux-image-{}.*-cloud-amd64$", kernel.pattern);
        let found = self.apt("apt-cache").args(["search", "--names-only", &pattern]).output()?;
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        let names = found.lines().filter_map(|line| line.split_whitespace().next());
        let newest = names.max_by_key(|name| numbers(name)).with_context(|| {
            format!("Debian's archive lists no package {pattern}: remove {} and try again", self.folder.display())
        })?;
        self.package(newest)
    }

    /// A busybox that needs no library.
    pub(super) fn busybox(&self) -> anyhow::Result<PathBuf> {
        let tree = self.package("busybox-static")?;
        let places = ["usr/bin/busybox", "bin/busybox"].map(|place| tree.join(place));
        places.into_iter().find(|place| place.is_file()).context("busybox-static has no busybox")
    }

    /// The machine's own qemu, or else one of the archive with every library that it needs.
    pub(super) fn qemu(&self) -> anyhow::Result<Qemu> {
        const PROGRAM: &str = "qemu-system-x86_64";
        if let Some(own) = find(PROGRAM) {
            return Ok(Qemu { words: vec![own.display().to_string()] });
        }
        let tree = self.folder.join("packages/qemu");
        if !tree.exists() {
            let fetch = ["-qq", "install", "--download-only", "-y", "--no-install-recommends", "qemu-system-x86"];
            step("qemu from Debian's archive", self.apt("apt-get").args(fetch))?;
            let partial = self.folder.join("packages/qemu.partial");
            fs::create_dir_all(&partial)?;
            for entry in fs::read_dir(self.folder.join("cache/archives"))?.flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "deb") {
                    unpack(&entry.path(), &partial)?;
                }
            }
            fs::rename(&partial, &tree)?;
        }
        let libraries = tree.join("usr/lib/x86_64-linux-gnu");
        let text = |path: PathBuf| path.display().to_string();
        Ok(Qemu {
            words: vec![
                text(libraries.join("ld-linux-x86-64.so.2")),
                "--library-path".to_owned(),
                text(libraries),
                text(tree.join("usr/bin").join(PROGRAM)),
                "-L".to_owned(),
                text(tree.join("usr/share/qemu")),
                "-L".to_owned(),
                text(tree.join("usr/share/seabios")),
            ],
        })
    }

    /// A package, unpacked; kept for the next time.
    fn package(&self, name: &str) -> anyhow::Result<PathBuf> {
        let tree = self.folder.join("packages").join(name);
        if tree.exists() {
            return Ok(tree);
        }
        let fetched = self.folder.join(format!("packages/{name}.fetched"));
        drop(fs::remove_dir_all(&fetched));
        fs::create_dir_all(&fetched)?;
        step(name, self.apt("apt-get").args(["-qq", "download", name]).current_dir(&fetched))?;
        let file = fs::read_dir(&fetched)?.flatten().next().with_context(|| format!("{name} was not fetched"))?;
        let partial = self.folder.join(format!("packages/{name}.partial"));
        unpack(&file.path(), &partial)?;
        fs::rename(&partial, &tree)?;
        fs::remove_dir_all(&fetched)?;
        Ok(tree)
    }
}

impl Qemu {
    /// A machine that boots `kernel` with `image` as its whole file system, and speaks on a serial line.
    pub(super) fn command(&self, kernel: &Path, image: &Path) -> anyhow::Result<Command> {
        let (program, words) = self.words.split_first().context("no qemu")?;
        let mut command = Command::new(program);
        // Without KVM, which a machine that is virtual itself seldom has.
        command.args(words).args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "2560", "-nographic"]);
        command.args(["-no-reboot", "-nic", "none", "-append"]);
        // The last word lets tests change the machine: see tests/machine/main.rs.
        command.arg("console=ttyS0 quiet rdinit=/init panic=1 gateway.tests=may-change-this-machine");
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(image);
        Ok(command)
    }
}

fn unpack(package: &Path, folder: &Path) -> anyhow::Result<()> {
    let status = Command::new("dpkg-deb").arg("-x").arg(package).arg(folder).status()?;
    if !status.success() {
        bail!("{} cannot be unpacked", package.display());
    }
    Ok(())
}

/// The numbers in a name, by which versions are ordered.
fn numbers(name: &str) -> Vec<u64> {
    let version = name.strip_suffix("-cloud-amd64").unwrap_or(name);
    version.split(|letter: char| !letter.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn newer_kernels_come_last() {
        for (older, newer) in [
            ("linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64"),
            ("linux-image-6.12.90+deb13-cloud-amd64", "linux-image-6.12.90+deb13.1-cloud-amd64"),
            ("linux-image-6.12.90+deb13.1-cloud-amd64", "linux-image-6.12.118+deb13-cloud-amd64"),
        ] {
            assert!(numbers(older) < numbers(newer), "{older} {newer}");
        }
    }
}
