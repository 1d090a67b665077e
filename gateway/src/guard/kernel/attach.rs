//! Attaches the program to an interface: through the pinned link of an earlier guard, without a gap, or through a new
//! one; in the driver (native mode) or in the network stack (generic mode).

use std::{
    fs, io,
    os::{fd::AsFd as _, unix::fs::DirBuilderExt as _},
    path::Path,
};

use aya::{
    Ebpf,
    programs::{
        ProgramError, XdpMode,
        links::{FdLink, LinkError, PinnedLink},
        xdp::{XdpLink, XdpLinkId},
    },
};
use nix::net::if_::if_nametoindex;

use super::{
    error::KernelError,
    held::is_on_bpffs,
    load::object::{Variant, program},
    sys,
};
use crate::settings::guard::AttachMode;

pub(super) mod interfaces;
pub(super) mod reattach;

/// What some drivers say in the place of `EOPNOTSUPP`. No header for programs has it.
const ENOTSUPP: i32 = 524;

const NATIVE: &str = "native";
const GENERIC: &str = "generic";

/// What an operator should know of a link in the network stack whose reason is not known.
const GENERIC_NOTE: &str = "attached in the network stack, not in the driver";

/// Where the program is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The interface.
    pub name: String,
    /// Its number, which packets tell of; 0: not known.
    pub index: u32,
    /// In the driver; else in the network stack, which costs more.
    pub native: bool,
    /// Whether the link of an earlier guard was taken over, without a gap.
    pub adopted: bool,
    /// What an operator should know.
    pub note: Option<String>,
}

impl Attached {
    /// What is said of a link that is not pinned, in front of why.
    const UNPINNED: &str = "is attached by a link that is not pinned";

    /// The link is not pinned: it ends with the guard.
    pub(super) fn is_unpinned(&self) -> bool {
        self.note.as_ref().is_some_and(|note| note.contains(Self::UNPINNED))
    }

    fn unpinned(self, why: &str) -> Self {
        let before = self.note.map(|note| format!("{note}; ")).unwrap_or_default();
        let (name, unpinned) = (&self.name, Self::UNPINNED);
        let note = format!(
            "{before}{name} {unpinned} ({why}): if the guard ends, packets pass until the next one has started. `mount -t \
             bpf bpf /sys/fs/bpf` where there is no BPF file system, then `gateway attach`"
        );
        Self { note: Some(note), ..self }
    }
}

/// Attaches to every interface that is there. If one fails, links that were made for the others are given up again.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    folder: &Path,
    interfaces: &[String],
    mode: AttachMode,
) -> Result<(Vec<Attached>, Vec<FdLink>), KernelError> {
    let (mut attached, mut links) = (Vec::new(), Vec::new());
    for name in interfaces {
        match one((ebpf, Variant::Untraced), folder, name, mode) {
            Ok((at, link)) => {
                attached.push(at);
                links.push(link);
            }
            // It may come later; whoever asked for it is told until it does.
            Err(KernelError::Interface(_)) => {}
            // Somebody else's program is on it, or its driver fails. It is tried again every second, and told until
            // it works.
            Err(error @ (KernelError::Attach { .. } | KernelError::Busy { .. })) if mode == AttachMode::Auto => {
                tracing::warn!("no packet is dropped in the kernel on {name}: {error}");
            }
            Err(error) => {
                take_back(folder, &attached);
                return Err(error);
            }
        }
    }
    if let Err(error) = give_up_others(folder, &attached) {
        take_back(folder, &attached);
        return Err(error);
    }
    Ok((attached, links))
}

/// Removes the pins of links that were made: nothing stays attached that was not before.
fn take_back(folder: &Path, attached: &[Attached]) {
    for at in attached.iter().filter(|at| !at.adopted) {
        drop(fs::remove_file(folder.join(pin(&at.name, at.native))));
    }
}

