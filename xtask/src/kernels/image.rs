//! The file system that a kernel is booted with: the tests, the daemon, what they run, and the
//! kernel's own modules that they need.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::step::find;

/// Modules by name; what they depend on comes with them.
const MODULES: [&str; 1] = ["veth"];

/// Programs that the tests run and busybox lacks, or has less of.
const PROGRAMS: [&str; 2] = ["ip", "nsenter"];

const LIBRARIES: &str = "lib/x86_64-linux-gnu";

/// What the machine does: it mounts what a system has, runs `/run.sh`, says how that ended, and ends.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/sbin HOME=/ TERM=dumb
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf
mkdir -p /run/netns
while read -r module; do insmod /modules/$module; done < /modules/order
ip link set lo up
echo \"== Linux $(uname -r) is up\"
sh /run.sh
echo \"== the tests ended with $?\"
poweroff -f
";

/// Writes the file system to `path`.
pub(super) fn write(
    path: &Path,
    kernel: &Path,
    busybox: &Path,
    programs: &[(&str, PathBuf)],
    script: &str,
) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    let file = File::create(&partial).with_context(|| format!("{} cannot be made", partial.display()))?;
    let mut image = Image { out: BufWriter::new(file), entries: 0, folders: BTreeSet::new() };
    for folder in ["bin", "sbin", "dev", "proc", "sys", "tmp", "run", "etc", "modules", "tests", "lib64", LIBRARIES] {
        image.folder(folder)?;
    }
    image.file("bin/busybox", 0o755, &fs::read(busybox)?)?;
    image.file("init", 0o755, INIT.as_bytes())?;
    image.file("run.sh", 0o755, script.as_bytes())?;
    let users = "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n";
    image.file("etc/passwd", 0o644, users.as_bytes())?;
    image.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;

    let mut order = Vec::new();
    for name in MODULES {
        module(&mut image, kernel, busybox, name, &mut order)?;
    }
    image.file(
        "modules/order",
        0o644,
        order.iter().map(|name| format!("{name}.ko\n")).collect::<String>().as_bytes(),
    )?;

    let mut libraries = BTreeSet::new();
    for program in PROGRAMS {
        let found =
            find(program).with_context(|| format!("`{program}` is missing: `cargo xtask setup` installs it"))?;
        libraries.extend(needed(&found)?);
        image.file(&format!("bin/{program}"), 0o755, &fs::read(fs::canonicalize(found)?)?)?;
    }
    for (name, program) in programs {
        libraries.extend(needed(program)?);
        // Debug information is most of a test, and nobody looks at it in there.
        let stripped = path.with_extension("stripped");
        let status = Command::new("strip").arg("-o").arg(&stripped).arg(program).status();
        let is_stripped = status.is_ok_and(|status| status.success());
        image.file(&format!("tests/{name}"), 0o755, &fs::read(if is_stripped { &stripped } else { program })?)?;
        drop(fs::remove_file(&stripped));
    }
    for library in &libraries {
        let name = library.file_name().context("a library without a name")?.to_string_lossy();
        let folder = if name.starts_with("ld-linux") { "lib64" } else { LIBRARIES };
        image.file(&format!("{folder}/{name}"), 0o755, &fs::read(library)?)?;
    }
    image.end()?;
    fs::rename(&partial, path)?;
    Ok(())
}

/// Puts a module in, behind those that it depends on.
fn module(image: &mut Image, kernel: &Path, busybox: &Path, name: &str, order: &mut Vec<String>) -> anyhow::Result<()> {
    if order.iter().any(|known| known == name) {
        return Ok(());
    }
    // Part of the kernel where there is no such file.
    let Some(file) = below(kernel, &|file| file == format!("{name}.ko") || file == format!("{name}.ko.xz")) else {
        return Ok(());
    };
    let bytes = if file.extension().is_some_and(|extension| extension == "xz") {
        let unpacked = Command::new(busybox).args(["xz", "-dc"]).arg(&file).output()?;
        if !unpacked.status.success() {
            bail!("{} cannot be unpacked", file.display());
        }
        unpacked.stdout
    } else {
        fs::read(&file)?
    };
    for dependency in dependencies(&bytes) {
        module(image, kernel, busybox, &dependency, order)?;
    }
    image.file(&format!("modules/{name}.ko"), 0o644, &bytes)?;
    order.push(name.to_owned());
    Ok(())
}

/// The modules that a module says it depends on.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|bytes| bytes == KEY) else { return Vec::new() };
    let rest = module.get(at + KEY.len()..).unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
    let names = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned();
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The first file below `folder` whose name is right.
pub(super) fn below(folder: &Path, is_right: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let kind = entry.file_type().ok()?;
        if kind.is_dir() {
            folders.push(entry.path());
        } else if is_right(&entry.file_name().to_string_lossy()) {
            return Some(entry.path());
        }
    }
    folders.iter().find_map(|folder| below(folder, is_right))
}

/// The libraries that a program is linked with, its loader among them.
fn needed(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = Command::new("ldd").arg(program).output().context("`ldd` does not start")?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    Ok(listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// An archive as the kernel unpacks it at boot: cpio in its "newc" form.
struct Image {
    out: BufWriter<File>,
    entries: u32,
    folders: BTreeSet<String>,
}

impl Image {
    fn folder(&mut self, path: &str) -> anyhow::Result<()> {
        let mut parent = String::new();
        for part in path.split('/') {
            parent = if parent.is_empty() { part.to_owned() } else { format!("{parent}/{part}") };
            if self.folders.insert(parent.clone()) {
                self.entry(&parent, 0o040_755, &[])?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> anyhow::Result<()> {
        self.entry(path, 0o100_000 | mode, content)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> anyhow::Result<()> {
        self.entries += 1;
        let (size, length) = (u32::try_from(content.len())?, u32::try_from(name.len())? + 1);
        // Number, mode, owner, group, links, time, size, four of devices, length of the name, no checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, length, 0];
        self.out.write_all(b"070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(name.as_bytes())?;
        self.pad(110 + name.len() + 1, 1)?;
        self.out.write_all(content)?;
        self.pad(content.len(), 0)
    }

    /// Zeros, at least so many, up to a multiple of four behind `written` bytes.
    fn pad(&mut self, written: usize, least: usize) -> anyhow::Result<()> {
        let zeros = written.next_multiple_of(4) - written + least;
        self.out.write_all(&vec![0; zeros])?;
        Ok(())
    }

    fn end(mut self) -> anyhow::Result<()> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.out.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::dependencies;

    #[test]
    fn a_module_names_what_it_depends_on() {
        for (module, expect) in [
            (&b"\x7fELF\0license=GPL\0depends=mrp,garp\0retpoline=Y\0"[..], &["mrp", "garp"][..]),
            (b"\0depends=\0", &[]),
            (b"nothing", &[]),
        ] {
            assert_eq!(dependencies(module), expect);
        }
    }
}