/// The name of an interface's pin. It says the mode, which a link does not tell.
fn pin(interface: &str, native: bool) -> String {
    format!("{interface}-{}", if native { NATIVE } else { GENERIC })
}

/// The interface and the mode that a pin's name says.
pub(super) fn pinned_name(name: &str) -> Option<(&str, bool)> {
    let (interface, mode) = name.rsplit_once('-')?;
    match mode {
        NATIVE => Some((interface, true)),
        GENERIC => Some((interface, false)),
        _ => None,
    }
}

/// Removes the links of interfaces that are no longer guarded, and so detaches from them.
fn give_up_others(folder: &Path, attached: &[Attached]) -> Result<(), KernelError> {
    let wanted: Vec<String> = attached.iter().map(|at| pin(&at.name, at.native)).collect();
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, &error))?.flatten() {
        if !wanted.iter().any(|name| entry.file_name() == name.as_str()) {
            fs::remove_file(entry.path()).map_err(|error| failed(&entry.path(), &error))?;
        }
    }
    Ok(())
}

/// Removes the pinned links of interfaces that are not wanted.
pub(super) fn give_up(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<(), KernelError> {
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, &error))?.flatten() {
        let name = entry.file_name();
        let interface = name.to_str().and_then(pinned_name).map(|(interface, _)| interface);
        if interface.is_some_and(|interface| !is_wanted(interface)) {
            fs::remove_file(entry.path()).map_err(|error| failed(&entry.path(), &error))?;
        }
    }
    Ok(())
}

/// Attaches to one interface: by the link that is pinned for it, or a new one.
pub(super) fn one(
    (ebpf, variant): (&mut Ebpf, Variant),
    folder: &Path,
    name: &str,
    mode: AttachMode,
) -> Result<(Attached, FdLink), KernelError> {
    let index = if_nametoindex(name).map_err(|_no_such_interface| KernelError::Interface(name.to_owned()))?;
    for native in [true, false] {
        let path = folder.join(pin(name, native));
        if !path.exists() {
            continue;
        }
        let is_wanted =
            matches!((mode, native), (AttachMode::Auto, _) | (AttachMode::Native, true) | (AttachMode::Generic, false));
        if is_wanted && let Some(link) = adopt((ebpf, variant), name, &path) {
            let note = (!native).then(|| GENERIC_NOTE.to_owned());
            return Ok((Attached { name: name.to_owned(), index, native, adopted: true, note }, link));
        }
        // Of another mode, or of an interface of that name that is gone.
        fs::remove_file(&path).map_err(|error| failed(&path, &error))?;
    }
    let unpinnable = unpinnable((&mut *ebpf, variant), folder, &folder.join(pin(name, true)));
    let (native, note, link) = match mode {
        AttachMode::Native => (true, None, fresh((ebpf, variant), index, XdpMode::Driver)),
        AttachMode::Generic => (false, None, fresh((ebpf, variant), index, XdpMode::Skb)),
        AttachMode::Auto => match fresh((ebpf, variant), index, XdpMode::Driver) {
            Err(AttachRefused::Unsupported(error)) => {
                let note = format!("the driver cannot run XDP natively ({error}): attached in the network stack");
                (false, Some(note), fresh((ebpf, variant), index, XdpMode::Skb))
            }
            link => (true, None, link),
        },
    };
    let link = link.map_err(|refused| refused.explain(name, index, mode))?;
    let at = Attached { name: name.to_owned(), index, native, adopted: false, note };
    match unpinnable {
        Some(why) => Ok((at.unpinned(&why), link)),
        None => Ok((at, pinned(link, &folder.join(pin(name, native)))?)),
    }
}

fn pinned(link: FdLink, path: &Path) -> Result<FdLink, KernelError> {
    let pinned = link.pin(path).map_err(|error| KernelError::Pin {
        path: path.display().to_string(),
        reason: format!("the link cannot be pinned ({:#}): `gateway attach` tries it again", anyhow::Error::new(error)),
    })?;
    Ok(pinned.into())
}

/// Why no link can be pinned in `folder`, if none can. Asked before one is made: a link that fails to be pinned is gone,
/// and with it the program. So that the answer is the kernel's own, the program itself is pinned there for a moment.
fn unpinnable((ebpf, variant): (&mut Ebpf, Variant), folder: &Path, path: &Path) -> Option<String> {
    if !is_on_bpffs(folder) {
        return Some(format!("{} is not on a BPF file system", folder.display()));
    }
    let mut tried = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let program = program(ebpf, variant).map_err(|error| io::Error::other(error.to_string()))?;
        let program = program.fd().map_err(|error| io::Error::other(error.to_string()))?;
        sys::pin(&program.as_fd().try_clone_to_owned()?, path)?;
        fs::remove_file(path)
    };
    let tried: io::Result<()> = tried();
    tried.err().map(|error| format!("{}: {error}", folder.display()))
}

/// Pins a link that could not be pinned before; what it is attached by then. A link that fails to be pinned is gone: it is
/// made anew.
pub(super) fn pin_late(
    (ebpf, variant): (&mut Ebpf, Variant),
    folder: &Path,
    at: Attached,
    link: FdLink,
    mode: AttachMode,
) -> Result<(Attached, FdLink), KernelError> {
    let path = folder.join(pin(&at.name, at.native));
    let at = Attached { note: (!at.native).then(|| GENERIC_NOTE.to_owned()), ..at };
    // Of a link that is dead: this one is not pinned, and an interface has one.
    if path.exists()
        && let Err(error) = fs::remove_file(&path)
    {
        return Ok((at.unpinned(&format!("{}: {error}", path.display())), link));
    }
    if let Some(why) = unpinnable((&mut *ebpf, variant), folder, &path) {
        return Ok((at.unpinned(&why), link));
    }
    match pinned(link, &path) {
        Ok(link) => Ok((at, link)),
        Err(error) => {
            tracing::error!(%error, "a link is made anew");
            one((ebpf, variant), folder, &at.name, mode)
        }
    }
}

/// Whether the program is on the interface of this name. Where that cannot be told, it is taken to be: attaching again
/// would open a gap.
pub(super) fn is_attached(name: &str, program: u32) -> bool {
    let Ok(index) = if_nametoindex(name) else { return false };
    sys::attached_program(index).map_or(true, |attached| attached == Some(program))
}

/// Attaches to one interface whose link is dead or gone; `None` if the program `is_on` it by a link that is known.
pub(super) fn again(
    ebpf: (&mut Ebpf, Variant),
    folder: &Path,
    name: &str,
    mode: AttachMode,
    is_on: bool,
) -> Result<Option<(Attached, FdLink)>, KernelError> {
    if is_on {
        return Ok(None);
    }
    let (at, link) = one(ebpf, folder, name, mode)?;
    // A link that could be taken over was not dead: the program in it was another one.
    Ok(Some((Attached { adopted: false, ..at }, link)))
}

/// Puts a variant of the program in the place of the other one, on the link that is held: every packet is judged by one
/// of the two.
pub(super) fn swap(ebpf: &mut Ebpf, variant: Variant, link: FdLink) -> Result<FdLink, KernelError> {
    fn failed(error: impl Into<anyhow::Error>) -> KernelError {
        KernelError::Attach {
            what: "putting another variant of the program in force".to_owned(),
            source: io::Error::other(format!("{:#}", error.into())),
        }
    }
    let link: XdpLink = link.try_into().map_err(|error: LinkError| failed(error))?;
    let program = program(ebpf, variant)?;
    let id = program.attach_to_link(link).map_err(failed)?;
    program.take_link(id).map_err(failed)?.try_into().map_err(|error: LinkError| failed(error))
}

/// Puts the program in the place of the one that a pinned link holds. `None` if the link's interface is gone, or has
/// another name by now.
fn adopt((ebpf, variant): (&mut Ebpf, Variant), name: &str, path: &Path) -> Option<FdLink> {
    let link: FdLink = PinnedLink::from_pin(path).ok()?.into();
    let link: XdpLink = link.try_into().ok()?;
    let program = program(ebpf, variant).ok()?;
    let id = program.attach_to_link(link).ok()?;
    let link = program.take_link(id).ok()?.try_into().ok()?;
    is_attached(name, program.info().ok()?.id()).then_some(link)
}

/// Why the program is not attached.
enum AttachRefused {
    Busy,
    Other(io::Error),
    Unsupported(io::Error),
}

impl AttachRefused {
    fn explain(self, name: &str, index: u32, mode: AttachMode) -> KernelError {
        match self {
            Self::Busy => {
                KernelError::Busy { interface: name.to_owned(), program: sys::attached_program(index).ok().flatten() }
            }
            Self::Other(source) => {
                let what = format!("attaching to {name}");
                match source.kind() {
                    io::ErrorKind::PermissionDenied => KernelError::NotPermitted { what, source },
                    _ => KernelError::Attach { what, source },
                }
            }
            Self::Unsupported(_) if mode == AttachMode::Native => KernelError::NoNative(name.to_owned()),
            Self::Unsupported(source) => KernelError::NoXdp { interface: name.to_owned(), source },
        }
    }
}

impl From<ProgramError> for AttachRefused {
    fn from(error: ProgramError) -> Self {
        match error {
            ProgramError::SyscallError(error) => error.io_error.into(),
            error => io::Error::other(error.to_string()).into(),
        }
    }
}

impl From<io::Error> for AttachRefused {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EBUSY | libc::EEXIST) => Self::Busy,
            // Only links are wanted, because only they can be pinned; where the kernel refuses one for what the
            // interface is (its size of packets, its offloads), aya tries without and fails for the same reason.
            Some(libc::EOPNOTSUPP | ENOTSUPP | libc::EINVAL | libc::ERANGE | libc::ENOSPC | libc::ENOMEM) => {
                Self::Unsupported(error)
            }
            None => Self::Unsupported(error),
            Some(_) => Self::Other(error),
        }
    }
}

fn fresh((ebpf, variant): (&mut Ebpf, Variant), index: u32, mode: XdpMode) -> Result<FdLink, AttachRefused> {
    let program = program(ebpf, variant).map_err(|error| AttachRefused::Other(io::Error::other(error.to_string())))?;
    let id: XdpLinkId = program.attach_to_if_index(index, mode)?;
    program.take_link(id)?.try_into().map_err(|_attached_by_netlink| {
        AttachRefused::Unsupported(io::Error::other("the kernel offers no link for it"))
    })
}

fn failed(path: &Path, error: &io::Error) -> KernelError {
    KernelError::Pin { path: path.display().to_string(), reason: format!("cannot be removed: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of the kernel's answer, and where the network stack is tried instead.
    #[test]
    fn why_it_is_not_attached() {
        for (errno, is_unsupported, says) in [
            (libc::EIO, false, "attaching to eth0 failed: "),
            (libc::ENETDOWN, false, "attaching to eth0 failed: "),
            (libc::EPERM, false, "attaching to eth0 needs root"),
            (libc::EACCES, false, "attaching to eth0 needs root"),
            (libc::EOPNOTSUPP, true, "cannot run XDP natively"),
            (ENOTSUPP, true, "cannot run XDP natively"),
        ] {
            let refused = AttachRefused::from(io::Error::from_raw_os_error(errno));
            assert_eq!(matches!(refused, AttachRefused::Unsupported(_)), is_unsupported, "{errno}");
            let told = refused.explain("eth0", 0, AttachMode::Native).to_string();
            assert!(told.contains(says), "{errno}: {told}");
            assert_eq!(told.contains(&format!("os error {errno}")), !is_unsupported, "{told}");
        }
    }
}
